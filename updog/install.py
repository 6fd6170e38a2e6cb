"""One image from its signed target into a partition, proven by what the medium gives back.

Decides the order of writing and checking: every block of the root is checked against the hash tree
before it is written, and after the flush each partition is read back past the page cache. Refuses
to call anything installed that is not on the disk. Chooses no update and changes no boot flag.
"""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from updog.errors import ImageError
from updog.partition import OpenPartition
from updog.stream import decompress
from updog.verity import BLOCK_BYTES, TreeReader, read_superblock

MOST_TREE_BYTES: Final = 64 << 20
"""The largest tree that a rehearsal keeps in memory: that of a root of 8 GiB."""

_PIECE_BYTES: Final = 1 << 20


class Role(StrEnum):
    """What an image is for, in the order in which a set is written: the tree before the root."""

    HASH = "hash"
    ROOT = "root"
    BOOT = "boot"


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """A compressed image on its way to a partition.

    `chunks` are the compressed bytes, whose length and digest whoever yields them checks. The
    signed length and sha256 of what is inside are None where the publisher did not give them.
    """

    role: Role
    name: str
    chunks: Iterator[bytes]
    content_length: int | None
    content_sha256: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """What was written into a partition and must be there when it is read back."""

    role: Role
    name: str
    length_bytes: int
    sha256: str


Take = Callable[[int, bytes], None]
"""`take(offset_bytes, piece)` is given a piece of an image that may be written."""


def write_image(image: Image, partition: OpenPartition, *, tree: TreeReader | None) -> Written:
    """Decompress an image into a partition and flush it.

    Args:
        image: where the bytes come from.
        partition: where they go.
        tree: for the root image, the tree that every block must agree with.

    Raises:
        ImageError: the image is not what was signed.
        PartitionError: the partition is too small or the device failed.
    """
    written = _pass_on(image, partition.window.length_bytes, tree=tree, take=partition.write)
    partition.flush()
    return written


def open_tree(written: Written, partition: OpenPartition) -> TreeReader:
    """Open the tree of the hash image that was written, and of nothing that stood there before.

    Raises:
        ImageError: the image holds no whole tree of the supported kind.
        PartitionError: the partition cannot be read.
    """
    return TreeReader(partition.read, length_bytes=written.length_bytes)


def check_image(image: Image, room_bytes: int, *, tree: TreeReader | None) -> TreeReader | None:
    """Decompress an image to nowhere: it is whole, as signed, and fits into `room_bytes`.

    Args:
        image: where the bytes come from.
        room_bytes: what its partition holds.
        tree: for the root image, the tree that every block must agree with.

    Returns:
        For a hash image its tree, held in memory, unless it is larger than `MOST_TREE_BYTES`. For
        any other image `tree`.

    Raises:
        ImageError: the image could not be installed.
    """
    if image.role is not Role.HASH:
        _pass_on(image, room_bytes, tree=tree if image.role is Role.ROOT else None, take=_drop)
        return tree
    beginning = _Beginning()
    written = _pass_on(image, room_bytes, tree=None, take=beginning.keep)
    superblock = read_superblock(beginning.read, length_bytes=written.length_bytes)
    if superblock.image_bytes > MOST_TREE_BYTES:
        return None
    return TreeReader(beginning.read, length_bytes=written.length_bytes)


class _Beginning:
    """As much of an image as may be kept in memory."""

    def __init__(self) -> None:
        self._kept = bytearray()

    def keep(self, offset: int, piece: bytes) -> None:
        """Keep a piece, or what there is room for."""
        self._kept += piece[: max(0, MOST_TREE_BYTES - offset)]

    def read(self, offset: int, length: int) -> bytes:
        """Return a range of what was kept."""
        return bytes(self._kept[offset : offset + length])


def _drop(_offset: int, _piece: bytes) -> None:
    """Let a piece go: it was only to be checked."""


