"""The three images of a release, and their compressed form.

Decides how root, hash and boot image depend on each other: the hash image is the dm-verity tree of
the root image, and the boot image vouches for the tree's root digest. The same trees give the same
bytes. Refuses nothing itself: whether an image fits its partition is for whoever writes it.
"""

import hashlib
import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import BinaryIO, assert_never
from uuid import UUID, uuid5

import lz4.frame

from repo_tools import ext4
from repo_tools.cmdline import FILE_NAME, VerityTable, format_command_line
from repo_tools.durable import write_durably
from updog.verity import BLOCK_BYTES, build_tree

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

_CHUNK_BYTES = 1 << 20
_ZSTD_LEVEL = 9
_NAMESPACE = UUID("9d3e6a3e-62f5-4b0e-9a52-5a6f4c7f6f51")
"""Images get UUIDs derived from it and their content, for the same bytes on every run."""

SALT = bytes.fromhex("5f1c9a40e2b7d3886d04c1f5a97b3e21c8f6620d94ab1e7035d8bc42e901f76a")
"""The salt of every tree: it needs no secrecy, only not to be shared with other products."""


class Codec(StrEnum):
    """How an image is compressed, by the end of its target's name."""

    ZSTD = "zst"
    LZ4 = "lz4"


@dataclass(frozen=True, slots=True, kw_only=True)
class SystemImages:
    """The images of one release in files, and the table that ties them together."""

    boot: Path
    root: Path
    hash: Path
    table: VerityTable

    @property
    def build_id(self) -> str:
        """Eight hexadecimal digits that tell this build from any other of the same version."""
        return self.table.root_digest.hex()[:8]


@dataclass(frozen=True, slots=True, kw_only=True)
class Compressed:
    """A compressed file and what it holds."""

    length: int
    sha256: str
    uncompressed_length: int
    uncompressed_sha256: str


def build_images(
    root_tree: Path, boot_tree: Path, directory: Path, *, made_at: int
) -> SystemImages:
    """Build boot.ext4, root.ext4 and root.verity in `directory`.

    Args:
        root_tree: the files of the system.
        boot_tree: the files of the BOOT partition; the kernel command line is added to them.
        directory: where the images go; those of an earlier build are replaced.
        made_at: the time of every file in them, in seconds since 1970.
    """
    directory.mkdir(parents=True, exist_ok=True)
    root = directory / "root.ext4"
    _build_ext4(root_tree, root, made_at)
    hash_image = directory / "root.verity"
    table = build_hash_image(root, hash_image)
    write_durably(boot_tree / FILE_NAME.lstrip("/"), f"{format_command_line(table)}\n".encode())
    boot = directory / "boot.ext4"
    _build_ext4(boot_tree, boot, made_at)
    return SystemImages(boot=boot, root=root, hash=hash_image, table=table)


def build_hash_image(root: Path, image: Path, *, salt: bytes = SALT) -> VerityTable:
    """Write the dm-verity tree of `root` to `image`, as `veritysetup format` would."""
    length = root.stat().st_size
    # The UUID identifies the pair to tools; two builds of one system may share it.
    uuid = uuid5(_NAMESPACE, f"verity {length}")
    with root.open("rb") as file:
        tree = build_tree(_chunks(file), salt=salt, uuid=uuid.bytes)
    image.write_bytes(tree.image)
    return VerityTable(
        data_blocks=length // BLOCK_BYTES, root_digest=bytes(tree.root_digest), salt=salt
    )


def compress(source: Path, target: Path, codec: Codec | None) -> Compressed:
    """Compress a file as one frame, or copy it, in bounded memory; the digests are made meanwhile.

    Zstandard uses all cores and gives the same bytes on any number of them.
    """
    with (
        ThreadPoolExecutor(max_workers=2) as pool,
        source.open("rb") as reader,
        target.open("wb") as writer,
    ):
        plain, packed = _Digest(pool), _Digest(pool)
        for piece in _packed(plain.of(_chunks(reader)), source.stat().st_size, codec):
            packed.update(piece)
            writer.write(piece)
        return Compressed(
            length=writer.tell(),
            sha256=packed.hexdigest(),
            uncompressed_length=reader.tell(),
            uncompressed_sha256=plain.hexdigest(),
        )


class _Digest:
    """sha256 of a stream, computed in another thread while the next piece is made."""

    def __init__(self, pool: ThreadPoolExecutor) -> None:
        self._pool = pool
        self._sha256 = hashlib.sha256()
        self._running: Future[None] | None = None

    def update(self, piece: bytes) -> None:
        self._wait()
        self._running = self._pool.submit(self._sha256.update, piece)

    def of(self, pieces: Iterable[bytes]) -> Iterator[bytes]:
        for piece in pieces:
            self.update(piece)
            yield piece

    def hexdigest(self) -> str:
        self._wait()
        return self._sha256.hexdigest()

    def _wait(self) -> None:
        if self._running is not None:
            self._running.result()


def _packed(chunks: Iterable[bytes], length: int, codec: Codec | None) -> Iterable[bytes]:
    match codec:
        case Codec.ZSTD:
            return _zstd_frame(chunks, length)
        case Codec.LZ4:
            return _lz4_frame(chunks, length)
        case None:
            return chunks
        case _:
            assert_never(codec)


def _zstd_frame(chunks: Iterable[bytes], length: int) -> Iterator[bytes]:
    compressor = zstd.ZstdCompressor(options=zstd_options())
    compressor.set_pledged_input_size(length)
    for chunk in chunks:
        yield compressor.compress(chunk)
    yield compressor.flush()


def zstd_options() -> Mapping[int, int]:
    """Return how images are compressed by Zstandard."""
    parameter = zstd.CompressionParameter
    return {
        parameter.compression_level: _ZSTD_LEVEL,
        parameter.checksum_flag: 1,
        # One worker gives other bytes than none does, but the same as several.
        parameter.nb_workers: os.cpu_count() or 1,
    }


def _lz4_frame(chunks: Iterable[bytes], length: int) -> Iterator[bytes]:
    compressor = lz4.frame.LZ4FrameCompressor(
        block_size=lz4.frame.BLOCKSIZE_MAX4MB, content_checksum=True
    )
    yield compressor.begin(length)
    for chunk in chunks:
        yield compressor.compress(chunk)
    yield compressor.flush()


def _chunks(file: BinaryIO) -> Iterator[bytes]:
    while chunk := file.read(_CHUNK_BYTES):
        yield chunk


def _build_ext4(tree: Path, image: Path, made_at: int) -> None:
    how = ext4.Format(
        size_bytes=ext4.needed_bytes(tree), uuid=uuid5(_NAMESPACE, image.name), made_at=made_at
    )
    ext4.build_file_system(tree, image, how)
