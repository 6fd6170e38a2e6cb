"""What is inside an image, a compressed image or a whole disk.

Decides what a file is by what stands in it, never by its name, and says of each kind what a
publisher asks: what system it is, what vouches for what, and whether that is true. Trusts nothing:
a damaged part is a fact to be told, not the end.
"""

import hashlib
import shlex
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, TypeAlias

from repo_tools import filesystems, vouching
from repo_tools.cmdline import FILE_NAME, VerityTable, parse_command_line
from repo_tools.errors import CommandLineError, FileSystemError, RepoToolsError, VouchingError
from repo_tools.filesystems import Kind
from repo_tools.images import Codec
from signpost.disk import BootDisk, Location, Window, read
from signpost.sets import PartitionSet
from signpost.state import next_set
from updog.errors import ImageError, PartitionError
from updog.partition import open_for_reading
from updog.stream import decompress
from updog.verity import TreeReader

_HEAD_BYTES: Final = 16 << 10
_CHUNK_BYTES: Final = 1 << 20
_MOST_CONTENT_BYTES: Final = 1 << 44
_GPT_SIGNATURE: Final = b"EFI PART"
_VERITY_SIGNATURE: Final = b"verity\0\0"
_OS_RELEASE: Final = ("/etc/os-release", "/usr/lib/os-release")
_OS_RELEASE_FIELDS: Final = ("NAME", "VARIANT_ID", "VERSION_ID")
_MAGICS: Final = {
    bytes.fromhex("28b52ffd"): Codec.ZSTD,
    bytes.fromhex("04224d18"): Codec.LZ4,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class RootImage:
    """A file system without a kernel command line."""

    kind: str = field(default="root image", init=False)
    file_system: Kind
    length: int
    uuid: str
    os_release: dict[str, str] | None
    """NAME, VARIANT_ID and VERSION_ID as far as they are there; None if there is no such file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BootImage:
    """A file system with a kernel command line."""

    kind: str = field(default="boot image", init=False)
    file_system: Kind
    length: int
    uuid: str
    files: dict[str, int]
    """The names at its top, each with its length in bytes."""
    command_line: str
    root_digest: str | None
    """What it vouches for; None if it vouches for nothing."""
    data_blocks: int | None
    salt: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class HashImage:
    """A dm-verity tree."""

    kind: str = field(default="hash image", init=False)
    length: int
    uuid: str
    salt: str
    data_blocks: int
    levels: list[int]
    """The blocks of each level, the leaves' level first."""
    root_digest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CompressedImage:
    """A whole LZ4 or zstd frame."""

    kind: str = field(default="compressed image", init=False)
    codec: Codec
    length: int
    sha256: str
    content: str
    """What is in it, in words."""
    content_length: int
    content_sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Damaged:
    """Something that is not what it should be."""

    kind: str = field(default="damaged", init=False)
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SetOnDisk:
    """One set of a disk."""

    flags: str
    """Priority/tries/successful of its BOOT partition."""
    boot: "Image | None"
    root: "Image | None"
    hash: "Image | None"
    """None where a partition holds nothing."""
    verified: bool | None
    """Whether every block of the root is what the boot image vouches for; None for an empty set."""
    reason: str | None
    """Why not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PartitionOnDisk:
    """One entry of the partition table."""

    number: int
    label: str
    type: str
    offset_bytes: int
    length_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Disk:
    """A whole disk."""

    kind: str = field(default="disk", init=False)
    length: int
    sector_size: int
    faults: tuple[str, ...]
    """What is wrong with the table's copies."""
    has_spare_array: bool
    """Whether a change of flags takes effect with one sector."""
    partitions: tuple[PartitionOnDisk, ...]
    sets: dict[str, SetOnDisk]
    next: str | None
    """The set that the boot loader would take."""


Image: TypeAlias = RootImage | BootImage | HashImage | Damaged
Facts: TypeAlias = Image | CompressedImage | Disk


def inspect(path: Path) -> Facts:
    """Say what a file holds.

    Raises:
        RepoToolsError: it is nothing that this project makes, or is damaged throughout.
        SignpostError: it is a disk whose table cannot be trusted.
        ImageError: it is a compressed image that is damaged.
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        head = file.read(_HEAD_BYTES)
    codec = _MAGICS.get(head[:4])
    if codec is not None:
        return _inspect_compressed(path, codec)
    if any(head[at : at + 8] == _GPT_SIGNATURE for at in (512, 4096)):
        return _inspect_disk(path)
    found = inspect_image(vouching.whole(path))
    if found is None or isinstance(found, Damaged):
        reason = found.reason if found else "it is empty, or nothing that is made here"
        raise RepoToolsError(f"{path}: {reason}")
    return found


def inspect_image(window: Window) -> Image | None:
    """Say what a partition or a whole file holds; None for nothing that is known."""
    with window.path.open("rb") as file:
        file.seek(window.offset_bytes)
        head = file.read(min(_HEAD_BYTES, window.length_bytes))
    try:
        if head[:8] == _VERITY_SIGNATURE:
            return _inspect_hash_image(window)
        return _inspect_file_system(window, head) if filesystems.identify(head) else None
    except (ImageError, PartitionError, RepoToolsError) as error:
        return Damaged(reason=str(error))


def _inspect_hash_image(window: Window) -> HashImage:
    with open_for_reading(window) as hashes:
        reader = TreeReader(hashes.read, length_bytes=window.length_bytes)
    block = reader.superblock
    return HashImage(
        length=block.image_bytes,
        uuid=_uuid(block.uuid),
        salt=block.salt.hex(),
        data_blocks=block.data_blocks,
        levels=block.level_sizes(),
        root_digest=reader.root_digest.hex(),
    )


def _uuid(data: bytes) -> str:
    text = data.hex()
    return "-".join((text[:8], text[8:12], text[12:16], text[16:20], text[20:]))


def _inspect_file_system(window: Window, head: bytes) -> RootImage | BootImage:
    kind = filesystems.identify(head) or Kind.EXT4
    length, uuid = filesystems.identity(head)
    if kind is Kind.EXT4:
        files = filesystems.list_directory(window, "/")
        if FILE_NAME.lstrip("/") in files:
            return _inspect_boot(window, length, str(uuid), files)
    return RootImage(
        file_system=kind, length=length, uuid=str(uuid), os_release=_read_os_release(window)
    )


def _inspect_boot(window: Window, length: int, uuid: str, files: dict[str, int]) -> BootImage:
    command_line = vouching.read_command_line(window)
    table: VerityTable | None
    try:
        table = parse_command_line(command_line)
    except CommandLineError:
        table = None
    return BootImage(
        file_system=Kind.EXT4,
        length=length,
        uuid=uuid,
        files=files,
        command_line=command_line,
        root_digest=table.root_digest.hex() if table else None,
        data_blocks=table.data_blocks if table else None,
        salt=table.salt.hex() if table else None,
    )


def _read_os_release(window: Window) -> dict[str, str] | None:
    for name in _OS_RELEASE:
        try:
            text = filesystems.read_file(window, name).decode("utf-8", errors="replace")
        except FileSystemError:
            continue
        return {field: value for field, value in _assignments(text) if field in _OS_RELEASE_FIELDS}
    return None


def _assignments(text: str) -> Iterator[tuple[str, str]]:
    for line in text.splitlines():
        name, equals, value = line.strip().partition("=")
        if equals and not name.startswith("#"):
            try:
                yield name, "".join(shlex.split(value))
            except ValueError:
                yield name, value


def _inspect_compressed(path: Path, codec: Codec) -> CompressedImage:
    packed, plain, head, length = hashlib.sha256(), hashlib.sha256(), b"", 0
    name = path.name if path.name.endswith(f".{codec}") else f"{path.name}.{codec}"
    buffer = memoryview(bytearray(_CHUNK_BYTES))
    chunks = _chunks(path, packed.update)
    for piece in decompress(
        chunks, name=name, limit_bytes=_MOST_CONTENT_BYTES, take=lambda: buffer
    ):
        plain.update(piece)
        head = head or bytes(piece[:_HEAD_BYTES])
        length += len(piece)
    return CompressedImage(
        codec=codec,
        length=path.stat().st_size,
        sha256=packed.hexdigest(),
        content=_in_words(head),
        content_length=length,
        content_sha256=plain.hexdigest(),
    )


def _chunks(path: Path, seen: Callable[[bytes], None]) -> Iterator[bytes]:
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            seen(chunk)
            yield chunk


def _in_words(head: bytes) -> str:
    if head[:8] == _VERITY_SIGNATURE:
        return "a hash image"
    kind = filesystems.identify(head)
    return f"an {kind} file system" if kind else "something else"


def _inspect_disk(path: Path) -> Disk:
    disk = read(Location(path=path))
    following = next_set(disk.state)
    return Disk(
        length=path.stat().st_size,
        sector_size=disk.table.sector_size,
        faults=disk.table.faults,
        has_spare_array=disk.commits_at_once,
        partitions=tuple(_partitions(disk)),
        sets={one.name.value: _inspect_set(disk, one) for one in disk.sets.present()},
        next=following.value if following else None,
    )


def _partitions(disk: BootDisk) -> Iterator[PartitionOnDisk]:
    for one in disk.table.partitions:
        window = disk.window(one)
        yield PartitionOnDisk(
            number=one.number,
            label=one.label,
            type=str(one.type_guid),
            offset_bytes=window.offset_bytes,
            length_bytes=window.length_bytes,
        )


def _inspect_set(disk: BootDisk, found: PartitionSet) -> SetOnDisk:
    boot, root, hash_image = (disk.window(one) for one in found.partitions)
    images: list[Image | None] = [inspect_image(one) for one in (boot, root, hash_image)]
    verified, reason = _verified(boot, root, hash_image) if any(images) else (None, None)
    return SetOnDisk(
        flags=str(disk.state.flags[found.name]),
        boot=images[0],
        root=images[1],
        hash=images[2],
        verified=verified,
        reason=reason,
    )


def _verified(boot: Window, root: Window, hash_image: Window) -> tuple[bool, str | None]:
    try:
        vouching.verify(boot=boot, root=root, hash_image=hash_image)
    except (
        *(FileSystemError, CommandLineError, VouchingError),
        *(ImageError, PartitionError),
    ) as error:
        return False, str(error)
    return True, None
