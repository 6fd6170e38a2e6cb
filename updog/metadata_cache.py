"""The directory that verified metadata is kept in: changed as a whole, or not at all.

What writes the metadata neither flushes it nor expects a cut in the middle, so it is given a
scratch copy beside the cache, which then takes its place as `durable` says. Whatever else may be
found where the cache should be (nothing, a file, garbage, pipes, huge files) is not copied, and so
heals at the next refresh.

Trusts nothing: what the files say is verified again each time. Two users of one cache at the same
time are not supported; the caller holds a lock.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from updog.durable import WholeDirectory
from updog.errors import TrustError
from updog.files import read_small_file

LARGEST_FILE_BYTES = 5_000_000
_NAME = re.compile(r"[^/]+\.json")

ROOTS = "root_history"
"""Where all versions of the root role lie, as `N.root.json`."""


class MetadataCache:
    """A cache directory, by the path that it may or may not exist at."""

    def __init__(self, path: Path) -> None:
        self._directory = WholeDirectory(path)
        self.path = self._directory.path

    @contextmanager
    def changing(self, *, keeps_unfinished: bool = True) -> Iterator[Path]:
        """Give out a scratch copy to change; it becomes the cache at the end, in nearly any event.

        Also after a failure, as what the writer adds was verified before: a refresh that breaks off
        half-way must not forget the new root that it has seen. Only what was refused as a whole, by
        a TrustError, is thrown away.

        Args:
            keeps_unfinished: Whether a failure keeps, beside new roots, the other roles as far as
                they came: nothing older than they is believed from then on, whoever serves it.

        Raises:
            OSError: A directory could not be written.
        """
        scratch = self._directory.begin()
        copy_files(self.path, scratch)
        try:
            yield scratch
        except TrustError:
            self._directory.discard()
            raise
        except BaseException:
            if not keeps_unfinished:
                self._take_roles_back()
            self._publish()
            raise
        self._publish()

    def _take_roles_back(self) -> None:
        """Leave of the changes only the new roots."""
        scratch = self._directory.scratch
        forget_roles(scratch)
        for name, content in read_files(self.path).items():
            if not _is_root(name):
                (scratch / name).write_bytes(content)

    def _publish(self) -> None:
        """Put the scratch copy in the cache's place, if there is any difference."""
        if read_files(self._directory.scratch) == read_files(self.path):
            self._directory.discard()
        else:
            self._directory.publish()


def copy_files(cache: Path, directory: Path) -> None:
    """Copy the metadata files of a cache into an empty directory."""
    (directory / ROOTS).mkdir(parents=True)
    for name, content in read_files(cache).items():
        (directory / name).write_bytes(content)
    newest = cache / "root.json"
    if newest.is_symlink():  # for whoever looks into the cache; it is never read here
        (directory / newest.name).symlink_to(newest.readlink())


def forget_roles(directory: Path) -> None:
    """Remove all metadata but the roots."""
    for name in read_files(directory):
        if not _is_root(name):
            (directory / name).unlink()


def read_files(directory: Path) -> dict[str, bytes]:
    """Read the metadata files of a cache, by path within it; leave out whatever is none."""
    found = {
        str(path.relative_to(directory)): _read(path)
        for inner in (directory, directory / ROOTS)
        for path in _entries(inner)
        if _NAME.fullmatch(path.name)
    }
    return {name: content for name, content in found.items() if content is not None}


def _is_root(name: str) -> bool:
    return name.startswith(f"{ROOTS}/")


def _entries(directory: Path) -> list[Path]:
    try:
        return list(directory.iterdir())
    except OSError:
        return []


def _read(path: Path) -> bytes | None:
    """Return a file's content; None if it is a link, no file, too large, or cannot be read."""
    # Not a link: the writer's only link, root.json, it makes anew.
    if path.is_symlink():
        return None
    try:
        return read_small_file(path, limit_bytes=LARGEST_FILE_BYTES)
    except (OSError, ValueError):
        return None
