"""How fast a whole update goes into a loop device, against the pipelines people use instead.

Run by `make bench-install`, as root. Real files make a root image of 1 GiB; with its hash image and
a boot image it is published once as LZ4 and once as zstd, and served by nginx on loopback. Every
program writes all three images into the inactive set's partitions of one loop device and flushes
them. The programs take turns, so that a ratio holds when the machine's speed drifts; medians of
the ratios are printed. `updog update-image` is timed as a whole process: it also refreshes the
metadata, checks every block against the hash tree, and reads everything back.
"""

import argparse
import json
import os
import platform
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from semver import Version

from repo_tools.draft import make_changes
from repo_tools.images import Codec, SystemImages, build_hash_image
from repo_tools.keys import KeyDirectory
from repo_tools.layout import create_disk
from repo_tools.repository import create_repository, publishing
from repo_tools.sources import Release, add_release
from signpost.disk import Location, Window, read
from signpost.sets import SetName
from tests.helpers.loop_device import loop_device

BIN = Path(sys.executable).parent
MIB = 1 << 20
RUNS = 5
MEMORY, DISK = Path("/dev/shm"), Path("/var/tmp")  # noqa: S108 -- directories of ours within
SMALLEST_FILE = 64 << 10
VERSIONS = {Codec.LZ4: Version(1, 1, 0), Codec.ZSTD: Version(1, 2, 0)}
DECODERS = {Codec.LZ4: "lz4 -d", Codec.ZSTD: "zstd -d"}


@dataclass(frozen=True, kw_only=True)
class Bench:
    """What all programs work on."""

    directory: Path
    device: Path
    url: str
    windows: Mapping[str, Window]


@dataclass(frozen=True, kw_only=True)
class Taken:
    """What one run took; the seconds without reading back are known of updog alone."""

    seconds: float
    cpu_seconds: float
    peak_mib: float
    writing_seconds: float | None = None


