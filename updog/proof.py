"""Proof without a network: what the metadata in a directory vouches for, from the trusted root on.

Decides by the signatures of the roots, one after the other, and by what each role says of the next:
the timestamp of the snapshot, the snapshot of all targets roles (The Update Framework, client
workflow 5.3 to 5.7). Refuses targets without a sha256 or sha512. Ignores expiry on purpose: expiry
says whether a repository may still be followed, not whether something was signed. Fetches nothing.
"""

import hashlib
import os
import re
from collections.abc import Mapping
from datetime import datetime
from io import BufferedReader
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, TypeVar
from urllib.parse import quote

import msgspec
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

from updog.durable import WholeDirectory
from updog.errors import ImageError, TrustError
from updog.files import open_regular_file, read_small_file
from updog.metadata_cache import LARGEST_FILE_BYTES, ROOTS
from updog.names import printable, quoted

_DIGEST_CHARACTERS = {"sha256": 64, "sha512": 128}
"""The algorithms that count, with the length of their digests in hexadecimal."""

_HEX = re.compile(r"[0-9a-f]+")

_MOST_ROLES: Final = 32
"""As many delegated roles are asked about one target as python-tuf asks."""

_Role = TypeVar("_Role", Root, Timestamp, Snapshot, Targets)


class UnsignedError(TrustError):
    """Report metadata that too few keys of the newest root have signed."""


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """A file of the repository as it was signed.

    Attributes:
        name: A flat file name.
        length: In bytes, as it is fetched.
        digests: Hexadecimal, by algorithm: sha256, sha512 or both.
        uncompressed_length: In bytes, of what it unpacks to, if the publisher says so.
        uncompressed_sha256: Of the same.
    """

    name: str
    length: int
    digests: Mapping[str, str]
    uncompressed_length: int | None
    uncompressed_sha256: str | None


class RoleVersions(msgspec.Struct, frozen=True, kw_only=True):
    """Which versions of the top-level roles are trusted, and until when the timestamp holds."""

    root: int
    timestamp: int
    snapshot: int
    targets: int
    timestamp_expires: datetime


class Trusted(msgspec.Struct, frozen=True, kw_only=True):
    """The top-level roles that a directory holds, proven by the root and by each other."""

    directory: Path
    root: Root
    timestamp: Timestamp
    snapshot: Snapshot
    targets: Targets

    @property
    def versions(self) -> RoleVersions:
        """The versions of the roles."""
        return RoleVersions(
            root=self.root.version,
            timestamp=self.timestamp.version,
            snapshot=self.snapshot.version,
            targets=self.targets.version,
            timestamp_expires=self.timestamp.expires,
        )

    def key_ids(self, role: str) -> frozenset[str]:
        """Return which keys may sign a top-level role."""
        return frozenset(self.root.get_delegated_role(role).keyids)

    def target(self, name: str) -> Target:
        """Look up what was signed about a target.

        Raises:
            TrustError: No role lists it, or not in a way that can be relied on, or a delegated role
                that would have to be asked first is not there as it was signed.
        """
        try:
            info = self._find(name)
        except (OSError, ValueError, RepositoryError) as err:
            raise TrustError(
                f"target {quoted(name)} cannot be proven by the metadata in {self.directory}: "
                f"{_why(err)}"
            ) from err
        if info is None:
            raise TrustError(
                f"target {quoted(name)} is not listed by the metadata in {self.directory}"
            )
        return as_target(info)

    def _find(self, name: str) -> TargetFile | None:
        """Ask the roles in the order of their delegation (client workflow 5.6.7)."""
        to_ask: list[tuple[str, Root | Targets]] = [(Targets.type, self.root)]
        asked: set[str] = set()
        while to_ask and len(asked) <= _MOST_ROLES:
            role_name, delegator = to_ask.pop()
            if role_name in asked:
                continue
            asked.add(role_name)
            role = _read_targets(self.directory, self.snapshot, role_name, delegator)
            if name in role.targets:
                return role.targets[name]
            following = _delegates(role, name)
            if any(is_terminating for _, is_terminating in following):
                to_ask.clear()
            to_ask += [(each, role) for each, _ in reversed(following)]
        return None


def prove(trusted_root: bytes, directory: Path) -> Trusted:
    """Verify the top-level roles in a directory.

    Raises:
        UnsignedError: The keys that the root lists have not signed one.
        TrustError: One is not there, or is not as the root, or the role before it, demands.
    """
    try:
        return _prove(trusted_root, directory)
    except UnsignedMetadataError as err:
        raise UnsignedError(f"the metadata in {directory} proves nothing: {_why(err)}") from err
    except (OSError, ValueError, RepositoryError) as err:
        raise TrustError(f"the metadata in {directory} proves nothing: {_why(err)}") from err


def read_versions(trusted_root: bytes, cache: Path) -> RoleVersions | None:
    """Read from a cache, without a network, what was trusted last; expired or not.

    Returns:
        The versions, or None where there is no cache or it is damaged: the next refresh heals it.
    """
    try:
        return prove(trusted_root, WholeDirectory(cache).current).versions
    except TrustError:
        return None


def require_content(path: Path, target: Target) -> None:
    """Check that a file holds what was signed; what a link leads to may change after the look.

    Raises:
        OSError: It cannot be read.
        ImageError: It holds something else, or is a link.
    """
    with _opened(path) as file:
        length = file.seek(0, os.SEEK_END)
        if length != target.length:
            raise ImageError(f"it holds {length} bytes, {target.length} were signed")
        for algorithm, digest in target.digests.items():
            file.seek(0)
            if hashlib.file_digest(file, algorithm).hexdigest() != digest:
                raise ImageError(f"its {algorithm} is not the one that was signed")


