"""An image file as a real block device that fails on demand. Needs root.

    with fault_device(disk, tmp_path) as device:
        device.set_faults({"op": "pwrite", "first": 0, "end": 4096, "errno": "EIO"})
        ...write to device.node, and see it fail...

nbdkit serves the file by a plugin of ours, FUSE makes a file of that, a loop device a disk of the
file. Tests that use it bear the marker `faults`.
"""

import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.helpers.loop_device import loop_device, why_no_loop_devices

_PLUGIN = Path(__file__).with_name("fault_plugin.py")


def why_no_fault_devices() -> str | None:
    """Say what stands in the way of such devices here, or None if nothing does."""
    if obstacle := why_no_loop_devices():
        return obstacle
    if not os.access("/dev/fuse", os.R_OK | os.W_OK):
        return "the kernel has no FUSE (/dev/fuse)"
    missing = [name for name in ("nbdkit", "nbdfuse") if shutil.which(name) is None]
    if missing:
        return f"{' and '.join(missing)} not installed"
    dump = subprocess.run(["nbdkit", "--dump-plugin", "python"], check=False, capture_output=True)
    return None if dump.returncode == 0 else "nbdkit has no Python plugin"


@dataclass(frozen=True, slots=True, kw_only=True)
class FaultDevice:
    """The node of the device, and the reins of what serves it."""

    node: Path
    faults: Path
    server: "subprocess.Popen[bytes]"

    def set_faults(self, *faults: dict[str, Any]) -> None:
        """Let these faults happen from now on, and no others."""
        draft = self.faults.with_suffix(".draft")
        draft.write_text(json.dumps(faults))
        draft.replace(self.faults)

    def vanish(self) -> None:
        """Take the device away: from now on every request fails."""
        self.server.kill()
        self.server.wait()


@contextmanager
def fault_device(disk: Path, directory: Path, *options: str) -> Iterator[FaultDevice]:
    """Make a device of an image file, with options of losetup; take it away whatever happens."""
    mount, faults = directory / "fuse", directory / "faults.json"
    mount.mkdir(exist_ok=True)
    nbdkit = ["nbdkit", "--exit-with-parent", "python", str(_PLUGIN)]
    serve = [*nbdkit, f"file={disk}", f"faults={faults}"]
    server = subprocess.Popen(["nbdfuse", str(mount / "disk"), "--socket-activation", *serve])
    try:
        _wait_for(mount / "disk", server)
        with loop_device(mount / "disk", "--direct-io=on", *options) as node:
            yield FaultDevice(node=node, faults=faults, server=server)
    finally:
        subprocess.run(["umount", "--lazy", str(mount)], check=False, capture_output=True)
        server.kill()
        server.wait()
        faults.unlink(missing_ok=True)


def _wait_for(file: Path, server: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + 30
    while not file.exists():
        assert server.poll() is None, "nbdfuse ended"
        assert time.monotonic() < deadline, "nbdfuse serves nothing"
        time.sleep(0.02)
