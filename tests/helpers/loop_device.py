"""A file as a real block device, for as long as a context lasts. Needs root.

    with loop_device(tmp_path / "disk.img") as node:
        ...open node...

Tests that use it bear the marker `loop`.
"""

import fcntl
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

# Users other than root have no sbin on their path, and `su` keeps theirs.
_PATH = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
_LOSETUP = shutil.which("losetup", path=_PATH)
_PARTX = shutil.which("partx", path=_PATH) or "partx"


def why_no_loop_devices() -> str | None:
    """Say what stands in the way of loop devices here, or None if nothing does."""
    if os.geteuid() != 0:
        return "not root"
    if _LOSETUP is None:
        return "losetup is not installed"
    if not Path("/sys/dev/block").is_dir():
        return "sysfs is not mounted on /sys"
    if not Path("/dev/loop-control").exists():
        return "the kernel has no loop devices (/dev/loop-control)"
    found = subprocess.run([_LOSETUP, "--find"], check=False, capture_output=True, text=True)
    return None if found.returncode == 0 else f"no free loop device: {found.stderr.strip()}"


@contextmanager
def loop_device(backing: Path, *options: str) -> Iterator[Path]:
    """Attach a file and yield the device node; detach it whatever happens.

    Partitions that the kernel was told of outlive the detaching, so they are taken away too, before
    and after.
    """
    assert _LOSETUP, "a test that needs loop devices must bear the marker `loop`"
    attach = [_LOSETUP, "--find", "--show", *options, str(backing)]
    node = subprocess.run(attach, check=True, capture_output=True, text=True).stdout.strip()
    try:
        _forget_partitions(node)
        yield Path(node)
    finally:
        _forget_partitions(node)
        subprocess.run([_LOSETUP, "--detach", node], check=True)


@contextmanager
def partition_nodes(node: Path) -> Iterator[None]:
    """Let the kernel know the partitions of a loop device, each by a node of its own."""
    subprocess.run([_PARTX, "--add", str(node)], check=True, capture_output=True)
    try:
        yield
    finally:
        _forget_partitions(str(node))


def _forget_partitions(node: str) -> None:
    """Make the kernel forget the partitions of a device, those of an older table too."""
    for known in Path("/sys/block", Path(node).name).glob("*/partition"):
        number = known.read_text().strip()
        subprocess.run([_PARTX, "--delete", "--nr", number, node], check=False, capture_output=True)


@contextmanager
def failing_device(length_bytes: int) -> Iterator[Path]:
    """Yield a block device that takes writes into its cache and fails to bring them home.

    Its backing file is memory that was sealed against writing after the device was attached.
    """
    memory = os.memfd_create("backing", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        os.ftruncate(memory, length_bytes)
        with loop_device(Path(f"/proc/{os.getpid()}/fd/{memory}")) as node:
            fcntl.fcntl(memory, fcntl.F_ADD_SEALS, fcntl.F_SEAL_WRITE)
            yield node
    finally:
        os.close(memory)
