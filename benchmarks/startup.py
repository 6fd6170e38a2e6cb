"""How long short commands take as whole processes, as ratios to Python importing what they need.

Run by `make bench`. Each command and its reference run in turn, so that a ratio holds when the
machine's speed drifts; the medians of the pairs' ratios are printed. Times are CPU seconds of the
finished child process, as the kernel accounts them.
"""

import os
import platform
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

from benchmarks.measure import MACHINE_BIN

BIN = Path(sys.executable).parent
RUNS = 31
BARS = {"signpost status": 1.3, "signpost mark-successful-boot": None}


def cpu_seconds(command: Sequence[str]) -> float:
    """Run a command to its end and return the CPU time it took."""
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        raise SystemExit(f"{command} exited with {process.returncode}")
    return usage.ru_utime + usage.ru_stime


def measure(command: Sequence[str], reference: Sequence[str]) -> tuple[float, float, float]:
    """Return the medians of the command's time, the reference's time and their ratio."""
    cpu_seconds(command)
    cpu_seconds(reference)
    pairs = [(cpu_seconds(command), cpu_seconds(reference)) for _ in range(RUNS)]
    return (
        statistics.median(one for one, _ in pairs),
        statistics.median(other for _, other in pairs),
        statistics.median(one / other for one, other in pairs),
    )


def main() -> None:
    """Print the table."""
    print(
        f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}, ",
        end="",
    )
    print(f"click {version('click')}; medians of {RUNS} pairs, CPU time")
    print(f"{'command':<32} {'ms':>6} {'import click':>13} {'ratio':>6} {'bar':>5}")
    reference = [str(MACHINE_BIN / "python"), "-c", "import click"]
    with tempfile.TemporaryDirectory() as directory:
        create = ["playground", "create", directory, "--force", "--disk-size", "256MiB"]
        (Path(directory) / ".playground").touch()
        subprocess.run([str(BIN / "repo-tools"), *create], check=True, stdout=subprocess.DEVNULL)
        machine = ["--disk", f"{directory}/disk.img", "--active", "A"]
        for name, bar in BARS.items():
            command = [str(MACHINE_BIN / "signpost"), name.split()[1], *machine]
            own, other, ratio = measure(command, reference)
            shown = f"{bar:.2f}" if bar else "-"
            print(f"{name:<32} {own * 1000:6.1f} {other * 1000:13.1f} {ratio:6.2f} {shown:>5}")


if __name__ == "__main__":
    main()
