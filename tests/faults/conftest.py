"""A machine for every test, whose disk is a device that fails on demand."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers.fault_device import FaultDevice, fault_device
from tests.helpers.machine import Machine, a_machine, create_template


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return create_template(tmp_path_factory.mktemp("template") / "playground")


@pytest.fixture
def machine(template: Path, tmp_path: Path) -> Iterator[Machine]:
    with a_machine(template, tmp_path) as copied:
        yield copied


@pytest.fixture
def device(machine: Machine, tmp_path: Path) -> Iterator[FaultDevice]:
    """Put a device in the place of the machine's disk, whose content stays."""
    content = machine.directory / "content.img"
    machine.disk.rename(content)
    with fault_device(content, tmp_path) as device:
        machine.disk.symlink_to(device.node)
        yield device
