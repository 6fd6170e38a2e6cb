"""The conformance suite's protocol, spoken to the client under test: init, refresh, download."""

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.helpers.http_server import Server, serving
from tests.helpers.tuf_repository import TufPublisher, in_days

CLIENT = Path(__file__).with_name("client.py")


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """A repository, its server, and a client's two directories."""

    directory: Path
    publisher: TufPublisher
    server: Server

    def client(self, command: str, *arguments: str, target: str = "artifact") -> int:
        """Run a command of the client and return its exit code."""
        options = {
            "--metadata-dir": self.directory / "metadata",
            "--metadata-url": f"{self.server.url}/metadata/",
            "--target-name": target,
            "--target-base-url": f"{self.server.url}/targets/",
            "--target-dir": self.directory / "artifacts",
        }
        flat = [str(part) for option in options.items() for part in option]
        return subprocess.run(
            [sys.executable, str(CLIENT), *flat, command, *arguments],
            capture_output=True,
            timeout=60,
            check=False,
        ).returncode

    def version(self, role: str) -> int:
        """Return the version of a role that the client trusts."""
        document = json.loads((self.directory / "metadata" / f"{role}.json").read_bytes())
        version: int = document["signed"]["version"]
        return version


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    publisher = TufPublisher(tmp_path / "repository")
    publisher.add("artifact", b"first")
    publisher.publish()
    (tmp_path / "root.json").write_bytes(publisher.root_bytes)
    with serving(tmp_path / "repository") as server:
        one = World(directory=tmp_path, publisher=publisher, server=server)
        assert one.client("init", str(tmp_path / "root.json")) == 0
        assert server.requests == []
        yield one


def test_a_refresh_follows_new_keys_and_keeps_what_is_trusted_under_plain_names(
    world: World,
) -> None:
    assert world.client("refresh") == 0
    world.publisher.rotate("root", "root 2")
    world.publisher.publish()
    assert world.client("refresh") == 0
    assert {role: world.version(role) for role in ("root", "timestamp", "snapshot", "targets")} == {
        "root": 2,
        "timestamp": 2,
        "snapshot": 2,
        "targets": 2,
    }


def test_what_was_verified_before_a_failure_is_kept(world: World) -> None:
    assert world.client("refresh") == 0
    world.publisher.publish()
    for path in world.publisher.metadata.glob("2.snapshot.json"):
        path.unlink()
    assert world.client("refresh") == 1
    assert (world.version("timestamp"), world.version("snapshot")) == (2, 1)


def test_a_delegated_target_is_downloaded_and_its_role_is_kept_with_the_others(
    world: World,
) -> None:
    world.publisher.add("images-1", b"delegated", delegate="images")
    world.publisher.publish()
    assert world.client("download", target="images-1") == 0
    assert (world.directory / "artifacts" / "images-1").read_bytes() == b"delegated"
    assert (world.version("root"), world.version("images")) == (1, 1)


def test_expired_metadata_is_refused(world: World) -> None:
    world.publisher.publish(timestamp_expires=in_days(-1))
    assert world.client("refresh") == 1


def test_a_target_is_downloaded_once_and_again_when_it_changed(world: World) -> None:
    artifact = world.directory / "artifacts" / "artifact"
    assert world.client("download") == 0
    assert artifact.read_bytes() == b"first"
    world.server.requests.clear()
    assert world.client("download") == 0
    assert not [each for each in world.server.requests if "/targets/" in each.target]
    world.publisher.add("artifact", b"second")
    world.publisher.publish()
    assert world.client("download") == 0
    assert artifact.read_bytes() == b"second"
