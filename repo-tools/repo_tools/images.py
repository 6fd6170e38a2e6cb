"""The three images of a release, and their compressed form.

Decides how root, hash and boot image depend on each other: the hash image is the dm-verity tree of
the root image, and the boot image vouches for the tree's root digest. The same trees give the same
bytes. Refuses trees that would not boot; whether an image fits a partition is for `layout` to say.
"""

import os
import stat
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import BinaryIO, Final, assert_never
from uuid import UUID, uuid5

import lz4.frame

from repo_tools import erofs, ext4, vouching
from repo_tools.cmdline import FILE_NAME, VerityTable, format_command_line
from repo_tools.errors import RepoToolsError
from repo_tools.filesystems import Kind
from repo_tools.hashing import write_hash_image
from repo_tools.tree import EMPTY, Tree, read_tree
from updog.block_hash import BLOCK_BYTES
from updog.digest import BackgroundDigests

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

_CHUNK_BYTES = 1 << 20
_ZSTD_LEVEL = 9
_LZ4_LEVEL = 4
"""Published once, fetched by a fleet: a sixth less to fetch than at the fastest level, no slower to
decode. More takes twice as long for a hundredth."""
_NAMESPACE = UUID("9d3e6a3e-62f5-4b0e-9a52-5a6f4c7f6f51")
"""Images get UUIDs derived from it and their names, for the same bytes on every run."""

SALT = bytes.fromhex("5f1c9a40e2b7d3886d04c1f5a97b3e21c8f6620d94ab1e7035d8bc42e901f76a")
"""The salt of every tree: it needs no secrecy, only not to be shared with other products."""

BOOT_NAME: Final = "boot.ext4"
HASH_NAME: Final = "root.verity"


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

    @property
    def by_role(self) -> Mapping[str, Path]:
        """The image of each partition, in their order on a disk."""
        return {"boot": self.boot, "root": self.root, "hash": self.hash}


