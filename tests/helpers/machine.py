"""A playground of its own for a test, and the installed commands run against it.

with a_machine(template, tmp_path) as machine:
    machine.updog("update", "--now").succeeded()
"""

import hashlib
import json
import os
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from tests.helpers.http_server import Server, serving

BIN = Path(sys.executable).parent
TEMPLATE_PORT = 8042
DISK_SIZE = "256MiB"
_PIECE_BYTES = 256 << 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """A finished command, and the seconds that it took."""

    command: tuple[str, ...]
    code: int
    stdout: str
    stderr: str
    seconds: float

    def succeeded(self) -> "Run":
        """Return this run, having checked that it exited with 0."""
        assert self.code == 0, f"{self.command} exited with {self.code}: {self.stderr}"
        return self

    def failed(self, *, code: int = 1) -> str:
        """Return the one line of an orderly failure."""
        assert self.code == code, f"{self.command} exited with {self.code}: {self.stdout}"
        assert "Traceback" not in self.stderr
        errors = [
            line for line in self.stderr.splitlines() if line.startswith(f"{self.command[0]}: ")
        ]
        assert len(errors) == 1, self.stderr
        return errors[0]

    def json(self) -> Any:
        """Return the one JSON document on stdout."""
        return json.loads(self.stdout)


@dataclass(slots=True, kw_only=True)
class Machine:
    """A playground, its server, and the environment that the commands see.

    `limits`: What the commands may use of some resources, as `resource.setrlimit` names them.
    """

    directory: Path
    server: Server
    environment: dict[str, str] = field(default_factory=dict)
    limits: dict[int, int] = field(default_factory=dict)

    @property
    def disk(self) -> Path:
        return self.directory / "disk.img"

    @property
    def config(self) -> Path:
        return self.directory / "updog.toml"

    @property
    def repository(self) -> Path:
        return self.directory / "repository"

    def run(self, *command: str, timeout_seconds: float = 60) -> Run:
        """Run an installed command to its end."""
        started = time.monotonic()
        done = subprocess.run(
            [str(BIN / command[0]), *command[1:]],
            env=self.full_environment(),
            cwd=self.directory,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout_seconds,
            check=False,
            preexec_fn=self._limit if self.limits else None,
        )
        return Run(
            command=command,
            code=done.returncode,
            stdout=done.stdout,
            stderr=done.stderr,
            seconds=time.monotonic() - started,
        )

    def _limit(self) -> None:
        for kind, most in self.limits.items():
            resource.setrlimit(kind, (most, most))

    def full_environment(self) -> dict[str, str]:
        return {
            "PATH": os.environ["PATH"],
            "TZ": "UTC",
            "UPDOG_LOG_FORMAT": "human",
            "UPDOG_CONFIG": str(self.config),
            "SIGNPOST_DISK": str(self.disk),
            "SIGNPOST_ACTIVE_FILE": str(self.directory / "run" / "active-set"),
            **self.environment,
        }

    def updog(self, *arguments: str) -> Run:
        return self.run("updog", *arguments)

    def signpost(self, *arguments: str) -> Run:
        return self.run("signpost", *arguments)

    def playground(self, command: str, *arguments: str) -> Run:
        return self.run("repo-tools", "playground", command, str(self.directory), *arguments)

    def reboot(self) -> Run:
        """Reset the machine once."""
        return self.playground("boot").succeeded()

    def status(self) -> Any:
        """Return what `updog status` says."""
        return self.updog("status", "--json").succeeded().json()

    def flags(self) -> dict[str, tuple[int, int, bool]]:
        """Return priority, tries and success of each set."""
        sets = self.signpost("status", "--json").succeeded().json()["sets"]
        return {
            name: (one["priority"], one["tries"], one["successful"]) for name, one in sets.items()
        }

    def set_digest(self, name: str) -> str:
        """Return a digest over the three partitions of a set."""
        sets = self.signpost("status", "--json").succeeded().json()["sets"]
        digest = hashlib.sha256()
        with self.disk.open("rb") as disk:
            for role in ("boot", "root", "hash"):
                disk.seek(sets[name][role]["offset_bytes"])
                digest.update(disk.read(sets[name][role]["length_bytes"]))
        return digest.hexdigest()

    def disk_digest(self) -> str:
        """Return a digest over the whole disk, most of which is zeros."""
        digest, zeros = hashlib.sha256(), bytes(_PIECE_BYTES)
        with self.disk.open("rb") as disk:
            for offset, length in offsets_with_data(disk):
                piece = os.pread(disk.fileno(), length, offset)
                if piece != zeros:
                    digest.update(b"%d:" % offset)
                    digest.update(piece)
            digest.update(b"%d" % disk.seek(0, os.SEEK_END))
        return digest.hexdigest()

    def restore(self, fresh: Path) -> None:
        """Give the machine back, from a copy, everything that an update may have changed."""
        publishers = {"keys", "releases", "repository"}
        for path in self.directory.iterdir():
            if path.name not in publishers:
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        for path in fresh.iterdir():
            if path.name not in publishers:
                copy_sparsely(path, self.directory / path.name)

    def configure(self, old: str, new: str) -> None:
        """Replace a piece of the configuration."""
        text = self.config.read_text()
        assert old in text
        self.config.write_text(text.replace(old, new))


def offsets_with_data(file: BinaryIO) -> Iterator[tuple[int, int]]:
    """Yield the offset and length of the pieces of a sparse file that may hold more than zeros."""
    at, end = 0, file.seek(0, os.SEEK_END)
    while at < end:
        try:
            at = file.seek(at, os.SEEK_DATA) // _PIECE_BYTES * _PIECE_BYTES
        except OSError:  # a hole up to the end
            return
        yield at, _PIECE_BYTES
        at += _PIECE_BYTES


def target_of(machine: Machine, role: str, version: str = "1.1.0") -> Path:
    """Return the file of an image that a machine's publisher offers."""
    part = {"hash": "root.verity", "root": "root.ext4", "boot": "boot.ext4"}[role]
    (path,) = (machine.repository / "targets").glob(f"*{version}*{part}*")
    return path


def create_template(directory: Path) -> Path:
    """Make the playground that every test copies."""
    subprocess.run(
        [
            str(BIN / "repo-tools"),
            *("playground", "create", str(directory), "--disk-size", DISK_SIZE),
            *("--port", str(TEMPLATE_PORT)),
        ],
        check=True,
        capture_output=True,
        timeout=120,
    )
    return directory


@contextmanager
def a_machine(template: Path, directory: Path) -> Iterator[Machine]:
    """Copy the template, sparse as it is, and serve its repository on a free port."""
    copy = directory / "machine"
    copy_sparsely(template, copy)
    with serving(copy / "repository") as server:
        machine = Machine(directory=copy, server=server)
        machine.configure(f"http://127.0.0.1:{TEMPLATE_PORT}", server.url)
        machine.configure(str(template), str(copy))
        yield machine
    shutil.rmtree(copy)


def copy_sparsely(source: Path, copy: Path) -> None:
    """Copy a directory with everything in it; disk images stay as sparse as they are."""
    subprocess.run(["cp", "-a", "--sparse=always", str(source), str(copy)], check=True)
