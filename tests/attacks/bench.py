"""An attacker's bench: a repository to change at will, and whichever keys a test hands over.

    attacker.steal("timestamp")
    with attacker.forging("timestamp") as timestamp:
        timestamp.version = 1000

Forged metadata is a real role in a real file, signed by the keys at hand: none, the attacker's own,
or the publisher's. A publisher who recovers from an attack works at the same bench, with all keys.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from securesystemslib.signer import CryptoSigner, Signer
from tuf.api.metadata import (
    DelegatedRole,
    Delegations,
    Metadata,
    MetaFile,
    TargetFile,
    Targets,
)

from repo_tools.keys import KeyDirectory
from tests.helpers.tuf_repository import in_days, signer

ONLINE = ("timestamp", "snapshot", "targets")


class Bench:
    """The metadata and targets of one repository directory, and some keys."""

    def __init__(self, repository: Path, *, publisher_keys: KeyDirectory) -> None:
        self.directory = repository
        self.metadata = repository / "metadata"
        self.targets = repository / "targets"
        self._publisher_keys = publisher_keys
        self.keys: dict[str, list[Signer]] = {}

    def steal(self, *roles: str) -> None:
        """Hold the publisher's keys of some roles from now on."""
        for role in roles:
            self.keys[role] = list(self._publisher_keys.signers(role))

    def make_keys(self, *roles: str) -> None:
        """Hold keys for some roles that nobody has heard of."""
        for role in roles:
            self.keys[role] = [CryptoSigner.generate_ed25519()]

    def path(self, role: str) -> Path:
        """Return the newest file of a role."""
        if role == "timestamp":
            return self.metadata / "timestamp.json"
        return max(self.metadata.glob(f"*.{role}.json"), key=_version)

    def load(self, role: str) -> "Metadata[Any]":
        """Read the newest metadata of a role."""
        return Metadata.from_bytes(self.path(role).read_bytes())

    @contextmanager
    def forging(self, role: str, *, signers: Iterable[Signer] | None = None) -> Iterator[Any]:
        """Change the next version of a role, then sign and serve it.

        Args:
            role: One of the top-level roles.
            signers: The keys to sign it with, instead of those held for the role.
        """
        metadata = self.load(role)
        metadata.signed.version += 1
        yield metadata.signed
        metadata.signatures.clear()
        for each in self.keys.get(role, []) if signers is None else signers:
            metadata.sign(each, append=True)
        self.write(role, metadata)

    def write(self, role: str, metadata: "Metadata[Any]") -> None:
        """Serve metadata as it is."""
        prefix = "" if role == "timestamp" else f"{metadata.signed.version}."
        put(self.metadata / f"{prefix}{role}.json", metadata.to_bytes())

    def lead_to_targets(self) -> None:
        """Let a new snapshot and a new timestamp lead to the newest targets."""
        with self.forging("snapshot") as snapshot:
            snapshot.meta["targets.json"] = MetaFile(self.load("targets").signed.version)
        self.lead_to_snapshot()

    def lead_to_snapshot(self) -> None:
        """Let a new timestamp lead to the newest snapshot."""
        with self.forging("timestamp") as timestamp:
            timestamp.snapshot_meta = MetaFile(self.load("snapshot").signed.version)

    def publish(self, contents: dict[str, bytes], **custom: object) -> None:
        """List some targets, whatever their names, with everything that leads to them."""
        with self.forging("targets") as targets:
            for name, content in contents.items():
                targets.targets[name] = self._target(name, content, custom)
        self.lead_to_targets()

    def offer_instead(self, role: str, name: str) -> None:
        """Let every update of the manifest have another target as its image of a role."""
        listed = self.load("targets").signed.targets["manifest.json"]
        path = self.targets / f"{listed.hashes['sha256']}.manifest.json"
        manifest = json.loads(path.read_bytes())
        for update in manifest["updates"]:
            update["images"][role] = name
        self.publish({"manifest.json": json.dumps(manifest).encode()})

    def delegate_manifest(self, name: str, key: Signer) -> bytes:
        """Let a delegated role of a name list the manifest; return that role's metadata.

        The role is delegated to the key of `signer("delegate")`, whichever key signs it.
        """
        delegate = Metadata(Targets(expires=in_days(1)))
        with self.forging("targets") as targets:
            delegate.signed.targets["manifest.json"] = targets.targets.pop("manifest.json")
            role = DelegatedRole(name, [], 1, False, paths=["*"])
            targets.delegations = Delegations({}, {name: role})
            targets.add_key(signer("delegate").public_key, name)
        with self.forging("snapshot") as snapshot:
            snapshot.meta["targets.json"] = MetaFile(self.load("targets").signed.version)
            snapshot.meta[f"{name}.json"] = MetaFile(1)
        self.lead_to_snapshot()
        delegate.sign(key)
        return delegate.to_bytes()

    def _target(self, name: str, content: bytes, custom: dict[str, object]) -> TargetFile:
        digest = hashlib.sha256(content).hexdigest()
        if "/" not in name:
            put(self.targets / f"{digest}.{name}", content)
        fields = {"custom": custom} if custom else None
        return TargetFile(len(content), {"sha256": digest}, name, fields)

    def rotate(self, *roles: str) -> None:
        """Replace the keys of some roles by a new root, as all root keys can."""
        former = self.keys["root"]
        with self.forging("root", signers=[]) as root:
            for role in roles:
                for keyid in list(root.roles[role].keyids):
                    root.revoke_key(keyid, role)
                self.keys[role] = [CryptoSigner.generate_ed25519()]
                root.roles[role].threshold = 1
                root.add_key(self.keys[role][0].public_key, role)
        with_new_keys = self.keys["root"] if "root" in roles else []
        self.sign_again("root", [*former, *with_new_keys])

    def sign_again(self, role: str, signers: Iterable[Signer]) -> None:
        """Replace the signatures of the newest metadata of a role."""
        metadata = self.load(role)
        metadata.signatures.clear()
        for each in signers:
            metadata.sign(each, append=True)
        self.write(role, metadata)

    def target_path(self, part: str) -> Path:
        """Return the file of the one target whose name holds a part."""
        (path,) = self.targets.glob(f"*{part}*")
        return path


def copy_repository(source: Path, copy: Path) -> Path:
    """Copy a repository by links; whoever changes the copy puts new files in their place."""
    shutil.copytree(source, copy, copy_function=os.link)
    return copy


def put(path: Path, content: bytes) -> None:
    """Put a new file in a file's place, so that its other links keep the old content."""
    path.unlink(missing_ok=True)
    path.write_bytes(content)


def in_the_past() -> datetime:
    """Return a time that everything expired at."""
    return datetime(2020, 1, 1, tzinfo=UTC)


def a_stranger() -> Signer:
    """Return a key that no root lists."""
    return signer("stranger")


def _version(path: Path) -> int:
    return int(path.name.split(".")[0])
