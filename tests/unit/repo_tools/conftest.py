from pathlib import Path

import pytest

from repo_tools.playground.place import Playground
from tests.unit.repo_tools.machines import copied, run


@pytest.fixture(scope="session")
def fresh_playground(tmp_path_factory: pytest.TempPathFactory) -> Playground:
    """A playground as created; to be copied before anything in it changes."""
    directory = tmp_path_factory.mktemp("fresh") / "playground"
    options = ("--disk-size", "256MiB", "--port", "1")
    done = run("repo-tools", "playground", "create", directory, *options)
    assert done.returncode == 0, done.stderr
    return Playground(directory=directory)


@pytest.fixture
def playground(fresh_playground: Playground, tmp_path: Path) -> Playground:
    return copied(fresh_playground, tmp_path / "playground")
