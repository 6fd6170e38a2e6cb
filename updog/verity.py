"""Blocks of a root image <-> its dm-verity hash tree.

Decides whether a block is the one that the tree vouches for, and builds the tree of an image.
Refuses trees of any kind but the one that `veritysetup format` makes by default: version 1, sha256,
4096-byte blocks, superblock first. Reads a tree a block at a time, so that an image of any size
needs the same memory. Whether the tree itself may be believed is the caller's to know.

Source: the Linux kernel's Documentation/admin-guide/device-mapper/verity.rst and cryptsetup's
on-disk format of the superblock.
"""

import struct
from collections.abc import Callable, Iterable
from typing import Final

import msgspec

from updog.block_hash import BLOCK_BYTES, DIGEST_BYTES, BlockHasher
from updog.errors import ImageError

_DIGESTS_A_BLOCK: Final = BLOCK_BYTES // DIGEST_BYTES
_SUPERBLOCK: Final = struct.Struct("<8sII16s32sIIQH6s256s168s")
_SIGNATURE: Final = b"verity\0\0"
_MAX_DATA_BLOCKS: Final = 1 << 32
"""16 TiB: a bound on what a damaged superblock can make us compute."""

ReadAt = Callable[[int, int], bytes]
"""`read(offset_bytes, length_bytes)` returns exactly that range of a hash image."""


