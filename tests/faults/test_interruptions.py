"""Ctrl-C and SIGTERM at any moment: the run ends within a second and says truly what is left."""

import fcntl
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import product
from pathlib import Path

import pytest

from tests.faults.conftest import EXPLORES_ALL, Bench
from tests.helpers.http_server import Handler, Misbehaviour, cut_at
from tests.helpers.judge import Judge
from tests.helpers.machine import BIN, Machine, Run, copy_sparsely, target_of
from tests.helpers.moments import (
    CHANGES,
    WAITS,
    Moment,
    moments_of_an_update,
    signal_at,
    spread,
    telling,
)

SAMPLE = 4
"""How many of the interruptions at calls an ordinary run tries, evenly spread."""

PROMPT_SECONDS = 1.0
"""How soon a run must end; where the machine is so busy that a whole update takes longer, then
within that time."""


@pytest.mark.skipif(
    shutil.which("strace") is None, reason="NEEDS STRACE: no signal is sent at a call"
)
@pytest.mark.parametrize("name", ["TERM", "INT"] if EXPLORES_ALL else ["TERM"])
def test_an_interruption_at_any_call_says_what_is_left(
    machine: Machine, tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    judge, fresh, trace = Judge(machine), tmp_path / "fresh", tmp_path / "trace"
    copy_sparsely(machine.directory, fresh)
    calls = moments_of_an_update(machine, trace, (*CHANGES, *WAITS))
    moments = [each for each in calls if each.of_main]  # the thread to which a signal goes
    tried, longest, limit = spread(moments, SAMPLE), 0.0, PROMPT_SECONDS
    for moment in tried:
        machine.restore(fresh)
        done = signal_at(machine, moment, name, trace)
        with telling(moment):
            assert done.seconds is not None, "no signal came"
            if done.run.code == 0:  # after it had ended
                assert done.run.stdout.startswith("Applied")
                continue
            if _has_not_started(done.run):
                assert judge.look() == judge.before
            else:
                judge.failed(done.run, "interrupted")
            following = judge.next_run_succeeds()
        longest, limit = max(longest, done.seconds), max(limit, 2 * following.seconds)
    with capsys.disabled():
        told = f"{len(tried)}, at {len(moments)} calls of an update; the slowest took {longest:.2f}"
        print(f"\n[interruptions: {told} s]", end="")  # noqa: T201
    assert longest < limit


def _has_not_started(run: Run) -> bool:
    """Whether the interpreter ended, silently or not, before it gave control to the command."""
    killed = run.code < 0 and not run.stderr
    return killed or run.stderr.startswith("Fatal Python error: init_import_site")


@pytest.mark.skipif(
    shutil.which("strace") is None, reason="NEEDS STRACE: no signal is sent at a call"
)
def test_an_interruption_while_the_flags_are_cleared(machine: Machine, tmp_path: Path) -> None:
    """The first write of the main thread notes who holds the lock, the next are those of the table,
    of which the last is the one that counts.
    """
    judge = Judge(machine)
    moment = Moment(call="pwrite64", number=3, of_main=True)
    run = signal_at(machine, moment, "TERM", tmp_path / "trace").run
    judge.failed(run, "update to 1.1.0 stopped: interrupted", "the old flags count")
    judge.next_run_succeeds()


@contextmanager
def running(machine: Machine) -> Iterator["subprocess.Popen[str]"]:
    """Run an update for as long as a context lasts."""
    with subprocess.Popen(
        [str(BIN / "updog"), "update", "--now"],
        env=machine.full_environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def interrupt(process: "subprocess.Popen[str]", number: int) -> Run:
    """Send a signal; return the run, with the seconds from then to its end."""
    assert process.poll() is None, "it ended by itself"
    process.send_signal(number)
    sent = time.monotonic()
    stdout, stderr = process.communicate(timeout=60)
    return Run(
        command=("updog", "update", "--now"),
        code=process.returncode,
        stdout=stdout,
        stderr=stderr,
        seconds=time.monotonic() - sent,
    )


def ended_in_time(judge: Judge, run: Run, words: str) -> None:
    """Judge an interrupted run, and the time that it took to end."""
    judge.failed(run, words)
    following = judge.next_run_succeeds()
    assert run.seconds < max(PROMPT_SECONDS, following.seconds)


def hold(_handler: Handler, _body: bytes) -> None:
    """Answer nothing for as long as anybody waits."""
    time.sleep(5)


def half_then_nothing(handler: Handler, body: bytes) -> None:
    """Send a half, and then nothing for as long as anybody waits."""
    handler.head(200, {"Content-Length": str(len(body))})
    handler.wfile.write(body[: len(body) // 2])
    time.sleep(5)


def breaking(handler: Handler, body: bytes) -> None:
    """Break off again and again, without a byte, so that the pauses grow."""
    cut_at(0)(handler, body)


MOMENTS = ("timestamp", "header", "body", "pause", "lock")
SIGNALS = (signal.SIGINT, signal.SIGTERM)
CASES = (
    tuple(product(MOMENTS, SIGNALS))
    if EXPLORES_ALL
    else tuple(zip(MOMENTS, SIGNALS * 3, strict=False))
)


@pytest.mark.parametrize(("moment", "number"), CASES)
def test_an_interrupted_wait(machine: Machine, moment: str, number: int) -> None:
    """For metadata, for an image to begin or to go on, for the next attempt, for the disk."""
    judge, begun = Judge(machine), threading.Event()
    root = f"/targets/{target_of(machine, 'root').name}"

    def then(misbehaviour: Misbehaviour) -> Misbehaviour:
        def behave(handler: Handler, body: bytes) -> None:
            begun.set()
            misbehaviour(handler, body)

        return behave

    with machine.disk.open("rb") as disk:

        def lock(handler: Handler, body: bytes) -> None:
            fcntl.flock(disk, fcntl.LOCK_EX)
            handler.serve(body)

        plans: dict[str, Callable[[], None]] = {
            "timestamp": lambda: machine.server.misbehave("/metadata/timestamp.json", then(hold)),
            "header": lambda: machine.server.misbehave(root, Handler.serve, then(hold)),
            "body": lambda: machine.server.misbehave(root, Handler.serve, then(half_then_nothing)),
            "pause": lambda: machine.server.misbehave(
                root, Handler.serve, *[breaking] * 2, then(breaking)
            ),
            "lock": lambda: machine.server.misbehave(root, then(lock)),
        }
        plans[moment]()
        with running(machine) as process:
            assert begun.wait(60)
            time.sleep(0.3)
            run = interrupt(process, number)
    machine.server.behave()
    ended_in_time(judge, run, "interrupted")


SLOW = {
    "writing": ("Hash", {"op": "pwrite", "seconds": 0.01}),
    "flushing": ("Hash", {"op": "flush", "seconds": 0.5}),
    "reading back": ("Root", {"op": "pread", "seconds": 0.01}),
}
"""The step after which a disk is slow, and how: some ten megabytes a second."""


@pytest.mark.faults
@pytest.mark.parametrize("step", SLOW)
def test_an_interrupted_step_on_a_slow_disk(bench: Bench, step: str) -> None:
    line, fault = SLOW[step]
    with running(bench.machine) as process:
        assert process.stderr is not None
        bench.device.set_faults(fault)
        while not process.stderr.readline().startswith(line):
            assert process.poll() is None
        time.sleep(0.2)
        run = interrupt(process, signal.SIGTERM)
    bench.device.set_faults()
    ended_in_time(bench.judge, run, "stopped: interrupted")
