"""Keys of all kinds, and roots that change them: every machine follows, from whichever root."""

import errno
import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from securesystemslib.formats import encode_canonical
from tuf.api.metadata import Metadata, Root
from tuf.ngclient import Updater

from repo_tools.keyfiles import KeyKind
from repo_tools.repository import publishing
from repo_tools.signers import RoleSigners
from tests.helpers.http_server import Server, serving
from tests.helpers.publisher import PublisherDirectory
from updog.errors import TrustError
from updog.metadata import Repository
from updog.patience import Limits
from updog.transport import Transport

NEWS = "news"


@dataclass(kw_only=True)
class Fleet:
    """A publisher, the server of its repository, and machines that came with each of its roots."""

    publisher: PublisherDirectory
    server: Server
    transport: Transport
    caches: Path
    signers: dict[str, list[str]] = field(default_factory=dict)
    """The names of the keys that sign each role."""
    published: int = 0
    numbers: Iterator[int] = field(default_factory=count)

    def publish(self) -> None:
        """Publish a new content of a target, signed by all who sign at present."""
        keys = {
            role: [f"file:{self.publisher.key(name)}" for name in names]
            for role, names in self.signers.items()
        }
        signers = RoleSigners(keys=keys)
        directory = self.publisher.path / "repository"
        self.published += 1
        with publishing(directory, signers, now=datetime.now(UTC)) as publication:
            publication.add_bytes(NEWS, self.content)

    @property
    def content(self) -> bytes:
        return f"edition {self.published}".encode()

    @property
    def newest(self) -> int:
        return max(int(path.name.split(".")[0]) for path in self.publisher.metadata.glob("*.root*"))

    def root(self, version: int) -> bytes:
        return (self.publisher.metadata / f"{version}.root.json").read_bytes()

    def agent(self, version: int, *, cache: str | None = None) -> Repository:
        """Return the agent of a machine that came with a version of the root."""
        return Repository(
            trusted_root=self.root(version),
            cache=self.caches / (cache or f"new-{next(self.numbers)}"),
            metadata_base_url=f"{self.server.url}/metadata",
            targets_base_url=f"{self.server.url}/targets",
            transport=self.transport,
        )

    def require_all_follow(self) -> None:
        """Let machines that came with each root, new ones and old ones, fetch the target."""
        self._require_followed_from(range(1, self.newest + 1))

    def require_followed(self) -> None:
        """Let machines that came with the first root or the last do so."""
        self._require_followed_from({1, self.newest})

    def _require_followed_from(self, versions: Iterable[int]) -> None:
        for version in versions:
            for cache in (None, f"since-{version}"):
                self._require_agent_follows(self.agent(version, cache=cache))
            self._require_other_client_follows(version)

    def _require_agent_follows(self, agent: Repository) -> None:
        agent.refresh()
        assert agent.versions.root == self.newest
        assert agent.read(agent.target(NEWS), max_length=99) == self.content

    def _require_other_client_follows(self, version: int) -> None:
        directory = self.caches / f"other-{next(self.numbers)}"
        directory.mkdir(parents=True)
        updater = Updater(
            str(directory),
            f"{self.server.url}/metadata/",
            str(directory),
            f"{self.server.url}/targets/",
            bootstrap=self.root(version),
        )
        updater.refresh()
        news = updater.get_targetinfo(NEWS)
        assert news is not None
        assert Path(updater.download_target(news)).read_bytes() == self.content

    def rotate(self, *options: str, by: tuple[str, ...]) -> None:
        """Draft a root, and let people sign it in turn."""
        done = self.publisher.root("rotate", *options)
        assert done.code == 0, done.failure
        for name in by:
            done = self.publisher.sign(name)
            assert done.code == 0, done.failure
        assert "Placed" in done.printed, done.printed

    def name_signers(self, **names: list[str]) -> None:
        """Write into publisher.toml who signs."""
        self.signers |= names
        lines = [
            f"{role} = {[f'file:keys/{name}.pem' for name in names]}"
            for role, names in self.signers.items()
        ]
        text = "\n".join(["[keys]", *lines, ""])
        (self.publisher.path / "publisher.toml").write_text(text)

    def pair(self, option: str, **names: str) -> list[str]:
        return [
            each
            for role, name in names.items()
            for each in (option, f"{role}={self.publisher.key(name)}")
        ]


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    """Keys of all three kinds and thresholds above one; two of three people sign roots."""
    publisher = PublisherDirectory(path=tmp_path / "publisher")
    publisher.make_keys(["ann", "snapshot-2", "targets-3", "timestamp-1", "pat"])
    publisher.make_keys(["bob", "dan", "targets-1", "sue"], KeyKind.ECDSA)
    publisher.make_keys(["eve", "targets-2", "snapshot-1", "timestamp-2"], KeyKind.RSA)
    signers = {
        "root": ["ann", "bob", "eve"],
        "targets": ["targets-1", "targets-2"],
        "snapshot": ["snapshot-1"],
        "timestamp": ["timestamp-1"],
    }
    keys = [f"{role}={publisher.key(name)}" for role, names in signers.items() for name in names]
    options = [each for key in keys for each in ("--key", key)]
    done = publisher.root("create", *options, "--threshold", "targets=2")
    assert done.code == 0, done.failure
    assert publisher.sign("eve", "bob").code == 0
    with ExitStack() as stack:
        yield Fleet(
            publisher=publisher,
            server=stack.enter_context(serving(publisher.path / "repository")),
            transport=stack.enter_context(Transport(limits=Limits(attempts=1))),
            caches=tmp_path / "caches",
            signers=signers,
        )