@dataclass(frozen=True, slots=True, kw_only=True)
class Compressed:
    """A compressed file and what it holds."""

    length: int
    sha256: str
    uncompressed_length: int
    uncompressed_sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BootContent:
    """What goes into a boot image beside the command line."""

    tree: Path | None = None
    """Its files."""
    kernel: Path | None = None
    """Becomes /vmlinuz."""
    initrd: Path | None = None
    """Becomes /initrd.img."""
    append: str = ""
    """Words for the end of the command line."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """What of the images does not come from their files."""

    made_at: int
    """The time of every file in them, in seconds since 1970, above 0."""
    salt: bytes = SALT
    """Goes before every block of the root image when it is hashed."""
    kind: Kind = Kind.EXT4
    """The file system of the root image."""


def build_images(
    root_tree: Tree, boot: BootContent, directory: Path, recipe: Recipe
) -> SystemImages:
    """Build boot.ext4, root.ext4 or root.erofs, and root.verity in `directory`.

    Args:
        root_tree: the files of the system.
        boot: the files of the BOOT partition; the kernel command line is added to them.
        directory: where the images go; those of an earlier build are replaced.
        recipe: how.

    Raises:
        RepoToolsError: the boot tree cannot be read or either holds what an image must not, or a
            tool is missing or failed. What was made so far stays in `directory`.
    """
    _refuse_closed(root_tree)
    directory.mkdir(parents=True, exist_ok=True)
    root, hash_image = directory / f"root.{recipe.kind}", directory / HASH_NAME
    _build_root(root_tree, root, recipe)
    table = build_hash_image(root, hash_image, salt=recipe.salt)
    boot_image = directory / BOOT_NAME
    _build_boot(boot, table, boot_image, recipe.made_at)
    return SystemImages(boot=boot_image, root=root, hash=hash_image, table=table)


def load_images(directory: Path) -> SystemImages:
    """Return the images in a directory, proven to belong together.

    Raises:
        RepoToolsError: one is missing, or the boot image does not vouch for the others.
        ImageError: the hash image holds no tree, or a damaged one.
    """
    boot, root, hash_image = find_images(directory)
    table = vouching.verify(
        boot=vouching.whole(boot),
        root=vouching.whole(root),
        hash_image=vouching.whole(hash_image),
    )
    return SystemImages(boot=boot, root=root, hash=hash_image, table=table)


def find_images(directory: Path) -> tuple[Path, Path, Path]:
    """Return the boot, root and hash image in a directory, whatever is in them.

    Raises:
        RepoToolsError: one is missing, or there are two root images.
    """
    roots = [f"root.{kind}" for kind in Kind]
    return (
        _only_one_of(directory, [BOOT_NAME]),
        _only_one_of(directory, roots),
        _only_one_of(directory, [HASH_NAME]),
    )


def _only_one_of(directory: Path, names: list[str]) -> Path:
    found = [directory / name for name in names if (directory / name).is_file()]
    if len(found) != 1:
        raise RepoToolsError(
            f"{directory} must hold one file {' or '.join(names)}, and holds "
            f"{len(found) or 'none'}: `repo-tools image build` makes a whole set"
        )
    return found[0]


def _refuse_closed(tree: Tree) -> None:
    """Refuse a root directory that only root may enter, as mkdtemp(3) makes them."""
    mode = stat.S_IMODE(tree.mode)
    if mode & 0o555 != 0o555:
        raise RepoToolsError(
            f"{tree.top} has the mode {mode:04o}, which becomes that of the system's root "
            f"directory: only root could use the system. Run `chmod 755 {tree.top}`"
        )


def _build_root(tree: Tree, image: Path, recipe: Recipe) -> None:
    if recipe.kind is Kind.EROFS:
        uuid = uuid5(_NAMESPACE, image.name)
        erofs.build_file_system(tree, image, erofs.Format(uuid=uuid, made_at=recipe.made_at))
    else:
        _build_ext4(tree, image, recipe.made_at)


def _build_boot(boot: BootContent, table: VerityTable, image: Path, made_at: int) -> None:
    command_line = image.with_name(f"{image.name}.cmdline")
    command_line.write_text(f"{format_command_line(table, append=boot.append)}\n")
    files = {FILE_NAME.lstrip("/"): command_line, "vmlinuz": boot.kernel, "initrd.img": boot.initrd}
    tree = read_tree(boot.tree) if boot.tree else EMPTY
    _build_ext4(
        tree.with_files({name: path for name, path in files.items() if path}), image, made_at
    )
    command_line.unlink()


def build_hash_image(root: Path, image: Path, *, salt: bytes = SALT) -> VerityTable:
    """Write the dm-verity tree of `root` to `image`, as `veritysetup format` would."""
    length = root.stat().st_size
    # The UUID identifies the pair to tools; two builds of one system may share it.
    uuid = uuid5(_NAMESPACE, f"verity {length}")
    root_digest = write_hash_image(root, image, salt=salt, uuid=uuid.bytes)
    return VerityTable(data_blocks=length // BLOCK_BYTES, root_digest=root_digest, salt=salt)


def compress(source: Path, target: Path, codec: Codec | None) -> Compressed:
    """Compress a file as one frame, or copy it, in bounded memory; the digests are made meanwhile.

    Zstandard uses all cores and gives the same bytes on any number of them.
    """
    with (
        BackgroundDigests(["sha256"]) as plain,
        BackgroundDigests(["sha256"]) as packed,
        source.open("rb") as reader,
        target.open("wb") as writer,
    ):
        for piece in _packed(_hashed(_chunks(reader), plain), source.stat().st_size, codec):
            packed.update(piece)
            writer.write(piece)
        return Compressed(
            length=writer.tell(),
            sha256=packed.hexdigests()["sha256"],
            uncompressed_length=reader.tell(),
            uncompressed_sha256=plain.hexdigests()["sha256"],
        )


def _hashed(pieces: Iterable[bytes], digests: BackgroundDigests) -> Iterator[bytes]:
    for piece in pieces:
        digests.update(piece)
        yield piece


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
        compression_level=_LZ4_LEVEL,
        # A machine decodes smaller blocks where they belong; larger ones by way of a copy.
        block_size=lz4.frame.BLOCKSIZE_MAX256KB,
        content_checksum=True,
    )
    yield compressor.begin(length)
    for chunk in chunks:
        yield compressor.compress(chunk)
    yield compressor.flush()


def _chunks(file: BinaryIO) -> Iterator[bytes]:
    while chunk := file.read(_CHUNK_BYTES):
        yield chunk


def _build_ext4(tree: Tree, image: Path, made_at: int) -> None:
    how = ext4.Format(
        size_bytes=ext4.needed_bytes(tree), uuid=uuid5(_NAMESPACE, image.name), made_at=made_at
    )
    ext4.build_file_system(tree, image, how)
