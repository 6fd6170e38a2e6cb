"""A small real TUF repository in a directory, signed anew at each publishing.

    publisher = TufPublisher(directory)
    publisher.add("manifest.json", b"{}")
    publisher.publish()

Files lie in `metadata/` and `targets/`. Every fact that a test may want to vary is a parameter; to
tamper with a file, change it after publishing.
"""

import hashlib
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import (
    DelegatedRole,
    Delegations,
    Metadata,
    MetaFile,
    Root,
    Snapshot,
    TargetFile,
    Targets,
    Timestamp,
)

_Role = TypeVar("_Role", Timestamp, Snapshot, Targets)

TOP_ROLES = ("root", "timestamp", "snapshot", "targets")


@cache
def signer(name: str) -> CryptoSigner:
    """Return the key of a name, the same one throughout a test run."""
    return CryptoSigner.generate_ed25519()


class TufPublisher:
    """The publisher's side: keys, versions and files."""

    def __init__(self, directory: Path, *, consistent_snapshot: bool = True) -> None:
        self.metadata = directory / "metadata"
        self.targets = directory / "targets"
        self.metadata.mkdir(parents=True)
        self.targets.mkdir()
        self.expires = in_days(7)
        self.tells_digests = False
        """Whether timestamp and snapshot tell lengths and digests, and not versions alone."""
        self._listed = Targets(expires=self.expires)
        self._delegated: dict[str, Targets] = {}
        self._root = Root(expires=self.expires, consistent_snapshot=consistent_snapshot)
        self._versions = {"timestamp": 0, "snapshot": 0, "targets": 0}
        self._keys = {role: role for role in TOP_ROLES}
        for role in TOP_ROLES:
            self._root.add_key(signer(role).public_key, role)
        self._write_root(signers=["root"])

    @property
    def root_bytes(self) -> bytes:
        """The newest root, as it would be installed on a machine."""
        return (self.metadata / f"{self._root.version}.root.json").read_bytes()

    def add(
        self,
        name: str,
        content: bytes,
        *,
        algorithms: Iterable[str] = ("sha256",),
        custom: dict[str, Any] | None = None,
        delegate: str | None = None,
    ) -> None:
        """List a target from the next publishing on, by the role of a delegate if one is named."""
        digests = {each: hashlib.new(each, content).hexdigest() for each in algorithms}
        target = TargetFile(len(content), digests, name, {"custom": custom} if custom else None)
        role = self._delegate(delegate) if delegate else self._listed
        role.targets[name] = target
        for prefix in (
            [f"{digest}." for digest in digests.values()] if self._is_consistent else [""]
        ):
            (self.targets / f"{prefix}{name}").write_bytes(content)

    def publish(self, *, timestamp_expires: datetime | None = None) -> None:
        """Sign everything, each role in a new version."""
        for role in self._versions:
            self._versions[role] += 1
        meta = {}
        for name, delegated in self._delegated.items():
            meta[f"{name}.json"] = self._meta(delegated, self._write(name, delegated, key=name))
        meta["targets.json"] = self._meta(self._listed, self._write("targets", self._listed))
        snapshot = Snapshot(expires=self.expires, meta=meta)
        young = Timestamp(
            expires=timestamp_expires or self.expires,
            snapshot_meta=self._meta(snapshot, self._write("snapshot", snapshot)),
        )
        self._write("timestamp", young)

    def go_back_to(self, version: int, *roles: str) -> None:
        """Make the next publishing have the version after this one, of all roles or of some."""
        self._versions |= dict.fromkeys(roles or self._versions, version)

    def add_key(self, role: str, key: str) -> None:
        """Let one more key sign a role, in a new version of the root."""
        self._root.add_key(signer(key).public_key, role)
        self._root.version += 1
        self._write_root(signers=[self._keys["root"]])

    def raise_delegate(self, name: str) -> None:
        """Give a delegated role a new version at the next publishing."""
        self._delegated[name].version += 1

    def resign_snapshot(self) -> None:
        """Publish the same version of the snapshot with other bytes, as a new timestamp says."""
        self._versions = {role: version - 1 for role, version in self._versions.items()}
        self._versions["timestamp"] += 1
        self.tells_digests = True
        self.expires += timedelta(days=1)
        self.publish()

    def rotate(self, role: str, key: str) -> None:
        """Replace the key of a role in a new version of the root."""
        former = self._keys[role]
        self._root.revoke_key(signer(former).public_key.keyid, role)
        self._root.add_key(signer(key).public_key, role)
        self._keys[role] = key
        self._root.version += 1
        self._write_root(signers=[former, key] if role == "root" else [self._keys["root"]])

    def sign_with(self, role: str, key: str) -> None:
        """Sign a role with another key than the one that the root lists for it."""
        self._keys[role] = key

    @property
    def _is_consistent(self) -> bool:
        return bool(self._root.consistent_snapshot)

    def _delegate(self, name: str) -> Targets:
        if name not in self._delegated:
            role = DelegatedRole(name, [], 1, False, paths=[f"{name}-*"])
            delegations = self._listed.delegations or Delegations({}, {})
            delegations.roles = (delegations.roles or {}) | {name: role}
            self._listed.delegations = delegations
            self._listed.add_key(signer(name).public_key, name)
            self._delegated[name] = Targets(expires=self.expires)
        return self._delegated[name]

    def _write(self, role: str, signed: _Role, *, key: str | None = None) -> bytes:
        signed.version = self._versions.get(role, signed.version)
        metadata = Metadata(signed)
        metadata.sign(signer(key or self._keys[role]))
        prefix = f"{signed.version}." if self._is_consistent and role != "timestamp" else ""
        data = metadata.to_bytes()
        (self.metadata / f"{prefix}{role}.json").write_bytes(data)
        return data

    def _meta(self, signed: Snapshot | Targets, data: bytes) -> MetaFile:
        if not self.tells_digests:
            return MetaFile(signed.version)
        return MetaFile.from_data(signed.version, data, ["sha256"])

    def _write_root(self, *, signers: list[str]) -> None:
        metadata = Metadata(self._root)
        for name in signers:
            metadata.sign(signer(name), append=True)
        metadata.to_file(str(self.metadata / f"{self._root.version}.root.json"))


def in_days(days: float) -> datetime:
    """Return a whole second some days from now."""
    return datetime.now(UTC).replace(microsecond=0) + timedelta(days=days)
