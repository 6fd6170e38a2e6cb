"""The changes that a command made to a disk and to a tree of files, and when each became durable.

Replays the system calls of a trace. A change is durable once a flush has ended that had begun after
the change was done, and that was one of the same thing:

- of a file, for what was written into it;
- of a directory, for the names in it: creating, renaming, removing. POSIX promises no more, and
  that a file system happens to do more is not relied on;
- of the disk, for what was written by the same way: a descriptor that was opened by its path, and
  those that lead back to it through /proc/self/fd. On a machine, partitions and the whole disk have
  nodes with caches of their own, and a flush of one leaves the others alone.

Refuses ways to change what it looks after that it does not know, and a command that leaves other
files or other bytes than the replay does.
"""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import inf
from pathlib import Path, PurePosixPath
from typing import Final, TypeAlias

from tests.crash.tracing import Call

Link: TypeAlias = PurePosixPath
"""The content of a symbolic link."""

Content: TypeAlias = "bytes | Link | None"
"""What is at a path: a file, a link, or None for a directory."""

Tree: TypeAlias = Mapping[str, Content]
"""All that is below a directory, by path within it."""

_OWN_FD: Final = "/proc/self/fd/"
_REFUSED: Final = (
    *("writev", "pwritev", "pwritev2", "fallocate", "sendfile", "splice", "copy_file_range"),
    *("sync_file_range", "syncfs"),
)


@dataclass(slots=True, kw_only=True)
class Change:
    """A change, from when to when it was being made, and what undoes all doubt about it."""

    began: int
    ended: int
    durable_from: float = inf

    def is_durable(self, moment: float) -> bool:
        """Tell whether a cut at a moment leaves it in place for certain."""
        return self.durable_from < moment

    def is_pending(self, moment: float) -> bool:
        """Tell whether a cut at a moment may leave it in place, or not."""
        return self.began < moment <= self.durable_from


@dataclass(slots=True, kw_only=True)
class SectorWrite(Change):
    """Bytes written to the disk, by one way."""

    offset: int
    data: bytes
    way: int


@dataclass(slots=True, kw_only=True)
class FileChange(Change):
    """Bytes written into a file, or its new length where there are none."""

    offset: int
    data: bytes | None

    def applied(self, content: bytes) -> bytes:
        """Return the content after the change."""
        if self.data is None:
            return content[: self.offset].ljust(self.offset, b"\0")
        end = self.offset + len(self.data)
        return content[: self.offset].ljust(self.offset, b"\0") + self.data + content[end:]


@dataclass(slots=True, kw_only=True)
class NameChange(Change):
    """A name in a directory that from now on stands for another node, or for none.

    A rename within a directory changes two names at once.
    """

    names: "Mapping[str, Node | None]"
    source: str | None = None

    def apply(self, names: "dict[str, Node]") -> None:
        """Change the names of a directory; without its source a rename does nothing."""
        if self.source is not None and self.source not in names:
            return
        for name, node in self.names.items():
            names.pop(name, None)
            if node is not None:
                names[name] = node


@dataclass(slots=True, eq=False)
class File:
    """A file, what it held at first, and what was done to it."""

    first: bytes = b""
    changes: list[FileChange] = field(default_factory=list)
    content: bytes = b""


@dataclass(slots=True, eq=False)
class Directory:
    """A directory, the names that it held at first, and what was done to them."""

    first: "dict[str, Node]" = field(default_factory=dict)
    changes: list[NameChange] = field(default_factory=list)
    names: "dict[str, Node]" = field(default_factory=dict)


Node: TypeAlias = File | Directory | Link


@dataclass(slots=True, kw_only=True)
class _Opened:
    """An open file of those that are looked after; `way` says by which opening of the disk."""

    node: File | Directory | None
    way: int
    appends: bool
    position: int = 0


@dataclass(slots=True, kw_only=True)
class Recording:
    """What a command did to the disk and to the tree."""

    root: Directory
    writes: list[SectorWrite] = field(default_factory=list)
    flushes: list[int] = field(default_factory=list)

    def nodes(self) -> Iterator[File | Directory]:
        """Yield every file and directory that ever was in the tree."""
        seen: set[int] = set()
        left: list[Node] = [self.root]
        while left:
            node = left.pop()
            if isinstance(node, Link) or id(node) in seen:
                continue
            seen.add(id(node))
            yield node
            if isinstance(node, Directory):
                left += node.first.values()
                left += [n for c in node.changes for n in c.names.values() if n is not None]


def scan(directory: Path) -> Directory:
    """Return the nodes of a directory as it is."""
    names: dict[str, Node] = {}
    for entry in sorted(directory.iterdir()):
        if entry.is_symlink():
            names[entry.name] = Link(entry.readlink())
        elif entry.is_dir():
            names[entry.name] = scan(entry)
        else:
            data = entry.read_bytes()
            names[entry.name] = File(first=data, content=data)
    return Directory(first=dict(names), names=names)


def tree_of(directory: Directory, *, at: str = "") -> dict[str, Content]:
    """Return all that is below a directory after the replay."""
    return spread(directory, lambda d: d.names, lambda f: f.content, at=at)


