"""erofs file systems in image files, made by mkfs.erofs and read without it.

Decides how one is made so that the same tree gives the same bytes on any day and any host:
uncompressed (images are compressed as a whole, which saves more on the way to a machine), times
one given moment, owners root, attributes in each file and never shared. Everything else is as
`tree` says; mkfs.erofs takes all attributes or none, so a tree that has capabilities and others is
refused.

Reads what it makes: files that are stored plain. Refuses compressed and chunked ones.

Source: the Linux kernel's Documentation/filesystems/erofs.rst and fs/erofs/erofs_fs.h.
"""

import os
import stat
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from uuid import UUID

from repo_tools.errors import FileSystemError, RepoToolsError
from repo_tools.programs import find_program, run_program
from repo_tools.tree import CAPABILITY, LOST_AND_FOUND, Tree

_SUPERBLOCK_OFFSET: Final = 1024
_SUPERBLOCK: Final = struct.Struct("<4s8xB1xH20xII4x16s")
_MAGIC: Final = b"\xe2\xe1\xf5\xe0"
_DIRENT: Final = struct.Struct("<QHBx")
_SLOT_BYTES: Final = 32
"""Inodes are numbered by the slots that they begin in."""
_PLAIN, _INLINE = 0, 2
_MOST_LINKS: Final = 40
_MOST_DEPTH: Final = 512
_NEVER_SHARED: Final = str((1 << 31) - 1)

