"""What a repository offers: its metadata as it is served, proven, and every target it vouches for.

Decides which files belong together: timestamp.json leads to the snapshot, the snapshot to all roles
of targets, and the roots stand in a row of their own (TUF specification 1.0.33, 6.1). All of it is
held in memory, so that whoever copies it copies what was proven. Proves as the agent does on a
machine (`updog.proof`), which knows no expiry: whether it may still be followed is asked apart.

Refuses a repository whose roots do not follow from each other, and roles of odd names. Knows no
network and no directory: it is told how to read a file.
"""

import re
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any, Final, TypeAlias

from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import Metadata, Root, Signed, Targets

from updog.errors import TrustError
from updog.metadata_cache import ROOTS
from updog.names import is_target_name, printable, quoted
from updog.proof import Target, Trusted, as_target, prove

ReadFile: TypeAlias = Callable[[str], bytes | None]
"""`read(name)` returns a file of metadata/, None if there is none."""

TIMESTAMP: Final = "timestamp.json"
_MOST_ROOTS: Final = 1024
_MOST_ROLES: Final = 2048
_ROOT_NAME: Final = re.compile(r"(\d{1,9})\.root\.json")


@dataclass(frozen=True, slots=True, kw_only=True)
class Collected:
    """The metadata files that lead to each other, unproven, in an order that breaks no reader.

    `roles` are the names of the files by role, without the roots.
    """

    files: Mapping[str, bytes]
    roles: Mapping[str, str]

    @property
    def roots(self) -> dict[int, bytes]:
        """The roots by their versions, rising."""
        found = ((_ROOT_NAME.fullmatch(name), data) for name, data in self.files.items())
        return dict(sorted((int(match[1]), data) for match, data in found if match))


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """A proven repository.

    Attributes:
        collected: Its metadata files.
        trusted: What they say. Its directory exists no more.
        targets: Every target that a client can look up, by name.
        faults: Of targets that no client would take: what is wrong with each, by name.
    """

    collected: Collected
    trusted: Trusted
    targets: Mapping[str, Target]
    faults: Mapping[str, str]

    @property
    def is_consistent(self) -> bool:
        """Whether the names of files tell their versions or digests."""
        return bool(self.trusted.root.consistent_snapshot)

    def file_names(self, target: Target) -> tuple[str, ...]:
        """Return what a target's file is called: by each of its digests (TUF 1.0.33, 6.2.1)."""
        if not self.is_consistent:
            return (target.name,)
        return tuple(f"{digest}.{target.name}" for digest in target.digests.values())

    def expiries(self) -> dict[str, datetime]:
        """Return until when each role is to be believed."""
        return {
            role: parse(self.collected.files[name]).expires
            for role, name in self.collected.roles.items()
        } | {"root": self.trusted.root.expires}

    def require_fresh(self, now: datetime) -> None:
        """Refuse what no client would follow any more.

        Raises:
            TrustError: a role has expired.
        """
        for role, expires in self.expiries().items():
            if expires <= now:
                raise TrustError(
                    f"{role} expired on {expires:%Y-%m-%d %H:%M} UTC: no client follows it; the "
                    "publisher must sign it anew"
                )

    def require_sound(self) -> None:
        """Refuse targets that no client would take.

        Raises:
            TrustError: there is one.
        """
        odd = (name for name in self.targets if not is_target_name(name))
        for name in odd:
            raise TrustError(f"the target {quoted(name)} has no flat file name")
        for name, text in self.faults.items():
            raise TrustError(f"target {quoted(name)}: {text}")

    def require_listed(self, names: Iterable[str]) -> None:
        """Refuse names that no target has.

        Raises:
            TrustError: there is one.
        """
        for name in sorted(set(names) - self.targets.keys()):
            raise TrustError(f"the manifest names {name}, which was not signed as a target")


def read_offer(read: ReadFile, trusted_root: bytes) -> Offer:
    """Read a repository and prove it.

    Raises:
        TrustError: the trusted root does not vouch for it, or a part of it is missing.
        UpdogError: what `read` raises.
    """
    return prove_offer(collect(read, trusted_root), trusted_root)


def collect(read: ReadFile, trusted_root: bytes) -> Collected:
    """Read the files that lead to each other.

    Raises:
        TrustError: one is missing or no metadata.
        UpdogError: what `read` raises.
    """
    roots = dict(_roots(read, parse_root(trusted_root).version))
    newest = parse_root(roots[max(roots)]) if roots else parse_root(trusted_root)
    prefixes = bool(newest.consistent_snapshot)
    timestamp = _require(read, TIMESTAMP)
    version = _of_type(timestamp, TIMESTAMP, "timestamp").snapshot_meta.version
    name = _file_name("snapshot", version, prefixes=prefixes)
    snapshot = _require(read, name)
    listed = _listed(_of_type(snapshot, name, "snapshot"))
    names = {role: _file_name(role, version, prefixes=prefixes) for role, version in listed}
    # Delegated roles before the role that leads to them; last, what makes it all public.
    order = sorted(names, key=lambda role: role == Targets.type)
    return Collected(
        files={
            **{names[role]: _require(read, names[role]) for role in order},
            name: snapshot,
            **{f"{version}.root.json": roots[version] for version in sorted(roots)},
            TIMESTAMP: timestamp,
        },
        roles={"timestamp": TIMESTAMP, "snapshot": name, **names},
    )


def prove_offer(collected: Collected, trusted_root: bytes) -> Offer:
    """Prove what was collected, from the trusted root on.

    Raises:
        TrustError: the trusted root does not vouch for it.
    """
    refuse_broken_chain(collected.roots, trusted_root)
    with tempfile.TemporaryDirectory(prefix="repo-tools-") as scratch:
        _lay_out(collected, Path(scratch))
        trusted = _prove(trusted_root, Path(scratch))
        targets, faults = _list_targets(trusted, collected)
    return Offer(collected=collected, trusted=trusted, targets=targets, faults=faults)


