"""Updates that reach a machine by a file, a mirror, and a bad network."""

from pathlib import Path

import pytest

from repo_tools.faults import Faults
from repo_tools.server import serving
from tests.helpers.machine import Machine


def exported(machine: Machine, tar: Path, *options: str) -> Path:
    root = str(machine.directory / "root.json")
    where = str(machine.repository)
    machine.run("repo-tools", "export", where, str(tar), "--root", root, *options).succeeded()
    return tar


def imported(machine: Machine, tar: Path, there: Path) -> Path:
    root = str(machine.directory / "root.json")
    machine.run("repo-tools", "import", str(tar), str(there), "--root", root).succeeded()
    return there


def test_a_machine_without_a_network_updates_from_its_part_of_a_repository(
    machine: Machine, tmp_path: Path
) -> None:
    part = ("--version", "1.1.0", "--from-version", "1.0.0", "--variant", "playground")
    there = imported(machine, exported(machine, tmp_path / "part.tar", *part), tmp_path / "there")
    machine.configure(machine.server.url, there.as_uri())
    machine.server.directory = tmp_path / "gone"
    machine.updog("update", "--now").succeeded()
    machine.reboot()
    assert machine.status()["running"]["version"] == "1.1.0"
    assert not machine.server.requests


def test_a_part_can_be_served_where_it_was_imported(machine: Machine, tmp_path: Path) -> None:
    tar = exported(machine, tmp_path / "part.tar", "--version", "1.1.0")
    machine.server.directory = imported(machine, tar, tmp_path / "there")
    machine.updog("prepare", "--now").succeeded()


@pytest.mark.parametrize(
    "faults",
    [
        Faults(pattern="targets/*", close_after_bytes=2_000_000),
        Faults(pattern="targets/*", close_after_bytes=7_000_000, has_ranges=False),
        Faults(statuses=((503, 0.2),), seed=2),
    ],
    ids=["cut", "cut-without-ranges", "busy"],
)
def test_a_bad_server_costs_time_only(machine: Machine, faults: Faults) -> None:
    with serving(machine.repository, faults=faults) as server:
        machine.configure(machine.server.url, server.url)
        machine.updog("prepare", "--now").succeeded()