class Superblock(msgspec.Struct, frozen=True, kw_only=True):
    """The facts of a tree: identity, salt and the number of data blocks it covers."""

    uuid: bytes
    salt: bytes
    data_blocks: int

    @classmethod
    def parse(cls, block: bytes) -> "Superblock":
        """Read a superblock.

        Raises:
            ImageError: the bytes are none, or describe a tree of another kind.
        """
        fields = _SUPERBLOCK.unpack_from(block)
        if fields[0] != _SIGNATURE:
            raise ImageError("the hash image holds no dm-verity superblock")
        kind = (fields[1], fields[2], fields[4].rstrip(b"\0"), fields[5], fields[6])
        if kind != (1, 1, b"sha256", BLOCK_BYTES, BLOCK_BYTES):
            raise ImageError(
                "the hash image is not of the supported kind (dm-verity version 1, sha256, "
                "4096-byte blocks)"
            )
        if not 0 < fields[7] <= _MAX_DATA_BLOCKS or fields[8] > len(fields[10]):
            raise ImageError("the superblock of the hash image is damaged")
        return cls(uuid=fields[3], data_blocks=fields[7], salt=fields[10][: fields[8]])

    def serialise(self) -> bytes:
        """Return the superblock padded to one block."""
        packed = _SUPERBLOCK.pack(
            _SIGNATURE,
            1,
            1,
            self.uuid,
            b"sha256",
            BLOCK_BYTES,
            BLOCK_BYTES,
            self.data_blocks,
            len(self.salt),
            bytes(6),
            self.salt,
            bytes(168),
        )
        return packed.ljust(BLOCK_BYTES, b"\0")

    @property
    def data_bytes(self) -> int:
        """Length of the root image that the tree covers."""
        return self.data_blocks * BLOCK_BYTES

    def level_sizes(self) -> list[int]:
        """Return the blocks in each level of the tree, the leaves' level first."""
        sizes = []
        blocks = self.data_blocks
        while blocks > 1:
            blocks = -(-blocks // _DIGESTS_A_BLOCK)
            sizes.append(blocks)
        return sizes

    @property
    def image_bytes(self) -> int:
        """Length of the hash image: the superblock and every level of the tree."""
        return (1 + sum(self.level_sizes())) * BLOCK_BYTES


class Tree(msgspec.Struct, frozen=True, kw_only=True):
    """A hash image and the digest that vouches for it."""

    image: bytes
    root_digest: bytes


def build_tree(data: Iterable[bytes | memoryview], *, salt: bytes, uuid: bytes) -> Tree:
    """Build the tree of an image, the same bytes as `veritysetup format` gives.

    Args:
        data: the image in pieces of whole 4096-byte blocks.
        salt: 0 to 256 bytes that go before every block.
        uuid: 16 bytes for the superblock.

    Raises:
        ImageError: the image is empty or no whole number of blocks.
    """
    hasher = BlockHasher(salt)
    digests = b"".join(hasher.digests(piece) for piece in data)
    superblock = Superblock(uuid=uuid, salt=salt, data_blocks=len(digests) // DIGEST_BYTES)
    if not digests:
        raise ImageError("an empty image has no hash tree")
    levels = []
    while len(digests) > DIGEST_BYTES:
        levels.append(_pad(digests))
        digests = hasher.digests(levels[-1])
    return Tree(
        image=superblock.serialise() + b"".join(reversed(levels)),
        root_digest=digests,
    )


def _pad(level: bytes) -> bytes:
    return level + bytes(-len(level) % BLOCK_BYTES)


def read_superblock(read: ReadAt, *, length_bytes: int) -> Superblock:
    """Read the superblock of a hash image that is long enough for the tree that it announces.

    Raises:
        ImageError: it is none, or too short.
    """
    if length_bytes < BLOCK_BYTES:
        raise ImageError(
            f"the hash image has {length_bytes} bytes: too few for a dm-verity superblock"
        )
    superblock = Superblock.parse(read(0, BLOCK_BYTES))
    if length_bytes < superblock.image_bytes:
        raise ImageError(
            f"the hash image has {length_bytes} bytes, its tree needs {superblock.image_bytes}"
        )
    return superblock


class TreeReader:
    """Checks data blocks against a hash image, reading of the tree only what it needs.

    Each hash block is checked against the level above it before it is believed, up to
    `root_digest`.
    """

    def __init__(self, read: ReadAt, *, length_bytes: int) -> None:
        """Open a hash image.

        Args:
            read: reads it, and may reach further: into what stood there before.
            length_bytes: where it ends; nothing behind is read.

        Raises:
            ImageError: it holds no tree of the supported kind, or not all of it.
        """
        self._read = read
        self.superblock = read_superblock(read, length_bytes=length_bytes)
        self._hasher = BlockHasher(self.superblock.salt)
        self._offsets = self._level_offsets()
        self._cache: dict[int, tuple[range, bytes]] = {}
        self.root_digest = self._compute_root_digest()

    def _level_offsets(self) -> list[int]:
        """Return where each level begins; the level nearest to the root is stored first."""
        offsets: list[int] = []
        position = BLOCK_BYTES
        for size in reversed(self.superblock.level_sizes()):
            offsets.insert(0, position)
            position += size * BLOCK_BYTES
        return offsets

    def _compute_root_digest(self) -> bytes:
        if not self._offsets:
            raise ImageError("the hash image covers a single block: no system fits in that")
        return self._hasher.digests(self._read(self._offsets[-1], BLOCK_BYTES))

    def first_bad_block(self, first_block: int, data: bytes | memoryview) -> int | None:
        """Return the number of the first block that the tree does not vouch for, or None.

        Args:
            first_block: the number of the first block in `data`.
            data: whole 4096-byte blocks.
        """
        found = self._hasher.digests(data)
        count = len(found) // DIGEST_BYTES
        if first_block + count > self.superblock.data_blocks:
            return self.superblock.data_blocks
        if not found:
            return None
        expected = self._expected(0, range(first_block, first_block + count))
        return None if found == expected else first_block + _first_difference(found, expected)

    def _expected(self, level: int, blocks: range) -> bytes:
        """Return the digests that a level holds for consecutive blocks of what is below it."""
        first, last = blocks[0] // _DIGESTS_A_BLOCK, blocks[-1] // _DIGESTS_A_BLOCK
        digests = self._hash_blocks(level, range(first, last + 1))
        start = blocks[0] % _DIGESTS_A_BLOCK * DIGEST_BYTES
        return digests[start : start + len(blocks) * DIGEST_BYTES]

    def _hash_blocks(self, level: int, blocks: range) -> bytes:
        """Return consecutive blocks of the tree, each checked against the level above."""
        known, data = self._cache.get(level, (range(0), b""))
        if known != blocks:
            position = self._offsets[level] + blocks[0] * BLOCK_BYTES
            data = self._read(position, len(blocks) * BLOCK_BYTES)
            if len(data) != len(blocks) * BLOCK_BYTES:
                raise ImageError(f"the hash tree ends before its byte {position + len(data) + 1}")
            found, vouched = self._hasher.digests(data), self._vouched(level, blocks)
            if found != vouched:
                bad = blocks[_first_difference(found, vouched)]
                raise ImageError(
                    f"the hash tree contradicts itself: block {bad} of level {level} is not the "
                    "one that the level above vouches for"
                )
            self._cache[level] = (blocks, data)
        return data

    def _vouched(self, level: int, blocks: range) -> bytes:
        is_top = level + 1 == len(self._offsets)
        return self.root_digest if is_top else self._expected(level + 1, blocks)


def _first_difference(some: bytes, others: bytes) -> int:
    """Return the index of the first digest in which two different strings of them differ."""
    starts = range(0, len(some), DIGEST_BYTES)
    return next(
        index
        for index, start in enumerate(starts)
        if some[start : start + DIGEST_BYTES] != others[start : start + DIGEST_BYTES]
    )
