"""The files of a directory tree as an image takes them.

Decides what of a tree goes into an image: names, contents, permission bits with setuid and the
like, symbolic and hard links, and the capabilities of programs. What belongs to the machine that
builds stays behind: owners (everything is root's), times, and every other extended attribute (the
host's security labels, access control lists, user attributes), and the directory lost+found, which
is a file system's own. Refuses devices, sockets and pipes,
which a running system makes itself, and whatever cannot be read: an image with a hole is none.
"""

import errno
import os
import stat
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from repo_tools.errors import RepoToolsError

CAPABILITY: Final = "security.capability"
"""The extended attribute that lets a program do what else only root may (capabilities(7))."""
_REVISION_2_BYTES: Final = 20
_REVISION_3_BYTES: Final = 24
LOST_AND_FOUND: Final = "lost+found"


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One name in a tree."""

    name: str
    """From the top on, without a slash in front; bytes that are no UTF-8 as surrogates."""
    source: Path
    mode: int
    """Kind and permission bits, as in stat(2)."""
    size_bytes: int = 0
    """Of a regular file's content."""
    target: str = ""
    """Where a symbolic link leads."""
    first_name: str | None = None
    """Of a file that came before under another name (a hard link): that name."""
    link_count: int = 1
    """How many names in the tree a file has."""
    capability: bytes = b""
    """The value of `security.capability`, empty for none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tree:
    """A whole tree, its entries in the order of their names: each directory before its content."""

    top: Path
    mode: int
    entries: tuple[Entry, ...]
    left_behind: Mapping[str, str] = field(default_factory=dict)
    """Extended attributes that the image does not get, each with a file that has it."""

    def with_files(self, files: Mapping[str, Path]) -> "Tree":
        """Return the tree with regular files from elsewhere added to its top.

        Raises:
            RepoToolsError: the tree has one of them already, or it is no readable regular file.
        """
        taken = {entry.name for entry in self.entries} & files.keys()
        if taken:
            raise RepoToolsError(
                f"{self.top} holds a {min(taken)} already, and the build adds one: remove it there"
            )
        added = (_added(name, source) for name, source in files.items())
        return replace(self, entries=_in_order((*self.entries, *added)))


EMPTY: Final = Tree(top=Path("/dev/null"), mode=stat.S_IFDIR | 0o755, entries=())
"""A tree to add files to."""


def read_tree(top: Path) -> Tree:
    """List a tree.

    Raises:
        RepoToolsError: it is no directory, a part of it cannot be read, or it holds what an image
            must not.
    """
    try:
        status = top.stat()
        if not stat.S_ISDIR(status.st_mode):
            raise RepoToolsError(f"{top} is no directory")
        paths = list(_walk(top, top))
        attributes = {path: os.listxattr(path, follow_symlinks=False) for path in (top, *paths)}
        entries = _in_order(_entry(top, path, CAPABILITY in attributes[path]) for path in paths)
    except OSError as error:
        raise RepoToolsError(
            f"cannot read {error.filename or top}: {error.strerror or error}"
        ) from error
    return Tree(
        top=top,
        mode=status.st_mode,
        entries=_with_hard_links(entries),
        left_behind=_left_behind(attributes),
    )


def _walk(top: Path, directory: Path) -> Iterator[Path]:
    with os.scandir(directory) as found:
        entries = list(found)
    for entry in entries:
        path = directory / entry.name
        if path == top / LOST_AND_FOUND:
            continue
        yield path
        if entry.is_dir(follow_symlinks=False):
            yield from _walk(top, path)


def _entry(top: Path, path: Path, has_capability: bool) -> Entry:
    status = path.lstat()
    name = str(path.relative_to(top))
    if stat.S_ISLNK(status.st_mode):
        # The permission bits of a link mean nothing, and file systems disagree on them.
        mode = stat.S_IFLNK | 0o777
        return Entry(name=name, source=path, mode=mode, target=str(path.readlink()))
    if not stat.S_ISDIR(status.st_mode) and not stat.S_ISREG(status.st_mode):
        raise RepoToolsError(f"{path} is no file, directory or link: an image holds nothing else")
    if stat.S_ISREG(status.st_mode) and not os.access(path, os.R_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
    return Entry(
        name=name,
        source=path,
        mode=status.st_mode,
        size_bytes=status.st_size if stat.S_ISREG(status.st_mode) else 0,
        capability=of_any_namespace(os.getxattr(path, CAPABILITY)) if has_capability else b"",
    )


def of_any_namespace(capability: bytes) -> bytes:
    """Return a capability as root of the machine would have set it.

    One that was set, or is read, in a user namespace names the user there (revision 3 of
    linux/capability.h, which is revision 2 and that user's number): on a machine it would be void.
    """
    if len(capability) == _REVISION_3_BYTES and capability[3] == 3:
        return capability[:3] + b"\x02" + capability[4:_REVISION_2_BYTES]
    return capability


def _added(name: str, source: Path) -> Entry:
    try:
        status = source.stat()
    except OSError as error:
        raise RepoToolsError(f"cannot read {source}: {error.strerror}") from error
    if not stat.S_ISREG(status.st_mode) or not os.access(source, os.R_OK):
        raise RepoToolsError(f"{source} is no regular file that can be read")
    mode = stat.S_IFREG | 0o644
    return Entry(name=name, source=source.absolute(), mode=mode, size_bytes=status.st_size)


def _in_order(entries: Iterable[Entry]) -> tuple[Entry, ...]:
    return tuple(sorted(entries, key=lambda entry: entry.name.split("/")))


def _with_hard_links(entries: tuple[Entry, ...]) -> tuple[Entry, ...]:
    """Tie names of the same file together; the first one in order holds it."""
    identities = {entry.name: _identity(entry) for entry in entries if stat.S_ISREG(entry.mode)}
    counts = Counter(identities.values())
    first: dict[tuple[int, int], str] = {}
    tied = []
    for entry in entries:
        identity = identities.get(entry.name)
        if identity is None or counts[identity] == 1:
            tied.append(entry)
            continue
        earlier = first.setdefault(identity, entry.name)
        tied.append(
            replace(
                entry,
                first_name=None if earlier == entry.name else earlier,
                link_count=counts[identity],
            )
        )
    return tuple(tied)


def _identity(entry: Entry) -> tuple[int, int]:
    status = entry.source.lstat()
    return (status.st_dev, status.st_ino)


def _left_behind(attributes: Mapping[Path, list[str]]) -> dict[str, str]:
    found: dict[str, str] = {}
    for path in sorted(attributes):
        for name in attributes[path]:
            if name != CAPABILITY:
                found.setdefault(name, str(path))
    return found
