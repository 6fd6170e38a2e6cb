"""A signed TUF repository in a directory, with consistent snapshots.

Decides the order in which files appear, so that a client that reads meanwhile sees the old
repository or the new one: target files first, then targets.json, snapshot.json, timestamp.json,
each whole and flushed before the next (TUF specification 1.0.33, 6.2). What counts as published
is what timestamp.json leads to; a publish that fails removes what it had placed before that, and
what a killed one left behind is replaced by the next. Nothing published is ever removed: a client
that began to read an old version can read it to its end.

Refuses metadata that its own keys cannot vouch for, and two publishers at once.
"""

import fcntl
import hashlib
import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final, Protocol, TypeAlias, cast

from securesystemslib.signer import Signer
from tuf.api.exceptions import RepositoryError, UnsignedMetadataError
from tuf.api.metadata import (
    Metadata,
    MetaFile,
    Root,
    Signed,
    Snapshot,
    TargetFile,
    Targets,
    Timestamp,
)
from tuf.repository import Repository

from repo_tools.durable import TEMPORARY_SUFFIX, place_durably, write_durably
from repo_tools.errors import RepoToolsError
from repo_tools.keys import KEYS_PER_ROLE
from repo_tools.policy import DEFAULT_LIFETIMES, ONLINE_ROLES
from repo_tools.signers import sign
from updog.names import is_target_name
from updog.stream import decompress

_CHUNK_BYTES: Final = 1 << 20
_MOST_BYTES: Final = 1 << 40
"""No image is larger."""

AnyMetadata: TypeAlias = Metadata[Any]
"""Of a role known at run time only, as in python-tuf's own Repository."""

_NEW: Final[Mapping[str, Callable[[], Signed]]] = {
    Root.type: Root,
    Targets.type: Targets,
    Snapshot.type: Snapshot,
    Timestamp.type: Timestamp,
}


