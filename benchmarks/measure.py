"""What a whole command took: wall, CPU and peak memory, and ratios of commands that take turns.

Run as a program, it is the small process between this one and the command: a command inherits the
peak memory of what starts it, and that of a benchmark is large.
"""

import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

MIB = 1 << 20

MACHINE_BIN = Path(__file__).resolve().parents[1] / "build" / "machine" / "bin"
"""The commands that are measured, with nothing beside them that a machine does not have."""


@dataclass(frozen=True, kw_only=True)
class Taken:
    """What one run of a command took, with all its children.

    Attributes:
        seconds: From its start to its end.
        cpu_seconds: In user mode and in the kernel.
        peak_mib: The resident memory of its largest process.
        stderr: What it said.
    """

    seconds: float
    cpu_seconds: float
    peak_mib: float
    stderr: str = ""


def run(command: Sequence[str], environment: Mapping[str, str] | None = None) -> Taken:
    """Run a command to its end.

    Raises:
        SystemExit: it failed.
    """
    with tempfile.NamedTemporaryFile("r") as report:
        started = time.monotonic()
        done = subprocess.run(
            [sys.executable, "-S", "-E", __file__, report.name, *command],
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
        seconds = time.monotonic() - started
        if done.returncode != 0:
            raise SystemExit(f"{command} exited with {done.returncode}: {done.stderr}")
        usage = json.loads(report.read())
    return Taken(
        seconds=seconds,
        cpu_seconds=usage["cpu_seconds"],
        peak_mib=usage["peak_kib"] / 1024,
        stderr=done.stderr,
    )


def take_turns(runs: Mapping[str, Callable[[], Taken]], rounds: int) -> dict[str, list[Taken]]:
    """Let programs take turns, so that a ratio holds when the machine's speed drifts.

    A round before those that count warms every cache.
    """
    taken: dict[str, list[Taken]] = {name: [] for name in runs}
    for number in range(rounds + 1):
        for name, one in runs.items():
            result = one()
            if number:
                taken[name].append(result)
    return taken


def median_ratio(some: Sequence[float], others: Sequence[float]) -> float:
    """Return the median of the ratios, round by round."""
    return statistics.median(a / b for a, b in zip(some, others, strict=True))


def _measure(report: str, command: Sequence[str]) -> int:
    code = subprocess.call(command)
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    facts = {"cpu_seconds": usage.ru_utime + usage.ru_stime, "peak_kib": usage.ru_maxrss}
    Path(report).write_text(json.dumps(facts))
    return code


if __name__ == "__main__":
    os._exit(_measure(sys.argv[1], sys.argv[2:]))
