import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from securesystemslib.signer import CryptoSigner, Signature, Signer

from repo_tools.errors import RepoToolsError
from repo_tools.keys import KeyDirectory
from repo_tools.repository import (
    PublishedRepository,
    StagedTarget,
    create_repository,
    publishing,
)
from updog.metadata import Repository
from updog.transport import Transport

NOW = datetime.now(UTC)


class Publisher:
    def __init__(self, directory: Path) -> None:
        self.directory = directory / "repository"
        self.keys = KeyDirectory(path=directory / "keys")
        self.keys.generate()
        self.root = create_repository(self.directory, self.keys, now=NOW)

    def publish(self, **targets: bytes) -> None:
        with publishing(self.directory, self.keys, now=NOW) as publication:
            for name, data in targets.items():
                publication.add_bytes(name, data)

    def metadata(self, name: str) -> dict[str, Any]:
        content: dict[str, Any] = json.loads((self.directory / "metadata" / name).read_bytes())
        return content

    def files(self) -> dict[Path, bytes]:
        return {path: path.read_bytes() for path in self.directory.rglob("*") if path.is_file()}


@pytest.fixture
def publisher(tmp_path: Path) -> Publisher:
    return Publisher(tmp_path)


def seen_by_a_new_client(publisher: Publisher, tmp_path: Path, name: str) -> bytes:
    base = publisher.directory.as_uri()
    with Transport() as transport:
        repository = Repository(
            trusted_root=publisher.root,
            cache=tmp_path / "client",
            metadata_base_url=f"{base}/metadata",
            targets_base_url=f"{base}/targets",
            transport=transport,
        )
        repository.refresh()
        return repository.read(repository.target(name), max_length=1000)


def test_the_agent_reads_what_was_published(publisher: Publisher, tmp_path: Path) -> None:
    publisher.publish(a=b"one")
    assert seen_by_a_new_client(publisher, tmp_path, "a") == b"one"


def test_a_client_follows_from_one_publication_to_the_next(
    publisher: Publisher, tmp_path: Path
) -> None:
    publisher.publish(a=b"one", b=b"kept")
    assert seen_by_a_new_client(publisher, tmp_path, "a") == b"one"
    publisher.publish(a=b"two")
    assert seen_by_a_new_client(publisher, tmp_path, "a") == b"two"
    assert seen_by_a_new_client(publisher, tmp_path, "b") == b"kept"


def test_two_root_keys_must_sign_a_new_root(publisher: Publisher) -> None:
    root = publisher.metadata("1.root.json")
    assert root["signed"]["roles"]["root"]["threshold"] == 2
    assert len(root["signatures"]) == 2
    assert root["signed"]["consistent_snapshot"] is True


def test_expiries_are_whole_seconds_after_signing(publisher: Publisher) -> None:
    publisher.publish(a=b"one")
    found = {
        role: datetime.fromisoformat(publisher.metadata(name)["signed"]["expires"])
        for role, name in {
            "root": "1.root.json",
            "targets": "1.targets.json",
            "snapshot": "1.snapshot.json",
            "timestamp": "timestamp.json",
        }.items()
    }
    days = {"root": 365, "targets": 90, "snapshot": 30, "timestamp": 7}
    signed_at = NOW.replace(microsecond=0)
    assert found == {role: signed_at + timedelta(days=count) for role, count in days.items()}


def test_timestamp_and_snapshot_vouch_by_length_and_digest(publisher: Publisher) -> None:
    publisher.publish(a=b"one")
    metas = (
        publisher.metadata("timestamp.json")["signed"]["meta"]["snapshot.json"],
        publisher.metadata("1.snapshot.json")["signed"]["meta"]["targets.json"],
    )
    assert all(set(meta) == {"version", "length", "hashes"} for meta in metas)


def test_custom_facts_of_a_target_are_signed(publisher: Publisher) -> None:
    with publishing(publisher.directory, publisher.keys, now=NOW) as publication:
        path = publication.staging_path("a")
        path.write_bytes(b"x")
        publication.add(
            StagedTarget(name="a", path=path, length=1, sha256="ab" * 32, custom={"k": 1})
        )
    target = publisher.metadata("1.targets.json")["signed"]["targets"]["a"]
    assert target == {"length": 1, "hashes": {"sha256": "ab" * 32}, "custom": {"k": 1}}


def test_files_appear_in_the_order_that_no_reader_can_trip_over(publisher: Publisher) -> None:
    publisher.publish(a=b"one")
    publisher.publish(a=b"two")
    metadata = publisher.directory / "metadata"
    (target,) = [path for path in publisher.files() if path.read_bytes() == b"two"]
    in_order = [
        target,
        metadata / "2.targets.json",
        metadata / "2.snapshot.json",
        metadata / "timestamp.json",
    ]
    times = [path.stat().st_mtime_ns for path in in_order]
    assert times == sorted(times)
    assert len(set(times)) == len(times)


