"""What a new root says, and what changes by it. Pure: knows no file, no clock and no private key.

Decides which root follows from the one before (TUF specification 1.0.33, 5.3 and 6.1) and refuses
one that could not be lived with: a threshold that its keys cannot meet, a key twice, a key that
some client cannot check, an expiry that has passed.
"""

from collections.abc import Iterable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from securesystemslib.signer import Key
from tuf.api.metadata import Root

from repo_tools.errors import RepoToolsError
from repo_tools.keyfiles import describe, require_usable
from repo_tools.policy import ROLES
from updog.names import printable, quoted

MOST_BYTES: Final = 500_000
"""python-tuf and tough read no root that is larger than 512000 and 1048576 bytes."""

SHOWN_DIGITS: Final = 16
"""How much of a key's id is shown to people."""

_LEAST_DIGITS = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """A key, and the role that it may sign."""

    role: str
    key: Key


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What a new root changes; what is not named stays."""

    expires: datetime
    added: Sequence[Grant] = ()
    removed: Sequence[tuple[str, str]] = ()
    """Roles with the ids of keys, or with at least the first eight digits of them."""
    thresholds: Mapping[str, int] = field(default_factory=dict)


def first_root(change: Change) -> Root:
    """Return version 1. Where no threshold is said, more than half of the root keys must sign.

    Raises:
        RepoToolsError: it could not be lived with; the text says why.
    """
    root = Root(version=1, expires=change.expires, consistent_snapshot=True)
    _add(root, change.added)
    for role in ROLES:
        root.roles[role].threshold = change.thresholds.get(role, _usual_threshold(root, role))
    return root


def next_root(previous: Root, change: Change) -> Root:
    """Return the version that follows.

    Raises:
        RepoToolsError: it could not be lived with; the text says why.
    """
    root = deepcopy(previous)
    root.version += 1
    root.expires = change.expires
    for role, start in change.removed:
        root.revoke_key(_listed(previous, role, start), role)
    _add(root, change.added)
    for role, threshold in change.thresholds.items():
        root.roles[role].threshold = threshold
    return root


def _usual_threshold(root: Root, role: str) -> int:
    """One lost root key then leaves enough of three, and one stolen one is not enough of two."""
    return len(root.roles[role].keyids) // 2 + 1 if role == Root.type else 1


def _add(root: Root, grants: Iterable[Grant]) -> None:
    for grant in grants:
        if grant.key.keyid in root.roles[grant.role].keyids:
            raise RepoToolsError(
                f"key {short(grant.key.keyid)} is listed for {grant.role} already: name it once"
            )
        root.add_key(grant.key, grant.role)


def _listed(root: Root, role: str, start: str) -> str:
    """Return the id of a role's key from its beginning."""
    found = [keyid for keyid in root.roles[role].keyids if keyid.startswith(start)]
    if len(start) >= _LEAST_DIGITS and len(found) == 1:
        return found[0]
    listed = ", ".join(short(keyid) for keyid in root.roles[role].keyids)
    raise RepoToolsError(
        f"root {root.version} lists no key {start} for {role}, or more than one that begins so; "
        f"it lists {listed}"
    )


def require_sound(root: Root, *, previous: Root | None, now: datetime) -> None:
    """Refuse a root that some client, or no publisher, could work with.

    Keys that the root before listed already are taken as they are.

    Raises:
        RepoToolsError: the text says why.
    """
    known = previous.keys if previous else {}
    for keyid, key in root.keys.items():
        if known.get(keyid) != key:
            require_usable(key, what=f"key {short(keyid)}")
    for role in ROLES:
        _require_reachable(root, role)
    if root.expires <= now:
        raise RepoToolsError(
            f"root {root.version} would have expired on {moment(root.expires)}: choose a later time"
        )


def _require_reachable(root: Root, role: str) -> None:
    count, threshold = len(root.roles[role].keyids), root.roles[role].threshold
    if not count:
        raise RepoToolsError(f"root {root.version} would list no key for {role}: add one")
    if not 1 <= threshold <= count:
        raise RepoToolsError(
            f"the threshold of {role} cannot be met: {threshold} of {plural(count, 'key')}"
        )


def differences(previous: Root, root: Root) -> list[str]:
    """Return what a root changes, a line each, for people to agree to."""
    lines = []
    for role in ROLES:
        old, new = previous.roles[role], root.roles[role]
        lines += [f"- {_key_line(previous, role, each)}" for each in _only(old.keyids, new.keyids)]
        lines += [f"+ {_key_line(root, role, each)}" for each in _only(new.keyids, old.keyids)]
        if old.threshold != new.threshold:
            lines.append(f"  {role} threshold {old.threshold} -> {new.threshold}")
    lines.append(f"  expires {moment(previous.expires)} -> {moment(root.expires)}")
    return lines + _unusual_differences(previous, root)


def _unusual_differences(previous: Root, root: Root) -> list[str]:
    """Name the fields that no command here changes, so that nobody signs one unseen."""
    usual = {"version", "expires", "keys", "roles"}
    old, new = previous.to_dict(), root.to_dict()
    names = [name for name in sorted({*old, *new} - usual) if old.get(name) != new.get(name)]
    lines = [
        f"  {quoted(name)} {quoted(old.get(name))} -> {quoted(new.get(name))}" for name in names
    ]
    same = {keyid for keyid in previous.keys if keyid in root.keys}
    changed = [keyid for keyid in same if previous.keys[keyid] != root.keys[keyid]]
    return lines + [f"  key {short(keyid)} is another key under the same id" for keyid in changed]


def _only(keyids: Iterable[str], others: Iterable[str]) -> list[str]:
    there = set(others)
    return [keyid for keyid in keyids if keyid not in there]


def _key_line(root: Root, role: str, keyid: str) -> str:
    key = root.keys.get(keyid)
    return f"{role} key {short(keyid)} ({describe(key) if key else 'unknown'})"


def short(keyid: str) -> str:
    """Return enough of a key's id for people; in a file from elsewhere it may be anything."""
    return printable(keyid[:SHOWN_DIGITS])


def moment(when: datetime) -> str:
    """Return a time of metadata in words, which is always UTC."""
    return f"{when:%Y-%m-%d %H:%M:%S} UTC"


def plural(count: int, noun: str) -> str:
    """Return a number of things."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
