"""What a review of the install engine found; each fails until it is mended."""

import hashlib
import os
from pathlib import Path

import lz4.frame
import pytest

from signpost.disk import Window
from tests.helpers.loop_device import loop_device
from updog.errors import ImageError
from updog.install import Image, Role, check_image, prove, write_image
from updog.partition import open_for_writing
from updog.verity import TreeReader, build_tree

MIB = 1 << 20

pytestmark = [pytest.mark.xfail(strict=True, reason="found by review, not mended yet")]


def image(role: Role, content: bytes, sha256: str | None = None) -> Image:
    packed = lz4.frame.compress(content)
    return Image(
        role=role,
        name=f"{role}.lz4",
        chunks=iter([packed]),
        content_length=len(content),
        content_sha256=sha256 or hashlib.sha256(content).hexdigest(),
    )


@pytest.mark.parametrize("mib", [260, 512])
def test_a_rehearsal_takes_a_tree_larger_than_a_buffer(mib: int) -> None:
    root = bytes(mib * MIB)
    tree = build_tree([root], salt=b"s", uuid=bytes(16)).image
    held = check_image(image(Role.HASH, tree), len(tree), tree=None)
    check_image(image(Role.ROOT, root), len(root), tree=held)


def test_a_root_that_is_not_of_the_signed_digest_is_refused(tmp_path: Path) -> None:
    root = os.urandom(MIB)
    tree = build_tree([root], salt=b"s", uuid=bytes(16)).image
    path = tmp_path / "disk.img"
    path.write_bytes(bytes(MIB))
    reader = TreeReader(lambda at, count: tree[at : at + count], length_bytes=len(tree))
    with (
        open_for_writing(Window(path=path, offset_bytes=0, length_bytes=MIB)) as partition,
        pytest.raises(ImageError, match="not what was signed"),
    ):
        write_image(image(Role.ROOT, root, "0" * 64), partition, tree=reader)


@pytest.mark.loop
@pytest.mark.parametrize(
    ("start", "length"), [(0, 4 * MIB + 512), (MIB, MIB + 512), (MIB + 512, MIB)]
)
def test_the_last_page_of_an_odd_partition_is_read_back_from_the_medium(
    tmp_path: Path, start: int, length: int
) -> None:
    backing = tmp_path / "medium.img"
    backing.write_bytes(bytes(4 * MIB + 512))
    content = os.urandom(length)
    with (
        loop_device(backing, "--direct-io=on") as node,
        open_for_writing(Window(path=node, offset_bytes=start, length_bytes=length)) as partition,
    ):
        written = write_image(image(Role.BOOT, content), partition, tree=None)
        descriptor = os.open(backing, os.O_RDWR)
        os.pwrite(descriptor, bytes([content[-1] ^ 1]), start + length - 1)
        os.fsync(descriptor)
        os.close(descriptor)
        with pytest.raises(ImageError, match="does not give back"):
            prove(written, partition, tree=None)
