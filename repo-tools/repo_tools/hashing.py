"""The dm-verity tree of a large image, built by all processors in bounded memory.

Decides how the work is shared: batches of blocks go to a few threads, which write the digests
straight to their place in the hash image, so that neither the image nor its tree is ever in memory.
The bytes are those of `updog.verity.build_tree` and of `veritysetup format`.
"""

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO, Final, NamedTuple

from repo_tools.errors import RepoToolsError
from updog.block_hash import BLOCK_BYTES, DIGEST_BYTES, BlockHasher
from updog.verity import Superblock

_BATCH_BLOCKS: Final = 256
_MOST_THREADS: Final = 8
"""More would wait for each other where hashing is Python's own work."""


class _Range(NamedTuple):
    """Consecutive blocks of a file."""

    file: BinaryIO
    offset_bytes: int
    blocks: int


def write_hash_image(root: Path, image: Path, *, salt: bytes, uuid: bytes) -> bytes:
    """Write the hash image of a root image, and return its root digest.

    Args:
        root: the root image.
        image: the hash image to write; one that is there is replaced.
        salt: 0 to 256 bytes that go before every block.
        uuid: 16 bytes for the superblock.

    Raises:
        RepoToolsError: the root image is empty or no whole number of 4096-byte blocks.
    """
    superblock = Superblock(uuid=uuid, salt=salt, data_blocks=_count_blocks(root))
    with (
        root.open("rb", buffering=0) as data,
        image.open("w+b", buffering=0) as tree,
        ThreadPoolExecutor(min(_MOST_THREADS, len(os.sched_getaffinity(0)))) as threads,
    ):
        tree.truncate(superblock.image_bytes)
        os.pwrite(tree.fileno(), superblock.serialise(), 0)
        hasher = _Hasher(salt)
        below, position = _Range(data, 0, superblock.data_blocks), superblock.image_bytes
        # Each level stands in front of the one that it vouches for.
        for blocks in superblock.level_sizes():
            position -= blocks * BLOCK_BYTES
            level = _Range(tree, position, blocks)
            _hash_level(threads, hasher, below, level)
            below = level
        return hasher.digests(below, 0)


def _count_blocks(root: Path) -> int:
    length = root.stat().st_size
    if length == 0 or length % BLOCK_BYTES:
        raise RepoToolsError(
            f"{root} has {length} bytes: a root image is a whole number of {BLOCK_BYTES}-byte "
            "blocks, one or more"
        )
    return length // BLOCK_BYTES


def _hash_level(
    threads: ThreadPoolExecutor, hasher: "_Hasher", below: _Range, level: _Range
) -> None:
    """Write the digests of all blocks of a range; what is behind them in the level stays zero."""

    def hash_batch(first_block: int) -> None:
        digests = hasher.digests(below, first_block)
        offset = level.offset_bytes + first_block * DIGEST_BYTES
        if os.pwrite(level.file.fileno(), digests, offset) != len(digests):
            raise RepoToolsError(f"cannot write {level.file.name}: no room")

    for _ in threads.map(hash_batch, range(0, below.blocks, _BATCH_BLOCKS)):
        pass  # the first failure is raised here, and what has not begun is cancelled


class _Hasher(threading.local):
    """The digests of a batch of blocks of a file. Each thread has a buffer of its own."""

    def __init__(self, salt: bytes) -> None:
        self._hasher = BlockHasher(salt)
        self._buffer = memoryview(bytearray(_BATCH_BLOCKS * BLOCK_BYTES))

    def digests(self, source: _Range, first_block: int) -> bytes:
        """Return the digests of the batch that begins with `first_block`, joined."""
        count = min(_BATCH_BLOCKS, source.blocks - first_block)
        offset = source.offset_bytes + first_block * BLOCK_BYTES
        blocks = self._buffer[: count * BLOCK_BYTES]
        if os.preadv(source.file.fileno(), [blocks], offset) != len(blocks):
            raise RepoToolsError(f"{source.file.name} became shorter while it was hashed")
        return self._hasher.digests(blocks)
