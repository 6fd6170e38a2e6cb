"""A machine for every test: it has run for a while, and its disk is a device that fails on demand.

Both sets can be booted, so that a test sees whether the other set was given up, and when.
"""

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from signpost.disk import Location, change
from signpost.flags import BootFlags
from signpost.sets import SetName
from signpost.state import BootState
from tests.helpers.fault_device import FaultDevice, fault_device
from tests.helpers.judge import Judge, windows_of_b
from tests.helpers.loop_device import loop_device, partition_nodes
from tests.helpers.machine import Machine, a_machine, create_template
from tests.helpers.resector import resector

EXPLORES_ALL = os.environ.get("EXPLORE") == "all"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ground:
    """What the machine's disk is.

    Attributes:
        sector_size: Of the device, in bytes.
        has_nodes: The kernel knows its partitions, so that each is a device of its own.
    """

    sector_size: int = 512
    has_nodes: bool = True

    def __str__(self) -> str:
        return f"{self.sector_size}-{'nodes' if self.has_nodes else 'windows'}"


GROUNDS = (Ground(), Ground(sector_size=4096), Ground(has_nodes=False))


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """A machine on a device that fails on demand, and the judge of what becomes of it."""

    machine: Machine
    device: FaultDevice
    judge: Judge


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make the machine that tests copy: it runs A, and B holds an older system that boots too."""
    directory = create_template(tmp_path_factory.mktemp("template") / "playground")
    change(Location(path=directory / "disk.img", active=SetName.A), _both_healthy)
    windows = windows_of_b(directory / "disk.img")
    with (directory / "disk.img").open("r+b") as disk:
        for first, _ in windows.values():
            disk.seek(first)
            disk.write(b"an older system " * 4096)
    return directory


def _both_healthy(state: BootState) -> BootState:
    older = BootFlags(priority=1, tries=0, successful=True)
    newer = BootFlags(priority=2, tries=0, successful=True)
    return replace(state, flags={SetName.A: newer, SetName.B: older})


@pytest.fixture
def machine(template: Path, tmp_path: Path) -> Iterator[Machine]:
    with a_machine(template, tmp_path) as copied:
        yield copied


@pytest.fixture
def ground(request: pytest.FixtureRequest) -> Ground:
    """Partitions of a device of 512-byte sectors; tests may ask for others."""
    return getattr(request, "param", Ground())


@pytest.fixture
def bench(machine: Machine, ground: Ground, tmp_path: Path) -> Iterator[Bench]:
    """Put a device in the place of the machine's disk, whose content stays."""
    content = take_content(machine, ground)
    with ExitStack() as stack:
        sectors = ["--sector-size", str(ground.sector_size)]
        device = stack.enter_context(fault_device(content, tmp_path, *sectors))
        machine.disk.symlink_to(device.node)
        if ground.has_nodes:
            stack.enter_context(partition_nodes(device.node))
        judge = Judge(machine, medium=content, sector_size=ground.sector_size)
        yield Bench(machine=machine, device=device, judge=judge)


@contextmanager
def on_a_loop_device(machine: Machine, ground: Ground) -> Iterator[Judge]:
    """Put an honest device in the place of the machine's disk."""
    content = take_content(machine, ground)
    with ExitStack() as stack:
        sectors = ["--sector-size", str(ground.sector_size)]
        node = stack.enter_context(loop_device(content, *sectors))
        machine.disk.symlink_to(node)
        if ground.has_nodes:
            stack.enter_context(partition_nodes(node))
        yield Judge(machine, medium=content, sector_size=ground.sector_size)


def take_content(machine: Machine, ground: Ground) -> Path:
    """Take the disk of a machine away, and return the file of what it held."""
    content = machine.directory / "content.img"
    if ground.sector_size == 512:
        machine.disk.rename(content)
    else:
        resector(machine.disk, content, new=ground.sector_size)
        machine.disk.unlink()
    return content
