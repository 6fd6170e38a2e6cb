"""The commands that read repositories, run inside the test's own process: it is faster."""

import json
import os
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog
from click.testing import CliRunner
from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import Metadata, Root

from repo_tools.cli import cli
from repo_tools.errors import RepoToolsError
from repo_tools.programs import find_own_command
from signpost.errors import SignpostError
from tests.helpers.tuf_repository import TOP_ROLES, in_days
from updog.errors import UpdogError


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a command printed, and its error if it failed."""

    stdout: str
    stderr: str
    error: str | None

    @property
    def lines(self) -> list[str]:
        return self.stdout.splitlines()

    def succeeded(self) -> "Outcome":
        assert self.error is None, self.error
        return self

    def failed(self) -> str:
        """Return the one line of an orderly failure."""
        assert self.error is not None, self.stdout
        assert "\n" not in self.error
        return self.error

    def json(self) -> Any:
        return json.loads(self.stdout)


def repo_tools(*arguments: str | Path) -> Outcome:
    """Run a command to its end; whatever is no orderly error is raised."""
    result = CliRunner().invoke(cli, [str(each) for each in arguments])
    structlog.reset_defaults()  # the log went to a stderr that is closed now
    error = result.exception
    if isinstance(error, RepoToolsError | SignpostError | UpdogError):
        return Outcome(stdout=result.stdout, stderr=result.stderr, error=str(error))
    if error is not None:
        raise error
    return Outcome(stdout=result.stdout, stderr=result.stderr, error=None)


def files(directory: Path) -> dict[str, bytes]:
    """Return all files below a directory, hidden ones too; none if there is no directory."""
    return {
        str(path.relative_to(directory)): path.read_bytes()
        for path in directory.rglob("*")
        if path.is_file()
    }


def a_strangers_root(path: Path, *, version: int = 1) -> Path:
    """Write the root of a publisher that nobody knows."""
    key = CryptoSigner.generate_ed25519()
    root = Root(version=version, expires=in_days(7))
    for role in TOP_ROLES:
        root.add_key(key.public_key, role)
    metadata = Metadata(root)
    metadata.sign(key)
    metadata.to_file(str(path))
    return path


def started(*arguments: str | Path) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [str(find_own_command("repo-tools")), *(str(each) for each in arguments)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env={"PATH": os.environ["PATH"]},
    )


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)
