"""Ctrl-C and SIGTERM at any moment: the run ends within a second and says truly what is left."""

import shutil
from pathlib import Path

import pytest

from tests.helpers.judge import Judge
from tests.helpers.machine import Machine, copy_sparsely
from tests.helpers.moments import (
    CHANGES,
    WAITS,
    moments_of_an_update,
    signal_at,
    spread,
)

SAMPLE = 5
PROMPT_SECONDS = 1.0


@pytest.mark.skipif(shutil.which("strace") is None, reason="NEEDS STRACE")
@pytest.mark.parametrize("name", ["TERM", "INT"])
def test_an_interruption_at_any_call_says_what_is_left(
    machine: Machine, tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    judge, fresh, trace = Judge(machine), tmp_path / "fresh", tmp_path / "trace"
    copy_sparsely(machine.directory, fresh)
    moments = [
        each
        for each in moments_of_an_update(machine, trace, (*CHANGES, *WAITS))
        if each.of_main  # that is the thread to which a signal goes
    ]
    longest = 0.0
    tried = spread(moments, SAMPLE)
    bad = []
    for moment in tried:
        machine.restore(fresh)
        done = signal_at(machine, moment, name, trace)
        try:
            assert done.seconds is not None
            longest = max(longest, done.seconds)
            judge.failed(done.run, "interrupted")
            judge.next_run_succeeds()
        except AssertionError as err:
            bad.append(
                f"{moment}: {done.seconds} {done.run.code} {str(err)[:500]}\n {done.run.stderr[-400:]}"
            )
    with capsys.disabled():
        print(
            f"\n[interruptions: {len(tried)}, at {len(moments)} calls; the slowest took {longest:.2f} s]"
        )
        print("\n".join(bad))
    assert longest < PROMPT_SECONDS
