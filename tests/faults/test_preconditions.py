"""What can be refused before anything is cleared is: both sets stay as they are, to the byte."""

import os
import stat
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.faults.conftest import GROUNDS, Ground, on_a_loop_device
from tests.helpers.disk_tools import disk_tool
from tests.helpers.judge import Judge
from tests.helpers.loop_device import loop_device
from tests.helpers.machine import Machine

pytestmark = [pytest.mark.root, pytest.mark.loop]

NUMBERS = {"boot": 8, "root": 9, "hash": 10}


def node_of(machine: Machine, role: str) -> Path:
    """Return the node of a partition of the inactive set."""
    return Path(f"{machine.disk.readlink()}p{NUMBERS[role]}")


def refused(judge: Judge, *parts: str) -> str:
    """Let an update be refused, and see that it has asked for no image."""
    server = judge.machine.server
    line = judge.failed(judge.machine.updog("update", "--now"), *parts)
    assert not [each.target for each in server.requests if ".ext4" in each.target]
    return line


@pytest.fixture
def judge(machine: Machine, ground: Ground) -> Iterator[Judge]:
    with on_a_loop_device(machine, ground) as judge:
        yield judge


@pytest.mark.parametrize("ground", GROUNDS[:2], indirect=True, ids=str)
def test_a_mounted_partition_is_refused(judge: Judge, tmp_path: Path) -> None:
    node = node_of(judge.machine, "boot")
    disk_tool("mkfs.ext4", "-q", str(node))
    place = tmp_path / "mounted"
    place.mkdir()
    subprocess.run(["mount", str(node), str(place)], check=True)
    try:
        os.sync()
        judge.before = judge.look()
        refused(judge, f"cannot open {node}: ", "it is mounted", "unmount it")
    finally:
        subprocess.run(["umount", str(place)], check=True)
    judge.next_run_succeeds()


@pytest.mark.parametrize("role", NUMBERS)
def test_a_partition_that_another_holds_open_is_refused(judge: Judge, role: str) -> None:
    node = node_of(judge.machine, role)
    holder = os.open(node, os.O_RDONLY | os.O_EXCL)
    try:
        refused(judge, f"cannot open {node}: ", "another program holds it")
    finally:
        os.close(holder)
    judge.next_run_succeeds()


@contextmanager
def replaced(node: Path) -> Iterator[None]:
    """Take the node of a partition away, and put the very same back: the kernel removes it."""
    away = node.with_name(f"{node.name}.away")
    node.rename(away)
    try:
        yield
    finally:
        away.rename(node)


def test_a_missing_node_is_refused_and_not_made(judge: Judge) -> None:
    node = node_of(judge.machine, "root")
    with replaced(node):
        refused(judge, f"cannot open {node}: No such file or directory")
        assert not node.exists()
    judge.next_run_succeeds()


def test_a_regular_file_in_the_place_of_a_node_is_refused(judge: Judge) -> None:
    node = node_of(judge.machine, "root")
    with replaced(node):
        node.write_bytes(bytes(1 << 20))
        os.truncate(node, 64 << 20)
        refused(judge, f"cannot open {node}: a file is in the place of the partition")
        assert node.read_bytes()[: 1 << 20] == bytes(1 << 20)
    judge.next_run_succeeds()


def test_a_node_of_another_disk_is_refused(judge: Judge, tmp_path: Path) -> None:
    node = node_of(judge.machine, "hash")
    other = tmp_path / "other.img"
    other.write_bytes(b"another disk".ljust(8 << 20, b"."))
    with replaced(node), loop_device(other) as another:
        os.mknod(node, 0o600 | stat.S_IFBLK, another.stat().st_rdev)
        refused(judge, f"cannot open {node}: device 7:", "in the place of the partition")
    assert other.read_bytes() == b"another disk".ljust(8 << 20, b".")
    judge.next_run_succeeds()
