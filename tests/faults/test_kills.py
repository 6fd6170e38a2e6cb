"""An update that is killed at any write or flush: the machine boots, and the next run converges.

strace counts the calls of each thread by itself. So the main thread, which alone changes flags,
metadata and history, is traced alone and killed at each of its calls; then the threads that write
the images are traced too, and whichever is the first to make so many calls dies in it. Every run
that counts as killed was killed.
"""

import shutil
import signal
import subprocess
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.faults.conftest import EXPLORES_ALL
from tests.helpers.judge import Judge
from tests.helpers.machine import BIN, Machine, copy_sparsely

WRITES = ("pwrite64", "pwritev", "pwritev2", "write", "ftruncate")
FLUSHES = ("fsync", "fdatasync", "sync_file_range")
NAMES = ("rename", "renameat2", "mkdir", "rmdir", "unlink", "unlinkat", "symlink")
CALLS = (*WRITES, *FLUSHES, *NAMES)
SAMPLE = 5
"""How many of the kills an ordinary run tries, evenly spread."""

pytestmark = pytest.mark.skipif(shutil.which("strace") is None, reason="NEEDS STRACE")


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """A call of an update, as it is counted: of the main thread, or of any other."""

    call: str
    number: int
    of_main: bool

    def __str__(self) -> str:
        return f"{'main' if self.of_main else 'other'} thread, {self.call} {self.number}"

    @property
    def options(self) -> tuple[str, ...]:
        """What tells strace to interrupt there."""
        follow = () if self.of_main else ("-f",)
        return (*follow, "-e", f"trace={self.call}")


def run_under_strace(machine: Machine, *options: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        ["strace", "-qq", "-o", "/dev/null", *options, str(BIN / "updog"), "update", "--now"],
        env=machine.full_environment(),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def moments_of_an_update(machine: Machine, trace: Path) -> list[Moment]:
    """Let an update come to its end and return every moment to kill it at."""
    done = run_under_strace(machine, "-f", "-o", str(trace), "-e", f"trace={','.join(CALLS)}")
    assert done.returncode == 0, done.stderr
    counts: dict[str, Counter[str]] = {}
    for line in trace.read_text(errors="replace").splitlines():
        thread, call = line.split(maxsplit=1)
        counts.setdefault(thread, Counter())[call.partition("(")[0]] += 1
    main, *others = counts.values()
    return [
        *_moments(main, of_main=True),
        *_moments(_most(others), of_main=False),
    ]


def _most(counts: list[Counter[str]]) -> Mapping[str, int]:
    """Return how often the busiest thread made each call."""
    return {call: max(each[call] for each in counts) for call in CALLS} if counts else {}


def _moments(counts: Mapping[str, int], *, of_main: bool) -> Iterator[Moment]:
    for call in CALLS:
        for number in range(1, counts.get(call, 0) + 1):
            yield Moment(call=call, number=number, of_main=of_main)


def spread(moments: list[Moment], count: int) -> list[Moment]:
    """Return some moments, as far apart as there is room, the last one among them."""
    return moments if EXPLORES_ALL else moments[:: -(len(moments) // count)]


def test_a_kill_at_any_call_leaves_a_machine_that_boots_and_updates(
    machine: Machine, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    judge, fresh = Judge(machine), tmp_path / "fresh"
    copy_sparsely(machine.directory, fresh)
    moments = moments_of_an_update(machine, tmp_path / "trace")
    tried, killed = spread(moments, SAMPLE), 0
    for moment in tried:
        restore(machine, fresh)
        inject = ("-e", f"inject={moment.call}:signal=KILL:when={moment.number}")
        done = run_under_strace(machine, *moment.options, *inject)
        if done.returncode == 0 and not moment.of_main:
            continue  # this time the threads shared the work otherwise
        assert done.returncode == -signal.SIGKILL, f"{moment}: {done.stderr}"
        killed += 1
        with telling(moment):
            judge.boots_what_is_whole()
            judge.next_run_succeeds()
    assert killed >= len(tried) * 0.8
    with capsys.disabled():
        print(f"\n[kills: {killed}, at {len(moments)} calls of an update]", end="")  # noqa: T201


@contextmanager
def telling(moment: Moment) -> Iterator[None]:
    """Say of a failure which kill it followed."""
    try:
        yield
    except AssertionError as err:
        raise AssertionError(f"killed at {moment}: {err}") from err


def restore(machine: Machine, fresh: Path) -> None:
    """Give a machine everything back that an update may have changed."""
    for path in machine.directory.iterdir():
        if path.name not in {"keys", "releases", "repository"}:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    names = [path.name for path in fresh.iterdir() if not (machine.directory / path.name).exists()]
    for name in names:
        copy_sparsely(fresh / name, machine.directory / name)
