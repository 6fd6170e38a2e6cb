"""A refresh that is killed at every system call that changes a file, one after the other.

    python -m tests.helpers.dying_refresh DIRECTORY

DIRECTORY holds `root.json`, the repositories `older`, `old` and `new`, and, unless it is to be a
first run, a `cache` and a `floor.json` that stand for `old`. Each time a child process refreshes
from `new` and dies one call later than the last time, until one comes to its end. After each death
what is left must be whole, must not let `older` in, and must be as `new` after the next refresh.
Prints the number of deaths.

The processes are forked, so this needs a process of its own without threads.
"""

import itertools
import os
import shutil
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from io import BufferedWriter
from pathlib import Path
from types import FrameType
from typing import Any

from updog.errors import TrustError
from updog.floor import read_floor
from updog.metadata import Repository
from updog.proof import prove, read_versions
from updog.transport import Transport

# Before each of these, which is after the one before. Before `write` a file is there, but empty.
_SYSTEM_CALLS = frozenset(
    {"fsync", "rename", "replace", "mkdir", "rmdir", "unlink", "remove", "symlink", "link"}
)
_FILE_CALLS = frozenset({"write", "flush"})


def changes_a_file(called: Any) -> bool:
    if called.__module__ == os.name:
        return called.__name__ in _SYSTEM_CALLS
    owner = getattr(called, "__self__", None)
    return isinstance(owner, BufferedWriter) and called.__name__ in _FILE_CALLS


@dataclass(slots=True)
class Death:
    """A profiler that kills its own process at the nth call."""

    calls_left: int

    def __call__(self, _frame: FrameType, event: str, called: Any) -> None:
        if event == "c_call" and changes_a_file(called):
            self.calls_left -= 1
            if self.calls_left == 0:
                os.kill(os.getpid(), signal.SIGKILL)


@dataclass(frozen=True, slots=True)
class Place:
    """A directory with repositories and what a machine keeps of them."""

    directory: Path

    @property
    def cache(self) -> Path:
        return self.directory / "work" / "cache"

    @property
    def floor(self) -> Path:
        return self.directory / "work" / "state" / "floor.json"

    @property
    def root(self) -> bytes:
        return (self.directory / "root.json").read_bytes()

    def refresh(self, repository: str) -> None:
        url = (self.directory / repository).as_uri()
        with Transport() as transport:
            Repository(
                trusted_root=self.root,
                cache=self.cache,
                floor=self.floor,
                metadata_base_url=f"{url}/metadata",
                targets_base_url=f"{url}/targets",
                transport=transport,
            ).refresh()

    def restore(self) -> None:
        """Put what the machine keeps back to where it was before."""
        shutil.rmtree(self.directory / "work", ignore_errors=True)
        self.floor.parent.mkdir(parents=True)
        if (self.directory / "cache").exists():
            shutil.copytree(self.directory / "cache", self.cache, symlinks=True)
            shutil.copy(self.directory / "floor.json", self.floor)

    def kept_timestamp(self) -> int | None:
        """Return the version that is kept, without a network; None if nothing valid is."""
        found = read_versions(self.root, self.cache)
        return found.timestamp if found else None


def in_a_child(action: Callable[[], None]) -> int:
    """Run in a forked process; return its exit code, or the negative number of its signal."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            action()
            code = 0
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def die(place: Place, *, at_call: int) -> bool:
    """Refresh and be killed; return False if the refresh ended before that."""

    def dying() -> None:
        sys.setprofile(Death(at_call))
        place.refresh("new")
        sys.setprofile(None)

    code = in_a_child(dying)
    assert code in {0, -signal.SIGKILL}, code
    return code != 0


def check(place: Place, *, old: int | None, new: int) -> None:
    """Check what a death has left."""
    assert place.kept_timestamp() in {old, new}
    floor = read_floor(place.floor)
    noted = floor.timestamp.version if floor else None
    assert noted in {old, new}
    if noted is not None:
        refuse_older(place)
    place.refresh("new")
    assert prove(place.root, place.cache).versions.timestamp == new
    left = {path.name for path in (*place.cache.parent.iterdir(), *place.floor.parent.iterdir())}
    assert left == {"cache", "state", "floor.json"}, left


def refuse_older(place: Place) -> None:
    try:
        place.refresh("older")
    except TrustError:
        return
    raise AssertionError("an older repository was let in")


def main(directory: Path) -> int:
    place = Place(directory)
    place.restore()
    old = place.kept_timestamp()
    place.refresh("new")
    new = place.kept_timestamp()
    assert new is not None
    for at_call in itertools.count(1):
        place.restore()
        if not die(place, at_call=at_call):
            return at_call - 1
        try:
            check(place, old=old, new=new)
        except BaseException:
            sys.stderr.write(f"killed at call {at_call}:\n")
            raise
    raise AssertionError("not reached")


if __name__ == "__main__":
    sys.stdout.write(f"{main(Path(sys.argv[1]))}\n")
