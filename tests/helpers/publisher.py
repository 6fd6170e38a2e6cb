"""A publisher's directory under test: its keys, and the commands of repo-tools on it."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from click.testing import CliRunner
from securesystemslib.signer import CryptoSigner

from repo_tools.cli import cli
from repo_tools.errors import RepoToolsError
from repo_tools.keyfiles import KeyKind, generate, write_keys

ONLINE = ("targets", "snapshot", "timestamp")


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """How a command ended. What it failed on is one line, as the installed command prints it."""

    code: int
    printed: str
    failure: str

    @property
    def json(self) -> Any:
        return json.loads(self.printed)


def tools(*arguments: str | Path) -> Done:
    """Run a command in this process, which is many times faster than starting one."""
    result = CliRunner().invoke(cli, [str(each) for each in arguments])
    if isinstance(result.exception, RepoToolsError):
        message = str(result.exception)
        assert "\n" not in message
        return Done(code=1, printed=result.stdout, failure=message)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return Done(code=result.exit_code, printed=result.stdout, failure=result.stderr)


@cache
def _signer(name: str, kind: KeyKind) -> CryptoSigner:
    """Return the key of a name, the same one throughout a test run: RSA takes its time."""
    return generate(kind)


@dataclass(frozen=True, slots=True, kw_only=True)
class PublisherDirectory:
    """The directory of publisher.toml, with unencrypted keys in `keys/`."""

    path: Path

    @property
    def draft(self) -> Path:
        return self.path / "next-root.json"

    @property
    def metadata(self) -> Path:
        return self.path / "repository" / "metadata"

    def key(self, name: str) -> Path:
        """Return the private key of a name; `.pub` beside it is its public half."""
        return self.path / "keys" / f"{name}.pem"

    def make_keys(self, names: Iterable[str], kind: KeyKind = KeyKind.ED25519) -> None:
        write_keys([(self.key(name), _signer(name, kind)) for name in names], passphrase=None)

    def root(self, command: str, *arguments: str | Path) -> Done:
        return tools("root", command, *arguments, "--publisher", self.path)

    def create(self, roots: Iterable[str], *arguments: str) -> Done:
        """Draft the first root; `online` signs the other roles."""
        keys = [f"root={self.key(name)}" for name in roots]
        keys += [f"{role}={self.key('online')}" for role in ONLINE]
        options = [each for key in keys for each in ("--key", key)]
        return self.root("create", *options, *arguments)

    def sign(self, *names: str, options: Iterable[str | Path] = ()) -> Done:
        keys = [each for name in names for each in ("--key", self.key(name))]
        return self.root("sign", *keys, "--yes", *options)

    def state(self) -> dict[str, bytes]:
        """Return every file, to see that nothing changed."""
        files = (path for path in self.path.rglob("*") if path.is_file())
        return {str(path.relative_to(self.path)): path.read_bytes() for path in files}


def a_publisher(path: Path, *, roots: Iterable[str] = ("ann", "bob", "eve")) -> PublisherDirectory:
    """Make a publisher whose first root is in place; two of three root keys must sign."""
    publisher = PublisherDirectory(path=path)
    roots = list(roots)
    publisher.make_keys([*roots, "online"])
    done = publisher.create(roots)
    assert done.code == 0, done.failure
    done = publisher.sign(*roots[:2])
    assert done.code == 0, done.failure
    return publisher
