"""A scene for every attack: its machine is copied from a template whose cache is warm."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.attacks.scene import Scene
from tests.helpers.machine import TEMPLATE_PORT, Machine, a_machine, copy_sparsely


@pytest.fixture(scope="session")
def warm_template(template: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a machine that has seen the honest repository once."""
    warm = tmp_path_factory.mktemp("template") / "warm"
    with a_machine(template, tmp_path_factory.mktemp("cold")) as machine:
        machine.updog("check-update").succeeded()
        machine.configure(machine.server.url, f"http://127.0.0.1:{TEMPLATE_PORT}")
        machine.configure(str(machine.directory), str(warm))
        shutil.rmtree(machine.directory / "releases")
        copy_sparsely(machine.directory, warm)
    return warm


@pytest.fixture
def machine(warm_template: Path, tmp_path: Path) -> Iterator[Machine]:
    with a_machine(warm_template, tmp_path) as copied:
        yield copied


@pytest.fixture
def scene(machine: Machine) -> Scene:
    return Scene(machine=machine)
