"""What the benchmarks of an installation work on: real images, a server, a disk on a loop."""

import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from semver import Version

from benchmarks.measure import MIB
from repo_tools.draft import make_changes
from repo_tools.images import Codec, SystemImages, build_hash_image
from repo_tools.keys import KeyDirectory
from repo_tools.layout import create_disk
from repo_tools.repository import create_repository, publishing
from repo_tools.sources import Release, add_release
from signpost.disk import Location, Window, read
from signpost.sets import SetName
from tests.helpers.loop_device import loop_device

VERSIONS = {Codec.LZ4: Version(1, 1, 0), Codec.ZSTD: Version(1, 2, 0)}
TARGETS = {"boot": "boot.ext4", "root": "root.ext4", "hash": "root.verity"}
"""How the targets of a role, and the files they are made from, are named."""

_SMALLEST_FILE = 64 << 10
_MKE2FS = ("mke2fs", "-q", "-q", "-F", "-t", "ext4", "-b", "4096", "-m0")
_FEATURES = ("-O", "^has_journal,^resize_inode")


@dataclass(frozen=True, kw_only=True)
class Bench:
    """What all programs work on."""

    directory: Path
    device: Path
    url: str
    windows: Mapping[str, Window]

    def target(self, role: str, codec: Codec) -> Path:
        """Return the compressed image of a role."""
        targets = self.directory / "repository" / "targets"
        [found] = targets.glob(f"*-{VERSIONS[codec]}-*-{TARGETS[role]}.{codec}")
        return found


def fill_root(image: Path, size_mib: int) -> None:
    """Make an ext4 image that real files fill for the most part."""
    tree = image.with_name("tree")
    budget, number = size_mib * MIB * 8 // 10, 0
    while budget > _SMALLEST_FILE:
        for path in sorted(Path("/usr").rglob("*")):
            if path.is_symlink() or not path.is_file():
                continue
            if not _SMALLEST_FILE <= path.stat().st_size <= budget:
                continue
            number += 1
            copy = tree / str(number % 256) / f"{number}{path.suffix}"
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, copy)
            budget -= -(-path.stat().st_size // 4096) * 4096
    command = [*_MKE2FS, *_FEATURES, "-d", str(tree), str(image), f"{size_mib}M"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    shutil.rmtree(tree)


def publish(directory: Path, size_mib: int) -> None:
    """Build the images and publish them under a version for each compression."""
    root, boot = directory / "root.ext4", directory / "boot.ext4"
    fill_root(root, size_mib)
    fill_root(boot, max(4, size_mib // 32))
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
                _wait_for_port(port)
                yield f"http://127.0.0.1:{port}"
            finally:
                process.terminate()


def _wait_for_port(port: int) -> None:
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
    create_disk(disk, max(512, size_mib * 5 // 2))
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