def test_every_machine_follows_several_rotations_in_a_row(fleet: Fleet) -> None:
    fleet.publish()
    fleet.require_followed()

    # A root key is replaced, and one more must sign.
    change = [*fleet.pair("--remove", root="ann"), *fleet.pair("--add", root="dan")]
    fleet.rotate(*change, "--threshold", "root=3", by=("bob", "dan", "eve"))
    fleet.require_followed()

    # Online keys are replaced: both sign before the root changes, and the new ones alone after it.
    fleet.signers |= {
        "snapshot": ["snapshot-1", "snapshot-2"],
        "timestamp": ["timestamp-1", "timestamp-2"],
    }
    fleet.publish()
    fleet.require_followed()
    change = fleet.pair("--remove", snapshot="snapshot-1", timestamp="timestamp-1")
    change += fleet.pair("--add", snapshot="snapshot-2", timestamp="timestamp-2")
    fleet.rotate(*change, by=("eve", "dan", "bob"))
    fleet.require_followed()
    fleet.signers |= {"snapshot": ["snapshot-2"], "timestamp": ["timestamp-2"]}
    fleet.publish()
    fleet.require_followed()

    # A key is lost: the other one is enough for a lower threshold, then a new one is added.
    fleet.rotate("--threshold", "targets=1", by=("bob", "dan", "eve"))
    fleet.signers["targets"] = ["targets-2"]
    fleet.publish()
    fleet.require_followed()
    change = fleet.pair("--remove", targets="targets-1")
    fleet.rotate(*change, *fleet.pair("--add", targets="targets-3"), by=("bob", "dan", "eve"))
    fleet.require_followed()

    # All that sign roots are replaced by others at once.
    change = [each for name in ("bob", "dan", "eve") for each in fleet.pair("--remove", root=name)]
    change += [each for name in ("pat", "sue") for each in fleet.pair("--add", root=name)]
    fleet.rotate(*change, "--threshold", "root=2", by=("pat", "bob", "sue", "dan", "eve"))
    fleet.publish()
    fleet.require_followed()
    fleet.rotate(by=("pat", "sue"))
    fleet.require_all_follow()
    assert fleet.newest == 7


def test_roots_are_as_the_strictest_clients_want_them(fleet: Fleet) -> None:
    """The clients of the cloned system compare each key's id with the digest of the key."""
    fleet.rotate(*fleet.pair("--add", root="pat", targets="targets-3"), by=("ann", "bob"))
    for version in (1, 2):
        data = fleet.root(version)
        signed = json.loads(data)["signed"]
        assert len(data) < 500_000
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", signed["expires"])
        assert set(signed["roles"]) == {"root", "targets", "snapshot", "timestamp"}
        for keyid, key in signed["keys"].items():
            _require_plain(keyid, key)
        for role in signed["roles"].values():
            assert len(set(role["keyids"])) == len(role["keyids"]) >= role["threshold"] >= 1


