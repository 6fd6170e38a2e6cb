"""How fast `image build` hashes a root image, against `veritysetup format` on the same image.

Run by `make bench`. Real files fill an ext4 image; both programs make its hash image, with the same
salt, in turn, so that a ratio holds when the machine's speed drifts. Medians of the pairs' ratios
are printed. veritysetup is timed as a whole process, of which starting it is some 5 ms.
"""

import argparse
import os
import platform
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.scene import fill_root
from repo_tools.images import SALT, build_hash_image

RUNS = 7
BAR = 1.0
PLACE = Path("/var/tmp")  # noqa: S108 -- a directory of ours within


@dataclass(frozen=True, kw_only=True)
class Taken:
    """What one run took."""

    seconds: float
    cpu_seconds: float


def measure(work: Callable[[], object]) -> Taken:
    """Run something once; its child processes count."""
    before, started = cpu_seconds(), time.monotonic()
    work()
    return Taken(seconds=time.monotonic() - started, cpu_seconds=cpu_seconds() - before)


def cpu_seconds() -> float:
    """Return the CPU time of this process and of its children that have ended."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def show(name: str, taken: Sequence[Taken]) -> None:
    """Print one line."""
    seconds = statistics.median(one.seconds for one in taken)
    spent = statistics.median(one.cpu_seconds for one in taken)
    print(f"  {name:<28} {seconds:7.3f} {spent:7.3f}")


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--size-mib", type=int, default=1024)
    chosen = parser.parse_args()
    print(
        f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}; "
        f"root image {chosen.size_mib} MiB; medians of {RUNS} pairs"
    )
    with tempfile.TemporaryDirectory(dir=PLACE) as directory:
        root, ours, theirs = (Path(directory, name) for name in ("root.ext4", "ours", "theirs"))
        fill_root(root, chosen.size_mib)
        veritysetup = shutil.which("veritysetup", path="/usr/sbin:/sbin:/usr/bin")
        if veritysetup is None:
            raise SystemExit("veritysetup is not installed (Debian: cryptsetup-bin)")
        format_it = [veritysetup, "format", f"--salt={SALT.hex()}", str(root), str(theirs)]
        pairs = []
        for number in range(RUNS + 1):
            own = measure(lambda: build_hash_image(root, ours))
            other = measure(lambda: subprocess.run(format_it, check=True, capture_output=True))
            if number:  # the first one warms the page cache
                pairs.append((own, other))
        # All but the superblock, which holds a UUID of its own.
        if ours.read_bytes()[4096:] != theirs.read_bytes()[4096:]:
            raise SystemExit("the two hash images differ")
    print(f"  {'program':<28} {'wall s':>7} {'CPU s':>7}")
    show("image build, hashing", [own for own, _ in pairs])
    show("veritysetup format", [other for _, other in pairs])
    ratio = statistics.median(own.seconds / other.seconds for own, other in pairs)
    spent = statistics.median(own.cpu_seconds / other.cpu_seconds for own, other in pairs)
    print(f"  ratio of wall time {ratio:.2f}, bar {BAR:.2f}; of CPU time {spent:.2f}")


if __name__ == "__main__":
    main()
