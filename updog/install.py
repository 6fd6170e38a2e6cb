"""One image from its signed target into a partition, proven by what the medium gives back.

Decides the order of writing and checking: every block of the root is checked against the hash tree
before it is written, and after the flush each partition is read back past the page cache and
compared, by a fingerprint taken as it was written: what the tree or the signed digest vouched for
is then what the medium gives back. Refuses to call anything installed that is not on the disk.
Chooses no update and changes no boot flag.
"""

import hashlib
import mmap
from collections.abc import Callable, Iterable, Iterator, Mapping
from enum import StrEnum
from typing import Final, NamedTuple

import msgspec

from updog.block_hash import BLOCK_BYTES
from updog.blocks import BUFFER_BYTES, BlockWorkers, Work
from updog.errors import ImageError, PartitionError
from updog.fingerprint import Fingerprint, draw_fingerprint
from updog.memory import keep_freed_pieces
from updog.partition import OpenPartition
from updog.stream import decompress
from updog.verity import TreeReader, read_superblock

MOST_TREE_BYTES: Final = 64 << 20
"""The largest tree that a rehearsal keeps in memory: that of a root of nearly 8 GiB."""


class Role(StrEnum):
    """What an image is for, in the order in which a set is written: the tree before the root."""

    HASH = "hash"
    ROOT = "root"
    BOOT = "boot"


class Image(msgspec.Struct, frozen=True, kw_only=True):
    """A compressed image on its way to a partition.

    `chunks` are the compressed bytes, whose length and digest whoever yields them checks. The
    signed length and sha256 of what is inside are None where the publisher did not give them.
    """

    role: Role
    name: str
    chunks: Iterator[bytes]
    content_length: int | None
    content_sha256: str | None


class Piece(NamedTuple):
    """A range of a partition."""

    offset_bytes: int
    length_bytes: int


Source = Callable[[Callable[[], memoryview]], Iterator[tuple[int, memoryview]]]
"""`source(take)` yields what belongs on the disk, each piece under its offset in bytes, in a buffer
from `take` or in its filled beginning. Nothing behind it needs the pieces of an image that has a
tree to be in order. One that left some out because they stand on the disk already would have to let
`find_bad_block` prove those: `prove` compares what was written."""


class Written(msgspec.Struct, frozen=True, kw_only=True):
    """What was written into a partition and must be there when it is read back.

    The sha256 is None where a hash tree vouched for every block instead.
    """

    role: Role
    name: str
    length_bytes: int
    sha256: str | None
    pieces: Mapping[Piece, bytes]
    """The fingerprint of everything that was written, whichever pieces that were."""
    fingerprint: Fingerprint


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
    fingerprint, pieces = draw_fingerprint(), {}

    def write(offset: int, data: memoryview) -> None:
        pieces[Piece(offset, len(data))] = fingerprint(data)
        partition.write(offset, data)

    passed = _pass_on(image, partition.window.length_bytes, tree=tree, work=write)
    partition.flush()
    return Written(
        role=image.role,
        name=image.name,
        length_bytes=passed.length_bytes,
        sha256=passed.sha256,
        pieces=pieces,
        fingerprint=fingerprint,
    )


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
        _pass_on(image, room_bytes, tree=tree if image.role is Role.ROOT else None, work=_drop)
        return tree
    beginning = _Beginning()
    written = _pass_on(image, room_bytes, tree=None, work=beginning.keep)
    superblock = read_superblock(beginning.read, length_bytes=written.length_bytes)
    if superblock.image_bytes > MOST_TREE_BYTES:
        return None
    return TreeReader(beginning.read, length_bytes=written.length_bytes)


class _Beginning:
    """As much of an image as may be kept in memory."""

    def __init__(self) -> None:
        self._kept: dict[int, bytes] = {}

    def keep(self, offset: int, data: memoryview) -> None:
        """Keep a piece, or what there is room for."""
        self._kept[offset] = bytes(data[: max(0, MOST_TREE_BYTES - offset)])

    def read(self, offset: int, length: int) -> bytes:
        """Return a range of what was kept."""
        found = bytearray()
        while len(found) < length:
            at = offset + len(found)
            begin = at // BUFFER_BYTES * BUFFER_BYTES
            piece = self._kept.get(begin, b"")[at - begin :]
            if not piece:
                break
            found += piece
        return bytes(found[:length])


def _drop(_offset: int, _data: memoryview) -> None:
    """Let a piece go: it was only to be checked."""


class _Passed(msgspec.Struct, frozen=True, kw_only=True):
    """What has gone by: as long as was signed, and of the signed content or vouched for."""

    length_bytes: int
    sha256: str | None


def _pass_on(image: Image, room_bytes: int, *, tree: TreeReader | None, work: Work) -> _Passed:
    """Pass an image on buffer by buffer, none that its tree does not vouch for.

    A tree says all that a digest could: then none is taken, which would cost as much again. The
    signed sha256 of a root's content is for readers without its tree.
    """

    def check(offset: int, data: memoryview) -> None:
        if tree is not None:
            _require_vouched(image.name, tree, offset, data)
        work(offset, data)

    keep_freed_pieces()
    digest = hashlib.sha256() if tree is None else None
    length_bytes = 0
    with BlockWorkers(check) as workers:
        for offset, data in _unpacked(image, room_bytes)(workers.take):
            if digest is not None:
                digest.update(data)
            workers.hand_over(offset, data)
            length_bytes = max(length_bytes, offset + len(data))
        workers.finish()
    sha256 = None if digest is None else digest.hexdigest()
    _require_whole(image, length_bytes, tree)
    _require_signed_content(image, length_bytes, sha256)
    return _Passed(length_bytes=length_bytes, sha256=sha256)


