"""Files and directories that are replaced as a whole: after any cut the old one or the new.

Decides how new content takes its place. A file is written under another name beside it, flushed,
renamed, and the directory above is flushed. Python has no rename that exchanges two directories,
and some file systems have none either, so a directory takes four steps:

1. every file and directory of the scratch copy is flushed;
2. the old directory is renamed away;
3. the scratch copy is renamed into its place, and the directory above is flushed;
4. the old directory is removed.

A cut before step 2 leaves the old one. Between 2 and 3 there is none in the place, but the old one
and, as step 1 was complete, the new one are beside it: readers are told where, and the next writer
puts it in place. A cut after 3 leaves the new one. What a cut leaves beside a file or a directory
has one name for each, which the next writer takes over: nothing piles up.

Two writers at the same time are not supported; the caller holds a lock.
"""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """Give out a file to write; at the end, if all went well, it takes the place of `path`.

    Raises:
        OSError: It could not be written; `path` is as it was and nothing is left beside it.
    """
    temporary = path.with_name(f".{path.name}.part")
    remove(temporary)
    try:
        with temporary.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        with suppress(OSError):
            remove(temporary)
        raise
    flush(path.parent)


def make_directory(path: Path) -> None:
    """Make a directory, and those above it, and have their names on the medium.

    Else a cut could take a directory away with all that was flushed within it: a flush of a file
    promises nothing about the directories on the way to it (POSIX, fsync(2)).

    Raises:
        OSError: One could not be made, or something else is there.
    """
    if path.is_dir():
        return
    make_directory(path.parent)
    path.mkdir(exist_ok=True)
    flush(path.parent)


class WholeDirectory:
    """A directory that is only ever replaced as a whole, by the path it may or may not exist at."""

    def __init__(self, path: Path) -> None:
        # Where a link points to, so that renaming does not replace the link.
        self.path = Path(os.path.realpath(path))
        self.scratch = self.path.with_name(f".{self.path.name}.new")
        self._old = self.path.with_name(f".{self.path.name}.old")

    @property
    def current(self) -> Path:
        """Where the content is for a reader: in its place, unless a cut came just in between."""
        if os.path.lexists(self.path) or not self._old.exists():
            return self.path
        return self.scratch if self.scratch.exists() else self._old

    def begin(self) -> Path:
        """Finish, or clear away, what a cut has left, and return an empty scratch directory."""
        if self.current != self.path:
            self.current.rename(self.path)
        remove(self.scratch)
        remove(self._old)
        make_directory(self.path.parent)
        self.scratch.mkdir()
        return self.scratch

    def publish(self) -> None:
        """Put the scratch directory in the place of the old one."""
        _flush_tree(self.scratch)
        if os.path.lexists(self.path):
            self.path.rename(self._old)
        self.scratch.rename(self.path)
        flush(self.path.parent)
        remove(self._old)

    def discard(self) -> None:
        """Remove the scratch directory."""
        remove(self.scratch)


def remove(path: Path) -> None:
    """Remove whatever is there: a whole directory, anything else, nothing."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def flush(path: Path) -> None:
    """Have a file's content, or a directory's entries, on the medium."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _flush_tree(directory: Path) -> None:
    for path in directory.rglob("*"):
        if not path.is_symlink():
            flush(path)
    flush(directory)
