"""What `repo-tools simulate` costs for a million hosts, in CPU seconds of whole processes.

Run by `make bench`. Absolute, as the bar is: what counts is whether a publisher would wait for it.
The shipped rollout is played, once as a table and once with both pictures.
"""

import statistics
import tempfile
from pathlib import Path

from benchmarks.startup import BIN, cpu_seconds

RUNS = 5
BAR_SECONDS = 10
HOSTS = 1_000_000


def main() -> None:
    """Print a line for each."""
    print(f"\nmedians of {RUNS} runs, CPU seconds, {HOSTS} hosts")
    print(f"{'command':<40} {'s':>6} {'bar':>5}")
    with tempfile.TemporaryDirectory() as directory:
        pictures = str(Path(directory) / "rollout")
        for name, options in (("", []), (" --out rollout", ["--out", pictures])):
            command = [str(BIN / "repo-tools"), "simulate", "--hosts", str(HOSTS), *options]
            seconds = statistics.median(cpu_seconds(command) for _ in range(RUNS))
            print(f"{'repo-tools simulate' + name:<40} {seconds:6.2f} {BAR_SECONDS:5}")


if __name__ == "__main__":
    main()