def _unpacked(image: Image, room_bytes: int) -> Source:
    """Return a compressed image as a source of all its blocks, in order."""

    def source(take: Callable[[], memoryview]) -> Iterator[tuple[int, memoryview]]:
        limit_bytes, offset = _limit(image, room_bytes), 0
        for data in decompress(image.chunks, name=image.name, limit_bytes=limit_bytes, take=take):
            yield offset, data
            offset += len(data)

    return source


def _limit(image: Image, room_bytes: int) -> int:
    """Return the most that an image may unpack to."""
    limit = room_bytes if image.content_length is None else image.content_length
    if limit > room_bytes:
        raise ImageError(
            f"{image.name}: the image has {limit} bytes, its partition holds {room_bytes}"
        )
    return limit


def _require_vouched(name: str, tree: TreeReader, offset: int, data: memoryview) -> None:
    bad = tree.first_bad_block(offset // BLOCK_BYTES, data)
    if bad is not None:
        raise ImageError(f"{name}: block {bad} is not the one that the hash tree vouches for")


def _require_whole(image: Image, length_bytes: int, tree: TreeReader | None) -> None:
    if length_bytes == 0:
        raise ImageError(f"{image.name}: holds nothing")
    if tree is not None and length_bytes != tree.superblock.data_bytes:
        raise ImageError(
            f"{image.name}: the image has {length_bytes} bytes, its hash tree covers "
            f"{tree.superblock.data_bytes}"
        )


def _require_signed_content(image: Image, length_bytes: int, sha256: str | None) -> None:
    if image.content_length not in (None, length_bytes):
        raise ImageError(
            f"{image.name}: decompressed to {length_bytes} bytes, "
            f"{image.content_length} were signed"
        )
    if sha256 is not None and image.content_sha256 not in (None, sha256):
        raise ImageError(f"{image.name}: the content is not what was signed (sha256 differs)")


def prove(
    written: Written,
    partition: OpenPartition,
    *,
    tree: TreeReader | None,
    advance: Callable[[int], None] = lambda _count: None,
) -> None:
    """Read a partition back from the medium and compare it with what was written to it.

    Args:
        written: what must be there.
        partition: already flushed.
        tree: for the root partition, the tree that names the block that differs.
        advance: is told of every piece, with its bytes, when its turn comes.

    Raises:
        PartitionError: the medium gives back other bytes, or cannot be read.
    """

    def compare(offset: int, buffer: memoryview) -> None:
        partition.read_into(offset, buffer)
        if written.fingerprint(buffer) != written.pieces[Piece(offset, len(buffer))]:
            bad = None if tree is None else tree.first_bad_block(offset // BLOCK_BYTES, buffer)
            raise PartitionError(_words_for_other_bytes(written, offset, len(buffer), bad))

    partition.forget_cached()
    _work_through(sorted(written.pieces), compare, advance)


def _words_for_other_bytes(written: Written, offset: int, length: int, bad: int | None) -> str:
    if bad is not None:
        return (
            f"{written.name}: block {bad} of the root partition is not the one that the hash tree "
            "vouches for; the medium may be failing"
        )
    return (
        f"{written.name}: the {written.role} partition does not give back what was written to its "
        f"bytes {offset} to {offset + length}; the medium may be failing"
    )


def _work_through(
    pieces: Iterable[Piece], work: Work, advance: Callable[[int], None] = lambda _count: None
) -> None:
    """Work on pieces of a partition, each in an empty buffer of its length.

    Raises:
        Exception: what the work at the lowest offset raised, if any did.
    """
    with BlockWorkers(work) as workers:
        for piece in pieces:
            workers.hand_over(piece.offset_bytes, workers.take()[: piece.length_bytes])
            advance(piece.length_bytes)
        workers.finish()


def _pieces(length_bytes: int) -> Iterator[Piece]:
    """Cut the beginning of a partition into pieces, each of a buffer's length but the last."""
    for offset in range(0, length_bytes, BUFFER_BYTES):
        yield Piece(offset, min(BUFFER_BYTES, length_bytes - offset))


def content_digest(partition: OpenPartition, length_bytes: int) -> str:
    """Return the sha256 of the first bytes of a partition, in hexadecimal.

    Raises:
        PartitionError: the medium cannot be read.
    """
    digest = hashlib.sha256()
    buffer = memoryview(mmap.mmap(-1, BUFFER_BYTES))
    for piece in _pieces(length_bytes):
        data = buffer[: piece.length_bytes]
        partition.read_into(piece.offset_bytes, data)
        digest.update(data)
    return digest.hexdigest()


def find_bad_block(partition: OpenPartition, tree: TreeReader) -> int | None:
    """Return the number of the first block of a root partition that its tree does not vouch for.

    Raises:
        ImageError: the tree contradicts itself.
        PartitionError: the partition cannot be read.
    """

    def check(offset: int, buffer: memoryview) -> None:
        partition.read_into(offset, buffer)
        bad = tree.first_bad_block(offset // BLOCK_BYTES, buffer)
        if bad is not None:
            raise _BadBlock(bad)

    try:
        _work_through(_pieces(tree.superblock.data_bytes), check)
    except _BadBlock as found:
        return found.number
    return None


class _BadBlock(Exception):  # noqa: N818 -- an outcome, not a defect
    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number
