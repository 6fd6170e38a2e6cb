"""How fast a whole update goes into a loop device, against the tools people use instead.

Run by `make bench`, as root. Real files make a root image of 1 GiB; with its hash image and a boot
image it is published once as LZ4 and once as zstd, and served by nginx on loopback. Every program
writes all three images into the inactive set's partitions of one loop device and flushes them; the
programs take turns. `updog update-image` is timed as a whole process: starting Python, refreshing
the metadata, the digest of what is fetched, every block against the hash tree, and reading
everything back are in it.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.measure import MACHINE_BIN, Taken, median_ratio, run, take_turns
from benchmarks.rauc import Rauc, a_rauc, why_no_rauc
from benchmarks.scene import VERSIONS, Bench, a_bench, configure, publish
from benchmarks.stages import limit_seconds, stage_seconds
from repo_tools.images import Codec

MEMORY, DISK = Path("/dev/shm"), Path("/var/tmp")  # noqa: S108 -- directories of ours within
DECODERS = {Codec.LZ4: "lz4 -d", Codec.ZSTD: "zstd -d"}
UPDOG, PLAIN, TUNED, RAUC = (
    "updog update-image",
    "curl | sha256sum | decoder | dd",
    "curl | openssl | decoder | dd direct",
    "rauc install, local plain bundle",
)
SIZES_MIB = (256, 1024, 4096)


@dataclass(frozen=True, kw_only=True)
class Bar:
    """A ratio to a program that is to be reached."""

    program: str
    figure: str
    most: float


RAUC_BARS = (
    Bar(program=RAUC, figure="wall", most=0.7),
    Bar(program=RAUC, figure="CPU", most=0.7),
)
BARS = {
    Codec.LZ4: (
        Bar(program=PLAIN, figure="wall", most=0.35),
        Bar(program=TUNED, figure="wall", most=0.75),
        Bar(program=TUNED, figure="wall without reading back", most=0.45),
        *RAUC_BARS,
    ),
    Codec.ZSTD: (
        Bar(program=PLAIN, figure="wall", most=0.4),
        Bar(program=TUNED, figure="wall", most=1.0),
        *RAUC_BARS,
    ),
}


def run_updog(bench: Bench, codec: Codec) -> Taken:
    """Install by `updog update-image`."""
    environment = {"UPDOG_CONFIG": str(configure(bench)), "UPDOG_LOG_FORMAT": "json"}
    command = [str(MACHINE_BIN / "updog"), "update-image", "--now", "--image", str(VERSIONS[codec])]
    return run(command, environment)


def reading_seconds(taken: Taken) -> float:
    """Return how long updog read back, by its own log."""
    events = [json.loads(line) for line in taken.stderr.splitlines() if line.startswith("{")]
    [verified] = [event for event in events if event["event"] == "verify"]
    return float(verified["seconds"])


def pipeline(bench: Bench, codec: Codec, *, digest: str, dd: str) -> str:
    """Return the shell pipeline that brings the three images onto the disk."""
    lines = ["set -e -o pipefail"]
    for role, window in bench.windows.items():
        lines.append(
            f"curl -sSf {bench.url}/targets/{bench.target(role, codec).name} | "
            f"tee >({digest} >/dev/null) | {DECODERS[codec]} 2>/dev/null | "
            f"dd of={window.path} seek={window.offset_bytes} {dd} status=none"
        )
    return "\n".join(lines)


def run_pipeline(script: str) -> Taken:
    """Run a shell script."""
    return run(["/bin/bash", "-c", script])


def compare(bench: Bench, codec: Codec, rounds: int, rauc: Rauc | None) -> dict[str, list[Taken]]:
    """Let updog, both pipelines and RAUC take turns."""
    plain = pipeline(
        bench, codec, digest="sha256sum", dd="bs=1M oflag=seek_bytes conv=fsync,notrunc"
    )
    tuned = pipeline(
        bench,
        codec,
        digest="openssl dgst -sha256",
        dd="bs=4M iflag=fullblock oflag=direct,seek_bytes conv=fsync,notrunc",
    )
    programs: dict[str, Callable[[], Taken]] = {
        UPDOG: lambda: run_updog(bench, codec),
        PLAIN: lambda: run_pipeline(plain),
        TUNED: lambda: run_pipeline(tuned),
    }
    return take_turns(programs | ({RAUC: rauc.install} if rauc else {}), rounds)


def show(taken: Mapping[str, Sequence[Taken]]) -> None:
    """Print a line a program: medians, and updog's wall and CPU time as ratios of its own."""
    print(f"  {'program':<38} {'wall s':>6} {'CPU s':>6} {'updog/it':>8} {'CPU':>5}")
    own = taken[UPDOG]
    for name, runs in taken.items():
        seconds, cpu = [t.seconds for t in runs], [t.cpu_seconds for t in runs]
        print(
            f"  {name:<38} {statistics.median(seconds):6.2f} {statistics.median(cpu):6.2f} "
            f"{median_ratio([t.seconds for t in own], seconds):8.2f} "
            f"{median_ratio([t.cpu_seconds for t in own], cpu):5.2f}"
        )


