"""Every moment of an update at which it makes a system call, by strace, and signals at them.

strace counts the calls of each thread by itself. So the main thread, which alone changes flags,
metadata and history, is traced alone; then the threads that write the images are traced too, and
whichever is the first to make so many calls is the one that is interrupted.
"""

import os
import re
import subprocess
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.helpers.machine import BIN, Machine, Run

CHANGES = (
    *("pwrite64", "pwritev", "pwritev2", "write", "ftruncate"),
    *("fsync", "fdatasync", "sync_file_range"),
    *("rename", "renameat2", "mkdir", "rmdir", "unlink", "unlinkat", "symlink"),
)
"""The calls by which an update changes anything, and those by which it makes that last."""

WAITS = ("recvfrom", "connect", "preadv", "pread64", "futex", "flock")
"""The calls in which it waits: for the network, the disk, other threads, other processes."""

EXPLORES_ALL = os.environ.get("EXPLORE") == "all"

_TIME = re.compile(r"(?:\d+ +)?(\d+\.\d+) ")
_UPDATE = ("updog", "update", "--now")


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """A call of an update, as it is counted: of the main thread, or of any other."""

    call: str
    number: int
    of_main: bool

    def __str__(self) -> str:
        return f"{'main' if self.of_main else 'other'} thread, {self.call} {self.number}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Interrupted:
    """A run that was to be interrupted.

    Attributes:
        run: A signal that has killed it is its code, as a negative number.
        seconds: From the signal to the end; None if no signal came.
    """

    run: Run
    seconds: float | None


def moments_of_an_update(machine: Machine, trace: Path, calls: Sequence[str]) -> list[Moment]:
    """Let an update come to its end and return every moment at which it made one of the calls."""
    done = _under_strace(machine, "-f", "-o", str(trace), "-e", f"trace={','.join(calls)}")
    done.succeeded()
    counts: dict[str, Counter[str]] = {}
    for line in trace.read_text(errors="replace").splitlines():
        thread, call = line.split(maxsplit=1)
        counts.setdefault(thread, Counter())[call.partition("(")[0]] += 1
    main, *others = counts.values()
    busiest = {call: max((each[call] for each in others), default=0) for call in calls}
    return [*_moments(main, calls, of_main=True), *_moments(busiest, calls, of_main=False)]


def _moments(counts: Mapping[str, int], calls: Sequence[str], *, of_main: bool) -> Iterator[Moment]:
    for call in calls:
        for number in range(1, counts.get(call, 0) + 1):
            yield Moment(call=call, number=number, of_main=of_main)


def signal_at(machine: Machine, moment: Moment, name: str, trace: Path) -> Interrupted:
    """Let an update get a signal as it enters a call."""
    follow = () if moment.of_main else ("-f",)
    rule = f"inject={moment.call}:signal={name}:when={moment.number}"
    options = ("-ttt", "-o", str(trace), "-e", f"trace={moment.call},exit_group", "-e", rule)
    run = _under_strace(machine, *follow, *options)
    lines = trace.read_text(errors="replace").splitlines()
    times = [float(match[1]) for line in lines if (match := _TIME.match(line))]
    came = [time for time, line in zip(times, lines, strict=True) if " --- SIG" in line]
    return Interrupted(run=run, seconds=times[-1] - came[0] if came else None)


def _under_strace(machine: Machine, *options: str) -> Run:
    started = time.monotonic()
    done = subprocess.run(
        ["strace", *options, str(BIN / _UPDATE[0]), *_UPDATE[1:]],
        env=machine.full_environment(),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    return Run(
        command=_UPDATE,
        code=done.returncode,
        stdout=done.stdout,
        stderr=done.stderr,
        seconds=time.monotonic() - started,
    )


def spread(moments: list[Moment], count: int) -> list[Moment]:
    """Return all moments if all are to be explored, else some, as far apart as there is room."""
    return moments if EXPLORES_ALL else moments[:: -(len(moments) // -count)]


@contextmanager
def telling(moment: Moment) -> Iterator[None]:
    """Say of a failure at which moment the run before it was interrupted."""
    try:
        yield
    except AssertionError as err:
        raise AssertionError(f"interrupted at {moment}: {err}") from err