def refuse_broken_chain(roots: Mapping[int, bytes], trusted_root: bytes) -> None:
    """Refuse roots that are not each signed as the one before demands (client workflow 5.3).

    Raises:
        TrustError: machines that trust the one cannot follow to the other.
    """
    anchor = parse_root(trusted_root).version
    if anchor in roots and _signed_part(roots[anchor]) != _signed_part(trusted_root):
        raise TrustError(
            f"its {anchor}.root.json is another one than the trusted root: it is from another "
            "publisher, or the wrong root was named"
        )
    chain = {anchor: trusted_root, **{v: d for v, d in roots.items() if v != anchor}}
    for before, after in pairwise(sorted(chain)):
        _refuse_broken_link(before, chain[before], after, chain[after])


def parse(data: bytes) -> Signed:
    """Read metadata of any type.

    Raises:
        TrustError: it is none.
    """
    try:
        metadata: Metadata[Any] = Metadata.from_bytes(data)
    except RepositoryError as error:
        raise TrustError(f"no TUF metadata: {printable(str(error))}") from error
    signed: Signed = metadata.signed
    return signed


def parse_root(data: bytes) -> Root:
    """Read root metadata.

    Raises:
        TrustError: it is none.
    """
    signed = parse(data)
    if not isinstance(signed, Root):
        raise TrustError(f"expected root metadata, got {signed.type}; name a root.json")
    return signed


def _signed_part(data: bytes) -> bytes:
    """Return what was signed of a root: signatures may be added later."""
    parse_root(data)
    return Metadata[Root].from_bytes(data).signed_bytes


def _refuse_broken_link(before: int, old: bytes, after: int, new: bytes) -> None:
    try:
        version = parse_root(new).version
    except TrustError as error:
        raise TrustError(f"{after}.root.json is {error}") from error
    metadata: Metadata[Root] = Metadata.from_bytes(new)
    try:
        for each in (parse_root(old), metadata.signed):
            each.verify_delegate(Root.type, metadata.signed_bytes, metadata.signatures)
    except (RepositoryError, ValueError) as error:
        raise TrustError(
            f"{after}.root.json is not signed as root {before} demands: "
            f"{printable(str(error))}; machines that trust root {before} cannot follow"
        ) from error
    if version != after or after != before + 1:
        raise TrustError(
            f"{after}.root.json holds version {version} and follows version {before}: machines go "
            "from one root to the next only"
        )


def _roots(read: ReadFile, known: int) -> Iterator[tuple[int, bytes]]:
    """Yield the roots from a known version up, and from below it down, as far as they go."""
    for versions in (range(known, known + _MOST_ROOTS), range(known - 1, 0, -1)):
        for version in versions:
            data = read(f"{version}.root.json")
            if data is not None:
                yield version, data
            elif version != known:  # the trusted one itself is at hand
                break


def _listed(snapshot: Any) -> Iterator[tuple[str, int]]:
    """Yield the roles that a snapshot lists, with their versions."""
    if len(snapshot.meta) > _MOST_ROLES:
        raise TrustError(f"the snapshot lists {len(snapshot.meta)} roles, more than {_MOST_ROLES}")
    for name, meta in snapshot.meta.items():
        role = name.removesuffix(".json")
        if not is_target_name(role):
            raise TrustError(f"the snapshot lists the role {quoted(role)}, which is no plain name")
        yield role, meta.version


def _file_name(role: str, version: int, *, prefixes: bool) -> str:
    return f"{version}.{role}.json" if prefixes else f"{role}.json"


def _require(read: ReadFile, name: str) -> bytes:
    data = read(name)
    if data is None:
        raise TrustError(f"{name} is missing: nothing was published there yet, or only half of it")
    return data


def _of_type(data: bytes, name: str, kind: str) -> Any:
    try:
        signed = parse(data)
    except TrustError as error:
        raise TrustError(f"{name} is {error}") from error
    if signed.type != kind:
        raise TrustError(f"{name} holds {printable(signed.type)} metadata, not {kind}")
    return signed


def _lay_out(collected: Collected, directory: Path) -> None:
    """Write the files where the agent keeps them, which is where it proves them."""
    (directory / ROOTS).mkdir()
    for version, data in collected.roots.items():
        (directory / ROOTS / f"{version}.root.json").write_bytes(data)
    for role, name in collected.roles.items():
        (directory / f"{role}.json").write_bytes(collected.files[name])


def _prove(trusted_root: bytes, directory: Path) -> Trusted:
    try:
        return prove(trusted_root, directory)
    except TrustError as error:
        # Not its text: it names a directory that nobody else knows.
        why = printable(str(error.__cause__ or error))
        raise TrustError(f"the trusted root does not vouch for it: {why}") from error


def _list_targets(
    trusted: Trusted, collected: Collected
) -> tuple[dict[str, Target], dict[str, str]]:
    targets: dict[str, Target] = {}
    faults: dict[str, str] = {}
    for name in _names(trusted, collected):
        own = trusted.targets.targets.get(name)
        try:
            targets[name] = as_target(own) if own else trusted.target(name)
        except TrustError as error:
            faults[name] = str(error)
    return targets, faults


def _names(trusted: Trusted, collected: Collected) -> Iterable[str]:
    """Return the names of all targets, those of delegated roles too."""
    names = set(trusted.targets.targets)
    for role in collected.roles.keys() - {"timestamp", "snapshot", "targets"}:
        delegated = parse(collected.files[collected.roles[role]])
        if isinstance(delegated, Targets):
            names |= delegated.targets.keys()
    return sorted(names)