class Signers(Protocol):
    """Whoever can sign for roles."""

    def signers(self, role: str) -> tuple[Signer, ...]:
        """Return the signers of one role, none when there are no keys for it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StagedTarget:
    """A finished target file under a temporary name. `custom` is signed along with it."""

    name: str
    path: Path
    length: int
    sha256: str
    custom: Mapping[str, object] = field(default_factory=dict)


def create_repository(directory: Path, keys: Signers, *, now: datetime) -> bytes:
    """Make an empty repository and return its first root, the trust anchor of its clients.

    Raises:
        RepoToolsError: there is a repository already, or keys are missing.
    """
    if (directory / "metadata").exists():
        raise RepoToolsError(f"{directory} holds a repository already")
    for name in ("metadata", "targets"):
        (directory / name).mkdir(parents=True)
    published = PublishedRepository(directory)
    roles = _Roles(published, keys=keys, now=now, lifetimes=DEFAULT_LIFETIMES)
    with roles.edit_root() as root:
        for role, threshold in KEYS_PER_ROLE.items():
            for signer in keys.signers(role):
                root.add_key(signer.public_key, role)
            root.roles[role].threshold = threshold
    return published.metadata_path(Root.type, 1).read_bytes()


@contextmanager
def publishing(
    directory: Path,
    keys: Signers,
    *,
    now: datetime,
    lifetimes: Mapping[str, timedelta] = DEFAULT_LIFETIMES,
) -> Iterator["Publication"]:
    """Collect changes to a repository and publish them together when the block ends well.

    Args:
        directory: holds the repository.
        keys: sign for targets, snapshot and timestamp.
        now: the moment of signing.
        lifetimes: from signing to expiry, of each role.

    Raises:
        RepoToolsError: another publisher is at work, keys are missing, or the repository is broken.
            What clients see is unchanged then.
    """
    with _held(directory, keys, now=now, lifetimes=lifetimes) as publication:
        yield publication
        publication.finish()


def refresh(
    directory: Path,
    keys: Signers,
    *,
    now: datetime,
    lifetimes: Mapping[str, timedelta],
    least: Mapping[str, timedelta],
) -> tuple[str, ...]:
    """Sign anew what is about to expire, and what the current root no longer vouches for.

    Args:
        directory: holds the repository.
        keys: sign for targets, snapshot and timestamp.
        now: the moment of signing.
        lifetimes: from signing to expiry, of each role.
        least: a role that has less than this left is signed anew.

    Returns:
        The roles that were signed, none when all of them are fresh.

    Raises:
        RepoToolsError: another publisher is at work, keys are missing, nothing is published yet, or
            the repository is broken. What clients see is unchanged then.
    """
    with _held(directory, keys, now=now, lifetimes=lifetimes) as publication:
        roles = stale_roles(publication.published, now=now, least=least)
        if roles:
            publication.sign(roles)
    return roles


def stale_roles(
    published: "PublishedRepository", *, now: datetime, least: Mapping[str, timedelta]
) -> tuple[str, ...]:
    """Return the roles that are to be signed anew, each along with those that vouch for it.

    Raises:
        RepoToolsError: nothing is published yet.
    """
    _ = published.timestamp_expires
    for number, role in enumerate(ONLINE_ROLES):
        left = published.roles[role].signed.expires - now
        if left < least[role] or not published.is_vouched_for(role):
            return ONLINE_ROLES[number:]
    return ()


@contextmanager
def _held(
    directory: Path, keys: Signers, *, now: datetime, lifetimes: Mapping[str, timedelta]
) -> Iterator["Publication"]:
    """Hold a repository against other publishers without publishing anything at the end."""
    with _locked(directory):
        publication = Publication(directory, keys=keys, now=now, lifetimes=lifetimes)
        try:
            yield publication
        finally:
            publication.discard_leftovers()


@contextmanager
def _locked(directory: Path) -> Iterator[None]:
    try:
        descriptor = os.open(directory / "metadata", os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise RepoToolsError(f"no repository in {directory}: {error.strerror}") from error
    try:
        _lock(descriptor, directory)
        yield
    finally:
        os.close(descriptor)


def _lock(descriptor: int, directory: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise RepoToolsError(
            f"another publisher is at work on {directory}: try again when it is done"
        ) from error


class PublishedRepository:
    """What clients of a repository are offered now: all that timestamp.json leads to."""

    def __init__(self, directory: Path) -> None:
        self._metadata = directory / "metadata"
        self._targets = directory / "targets"
        self.roles = dict(self._follow())

    @property
    def timestamp_expires(self) -> datetime:
        """When clients stop accepting what is published."""
        if Timestamp.type not in self.roles:
            raise RepoToolsError(f"nothing is published in {self._metadata.parent} yet")
        return cast("datetime", self.roles[Timestamp.type].signed.expires)

    @property
    def versions(self) -> Mapping[str, int]:
        """The version of each role."""
        return {role: metadata.signed.version for role, metadata in self.roles.items()}

    def find(self, name: str) -> TargetFile | None:
        """Return what is signed of a target, None when there is no such target."""
        if Targets.type not in self.roles:
            return None
        return cast("TargetFile | None", self.roles[Targets.type].signed.targets.get(name))

    def custom(self, name: str) -> Mapping[str, Any]:
        """Return the facts that were signed along with a target."""
        target = self.find(name)
        return (target.custom if target else None) or {}

    def uncompressed_sha256(self, name: str) -> str | None:
        """Return the digest of what a target unpacks to, None when there is no such target.

        Raises:
            RepoToolsError: it cannot be unpacked.
        """
        target = self.find(name)
        if target is None:
            return None
        signed = _uncompressed_sha256(target.custom or {})
        return signed or _unpacked_sha256(self.target_path(name, target.hashes["sha256"]), name)

    def is_vouched_for(self, role: str) -> bool:
        """Tell whether the current root's keys have signed a role as they must."""
        root, metadata = self.roles[Root.type].signed, self.roles[role]
        try:
            root.verify_delegate(role, metadata.signed_bytes, metadata.signatures)
        except (UnsignedMetadataError, ValueError):
            return False
        return True

    def read(self, name: str) -> bytes | None:
        """Return the content of a small target, None when there is no such target.

        Raises:
            RepoToolsError: it is not what was signed.
        """
        target = self.find(name)
        if target is None:
            return None
        path = self.target_path(name, target.hashes["sha256"])
        data = _read_file(path)
        if hashlib.sha256(data).hexdigest() != target.hashes["sha256"]:
            raise RepoToolsError(f"{path} is not what was signed: restore it before publishing")
        return data

    def target_path(self, name: str, sha256: str) -> Path:
        """Return where a target's file stands.

        Consistent snapshots put the digest before the name (TUF 1.0.33, 6.2.1).
        """
        return self._targets / f"{sha256}.{name}"

    def metadata_path(self, role: str, version: int) -> Path:
        """Return where a version of a role's metadata stands."""
        name = "timestamp.json" if role == Timestamp.type else f"{version}.{role}.json"
        return self._metadata / name

    def _follow(self) -> Iterator[tuple[str, AnyMetadata]]:
        """Read root, then timestamp -> snapshot -> targets, as far as they exist."""
        roots = [int(path.name.split(".")[0]) for path in self._metadata.glob("[0-9]*.root.json")]
        if roots:
            yield Root.type, self._parse(Root.type, max(roots))
        if not self.metadata_path(Timestamp.type, 0).exists():
            return
        timestamp = self._parse(Timestamp.type, 0)
        yield Timestamp.type, timestamp
        snapshot = self._parse(Snapshot.type, timestamp.signed.snapshot_meta.version)
        yield Snapshot.type, snapshot
        version = snapshot.signed.meta["targets.json"].version
        yield Targets.type, self._parse(Targets.type, version)

    def _parse(self, role: str, version: int) -> AnyMetadata:
        path = self.metadata_path(role, version)
        try:
            return Metadata.from_bytes(_read_file(path))
        except RepositoryError as error:
            raise RepoToolsError(f"{path} is not {role} metadata: {error}") from error


