"""The same images installed by RAUC, for comparison.

Debian's RAUC is built without streaming, and the verity format needs the kernel's device mapper,
which not every machine that runs this has: so a bundle of the plain format is installed from a
local file. That spares RAUC the network, and HTTP with it.
"""

import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.measure import Taken, run
from benchmarks.scene import TARGETS, Bench
from tests.helpers.loop_device import loop_device

_SCRIPT = """
cd "$1"
export DBUS_STARTER_BUS_TYPE=session
rauc --conf=system.conf --override-boot-slot=A service >service.log 2>&1 &
service=$!
until rauc --conf=system.conf status >status.log 2>&1; do sleep 0.05; done
started=$EPOCHREALTIME
rauc install images.raucb >install.log 2>&1 || { cat service.log >&2; exit 1; }
ended=$EPOCHREALTIME
kill $service; wait $service
echo "$started $ended" >&2
"""


@dataclass(frozen=True, kw_only=True)
class Rauc:
    """A system with slots on parts of the disk, and a bundle for it."""

    directory: Path

    def install(self) -> Taken:
        """Install the bundle; what starting the service takes is not counted."""
        taken = run(["dbus-run-session", "--", "bash", "-c", _SCRIPT, "rauc", str(self.directory)])
        started, ended = map(float, taken.stderr.split()[-2:])
        return replace(taken, seconds=ended - started)


def why_no_rauc() -> str | None:
    """Say what is missing for it, or None if nothing is."""
    missing = [
        name for name in ("rauc", "mksquashfs", "dbus-run-session") if shutil.which(name) is None
    ]
    return f"{', '.join(missing)} not installed" if missing else None


@contextmanager
def a_rauc(bench: Bench, disk: Path, directory: Path) -> Iterator[Rauc]:
    """Make a bundle of the images that updog installs, and slots where it puts them."""
    with ExitStack() as stack:
        nodes = {}
        for role, window in bench.windows.items():
            place = [f"--offset={window.offset_bytes}", f"--sizelimit={window.length_bytes}"]
            nodes[role] = stack.enter_context(loop_device(disk, *place))
        (directory / "system.conf").write_text(_system(directory, nodes))
        _make_bundle(bench, directory)
        yield Rauc(directory=directory)


def _system(directory: Path, nodes: Mapping[str, Path]) -> str:
    return f"""[system]
compatible=bench
bootloader=noop
mountprefix={directory}/mount
statusfile={directory}/status

[keyring]
path={directory}/certificate.pem

[slot.root.0]
device=/dev/null
type=raw
bootname=A

[slot.root.1]
device={nodes["root"]}
type=raw
bootname=B

[slot.hash.1]
device={nodes["hash"]}
type=raw
parent=root.1

[slot.boot.1]
device={nodes["boot"]}
type=raw
parent=root.1
"""


def _make_bundle(bench: Bench, directory: Path) -> None:
    content = directory / "content"
    content.mkdir()
    manifest = "[update]\ncompatible=bench\nversion=1\n\n[bundle]\nformat=plain\n"
    for role, name in TARGETS.items():
        os.link(bench.directory / name, content / f"{role}.img")
        manifest += f"\n[image.{role}]\nfilename={role}.img\n"
    (content / "manifest.raucm").write_text(manifest)
    commands = (
        (
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "30"),
            *("-keyout", "key.pem", "-out", "certificate.pem", "-subj", "/CN=bench"),
        ),
        (
            *("rauc", "bundle", "--cert=certificate.pem", "--key=key.pem"),
            "--mksquashfs-args=-comp zstd -Xcompression-level 9 -b 1M",
            *("content", "images.raucb"),
        ),
    )
    for command in commands:
        subprocess.run(command, cwd=directory, check=True, capture_output=True)