def _pass_on(image: Image, room_bytes: int, *, tree: TreeReader | None, take: Take) -> Written:
    """Pass an image on piece by piece, none that its tree does not vouch for."""
    digest = hashlib.sha256()
    offset = 0
    for piece in _pieces(image, room_bytes):
        if tree is not None:
            _require_vouched(image.name, tree, offset, piece)
        take(offset, piece)
        digest.update(piece)
        offset += len(piece)
    written = Written(
        role=image.role, name=image.name, length_bytes=offset, sha256=digest.hexdigest()
    )
    _require_whole(written, tree)
    _require_signed_content(image, written)
    return written


def _pieces(image: Image, room_bytes: int) -> Iterator[bytes]:
    """Yield the content in pieces of 1 MiB, so that they hold whole blocks."""
    limit = room_bytes if image.content_length is None else image.content_length
    if limit > room_bytes:
        raise ImageError(
            f"{image.name}: the image has {limit} bytes, its partition holds {room_bytes}"
        )
    pending = bytearray()
    for piece in decompress(image.chunks, name=image.name, limit_bytes=limit):
        pending += piece
        while len(pending) >= _PIECE_BYTES:
            yield bytes(pending[:_PIECE_BYTES])
            del pending[:_PIECE_BYTES]
    if pending:
        yield bytes(pending)


def _require_vouched(name: str, tree: TreeReader, offset: int, piece: bytes) -> None:
    bad = tree.first_bad_block(offset // BLOCK_BYTES, piece)
    if bad is not None:
        raise ImageError(f"{name}: block {bad} is not the one that the hash tree vouches for")


def _require_whole(written: Written, tree: TreeReader | None) -> None:
    if written.length_bytes == 0:
        raise ImageError(f"{written.name}: holds nothing")
    if tree is not None and written.length_bytes != tree.superblock.data_bytes:
        raise ImageError(
            f"{written.name}: the image has {written.length_bytes} bytes, its hash tree covers "
            f"{tree.superblock.data_bytes}"
        )


def _require_signed_content(image: Image, written: Written) -> None:
    if image.content_length is not None and image.content_length != written.length_bytes:
        raise ImageError(
            f"{image.name}: decompressed to {written.length_bytes} bytes, "
            f"{image.content_length} were signed"
        )
    if image.content_sha256 is not None and image.content_sha256 != written.sha256:
        raise ImageError(f"{image.name}: the content is not what was signed (sha256 differs)")


def prove(written: Written, partition: OpenPartition, *, tree: TreeReader | None) -> None:
    """Read a partition back from the medium and compare it with what was signed.

    Args:
        written: what must be there.
        partition: already flushed.
        tree: for the root partition, the tree to compare it with instead of the digest.

    Raises:
        ImageError: the medium gives back other bytes.
        PartitionError: the medium cannot be read.
    """
    partition.forget_cached()
    if tree is None:
        _prove_digest(written, partition)
    else:
        prove_tree(partition, tree, name=written.name)


def _prove_digest(written: Written, partition: OpenPartition) -> None:
    if content_digest(partition, written.length_bytes) != written.sha256:
        raise ImageError(
            f"{written.name}: the {written.role} partition does not give back what was written "
            "to it; the medium may be failing"
        )


def content_digest(partition: OpenPartition, length_bytes: int) -> str:
    """Return the sha256 of the first bytes of a partition, in hexadecimal.

    Raises:
        PartitionError: the medium cannot be read.
    """
    digest = hashlib.sha256()
    for _, piece in partition.pieces(length_bytes):
        digest.update(piece)
    return digest.hexdigest()


def prove_tree(partition: OpenPartition, tree: TreeReader, *, name: str) -> None:
    """Compare every block of a root partition with its tree.

    Raises:
        ImageError: a block differs; the first one is named.
        PartitionError: the partition cannot be read.
    """
    for offset, piece in partition.pieces(tree.superblock.data_bytes):
        bad = tree.first_bad_block(offset // BLOCK_BYTES, piece)
        if bad is not None:
            raise ImageError(
                f"{name}: block {bad} of the root partition is not the one that the hash tree "
                "vouches for; the medium may be failing"
            )