class Publication:
    """Targets that will be published together; made by `publishing`."""

    def __init__(
        self,
        directory: Path,
        *,
        keys: Signers,
        now: datetime,
        lifetimes: Mapping[str, timedelta],
    ) -> None:
        self._directory = directory
        self._now = now
        self.published = PublishedRepository(directory)
        """What clients are offered meanwhile."""
        self._roles = _Roles(
            PublishedRepository(directory), keys=keys, now=now, lifetimes=lifetimes
        )
        self._staged: dict[str, StagedTarget] = {}
        self._placed: list[Path] = []
        self.discard_leftovers()

    def read(self, name: str) -> bytes | None:
        """Return the content of a small target as it will be, None when there is no such target."""
        if name in self._staged:
            return self._staged[name].path.read_bytes()
        return self.published.read(name)

    def has(self, name: str) -> bool:
        """Tell whether there will be a target of this name."""
        return name in self._staged or self.published.find(name) is not None

    def holds(self, name: str, *, uncompressed_sha256: str) -> bool:
        """Tell whether a target is published already that unpacks to these bytes."""
        custom = self.published.custom(name)
        return _uncompressed_sha256(custom) == uncompressed_sha256

    def staging_path(self, name: str) -> Path:
        """Return where a target's bytes are written before `add`, on the repository's own disk.

        Raises:
            RepoToolsError: no target may have this name.
        """
        if not is_target_name(name):
            raise RepoToolsError(f"{name!r} cannot be a target: names are flat and plain")
        return self._directory / "targets" / f".{name}{TEMPORARY_SUFFIX}"

    def add(self, target: StagedTarget) -> None:
        """Add a target, or replace the one of the same name, once this publication finishes."""
        self._staged[target.name] = target

    def add_bytes(
        self, name: str, data: bytes, *, custom: Mapping[str, object] | None = None
    ) -> None:
        """Add a small target."""
        path = self.staging_path(name)
        path.write_bytes(data)
        digest = hashlib.sha256(data).hexdigest()
        self.add(
            StagedTarget(name=name, path=path, length=len(data), sha256=digest, custom=custom or {})
        )

    def finish(self) -> None:
        """Publish: target files, then targets.json, snapshot.json, timestamp.json."""
        with self._all_or_nothing():
            for target in self._staged.values():
                self._place(target)
            self._roles.sign_targets(self._staged.values())
            self._roles.sign_snapshot()
            self._roles.sign_timestamp()

    def sign(self, roles: Collection[str]) -> None:
        """Sign roles anew, with the targets that they have."""
        with self._all_or_nothing():
            if Targets.type in roles:
                self._roles.sign_targets(())
            if Snapshot.type in roles:
                self._roles.sign_snapshot()
            self._roles.sign_timestamp()

    def discard_leftovers(self) -> None:
        """Remove files that no publish finished; only the holder of the lock may."""
        for directory in ("metadata", "targets"):
            for path in (self._directory / directory).glob(f"*{TEMPORARY_SUFFIX}"):
                path.unlink()

    def _place(self, target: StagedTarget) -> None:
        path = self.published.target_path(target.name, target.sha256)
        if not path.exists():
            self._placed.append(path)
        place_durably(target.path, path)

    @contextmanager
    def _all_or_nothing(self) -> Iterator[None]:
        """Remove what was placed when timestamp.json was not reached: nothing leads there."""
        try:
            yield
        except BaseException:
            # The last step may fail after it took effect: then clients read what it leads to.
            if PublishedRepository(self._directory).versions == self.published.versions:
                for path in (*self._placed, *self._roles.written):
                    path.unlink(missing_ok=True)
            raise


