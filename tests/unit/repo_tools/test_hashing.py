import random
import subprocess
from pathlib import Path
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from repo_tools import hashing
from repo_tools.errors import RepoToolsError
from repo_tools.hashing import write_hash_image
from tests.unit.repo_tools.test_images import veritysetup
from updog.block_hash import BLOCK_BYTES
from updog.verity import build_tree

UUID_OF_TREE = UUID(int=7)


def an_image(path: Path, blocks: int) -> Path:
    path.write_bytes(random.Random(blocks).randbytes(blocks * BLOCK_BYTES))
    return path


# One level, two, three; a level that is just full; batches that are just full.
@pytest.mark.parametrize("blocks", [1, 2, 128, 129, 255, 256, 257, 128 * 128, 128 * 128 + 1])
def test_the_tree_is_the_one_of_the_plain_builder(blocks: int, tmp_path: Path) -> None:
    root, image = an_image(tmp_path / "root", blocks), tmp_path / "hash"
    digest = write_hash_image(root, image, salt=b"salt", uuid=UUID_OF_TREE.bytes)
    expected = build_tree([root.read_bytes()], salt=b"salt", uuid=UUID_OF_TREE.bytes)
    assert (image.read_bytes(), digest) == (expected.image, expected.root_digest)


@settings(max_examples=20)
@given(salt=st.binary(max_size=256))
def test_any_salt_will_do(salt: bytes, tmp_path_factory: pytest.TempPathFactory) -> None:
    directory = tmp_path_factory.mktemp("salted")
    root, image = an_image(directory / "root", 3), directory / "hash"
    digest = write_hash_image(root, image, salt=salt, uuid=UUID_OF_TREE.bytes)
    expected = build_tree([root.read_bytes()], salt=salt, uuid=UUID_OF_TREE.bytes)
    assert (image.read_bytes(), digest) == (expected.image, expected.root_digest)


def test_veritysetup_makes_the_same_tree_of_three_levels(tmp_path: Path) -> None:
    root, ours, theirs = an_image(tmp_path / "root", 17_000), tmp_path / "ours", tmp_path / "theirs"
    digest = write_hash_image(root, ours, salt=b"\xab", uuid=UUID_OF_TREE.bytes)
    done = subprocess.run(
        [veritysetup(), "format", "--salt=ab", f"--uuid={UUID_OF_TREE}", root, theirs],
        check=True,
        capture_output=True,
        text=True,
    )
    assert ours.read_bytes() == theirs.read_bytes()
    assert digest.hex() in done.stdout


def test_what_an_earlier_and_larger_hash_image_held_is_gone(tmp_path: Path) -> None:
    root, image = an_image(tmp_path / "root", 3), tmp_path / "hash"
    image.write_bytes(b"\xff" * (64 << 10))
    write_hash_image(root, image, salt=b"", uuid=UUID_OF_TREE.bytes)
    assert (
        image.read_bytes()
        == build_tree([root.read_bytes()], salt=b"", uuid=UUID_OF_TREE.bytes).image
    )


@pytest.mark.parametrize("length", [0, 1, 4097])
def test_an_image_that_is_no_whole_number_of_blocks_is_refused(length: int, tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.write_bytes(bytes(length))
    with pytest.raises(RepoToolsError, match=f"root has {length} bytes: a root image is a whole"):
        write_hash_image(root, tmp_path / "hash", salt=b"", uuid=bytes(16))


def test_an_image_that_shrinks_meanwhile_is_an_error_and_no_tree(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = an_image(tmp_path / "root", 3)
    monkeypatch.setattr(hashing, "_count_blocks", lambda _root: 4)
    with pytest.raises(RepoToolsError, match="root became shorter while it was hashed"):
        write_hash_image(root, tmp_path / "hash", salt=b"", uuid=bytes(16))
