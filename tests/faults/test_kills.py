"""An update that is killed at any write or flush: the machine boots, and the next run converges."""

import os
import shutil
import subprocess
from collections import Counter
from pathlib import Path

import pytest

from tests.helpers.machine import BIN, Machine

SYSTEM_CALLS = ("pwrite64", "write", "fsync", "fdatasync", "rename", "ftruncate")
EVERY_NTH = 1 if os.environ.get("EXPLORE") == "all" else 23

pytestmark = pytest.mark.skipif(shutil.which("strace") is None, reason="NEEDS STRACE")


def strace(machine: Machine, *options: str) -> subprocess.CompletedProcess[str]:
    """Run an update under strace."""
    return subprocess.run(
        ["strace", "-f", "-qq", *options, str(BIN / "updog"), "update", "--now"],
        env=machine.full_environment(),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def calls_of_an_update(machine: Machine, trace: Path) -> Counter[str]:
    """Count the calls that an undisturbed update makes."""
    wanted = ",".join(SYSTEM_CALLS)
    done = strace(machine, "-o", str(trace), "-e", f"trace={wanted}")
    assert done.returncode == 0, done.stderr
    lines = trace.read_text(errors="replace").splitlines()
    calls = (line.split(maxsplit=1)[1].partition("(")[0] for line in lines)
    return Counter(call for call in calls if call in SYSTEM_CALLS)


def test_a_kill_at_any_call_leaves_a_machine_that_boots_and_updates(
    machine: Machine, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fresh = tmp_path / "fresh"
    shutil.copytree(machine.directory, fresh, copy_function=copy_sparse, symlinks=True)
    running = machine.set_digest("A")
    counts = calls_of_an_update(machine, tmp_path / "trace")
    updated = machine.set_digest("B")
    points = [(call, number + 1) for call in sorted(counts) for number in range(counts[call])]
    for call, number in points[::EVERY_NTH]:
        shutil.rmtree(machine.directory)
        shutil.copytree(fresh, machine.directory, copy_function=copy_sparse, symlinks=True)
        strace(machine, "-e", f"trace={call}", "-e", f"inject={call}:signal=KILL:when={number}")
        at = f"killed at {call} {number}"
        following = machine.signpost("status", "--json").succeeded().json()["next"]
        assert following is not None, at
        if following == "B":
            assert machine.set_digest("B") == updated, at
        assert machine.set_digest("A") == running, at
        machine.updog("update", "--now").succeeded()
        assert machine.flags()["B"] == (2, 1, False), at
        assert machine.set_digest("B") == updated, at
    with capsys.disabled():
        print(f"\n[kills: {len(points[::EVERY_NTH])} of {len(points)} calls of an update]", end="")  # noqa: T201


def copy_sparse(source: str, target: str) -> None:
    """Copy a file and its holes."""
    subprocess.run(["cp", "-a", "--sparse=always", source, target], check=True)