def spread(
    directory: Directory,
    names_of: "Callable[[Directory], Mapping[str, Node]]",
    content_of: Callable[[File], bytes],
    *,
    at: str = "",
) -> dict[str, Content]:
    """Return all that is below a directory, given what is in each directory and file."""
    found: dict[str, Content] = {}
    for name, node in names_of(directory).items():
        path = f"{at}{name}"
        match node:
            case File():
                found[path] = content_of(node)
            case Directory():
                found[path] = None
                found |= spread(node, names_of, content_of, at=f"{path}/")
            case Link():
                found[path] = node
    return found


def replay(calls: Sequence[Call], *, disk: Path, tree: Path, before: Directory) -> Recording:
    """Replay a command's calls on what the tree held before it.

    Args:
        calls: all of the command.
        disk: the image file.
        tree: the directory whose files are looked after.
        before: what `scan` saw there before the command.
    """
    player = _Player(Recording(root=before), disk=disk, tree=tree)
    for _, call in sorted(((_moment(call), call) for call in calls), key=lambda each: each[0]):
        player.play(call)
    recording = player.recording
    assert tree_of(recording.root) == tree_of(scan(tree)), "the replay leaves other files"
    return recording


def _moment(call: Call) -> int:
    """Say when a call counts: a descriptor is free once it is being closed, in use once it is had.

    The kernel may hand the number of a descriptor out again before strace sees the end of `close`.
    """
    makes = call.name.startswith(("open", "dup", "fcntl"))
    return call.ended if makes else call.began


