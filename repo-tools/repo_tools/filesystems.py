"""The file system of an image, whichever of the two kinds it is.

Decides the kind by what stands on the medium, and reads through `ext4` or `erofs`.
"""

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from uuid import UUID

from repo_tools import erofs, ext4
from repo_tools.errors import FileSystemError
from signpost.disk import Window

_EXT4_MAGIC = b"\x53\xef"
_EROFS_MAGIC = b"\xe2\xe1\xf5\xe0"
_HEAD_BYTES = 2048
"""Both kinds have their superblock at byte 1024."""


class Kind(StrEnum):
    """The kinds of file system that images hold; each ends the names of its images."""

    EXT4 = "ext4"
    EROFS = "erofs"


def identify(head: bytes) -> Kind | None:
    """Tell which file system begins with these bytes, of which 2048 are enough."""
    superblock = head[1024:]
    if superblock[:4] == _EROFS_MAGIC:
        return Kind.EROFS
    return Kind.EXT4 if superblock[56:58] == _EXT4_MAGIC else None


def identity(head: bytes) -> tuple[int, UUID]:
    """Return the length in bytes and the UUID of the file system that begins with these bytes.

    Raises:
        FileSystemError: there is none.
    """
    match identify(head):
        case Kind.EXT4:
            low, block_bits = *struct.unpack_from("<I", head, 1028), head[1048]
            return low << (10 + block_bits), UUID(bytes=head[1128:1144])
        case Kind.EROFS:
            found = erofs.FileSystem(lambda offset, length: head[offset : offset + length])
            return found.length_bytes, found.uuid
        case None:
            raise FileSystemError("there is no ext4 or erofs file system")


def read_head(window: Window) -> bytes:
    """Return the first bytes of an image, enough for `identify`."""
    with window.path.open("rb") as file:
        file.seek(window.offset_bytes)
        return file.read(min(_HEAD_BYTES, window.length_bytes))


def read_file(window: Window, name: str) -> bytes:
    """Read one regular file.

    Raises:
        FileSystemError: there is no file system or no such file, or it is damaged.
    """
    if identify(read_head(window)) is Kind.EROFS:
        with _opened(window) as system:
            return system.read_file(name)
    return ext4.read_file(window.path, name, offset_bytes=window.offset_bytes)


def list_directory(window: Window, name: str) -> dict[str, int]:
    """Return the names in a directory, each with the length of what it names, in bytes.

    Raises:
        FileSystemError: there is no file system or no such directory, or it is damaged.
    """
    if identify(read_head(window)) is Kind.EROFS:
        with _opened(window) as system:
            return system.list_directory(name)
    return ext4.list_directory(window.path, name, offset_bytes=window.offset_bytes)


def extract_tree(window: Window, directory: Path) -> None:
    """Copy all files into an existing, empty directory.

    Raises:
        FileSystemError: there is no file system, or it is damaged.
    """
    if identify(read_head(window)) is Kind.EROFS:
        with _opened(window) as system:
            system.extract(directory)
        return
    ext4.extract_tree(window.path, directory, offset_bytes=window.offset_bytes)


@contextmanager
def _opened(window: Window) -> Iterator[erofs.FileSystem]:
    with window.path.open("rb") as file:

        def read(offset: int, length: int) -> bytes:
            file.seek(window.offset_bytes + offset)
            return file.read(max(0, min(length, window.length_bytes - offset)))

        yield erofs.FileSystem(read)
