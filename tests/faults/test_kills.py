"""An update that is killed at any write or flush: the machine boots, and the next run converges.

Every run that counts as killed was killed.
"""

import shutil
import signal
from pathlib import Path

import pytest

from tests.helpers.judge import Judge
from tests.helpers.machine import Machine, copy_sparsely
from tests.helpers.moments import CHANGES, moments_of_an_update, signal_at, spread, telling

SAMPLE = 5
"""How many of the kills an ordinary run tries, evenly spread."""

pytestmark = pytest.mark.skipif(shutil.which("strace") is None, reason="NEEDS STRACE")


def test_a_kill_at_any_call_leaves_a_machine_that_boots_and_updates(
    machine: Machine, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    judge, fresh, trace = Judge(machine), tmp_path / "fresh", tmp_path / "trace"
    copy_sparsely(machine.directory, fresh)
    moments = moments_of_an_update(machine, trace, CHANGES)
    tried, killed = spread(moments, SAMPLE), 0
    for moment in tried:
        machine.restore(fresh)
        run = signal_at(machine, moment, "KILL", trace).run
        if run.code == 0 and not moment.of_main:
            continue  # this time the threads shared the work otherwise
        killed += 1
        with telling(moment):
            assert run.code == -signal.SIGKILL, run.stderr
            judge.boots_what_is_whole()
            judge.next_run_succeeds()
    assert killed >= len(tried) * 0.8
    with capsys.disabled():
        print(f"\n[kills: {killed}, at {len(moments)} calls of an update]", end="")  # noqa: T201
