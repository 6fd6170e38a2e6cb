"""What can be refused before anything is cleared is: both sets stay as they are, to the byte."""

import os
import stat
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest
from msgspec.structs import replace
from semver import Version

from repo_tools.draft import read_catalogue
from repo_tools.playground.place import find_playground
from repo_tools.repository import publishing
from tests.faults.conftest import EXPLORES_ALL, GROUNDS, Ground, on_a_loop_device
from tests.helpers.disk_tools import disk_tool
from tests.helpers.judge import Judge
from tests.helpers.loop_device import loop_device
from tests.helpers.machine import Machine
from updog.manifest import serialise

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


@pytest.mark.parametrize(
    "ground", GROUNDS[:2] if EXPLORES_ALL else GROUNDS[1:2], indirect=True, ids=str
)
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


@pytest.mark.parametrize("role", NUMBERS if EXPLORES_ALL else ["hash"])
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


@contextmanager
def small(machine: Machine, pages: int) -> Iterator[Path]:
    """Let a machine keep what it remembers on a file system of so many pages."""
    place = machine.directory / "small"
    place.mkdir()
    # As many files as there may be: it is the bytes that are to run out.
    options = f"size={pages * 4096},nr_inodes=1000"
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", place], check=True)
    try:
        yield place
    finally:
        subprocess.run(["umount", place], check=True)
        place.rmdir()


def keep_in_a_small_place(machine: Machine) -> None:
    for name in ("metadata", "migrations", "state"):
        machine.configure(f'= "{name}"', f'= "small/{name}"')


def grow(place: Path) -> None:
    options = "remount,size=16M,nr_inodes=1000"
    subprocess.run(["mount", "-o", options, place], check=True)


@pytest.mark.parametrize("pages", range(1, 41) if EXPLORES_ALL else (1, 11))
def test_no_room_for_what_the_machine_remembers_stops_an_update_early(
    machine: Machine, pages: int
) -> None:
    """From the first file, over every page more, to the last: an update is refused or done."""
    keep_in_a_small_place(machine)
    judge = Judge(machine)
    with small(machine, pages) as place:
        run = machine.updog("update", "--now")
        if run.code == 0:
            assert pages > 11
            judge.installed()
            return
        judge.failed(run, str(place))
        assert judge.look() == judge.before
        grow(place)
        judge.next_run_succeeds()


def test_no_room_for_the_migrations_is_found_before_the_other_set_is_cleared(
    machine: Machine,
) -> None:
    publish_migrations(machine, 3 << 20)
    keep_in_a_small_place(machine)
    judge = Judge(machine)
    with small(machine, (2 << 20) // 4096) as place:
        refused(judge, f"cannot keep the migrations in {place}/migrations: ", "make room")
        grow(place)
        judge.next_run_succeeds()
        machine.updog("migrations", "verify").succeeded()


def publish_migrations(machine: Machine, length: int) -> None:
    """Let the way from 1.0.0 to 1.1.0 lead over a migration of some length."""
    keys = find_playground(machine.directory).keys
    step = (Version.parse("1.0.0"), Version.parse("1.1.0"))
    with publishing(machine.repository, keys, now=datetime.now(UTC)) as publication:
        manifest = read_catalogue(publication).manifest
        publication.add_bytes("large.lz4", os.urandom(length))
        changed = replace(manifest, migrations={**manifest.migrations, step: ("large.lz4",)})
        publication.add_bytes("manifest.json", serialise(changed))
