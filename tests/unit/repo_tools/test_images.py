import hashlib
import random
import shutil
import subprocess
from pathlib import Path
from uuid import UUID

import pytest

from repo_tools.cmdline import parse_command_line
from repo_tools.ext4 import read_file
from repo_tools.images import (
    SALT,
    BootContent,
    Codec,
    Recipe,
    build_hash_image,
    build_images,
    compress,
)
from repo_tools.tree import read_tree
from updog.block_hash import BLOCK_BYTES
from updog.stream import decompress
from updog.verity import TreeReader


def veritysetup() -> str:
    found = shutil.which("veritysetup", path="/usr/sbin:/sbin:/usr/bin")
    if found is None:
        pytest.skip("veritysetup is not installed (Debian: cryptsetup-bin): trees not compared")
    return found


@pytest.fixture
def root_image(tmp_path: Path) -> Path:
    image = tmp_path / "root"
    image.write_bytes(random.Random(7).randbytes(700 * BLOCK_BYTES))
    return image


def a_tree(directory: Path) -> Path:
    directory.mkdir(parents=True)
    (directory / "file").write_text("content")
    return directory


def test_the_hash_image_is_the_one_that_veritysetup_makes(root_image: Path, tmp_path: Path) -> None:
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    table = build_hash_image(root_image, ours)
    uuid = UUID(bytes=ours.read_bytes()[16:32])
    done = subprocess.run(
        [veritysetup(), "format", f"--salt={SALT.hex()}", f"--uuid={uuid}", root_image, theirs],
        check=True,
        capture_output=True,
        text=True,
    )
    assert ours.read_bytes() == theirs.read_bytes()
    assert table.root_digest.hex() in done.stdout


def test_veritysetup_accepts_the_hash_image(root_image: Path, tmp_path: Path) -> None:
    hashes = tmp_path / "hashes"
    table = build_hash_image(root_image, hashes)
    subprocess.run(
        [veritysetup(), "verify", str(root_image), str(hashes), table.root_digest.hex()],
        check=True,
        capture_output=True,
    )


def test_the_boot_image_vouches_for_the_tree_of_the_root_image(tmp_path: Path) -> None:
    boot = BootContent(tree=a_tree(tmp_path / "b"))
    images = build_images(
        read_tree(a_tree(tmp_path / "r")), boot, tmp_path / "out", Recipe(made_at=1)
    )
    table = parse_command_line(read_file(images.boot, "/cmdline").decode())
    hashes = images.hash.read_bytes()
    reader = TreeReader(
        lambda offset, length: hashes[offset : offset + length], length_bytes=len(hashes)
    )
    assert table == images.table
    assert table.root_digest == reader.root_digest
    assert table.data_blocks * BLOCK_BYTES == images.root.stat().st_size
    assert reader.first_bad_block(0, images.root.read_bytes()) is None


def test_the_same_trees_give_the_same_images(tmp_path: Path) -> None:
    built = [
        build_images(
            read_tree(a_tree(tmp_path / name / "r")),
            BootContent(tree=a_tree(tmp_path / name / "b")),
            tmp_path / name / "out",
            Recipe(made_at=1),
        )
        for name in ("first", "second")
    ]
    first, second = (
        [path.read_bytes() for path in (images.boot, images.root, images.hash)] for images in built
    )
    assert first == second


@pytest.mark.parametrize("codec", list(Codec))
def test_a_compressed_image_is_one_frame_that_the_agent_unpacks(
    codec: Codec, root_image: Path, tmp_path: Path
) -> None:
    packed = tmp_path / f"root.{codec}"
    facts = compress(root_image, packed, codec)
    plain, data = root_image.read_bytes(), packed.read_bytes()
    unpacked = decompress(
        iter([data]),
        name=packed.name,
        limit_bytes=len(plain),
        take=lambda: memoryview(bytearray(1 << 20)),
    )
    assert b"".join(unpacked) == plain
    assert (facts.length, facts.sha256) == (len(data), hashlib.sha256(data).hexdigest())
    assert facts.uncompressed_length == len(plain)
    assert facts.uncompressed_sha256 == hashlib.sha256(plain).hexdigest()


def test_a_file_that_is_not_compressed_is_copied(root_image: Path, tmp_path: Path) -> None:
    facts = compress(root_image, tmp_path / "copy", None)
    assert (tmp_path / "copy").read_bytes() == root_image.read_bytes()
    assert (facts.length, facts.sha256) == (facts.uncompressed_length, facts.uncompressed_sha256)


def test_any_number_of_cores_gives_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = tmp_path / "image"
    image.write_bytes(random.Random(7).randbytes(1 << 19) * 80)  # more than one worker's share
    packed = []
    for count in (1, 2, 5):
        monkeypatch.setattr("os.cpu_count", lambda count=count: count)
        compress(image, tmp_path / str(count), Codec.ZSTD)
        packed.append((tmp_path / str(count)).read_bytes())
    assert packed[0] == packed[1] == packed[2]