class _Roles(Repository):
    """python-tuf's view of the metadata: opens, versions, signs and writes roles."""

    def __init__(
        self,
        published: PublishedRepository,
        *,
        keys: Signers,
        now: datetime,
        lifetimes: Mapping[str, timedelta],
    ) -> None:
        self._published = published
        self._keys = keys
        self._now = now
        self._lifetimes = lifetimes
        self.written: list[Path] = []
        """Metadata that nothing leads to before timestamp.json is replaced."""

    def open(self, role: str) -> AnyMetadata:
        """Return a copy of the current metadata, or the beginning of its first version."""
        if role in self._published.roles:
            return deepcopy(self._published.roles[role])
        first: AnyMetadata = Metadata(_NEW[role]())
        first.signed.version = 0
        return first

    def close(self, role: str, md: AnyMetadata) -> None:
        """Sign the next version and write it."""
        md.signed.version += 1
        md.signed.expires = self._now + self._lifetimes[role]
        md.signatures.clear()
        for signer in self._keys.signers(role):
            sign(md, signer)
        self._refuse_unvouched(role, md)
        path = self._published.metadata_path(role, md.signed.version)
        if role != Timestamp.type:
            self.written.append(path)
        write_durably(path, md.to_bytes())
        self._published.roles[role] = md

    def sign_targets(self, staged: Iterable[StagedTarget]) -> None:
        """Sign targets.json with some targets added or replaced."""
        with self.edit_targets() as targets:
            for target in staged:
                targets.targets[target.name] = _target_file(target)

    def sign_snapshot(self) -> None:
        """Sign a snapshot.json of the current targets.json."""
        with self.edit_snapshot() as snapshot:
            snapshot.meta["targets.json"] = self._meta_file(Targets.type)

    def sign_timestamp(self) -> None:
        """Sign a timestamp.json of the current snapshot.json."""
        with self.edit_timestamp() as timestamp:
            timestamp.snapshot_meta = self._meta_file(Snapshot.type)

    def _refuse_unvouched(self, role: str, md: AnyMetadata) -> None:
        root = md.signed if isinstance(md.signed, Root) else self.root()
        try:
            root.verify_delegate(role, md.signed_bytes, md.signatures)
        except (UnsignedMetadataError, ValueError) as error:
            raise RepoToolsError(
                f"the keys given cannot sign {role} as the root asks: {error}"
            ) from error

    def _meta_file(self, role: str) -> MetaFile:
        version = self._published.roles[role].signed.version
        data = _read_file(self._published.metadata_path(role, version))
        return MetaFile(version, len(data), {"sha256": hashlib.sha256(data).hexdigest()})


def _target_file(target: StagedTarget) -> TargetFile:
    extra = {"custom": dict(target.custom)} if target.custom else {}
    return TargetFile(target.length, {"sha256": target.sha256}, target.name, extra)


def _read_file(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise RepoToolsError(f"cannot read {path}: {error.strerror}") from error


def _uncompressed_sha256(custom: Mapping[str, Any]) -> str | None:
    found = custom.get("uncompressed")
    sha256 = found.get("sha256") if isinstance(found, dict) else None
    return sha256 if isinstance(sha256, str) else None


def _unpacked_sha256(path: Path, name: str) -> str:
    """Unpack a target of a publisher that signs no digest of what is in it."""
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            chunks = iter(lambda: file.read(_CHUNK_BYTES), b"")
            for piece in decompress(chunks, name=name, limit_bytes=_MOST_BYTES, take=_new_buffer):
                digest.update(piece)
    except OSError as error:
        raise RepoToolsError(f"cannot read {path}: {error.strerror}") from error
    return digest.hexdigest()


def _new_buffer() -> memoryview:
    return memoryview(bytearray(_CHUNK_BYTES))
