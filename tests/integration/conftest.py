"""A machine for every test, copied from a template that is made once a worker."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers.machine import Machine, a_machine, create_template


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return create_template(tmp_path_factory.mktemp("template") / "playground")


@pytest.fixture
def machine(template: Path, tmp_path: Path) -> Iterator[Machine]:
    with a_machine(template, tmp_path) as copied:
        yield copied
