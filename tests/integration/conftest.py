"""A machine for every test, copied from the template."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers.machine import Machine, a_machine


@pytest.fixture
def machine(template: Path, tmp_path: Path) -> Iterator[Machine]:
    with a_machine(template, tmp_path) as copied:
        yield copied
