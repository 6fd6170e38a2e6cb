"""Decompression bombs: little to fetch, more to unpack than any partition or memory holds."""

from pathlib import Path

import pytest

from repo_tools.images import Codec, compress
from tests.attacks.bench import ONLINE
from tests.attacks.scene import Scene
from tests.helpers.http_server import instead

_BOMB_BYTES = 1 << 30


@pytest.fixture(scope="module", params=Codec)
def bomb(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Compress a gigabyte of zeros."""
    directory = tmp_path_factory.mktemp("bomb")
    zeros, packed = directory / "zeros", directory / f"bomb.{request.param}"
    with zeros.open("wb") as file:
        file.truncate(_BOMB_BYTES)
    compress(zeros, packed, request.param)
    return packed


def test_a_bomb_that_is_signed_never_fills_more_than_its_partition(
    scene: Scene, bomb: Path
) -> None:
    """The publisher's keys were stolen, or the publisher made a mistake."""
    name = publish_bomb(scene, bomb, signed_length=_BOMB_BYTES)
    assert f"the image needs {_BOMB_BYTES}" in scene.rejects("update", "--now")
    publish_bomb(scene, bomb, signed_length=4 << 20)
    assert f"{name}: holds more than the {4 << 20} bytes expected" in scene.halts()
    publish_bomb(scene, bomb, signed_length=None)
    assert f"{name}: holds more than the {8 << 20} bytes expected" in scene.stops()


def publish_bomb(scene: Scene, bomb: Path, *, signed_length: int | None) -> str:
    """Offer a bomb as the boot image, of a length that is signed or left open; return its name."""
    scene.attacker.steal(*ONLINE)
    name = f"bomb-boot.ext4{bomb.suffix}"
    custom = {"uncompressed": {"length": signed_length, "sha256": "0" * 64}}
    scene.attacker.publish({name: bomb.read_bytes()}, **(custom if signed_length else {}))
    scene.attacker.offer_instead("boot", name)
    return name


def test_an_answer_that_is_compressed_unasked_is_refused(scene: Scene) -> None:
    scene.server.always("/metadata/timestamp.json", instead(bytes(1000), content_encoding="gzip"))
    assert "the server compressed the file, which it was asked not to" in scene.refuses()