ReadAt = Callable[[int, int], bytes]
"""`read(offset_bytes, length_bytes)` returns that range of the file system."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Format:
    """What of a file system does not come from its tree."""

    uuid: UUID
    made_at: int
    """Seconds since 1970, the time of every file in it."""


def build_file_system(tree: Tree, image: Path, how: Format) -> None:
    """Write an erofs file system that holds `tree` into the new file `image`.

    Raises:
        RepoToolsError: attributes stand in the way, the disk is full, or erofs-utils is missing.
    """
    has_capabilities = any(entry.capability for entry in tree.entries)
    _refuse_lost_names(tree)
    if has_capabilities:
        _refuse_attributes(tree)
    image.unlink(missing_ok=True)
    done = run_program(
        find_program("mkfs.erofs"),
        *("--quiet", "--all-root", f"-T{how.made_at}", f"-U{how.uuid}"),
        f"-x{_NEVER_SHARED if has_capabilities else -1}",
        *(image.absolute(), tree.top.absolute()),
        timeout_seconds=3600,
    )
    if done.returncode != 0:
        raise RepoToolsError(f"mkfs.erofs failed on {image}: {_last_line(done.stderr)}")


def _refuse_lost_names(tree: Tree) -> None:
    """Refuse what mkfs.erofs would leave out without a word: all names that begin so."""
    for entry in tree.entries:
        if any(name.startswith(LOST_AND_FOUND) for name in entry.name.split("/")):
            raise RepoToolsError(
                f"{entry.source}: mkfs.erofs leaves out what begins with {LOST_AND_FOUND}: give it "
                "another name, or build the root as ext4"
            )


def _refuse_attributes(tree: Tree) -> None:
    """Refuse what mkfs.erofs would take along with the capabilities, or take otherwise."""
    for entry in tree.entries:
        if entry.capability and os.getxattr(entry.source, CAPABILITY) != entry.capability:
            raise RepoToolsError(
                f"{entry.source} has a capability of a user namespace, which mkfs.erofs would "
                "take as it is: build as the machine's root, or build the root as ext4"
            )
    for name, path in tree.left_behind.items():
        raise RepoToolsError(
            f"cannot put {tree.top} into an erofs image: {path} has the attribute {name}, which "
            "images do not get, and mkfs.erofs would take it along with the tree's capabilities: "
            f"remove it (setfattr -x {name} FILE), or build the root as ext4"
        )


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "it did not say why"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Inode:
    mode: int
    size_bytes: int
    layout: int
    start: int
    """Where the whole blocks of its data begin."""
    behind: int
    """Where what stands behind the inode itself begins."""


class FileSystem:
    """An erofs file system that is read through a function."""

    def __init__(self, read: ReadAt) -> None:
        """Read the superblock.

        Raises:
            FileSystemError: there is none.
        """
        self._read = read
        block = read(_SUPERBLOCK_OFFSET, _SUPERBLOCK.size)
        if len(block) < _SUPERBLOCK.size or block[:4] != _MAGIC:
            raise FileSystemError("there is no erofs file system")
        _, block_bits, root, blocks, metadata_block, uuid = _SUPERBLOCK.unpack(block)
        if not 9 <= block_bits <= 16:
            raise FileSystemError("the erofs superblock is damaged")
        self._block_size = 1 << block_bits
        self._root = root
        self._metadata = metadata_block * self._block_size
        self.length_bytes = blocks * self._block_size
        self.uuid = UUID(bytes=uuid)

    def read_file(self, name: str) -> bytes:
        """Return the content of a file; links on the way to it are followed.

        Raises:
            FileSystemError: there is no such file, or it is damaged or not stored plain.
        """
        inode = self._find(name)
        if not stat.S_ISREG(inode.mode):
            raise FileSystemError(f"{name} is no regular file")
        return b"".join(self._content(inode))

    def list_directory(self, name: str) -> dict[str, int]:
        """Return the names in a directory, each with the length of what it names, in bytes.

        Raises:
            FileSystemError: there is no such directory, or it is damaged.
        """
        names = self._names(self._find(name))
        return {one: self._inode(number).size_bytes for one, number in names.items()}

    def extract(self, directory: Path) -> None:
        """Copy directories, files and links, with their permissions, into an existing directory.

        Raises:
            FileSystemError: it is damaged or not stored plain.
        """
        self._extract(self._inode(self._root), directory, depth=0)

    def _extract(self, inode: _Inode, directory: Path, *, depth: int) -> None:
        if depth > _MOST_DEPTH:
            raise FileSystemError("the erofs file system has a directory within itself")
        for name, number in self._names(inode).items():
            inner, path = self._inode(number), directory / name
            if stat.S_ISLNK(inner.mode):
                path.symlink_to(self._target(inner))
            elif stat.S_ISDIR(inner.mode):
                path.mkdir()
                self._extract(inner, path, depth=depth + 1)
                path.chmod(stat.S_IMODE(inner.mode))
            elif stat.S_ISREG(inner.mode):
                with path.open("xb") as file:
                    file.writelines(self._content(inner))
                path.chmod(stat.S_IMODE(inner.mode))

    def _find(self, name: str) -> _Inode:
        """Follow a path from the root on, as a running system would."""
        path, todo = [self._root], name.split("/")[::-1]
        links = 0
        while todo:
            part = todo.pop()
            if part in {"", "."}:
                continue
            if part == "..":
                path = path[:-1] or path
                continue
            number = self._names(self._inode(path[-1])).get(part)
            if number is None:
                raise FileSystemError(f"{name}: File not found")
            inode = self._inode(number)
            if not stat.S_ISLNK(inode.mode):
                path.append(number)
                continue
            links += 1
            if links > _MOST_LINKS:
                raise FileSystemError(f"{name} leads through too many links")
            target = self._target(inode)
            path = [self._root] if target.startswith("/") else path
            todo.extend(target.split("/")[::-1])
        return self._inode(path[-1])

    def _inode(self, number: int) -> _Inode:
        at = self._metadata + number * _SLOT_BYTES
        data = self._exactly(at, 64)
        layout, attributes, mode = struct.unpack_from("<HHH", data)
        is_extended = layout & 1
        size_bytes: int
        [size_bytes] = struct.unpack_from("<Q" if is_extended else "<I", data, 8)
        [block] = struct.unpack_from("<I", data, 16)
        attribute_bytes = 12 + 4 * (attributes - 1) if attributes else 0
        return _Inode(
            mode=mode,
            size_bytes=size_bytes,
            layout=layout >> 1 & 7,
            start=block * self._block_size,
            behind=at + (64 if is_extended else 32) + attribute_bytes,
        )

    def _content(self, inode: _Inode) -> Iterator[bytes]:
        """Yield a file's data: whole blocks, and in the inline layout the rest behind the inode."""
        if inode.layout not in {_PLAIN, _INLINE}:
            raise FileSystemError("the erofs file system holds compressed or chunked files")
        if inode.size_bytes > self.length_bytes:
            raise FileSystemError("a file of the erofs file system is damaged")
        rest = inode.size_bytes % self._block_size if inode.layout == _INLINE else 0
        at, end = inode.start, inode.start + inode.size_bytes - rest
        while at < end:
            length = min(1 << 20, end - at)
            yield self._exactly(at, length)
            at += length
        if rest:
            yield self._exactly(inode.behind, rest)

    def _target(self, inode: _Inode) -> str:
        return b"".join(self._content(inode)).decode("utf-8", "surrogateescape")

    def _names(self, inode: _Inode) -> dict[str, int]:
        """Return the names in a directory, which is kept in blocks that each list their own."""
        if not stat.S_ISDIR(inode.mode):
            return {}
        data = b"".join(self._content(inode))
        names: dict[str, int] = {}
        for start in range(0, len(data), self._block_size):
            names.update(_names_in(data[start : start + self._block_size]))
        return names

    def _exactly(self, offset: int, length: int) -> bytes:
        data = self._read(offset, length)
        if len(data) != length:
            raise FileSystemError("the erofs file system is damaged or ends early")
        return data


def _names_in(block: bytes) -> Iterator[tuple[str, int]]:
    if len(block) < _DIRENT.size:
        raise FileSystemError("a directory of the erofs file system is damaged")
    first = _DIRENT.unpack_from(block)[1]
    if not _DIRENT.size <= first <= len(block):
        raise FileSystemError("a directory of the erofs file system is damaged")
    entries = list(_DIRENT.iter_unpack(block[: first - first % _DIRENT.size]))
    ends = [entry[1] for entry in entries[1:]] + [len(block)]
    for (number, start, _), end in zip(entries, ends, strict=True):
        name = block[start:end].rstrip(b"\0")
        if name in {b".", b".."}:
            continue
        if not name or b"/" in name or b"\0" in name:
            raise FileSystemError("a directory of the erofs file system is damaged")
        yield name.decode("utf-8", "surrogateescape"), number