def fill_root(image: Path, size_mib: int) -> None:
    """Make an ext4 image that real files fill for the most part."""
    tree = image.with_name("tree")
    budget, number = size_mib * MIB * 8 // 10, 0
    while budget > SMALLEST_FILE:
        for path in sorted(Path("/usr").rglob("*")):
            if path.is_symlink() or not path.is_file():
                continue
            if not SMALLEST_FILE <= path.stat().st_size <= budget:
                continue
            number += 1
            copy = tree / str(number % 256) / f"{number}{path.suffix}"
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, copy)
            budget -= -(-path.stat().st_size // 4096) * 4096
    make = [
        "mke2fs",
        "-q",
        "-q",
        "-t",
        "ext4",
        "-b",
        "4096",
        "-O",
        "^has_journal,^resize_inode",
        "-m0",
    ]
    subprocess.run([*make, "-d", str(tree), str(image), f"{size_mib}M"], check=True)
    shutil.rmtree(tree)


def publish(directory: Path, size_mib: int) -> None:
    """Build the images and publish them under a version for each compression."""
    root, boot = directory / "root.ext4", directory / "boot.ext4"
    fill_root(root, size_mib)
    fill_root(boot, size_mib // 32)
    table = build_hash_image(root, directory / "root.verity")
    images = SystemImages(boot=boot, root=root, hash=directory / "root.verity", table=table)
    keys = KeyDirectory(path=directory / "keys")
    keys.generate()
    now = datetime.now(UTC)
    trusted = create_repository(directory / "repository", keys, now=now)
    (directory / "root.json").write_bytes(trusted)
    with publishing(directory / "repository", keys, now=now) as publication:
        releases = [
            (codec, Release(variant="bench", arch="x86_64", version=version, images=images))
            for codec, version in VERSIONS.items()
        ]
        changes = [
            add_release(release, codec=codec, follows=Version(1, 0, 0))
            for codec, release in releases
        ]
        make_changes(publication, changes, clock=lambda: now)


@contextmanager
def nginx(root: Path) -> Iterator[str]:
    """Serve a directory on loopback."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with tempfile.TemporaryDirectory() as directory:
        config = Path(directory) / "nginx.conf"
        config.write_text(
            f"pid {directory}/pid; error_log /dev/null; worker_processes 1; daemon off;\n"
            "user root;\n"
            "events {}\nhttp { access_log off; sendfile on; "
            f"server {{ listen 127.0.0.1:{port}; root {root}; }} }}\n"
        )
        with subprocess.Popen(["/usr/sbin/nginx", "-c", str(config)]) as process:
            try:
                wait_for_port(port)
                yield f"http://127.0.0.1:{port}"
            finally:
                process.terminate()


def wait_for_port(port: int) -> None:
    """Wait until somebody listens."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise SystemExit("nginx does not answer")


@contextmanager
def a_bench(directory: Path, backing: Path, size_mib: int) -> Iterator[Bench]:
    """Serve the images and lay out a disk for them on a loop device."""
    disk = backing / "disk.img"
    disk_mib = size_mib * 5 // 2
    create_disk(disk, disk_mib)
    try:
        with nginx(directory / "repository") as url, loop_device(disk) as device:
            found = read(Location(path=device))
            parts = zip(("boot", "root", "hash"), found.sets[SetName.B].partitions, strict=True)
            windows = {role: found.window(partition) for role, partition in parts}
            yield Bench(directory=directory, device=device, url=url, windows=windows)
    finally:
        disk.unlink()


def configure(bench: Bench) -> Path:
    """Write the agent's configuration of a machine that has never been updated."""
    state = bench.directory / "state"
    shutil.rmtree(state, ignore_errors=True)
    state.mkdir()
    (state / "os-release").write_text("VARIANT_ID=bench\nVERSION_ID=1.0.0\n")
    config = state / "updog.toml"
    config.write_text(
        f'metadata_base_url = "{bench.url}/metadata"\ntargets_base_url = "{bench.url}/targets"\n'
        f'seed = 1\n[paths]\ntrusted_root = "{bench.directory}/root.json"\n'
        f'metadata_cache = "cache"\nmigrations = "migrations"\nstate = "."\n'
        f'os_release = "os-release"\n[disk]\npath = "{bench.device}"\nactive = "A"\n'
    )
    return config


def run(command: Sequence[str], environment: Mapping[str, str] | None = None) -> tuple[Taken, str]:
    """Run a command to its end, with all its children, and return what it took."""
    with tempfile.TemporaryFile("w+") as log:
        started = time.monotonic()
        process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=log)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.monotonic() - started
        process.returncode = os.waitstatus_to_exitcode(status)
        log.seek(0)
        stderr = log.read()
    if process.returncode != 0:
        raise SystemExit(f"{command} exited with {process.returncode}: {stderr}")
    spent = usage.ru_utime + usage.ru_stime
    return Taken(seconds=seconds, cpu_seconds=spent, peak_mib=usage.ru_maxrss / 1024), stderr


def run_updog(bench: Bench, codec: Codec) -> Taken:
    """Install by `updog update-image`."""
    environment = {"UPDOG_CONFIG": str(configure(bench)), "UPDOG_LOG_FORMAT": "json"}
    command = [str(BIN / "updog"), "update-image", "--now", "--image", str(VERSIONS[codec])]
    taken, log = run(command, environment)
    events = [json.loads(line) for line in log.splitlines() if line.startswith("{")]
    writing = sum(event["seconds"] for event in events if event["event"] in bench.windows)
    return Taken(
        seconds=taken.seconds,
        cpu_seconds=taken.cpu_seconds,
        peak_mib=taken.peak_mib,
        writing_seconds=writing,
    )


def pipeline(bench: Bench, codec: Codec, *, digest: str, dd: str) -> str:
    """Return the shell pipeline that brings the three images onto the disk."""
    targets = bench.directory / "repository" / "targets"
    lines = ["set -e -o pipefail"]
    for role, window in bench.windows.items():
        [target] = targets.glob(f"*-{VERSIONS[codec]}-*-{role_suffix(role)}.{codec}")
        lines.append(
            f"curl -sSf {bench.url}/targets/{target.name} | tee >({digest} >/dev/null) | "
            f"{DECODERS[codec]} 2>/dev/null | dd of={window.path} seek={window.offset_bytes} "
            f"{dd} status=none"
        )
    return "\n".join(lines)


def role_suffix(role: str) -> str:
    """Return how the targets of a role are named."""
    return {"boot": "boot.ext4", "root": "root.ext4", "hash": "root.verity"}[role]


def run_shell(script: str) -> Taken:
    """Run a shell script."""
    return run(["/bin/bash", "-c", script])[0]


def compare(bench: Bench, codec: Codec) -> None:
    """Let updog and both pipelines take turns, and print the ratios."""
    plain = pipeline(
        bench, codec, digest="sha256sum", dd="bs=1M oflag=seek_bytes conv=fsync,notrunc"
    )
    tuned = pipeline(
        bench,
        codec,
        digest="openssl dgst -sha256",
        dd="bs=4M iflag=fullblock oflag=direct,seek_bytes conv=fsync,notrunc",
    )
    rounds = []
    for number in range(RUNS + 1):
        one = (run_updog(bench, codec), run_shell(plain), run_shell(tuned))
        if number:  # the first one warms the cache that nginx reads from
            rounds.append(one)
    own = [each[0] for each in rounds]
    show("updog update-image", own, own)
    show("curl | sha256sum | decoder | dd", [each[1] for each in rounds], own)
    show("curl | openssl | decoder | dd direct", [each[2] for each in rounds], own)


def show(name: str, taken: Sequence[Taken], own: Sequence[Taken]) -> None:
    """Print one line: medians, and updog's time as a ratio of this program's."""
    ratio = statistics.median(a.seconds / b.seconds for a, b in zip(own, taken, strict=True))
    writing = statistics.median(
        (a.writing_seconds or 0) / b.seconds for a, b in zip(own, taken, strict=True)
    )
    print(
        f"  {name:<38} {statistics.median(t.seconds for t in taken):6.2f} "
        f"{statistics.median(t.cpu_seconds for t in taken):6.2f} "
        f"{max(t.peak_mib for t in taken):6.0f} {ratio:7.2f} {writing:8.2f}"
    )


def main() -> None:
    """Print a table for each place and each compression."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--size-mib", type=int, default=1024)
    parser.add_argument("--place", action="append", type=Path, default=None)
    chosen = parser.parse_args()
    if os.geteuid() != 0:
        raise SystemExit("loop devices need root")
    print(
        f"{os.cpu_count()} cores, {platform.machine()}, Linux {platform.release()}, "
        f"Python {platform.python_version()}; root image {chosen.size_mib} MiB; medians of {RUNS}"
    )
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=DISK)))
        publish(directory, chosen.size_mib)
        for place in chosen.place or (MEMORY, DISK):
            backing = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=place)))
            with a_bench(directory, backing, chosen.size_mib) as bench:
                for codec in VERSIONS:
                    print(f"{codec} into a loop device on {place}")
                    print(
                        f"  {'program':<38} {'wall s':>6} {'CPU s':>6} {'MiB':>6} "
                        f"{'updog/it':>8} {'writing':>8}"
                    )
                    compare(bench, codec)


if __name__ == "__main__":
    main()