def test_a_publication_that_fails_changes_nothing(publisher: Publisher) -> None:
    publisher.publish(a=b"one")
    before = publisher.files()
    with pytest.raises(RepoToolsError, match=r"'/' cannot be a target"):
        publisher.publish(**{"a": b"two", "/": b""})
    assert publisher.files() == before


def test_what_a_killed_publisher_left_behind_is_replaced(
    publisher: Publisher, tmp_path: Path
) -> None:
    publisher.publish(a=b"one")
    leftover = publisher.directory / "targets" / ".b.partial"
    leftover.write_bytes(b"half")
    # Killed after targets.json, before snapshot.json: nothing leads to this file.
    (publisher.directory / "metadata" / "2.targets.json").write_text("{}")
    publisher.publish(a=b"two")
    assert not leftover.exists()
    assert seen_by_a_new_client(publisher, tmp_path, "a") == b"two"


def test_a_target_staged_in_this_publication_is_read_before_the_published_one(
    publisher: Publisher,
) -> None:
    publisher.publish(a=b"one")
    with publishing(publisher.directory, publisher.keys, now=NOW) as publication:
        assert publication.read("a") == b"one"
        publication.add_bytes("a", b"two")
        assert publication.read("a") == b"two"
        assert publication.read("missing") is None


def test_a_second_publisher_is_turned_away(publisher: Publisher) -> None:
    with publishing(publisher.directory, publisher.keys, now=NOW):
        before = publisher.files()
        with pytest.raises(RepoToolsError, match="another publisher is at work on"):
            publisher.publish(a=b"one")
        assert publisher.files() == before


def test_keys_that_the_root_does_not_know_sign_nothing(
    publisher: Publisher, tmp_path: Path
) -> None:
    publisher.publish(a=b"one")
    before = publisher.files()
    publisher.keys = KeyDirectory(path=tmp_path / "other keys")
    publisher.keys.generate()
    with pytest.raises(RepoToolsError, match="cannot sign targets as the root asks"):
        publisher.publish(a=b"one")
    assert publisher.files() == before


def test_a_root_key_too_few_makes_no_repository(tmp_path: Path) -> None:
    keys = KeyDirectory(path=tmp_path / "keys")
    keys.generate()
    (keys.path / "root-2.pem").unlink()
    with pytest.raises(RepoToolsError, match="cannot sign root as the root asks"):
        create_repository(tmp_path / "repository", keys, now=NOW)


def test_a_repository_is_not_made_twice(publisher: Publisher) -> None:
    with pytest.raises(RepoToolsError, match="holds a repository already"):
        create_repository(publisher.directory, publisher.keys, now=NOW)


def test_a_name_with_a_directory_cannot_be_a_target(publisher: Publisher) -> None:
    with pytest.raises(RepoToolsError, match=r"'\.\./a' cannot be a target"):
        publisher.publish(**{"../a": b"one"})


def test_a_directory_without_a_repository_is_named(publisher: Publisher, tmp_path: Path) -> None:
    with (
        pytest.raises(RepoToolsError, match=r"no repository in .*/nowhere: No such file"),
        publishing(tmp_path / "nowhere", publisher.keys, now=NOW),
    ):
        pass


def test_an_empty_repository_offers_nothing(publisher: Publisher) -> None:
    empty = PublishedRepository(publisher.directory)
    assert empty.read("a") is None
    with pytest.raises(RepoToolsError, match=r"nothing is published in .*/repository yet"):
        _ = empty.timestamp_expires


def test_damaged_metadata_is_named(publisher: Publisher) -> None:
    publisher.publish(a=b"one")
    (publisher.directory / "metadata" / "timestamp.json").write_text("{")
    with pytest.raises(RepoToolsError, match=r"timestamp\.json is not timestamp metadata"):
        PublishedRepository(publisher.directory)


def test_a_target_that_was_tampered_with_is_not_read(publisher: Publisher) -> None:
    publisher.publish(a=b"one")
    (target,) = (publisher.directory / "targets").iterdir()
    target.write_bytes(b"eno")
    with pytest.raises(RepoToolsError, match=r"\.a is not what was signed"):
        PublishedRepository(publisher.directory).read("a")


class _Unplugged(Signer):
    """A device that was pulled out."""

    public_key = CryptoSigner.generate_ed25519().public_key

    @classmethod
    def from_priv_key_uri(cls, *_: object) -> Signer:
        return cls()

    def sign(self, _payload: bytes) -> Signature:
        raise RepoToolsError("hsm:2 did not sign: DeviceRemoved")


def test_a_device_that_does_not_sign_leaves_the_repository_as_it_was(publisher: Publisher) -> None:
    publisher.publish(a=b"one")
    before = publisher.files()

    class Keys:
        def signers(self, role: str) -> tuple[Signer, ...]:
            return (_Unplugged(),) if role == "snapshot" else publisher.keys.signers(role)

    with (
        pytest.raises(RepoToolsError, match=r"^hsm:2 did not sign: DeviceRemoved$"),
        publishing(publisher.directory, Keys(), now=NOW) as publication,
    ):
        publication.add_bytes("a", b"two")
    assert publisher.files() == before