def judge(codec: Codec, taken: Mapping[str, Sequence[Taken]]) -> None:
    """Print each bar and what was reached."""
    own = taken[UPDOG]
    figures: dict[str, tuple[list[float], Callable[[Taken], float]]] = {
        "wall": ([t.seconds for t in own], lambda t: t.seconds),
        "wall without reading back": (
            [t.seconds - reading_seconds(t) for t in own],
            lambda t: t.seconds,
        ),
        "CPU": ([t.cpu_seconds for t in own], lambda t: t.cpu_seconds),
    }
    for bar in BARS[codec]:
        if bar.program in taken:
            mine, figure = figures[bar.figure]
            ratio = median_ratio(mine, [figure(t) for t in taken[bar.program]])
            reached = verdict(ratio, bar.most)
            print(f"  {bar.figure} / {bar.program}: {ratio:.2f}, bar {bar.most} {reached}")


def verdict(figure: float, most: float) -> str:
    """Say whether a figure is what it may be at most."""
    return "reached" if figure <= most else "MISSED"


def show_nearness(bench: Bench, codec: Codec, own: Sequence[Taken], rounds: int) -> None:
    """Print each stage alone, and the whole as a ratio of what they allow."""
    measured = [stage_seconds(bench, codec) for _ in range(rounds)]
    medians = {name: statistics.median(one[name] for one in measured) for name in measured[0]}
    wall = statistics.median(t.seconds for t in own)
    ratio = wall / limit_seconds(medians)
    stages = ", ".join(f"{name} {seconds:.2f} s" for name, seconds in medians.items())
    print(f"  alone: {stages}")
    print(f"  whole / (slowest stage + reading back): {ratio:.2f}, bar 1.5 {verdict(ratio, 1.5)}")


def measure_memory(place: Path, rounds: int) -> None:
    """Print the peak memory for images of several sizes, medians of some runs."""
    peaks: dict[Codec, list[float]] = {codec: [] for codec in VERSIONS}
    for size_mib in SIZES_MIB:
        with tempfile.TemporaryDirectory(dir=place) as directory:
            publish(Path(directory), size_mib)
            with a_bench(Path(directory), Path(directory), size_mib) as bench:
                for codec, seen in peaks.items():
                    peaks_mib = [run_updog(bench, codec).peak_mib for _ in range(rounds)]
                    seen.append(statistics.median(peaks_mib))
    sizes = ", ".join(map(str, SIZES_MIB))
    for codec, seen in peaks.items():
        spread = max(seen) / min(seen) - 1
        shown = ", ".join(f"{peak:.1f}" for peak in seen)
        print(
            f"  {codec}: {shown} MiB for {sizes} MiB; bar 80 {verdict(max(seen), 80)}, "
            f"spread {spread:.1%}, bar 5 % {verdict(spread, 0.05)}"
        )


def versions() -> str:
    """Return the machine and the versions of what is compared."""
    programs = ("curl --version", "lz4 --version", "zstd --version", "openssl version")
    words = [f"{os.cpu_count()} cores, {platform.machine()}, Linux {platform.release()}"]
    words.append(f"Python {platform.python_version()}")
    for program in (*programs, "rauc --version", "/usr/sbin/nginx -v", "dd --version"):
        done = subprocess.run(program.split(), capture_output=True, text=True, check=False)
        words.append((done.stdout or done.stderr).splitlines()[0].strip("* "))
    return "; ".join(words)


def main() -> None:
    """Print a table for each place and each compression, and what became of the bars."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--size-mib", type=int, default=1024)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--place", action="append", type=Path, default=None)
    parser.add_argument("--no-memory", action="store_true", help="leave peak memory out")
    parser.add_argument("--picture", type=Path, help="draw the first place's medians into an SVG")
    chosen = parser.parse_args()
    if os.geteuid() != 0:
        raise SystemExit("loop devices need root")
    print(versions())
    print(f"root image {chosen.size_mib} MiB, medians of {chosen.rounds}")
    drawn: dict[str, Mapping[str, Sequence[Taken]]] = {}
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=DISK)))
        publish(directory, chosen.size_mib)
        for place in chosen.place or (MEMORY, DISK):
            backing = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=place)))
            with (
                a_bench(directory, backing, chosen.size_mib) as bench,
                _maybe_rauc(bench, backing / "disk.img") as rauc,
            ):
                for codec in VERSIONS:
                    print(f"{codec} into a loop device on {place}")
                    taken = compare(bench, codec, chosen.rounds, rauc)
                    show(taken)
                    judge(codec, taken)
                    show_nearness(bench, codec, taken[UPDOG], chosen.rounds)
                    drawn.setdefault(codec, taken)
    if not chosen.no_memory:
        print("peak memory of updog update-image")
        measure_memory(DISK, chosen.rounds)
    if chosen.picture:
        from benchmarks.picture import draw  # noqa: PLC0415 -- needs matplotlib, the rest does not

        draw({name: medians(taken) for name, taken in drawn.items()}, chosen.picture)


@contextmanager
def _maybe_rauc(bench: Bench, disk: Path) -> Iterator[Rauc | None]:
    """Set RAUC up, if it is there."""
    if obstacle := why_no_rauc():
        print(f"RAUC is left out: {obstacle}")
        yield None
        return
    with (
        tempfile.TemporaryDirectory(dir=bench.directory) as directory,
        a_rauc(bench, disk, Path(directory)) as rauc,
    ):
        yield rauc


def medians(taken: Mapping[str, Sequence[Taken]]) -> dict[str, float]:
    """Return the median wall seconds of each program."""
    return {name: statistics.median(t.seconds for t in runs) for name, runs in taken.items()}


if __name__ == "__main__":
    main()
