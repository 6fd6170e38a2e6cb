"""The directory that verified metadata is kept in: changed as a whole, or not at all.

Decides how a change survives a power cut. What writes the metadata neither flushes it nor expects a
cut in the middle, so it is given a scratch copy beside the cache. Then

1. every file and directory of the scratch copy is flushed;
2. the cache is renamed away;
3. the scratch copy is renamed into its place, and the directory above is flushed;
4. the old cache is removed.

A cut before step 2 leaves the old cache. One between 2 and 3 leaves no cache but the old one beside
its place, and with it, as step 1 was complete, the new one: the next run puts that in place, or
else the old one. A cut after 3 leaves the new cache. (One rename that exchanges both would be
simpler, but Python lacks it, and so do some file systems.) Whatever else may be found where the
cache should be (nothing, a file, garbage, pipes, huge files) is not copied, and so heals at the
next refresh.

Refuses nothing and trusts nothing: what the files say is verified again each time. Two users of one
cache at the same time are not supported; the caller holds a lock.
"""

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_LARGEST_FILE_BYTES = 5_000_000
_NAME = re.compile(r"[^/]+\.json")

ROOTS = "root_history"
"""Where all versions of the root role lie, as `N.root.json`."""


class MetadataCache:
    """A cache directory, by the path that it may or may not exist at."""

    def __init__(self, path: Path) -> None:
        # Where a link points to, so that renaming does not replace the link.
        self.path = Path(os.path.realpath(path))
        self.scratch = self.path.with_name(f".{self.path.name}.new")
        self._old = self.path.with_name(f".{self.path.name}.old")

    @contextmanager
    def changing(self) -> Iterator[Path]:
        """Give out a scratch copy to change; it becomes the cache at the end, in any event.

        In any event, as what the writer adds was verified before: a refresh that fails half-way
        must not forget the new root that it has seen.

        Raises:
            OSError: A directory could not be written.
        """
        self._recover()
        self._copy()
        try:
            yield self.scratch
        finally:
            self._publish()

    def _recover(self) -> None:
        """Finish, or clear away, what a cut has left."""
        if not os.path.lexists(self.path) and self._old.exists():
            (self.scratch if self.scratch.exists() else self._old).rename(self.path)
        _remove(self.scratch)
        _remove(self._old)

    def _copy(self) -> None:
        (self.scratch / ROOTS).mkdir(parents=True)
        for name, content in read_files(self.path).items():
            (self.scratch / name).write_bytes(content)

    def _publish(self) -> None:
        """Put the scratch copy in the cache's place, if there is any difference."""
        if read_files(self.scratch) == read_files(self.path):
            _remove(self.scratch)
            return
        _flush_tree(self.scratch)
        if os.path.lexists(self.path):
            self.path.rename(self._old)
        self.scratch.rename(self.path)
        _flush(self.path.parent)
        _remove(self._old)


def read_files(directory: Path) -> dict[str, bytes]:
    """Read the metadata files of a cache, by path within it; leave out whatever is none."""
    return {
        str(path.relative_to(directory)): path.read_bytes()
        for inner in (directory, directory / ROOTS)
        if inner.is_dir()
        for path in inner.iterdir()
        if _NAME.fullmatch(path.name) and _is_small_file(path)
    }


def _is_small_file(path: Path) -> bool:
    # Not a link: the writer's only link, root.json, it makes anew.
    return not path.is_symlink() and path.is_file() and path.stat().st_size <= _LARGEST_FILE_BYTES


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _flush_tree(directory: Path) -> None:
    for path in directory.rglob("*"):
        if not path.is_symlink():
            _flush(path)
    _flush(directory)


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