def _require_plain(keyid: str, key: Mapping[str, Any]) -> None:
    assert set(key) == {"keytype", "scheme", "keyval"}
    assert set(key["keyval"]) == {"public"}
    assert (key["keytype"], key["scheme"]) in {
        ("ed25519", "ed25519"),
        ("ecdsa", "ecdsa-sha2-nistp256"),
        ("rsa", "rsassa-pss-sha256"),
    }
    canonical = encode_canonical(dict(key))
    assert canonical is not None
    assert hashlib.sha256(canonical.encode()).hexdigest() == keyid


def test_a_root_that_does_not_vouch_for_what_is_published_waits(fleet: Fleet) -> None:
    fleet.publish()
    change = fleet.pair("--remove", timestamp="timestamp-1")
    change += fleet.pair("--add", timestamp="timestamp-2")
    assert fleet.publisher.root("rotate", *change).code == 0
    assert fleet.publisher.sign("ann").code == 0
    done = fleet.publisher.sign("eve")
    assert "root 2 is complete but does not vouch for the timestamp metadata" in done.failure
    assert fleet.newest == 1
    fleet.require_followed()
    # Nobody has to sign again: both keys sign what is published, and the root takes over.
    fleet.name_signers(timestamp=["timestamp-1", "timestamp-2"])
    done = fleet.publisher.root("sign", "--json")
    assert (done.code, done.json["signed_anew"]) == (0, True), done.failure
    fleet.require_followed()
    assert fleet.newest == 2
    fleet.signers["timestamp"] = ["timestamp-2"]
    fleet.publish()
    fleet.require_followed()


def test_machines_follow_between_signing_anew_and_the_new_root(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    fleet.publish()
    change = fleet.pair("--remove", targets="targets-1", snapshot="snapshot-1")
    change += fleet.pair("--add", targets="targets-3", snapshot="snapshot-2")
    assert fleet.publisher.root("rotate", *change).code == 0
    fleet.name_signers(
        targets=["targets-1", "targets-2", "targets-3"], snapshot=["snapshot-1", "snapshot-2"]
    )

    def cut(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as full:
        full.setattr("repo_tools.root.place.create_durably", cut)
        done = fleet.publisher.sign("ann", "eve")
    assert "No space left on device; run it again" in done.failure
    assert fleet.newest == 1
    fleet.require_followed()
    done = fleet.publisher.root("sign", "--json")
    assert (done.code, done.json["signed_anew"]) == (0, False), done.failure
    fleet.require_followed()
    assert fleet.newest == 2


def test_a_stolen_key_is_out_at_once_when_somebody_insists(fleet: Fleet) -> None:
    fleet.publish()
    change = fleet.pair("--remove", timestamp="timestamp-1")
    change += fleet.pair("--add", timestamp="timestamp-2")
    assert fleet.publisher.root("rotate", *change).code == 0
    done = fleet.publisher.sign("ann", "eve", options=["--before-publish"])
    assert "Placed" in done.printed
    with pytest.raises(TrustError):
        fleet.agent(1).refresh()
    fleet.signers["timestamp"] = ["timestamp-2"]
    fleet.publish()
    fleet.require_followed()


def test_a_root_that_only_the_old_keys_signed_is_never_served(fleet: Fleet) -> None:
    fleet.publish()
    change = [each for name in ("ann", "bob", "eve") for each in fleet.pair("--remove", root=name)]
    change += [each for name in ("pat", "sue") for each in fleet.pair("--add", root=name)]
    assert fleet.publisher.root("rotate", *change, "--threshold", "root=2").code == 0
    done = fleet.publisher.sign("ann", "bob", "eve", "pat")
    assert "not complete: it lacks signatures by 1 more of the keys of root 2" in done.printed
    assert fleet.newest == 1
    fleet.require_followed()
    # What a client would say to it: python-tuf judges by the specification.
    draft = json.loads(fleet.publisher.draft.read_bytes())
    unready = Metadata[Root].from_dict(draft["root"])
    assert not unready.signed.get_verification_result(
        Root.type, unready.signed_bytes, unready.signatures
    )
