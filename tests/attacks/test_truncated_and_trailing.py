"""Bytes missing at the end, and bytes too many, in every file that is fetched."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.attacks.bench import ONLINE, put
from tests.attacks.scene import Scene
from tests.helpers.http_server import cut

Change = Callable[[bytes], bytes]

CHANGES: dict[str, Change] = {
    "without its last byte": lambda content: content[:-1],
    "empty": lambda _content: b"",
    "with a byte behind": lambda content: content + b"\x00",
    "twice": lambda content: content * 2,
}


def rejects_every_change(scene: Scene, path: Path, *command: str) -> None:
    honest = path.read_bytes()
    for change in CHANGES.values():
        put(path, change(honest))
        assert path.name in scene.rejects(*command)
    scene.recovers()


@pytest.mark.parametrize("name", ["timestamp.json", "2.snapshot.json", "2.targets.json"])
def test_metadata_of_another_length_is_refused(scene: Scene, name: str) -> None:
    scene.publisher.publish({"note.txt": b"one more"})
    rejects_every_change(scene, scene.attacker.metadata / name)


def test_a_new_root_of_another_length_is_refused(scene: Scene) -> None:
    scene.publisher.rotate("timestamp")
    scene.publisher.publish({"note.txt": b"a new key"})
    rejects_every_change(scene, scene.attacker.metadata / "2.root.json")


def test_a_manifest_of_another_length_is_refused(scene: Scene) -> None:
    rejects_every_change(scene, scene.attacker.target_path("manifest.json"))


def test_an_image_of_another_length_is_refused_before_anything_is_cleared(scene: Scene) -> None:
    image = scene.attacker.target_path("1.1.0-*-root.ext4")
    rejects_every_change(scene, image, "update", "--now")


def test_a_signed_image_that_is_no_single_whole_frame_is_never_bootable(scene: Scene) -> None:
    """The length and the digest are those that were signed; the content is not to be trusted."""
    attacker = scene.attacker
    honest = attacker.target_path("1.1.0-*-boot.ext4").read_bytes()
    attacker.steal(*ONLINE)
    for number, change in enumerate(CHANGES.values()):
        name = f"bad-boot-{number}.ext4.zst"
        attacker.publish({name: change(honest)})
        attacker.offer_instead("boot", name)
        assert name in scene.halts()
    scene.recovers_fully()


def test_a_connection_that_always_breaks_off_is_given_up(scene: Scene) -> None:
    scene.server.always("/metadata/timestamp.json", cut(after_bytes=0))
    assert "the connection broke off, 4 times in a row" in scene.refuses()