class _Player:
    def __init__(self, recording: Recording, *, disk: Path, tree: Path) -> None:
        self.recording = recording
        self._disk = str(disk)
        self._tree = PurePosixPath(tree)
        self._files: dict[int, _Opened] = {}

    def play(self, call: Call) -> None:
        action = getattr(self, f"_{call.name}", None)
        if action is not None:
            action(call)
            return
        assert call.name not in ("sync", "io_uring_setup"), f"{call.name} is not recorded"
        if call.name in _REFUSED:
            touched = any(
                int(a.partition("<")[0]) in self._files
                for a in call.arguments
                if a.partition("<")[0].isdigit() and "<" in a
            )
            assert not touched, f"{call.name} is not recorded"

    # Descriptors.

    def _open(self, call: Call) -> None:
        path = call.text(0)
        is_ours = path == self._disk or self._find(path, follows=True) is not None
        assert not is_ours, f"{call.name} is not recorded"

    _creat = _truncate = _open

    def _openat(self, call: Call) -> None:
        path, flags = self._path(call, 1), 2
        if path.startswith(_OWN_FD):
            self._reopen(call, int(path.removeprefix(_OWN_FD)))
        elif path == self._disk:
            self._files[call.result] = _Opened(node=None, way=call.ended, appends=False)
        elif (node := self._opened_node(call, path, flags)) is not None:
            appends = call.has_flag(flags, "O_APPEND")
            self._files[call.result] = _Opened(node=node, way=0, appends=appends)
        else:
            self._files.pop(call.result, None)

    def _reopen(self, call: Call, number: int) -> None:
        if (known := self._files.get(number)) is not None:
            self._files[call.result] = _Opened(
                node=known.node, way=known.way, appends=call.has_flag(2, "O_APPEND")
            )

    def _opened_node(self, call: Call, path: str, flags: int) -> File | Directory | None:
        found = self._find(path, follows=True)
        if found is None:
            return None
        directory, name = found
        node = directory.names.get(name) if name else directory
        if node is None:
            assert call.has_flag(flags, "O_CREAT"), f"{path} is not there"
            node = File()
            self._change_names(call, directory, {name: node})
        assert not isinstance(node, Link), f"{path} is a link"
        if isinstance(node, File) and node.content and call.has_flag(flags, "O_TRUNC"):
            self._change_file(call, node, 0, None)
        return node

    def _close(self, call: Call) -> None:
        self._files.pop(call.number(0), None)

    def _dup(self, call: Call) -> None:
        if (known := self._files.get(call.number(0))) is not None:
            self._files[call.result] = known

    _dup2 = _dup3 = _dup

    def _fcntl(self, call: Call) -> None:
        if call.arguments[1].startswith("F_DUPFD"):
            self._dup(call)

    def _lseek(self, call: Call) -> None:
        if (known := self._files.get(call.number(0))) is not None:
            known.position = call.result

    def _mmap(self, call: Call) -> None:
        is_written = call.has_flag(2, "PROT_WRITE") and call.has_flag(3, "MAP_SHARED")
        assert not (is_written and call.number(4) in self._files), "mmap is not recorded"

    # Contents.

    def _write(self, call: Call) -> None:
        known = self._files.get(call.number(0))
        if known is None:
            return
        assert isinstance(known.node, File), "the disk is written at its end only by pwrite"
        offset = len(known.node.content) if known.appends else known.position
        self._change_file(call, known.node, offset, call.data(1)[: call.result])
        known.position = offset + call.result

    def _pwrite64(self, call: Call) -> None:
        known = self._files.get(call.number(0))
        if known is None:
            return
        data, offset = call.data(1)[: call.result], call.number(3)
        if isinstance(known.node, File):
            self._change_file(call, known.node, offset, data)
            return
        self.recording.writes.append(
            SectorWrite(began=call.began, ended=call.ended, offset=offset, data=data, way=known.way)
        )

    def _ftruncate(self, call: Call) -> None:
        known = self._files.get(call.number(0))
        if known is None:
            return
        assert isinstance(known.node, File), "the disk is truncated"
        self._change_file(call, known.node, call.number(1), None)

    def _change_file(self, call: Call, node: File, offset: int, data: bytes | None) -> None:
        change = FileChange(began=call.began, ended=call.ended, offset=offset, data=data)
        node.changes.append(change)
        node.content = change.applied(node.content)

    # Flushes.

    def _fsync(self, call: Call) -> None:
        known = self._files.get(call.number(0))
        if known is None:
            return
        changes: Sequence[Change] = (
            [w for w in self.recording.writes if w.way == known.way]
            if known.node is None
            else known.node.changes
        )
        for change in changes:
            if change.ended < call.began:
                change.durable_from = min(change.durable_from, call.ended)
        self.recording.flushes.append(call.ended)

    _fdatasync = _fsync

    # Names.

    def _mkdir(self, call: Call) -> None:
        self._add(call, self._path(call, 0), Directory())

    def _mkdirat(self, call: Call) -> None:
        self._add(call, self._path(call, 1), Directory())

    def _symlink(self, call: Call) -> None:
        self._add(call, self._path(call, 1), Link(call.text(0)))

    def _symlinkat(self, call: Call) -> None:
        self._add(call, self._path(call, 2), Link(call.text(0)))

    def _unlink(self, call: Call) -> None:
        self._remove(call, self._path(call, 0))

    _rmdir = _unlink

    def _unlinkat(self, call: Call) -> None:
        self._remove(call, self._path(call, 1))

    def _rename(self, call: Call) -> None:
        self._move(call, self._path(call, 0), self._path(call, 1))

    def _renameat(self, call: Call) -> None:
        self._move(call, self._path(call, 1), self._path(call, 3))

    def _renameat2(self, call: Call) -> None:
        assert call.arguments[4] == "0", "renameat2 with flags is not recorded"
        self._renameat(call)

    def _link(self, call: Call) -> None:
        assert self._find(self._path(call, 1)) is None, "link is not recorded"

    def _linkat(self, call: Call) -> None:
        assert self._find(self._path(call, 3)) is None, "linkat is not recorded"

    def _add(self, call: Call, path: str, node: Node) -> None:
        if (found := self._find(path)) is not None:
            self._change_names(call, found[0], {found[1]: node})

    def _remove(self, call: Call, path: str) -> None:
        if (found := self._find(path)) is not None:
            self._change_names(call, found[0], {found[1]: None})

    def _move(self, call: Call, source: str, target: str) -> None:
        old, new = self._find(source), self._find(target)
        if old is None and new is None:
            return
        assert old is not None, f"{source} comes from outside"
        assert new is not None, f"{target} leaves the tree"
        node = old[0].names[old[1]]
        if old[0] is new[0]:
            self._change_names(call, old[0], {old[1]: None, new[1]: node}, source=old[1])
        else:  # two directories, and nothing but their flushes ties them together
            self._change_names(call, old[0], {old[1]: None})
            self._change_names(call, new[0], {new[1]: node})

    def _change_names(
        self,
        call: Call,
        directory: Directory,
        names: Mapping[str, Node | None],
        *,
        source: str | None = None,
    ) -> None:
        change = NameChange(began=call.began, ended=call.ended, names=names, source=source)
        directory.changes.append(change)
        change.apply(directory.names)

    # Paths.

    def _path(self, call: Call, index: int) -> str:
        """Return an argument as an absolute path; the one before it may say where it starts."""
        path = call.text(index)
        if path.startswith("/"):
            return path
        assert call.name.endswith(("at", "at2")), f"{call.name} of a relative path is not recorded"
        return f"{call.place(index - 1)}/{path}" if path else call.place(index - 1)

    def _find(self, path: str, *, follows: bool = False) -> tuple[Directory, str] | None:
        """Return the directory and the name that a path leads to; None if it is outside."""
        pure = PurePosixPath(os.path.normpath(path))
        if not pure.is_relative_to(self._tree):
            return None
        directory, parts = self.recording.root, pure.relative_to(self._tree).parts
        for part in parts[:-1]:
            inner = directory.names[part]
            assert isinstance(inner, Directory), f"{path} leads over {part}"
            directory = inner
        name = parts[-1] if parts else ""
        node = directory.names.get(name)
        if follows and isinstance(node, Link):
            return self._find(str(pure.parent / node), follows=True)
        return directory, name


def write_tree(tree: Tree, directory: Path) -> None:
    """Make a tree real in an empty directory."""
    for path, content in tree.items():  # a directory comes before what is in it
        match content:
            case bytes():
                (directory / path).write_bytes(content)
            case None:
                (directory / path).mkdir()
            case Link():
                (directory / path).symlink_to(content)
