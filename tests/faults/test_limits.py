"""A process and a file system that give less than is asked for: memory, room, and short writes."""

import re
import resource
import subprocess
from pathlib import Path

import pytest

from tests.faults.conftest import EXPLORES_ALL
from tests.helpers.http_server import Handler
from tests.helpers.judge import Judge
from tests.helpers.machine import Machine, target_of
from tests.helpers.short_writes import short_writes

MIB = 1 << 20


def test_an_update_needs_no_more_than_192_mib_of_addresses(machine: Machine) -> None:
    judge = Judge(machine)
    machine.limits = {resource.RLIMIT_AS: 192 * MIB}
    judge.next_run_succeeds()


@pytest.mark.parametrize("mib", range(64, 112, 2) if EXPLORES_ALL else (96,))
def test_less_memory_than_an_update_needs_stops_it_in_good_order(
    machine: Machine, mib: int
) -> None:
    judge = Judge(machine)
    machine.limits = {resource.RLIMIT_AS: mib * MIB}
    run = machine.updog("update", "--now")
    machine.limits = {}
    if "ImportError" in run.stderr or "import_module" in run.stderr:
        pytest.skip("the interpreter itself had too little memory")
    line = judge.failed(run)
    assert re.search(r"not enough memory|Cannot allocate memory|can't start new thread", line)
    judge.next_run_succeeds()


@pytest.mark.parametrize("at_most", [1, 4096, 65_536, 100_001] if EXPLORES_ALL else [65_536])
def test_writes_that_are_done_in_part_are_gone_on_with(
    machine: Machine, tmp_path: Path, at_most: int
) -> None:
    """Every write of the process takes less than it was given, as interrupted ones may."""
    judge = Judge(machine)
    with short_writes(tmp_path, at_most=at_most) as environment:
        machine.environment |= environment
        judge.next_run_succeeds()


@pytest.mark.root
def test_a_file_system_that_is_full_under_the_image_of_a_disk(
    machine: Machine, tmp_path: Path
) -> None:
    judge, place = Judge(machine), tmp_path / "full"
    place.mkdir()
    length = machine.disk.stat().st_blocks * 512 + 8 * MIB
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={length}", "tmpfs", place], check=True)
    try:
        subprocess.run(["cp", "--sparse=always", machine.disk, place / "disk.img"], check=True)
        machine.disk.unlink()
        machine.disk.symlink_to(place / "disk.img")
        judge.failed(machine.updog("update", "--now"), "cannot write to", "No space left on device")
        subprocess.run(["mount", "-o", f"remount,size={4 * length}", place], check=True)
        judge.next_run_succeeds()
    finally:
        subprocess.run(["umount", place], check=True)


def test_of_two_updates_at_once_the_second_leaves_and_the_first_succeeds(machine: Machine) -> None:
    judge = Judge(machine)
    target = target_of(machine, "root")
    seconds: list[str] = []

    def update_too(handler: Handler, body: bytes) -> None:
        second = machine.updog("update", "--now")
        seconds.append(second.failed(code=4))
        handler.serve(body)

    machine.server.misbehave(f"/targets/{target.name}", Handler.serve, update_too)
    judge.next_run_succeeds()
    (line,) = seconds
    assert line.endswith(" is at work already; nothing was changed")