def as_target(info: TargetFile) -> Target:
    """Take from signed metadata what is relied on.

    Raises:
        TrustError: There is no strong digest, or what it says of the content makes no sense.
    """
    uncompressed = _uncompressed(info)
    return Target(
        name=info.path,
        length=info.length,
        digests=MappingProxyType(_strong_digests(info)),
        uncompressed_length=uncompressed.get("length"),
        uncompressed_sha256=uncompressed.get("sha256"),
    )


def _opened(path: Path) -> BufferedReader:
    try:
        return open_regular_file(path, follows_link=False)
    except ValueError as err:
        raise ImageError(str(err)) from err


def _prove(trusted_root: bytes, directory: Path) -> Trusted:
    root = _newest_root(trusted_root, directory)
    timestamp = _verified_role(_read(directory, Timestamp.type), Timestamp, root)
    snapshot_data = _read(directory, Snapshot.type)
    # Client workflow 5.5.2 and 5.5.4: digests and version as the timestamp says.
    timestamp.snapshot_meta.verify_length_and_hashes(snapshot_data)
    snapshot = _verified_role(snapshot_data, Snapshot, root)
    _require_version(snapshot, timestamp.snapshot_meta)
    return Trusted(
        directory=directory,
        root=root,
        timestamp=timestamp,
        snapshot=snapshot,
        targets=_read_targets(directory, snapshot, Targets.type, root),
    )


def _newest_root(trusted_root: bytes, directory: Path) -> Root:
    """Follow the chain of roots, each signed by the one before (client workflow 5.3)."""
    root = _verified_role(trusted_root, Root, None)
    while True:
        try:
            following = _verified_role(
                _read(directory, f"{ROOTS}/{root.version + 1}.root"), Root, root
            )
        except (OSError, ValueError, RepositoryError):
            return root
        if following.version != root.version + 1:
            return root
        root = following


def _read_targets(
    directory: Path, snapshot: Snapshot, role_name: str, delegator: Root | Targets
) -> Targets:
    """Read a targets role, delegated or not, as the snapshot and its delegator demand (5.6)."""
    meta = snapshot.meta.get(f"{role_name}.json")
    if meta is None:
        raise RepositoryError(f"the snapshot does not list the role {role_name}")
    # As python-tuf names the file: a role's name may hold a slash.
    data = _read(directory, quote(role_name, ""))
    meta.verify_length_and_hashes(data)
    targets = _verified_role(data, Targets, delegator, role_name=role_name)
    _require_version(targets, meta)
    return targets


def _delegates(role: Targets, name: str) -> list[tuple[str, bool]]:
    """Return which roles to ask next, up to a terminating one, and whether each terminates."""
    found: list[tuple[str, bool]] = []
    if role.delegations is not None:
        for each, is_terminating in role.delegations.get_roles_for_target(name):
            found.append((each, is_terminating))
            if is_terminating:
                break
    return found


def _read(directory: Path, role_name: str) -> bytes:
    return read_small_file(directory / f"{role_name}.json", limit_bytes=LARGEST_FILE_BYTES)


def _verified_role(
    data: bytes,
    kind: type[_Role],
    delegator: Root | Targets | None,
    *,
    role_name: str | None = None,
) -> _Role:
    """Parse metadata and require the signatures that its delegator, and a root itself, demands."""
    metadata: Metadata[_Role] = Metadata.from_bytes(data)
    signed = metadata.signed
    if not isinstance(signed, kind):
        raise RepositoryError(f"expected {kind.type}, got {signed.type}")
    for each in _delegators(delegator, signed):
        each.verify_delegate(role_name or kind.type, metadata.signed_bytes, metadata.signatures)
    return signed


def _delegators(delegator: Root | Targets | None, signed: Signed) -> list[Root | Targets]:
    """Return who must vouch for a role: its delegator, and a new root itself too."""
    vouching = [] if delegator is None else [delegator]
    return [*vouching, signed] if isinstance(signed, Root) else vouching


def _require_version(signed: Signed, meta: MetaFile) -> None:
    if signed.version != meta.version:
        raise RepositoryError(
            f"expected {signed.type} version {meta.version}, got version {signed.version}"
        )


def _why(err: Exception) -> str:
    if isinstance(err, OSError):
        return f"{err.filename}: {err.strerror}"
    return printable(str(err))


def _strong_digests(info: TargetFile) -> dict[str, str]:
    """Pick the digests that count; python-tuf alone would be content with an md5."""
    strong = {
        algorithm: digest
        for algorithm, digest in info.hashes.items()
        if _is_digest(algorithm, digest)
    }
    if not strong:
        raise TrustError(
            f"target {info.path} was signed with neither a sha256 nor a sha512; "
            "the publisher must add one"
        )
    return strong


def _is_digest(algorithm: str, digest: object) -> bool:
    return (
        isinstance(digest, str)
        and len(digest) == _DIGEST_CHARACTERS.get(algorithm)
        and _HEX.fullmatch(digest) is not None
    )


def _uncompressed(info: TargetFile) -> dict[str, Any]:
    """Read custom.uncompressed: the length and sha256 that the publisher gives for the content."""
    custom = info.custom
    said = custom.get("uncompressed") if isinstance(custom, dict) else None
    if said is None:
        return {}
    length, sha256 = (said.get("length"), said.get("sha256")) if isinstance(said, dict) else (0, 0)
    if type(length) is not int or length < 0 or not _is_digest("sha256", sha256):
        raise TrustError(
            f"target {info.path}: custom.uncompressed must hold a length and a sha256; "
            "the publisher must correct it"
        )
    return {"length": length, "sha256": sha256}
