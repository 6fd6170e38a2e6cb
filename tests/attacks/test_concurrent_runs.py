"""Many runs at once: one at a time does its work, the others leave, and nothing is spoilt."""

import subprocess

from tests.attacks.scene import HEALTHY, Scene
from tests.helpers.machine import BIN

_RUNS = 8


def test_eight_runs_at_once_install_one_update_once(scene: Scene) -> None:
    running = scene.machine.set_digest("A")
    codes, errors = run_at_once(scene, "update", "--now")
    assert set(codes) <= {0, 4}
    assert 0 in codes
    assert all("at work already; nothing was changed" in each for each in errors)
    assert scene.machine.flags() == {"A": HEALTHY, "B": (2, 1, False)}
    assert scene.machine.set_digest("A") == running
    scene.judge_leftovers()
    assert installed(scene) == 1
    scene.machine.reboot()
    assert scene.machine.status()["running"]["version"] == "1.1.0"


def run_at_once(scene: Scene, *arguments: str) -> tuple[list[int], list[str]]:
    """Start all runs before the first is waited for; return their codes and their error lines."""
    runs = [
        subprocess.Popen(
            [str(BIN / "updog"), *arguments],
            env=scene.machine.full_environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(_RUNS)
    ]
    words = [run.communicate(timeout=120)[1] for run in runs]
    errors = [line for text in words for line in text.splitlines() if line.startswith("updog: ")]
    return [run.returncode for run in runs], errors


def installed(scene: Scene) -> int:
    events = scene.machine.updog("history", "--json").succeeded().json()
    return [event["event"] for event in events].count("installed")
