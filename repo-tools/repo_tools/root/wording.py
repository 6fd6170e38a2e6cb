"""A root in words and as JSON: what `show` prints, and what people see before they sign."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

from tuf.api.metadata import Root

from repo_tools.keyfiles import describe
from repo_tools.policy import ROLES
from repo_tools.root.ceremony import Draft, Quorum
from repo_tools.root.change import differences, moment, plural, short

_LABEL = 10


def lines(draft: Draft, *, now: datetime, placed: bool) -> Iterator[str]:
    """Say what a root says, what it changes, and whose signatures it has and lacks.

    Args:
        draft: the root, with the one before it.
        now: tells what has expired.
        placed: whether it is one that clients are served, and no draft.
    """
    root = draft.root.signed
    kind = "in place" if placed else "a draft"
    yield _line("Version", f"{root.version}, {kind}; sha256 of what is signed:")
    yield _line("", draft.digest)
    if draft.previous_digest is not None and not placed:
        yield _line("After", f"root {root.version - 1}; sha256 of what was signed:")
        yield _line("", draft.previous_digest)
    yield _line("Expires", f"{moment(root.expires)}, {_distance(root.expires, now)}")
    for role in ROLES:
        yield from _role_lines(root, role)
    if draft.previous is not None:
        yield from _labelled("Changes", differences(draft.previous.signed, root))
    for quorum in draft.quorums:
        yield from _quorum_lines(draft, quorum)
    yield _line("State", state(draft))
    if warning := _warning(root):
        yield _line("Note", warning)


def state(draft: Draft) -> str:
    """Say whether a root is complete, and who should sign if it is not."""
    if draft.is_complete:
        return "complete: signed by as many as it takes"
    lacking = [
        f"{quorum.lacks} more of the keys of root {quorum.version}"
        for quorum in draft.quorums
        if quorum.lacks
    ]
    return f"not complete: it lacks signatures by {' and '.join(lacking)}"


def facts(draft: Draft, *, placed: bool) -> dict[str, Any]:
    """Return the same as JSON."""
    root = draft.root.signed
    previous = draft.previous.signed if draft.previous else None
    return {
        "version": root.version,
        "placed": placed,
        "sha256": draft.digest,
        "previous_sha256": draft.previous_digest,
        "expires": f"{root.expires:%Y-%m-%dT%H:%M:%SZ}",
        "complete": draft.is_complete,
        "roles": {role: _role_facts(root, role) for role in ROLES},
        "changes": [each.strip() for each in differences(previous, root)] if previous else None,
        "signatures": [_quorum_facts(quorum) for quorum in draft.quorums],
    }


def _role_facts(root: Root, role: str) -> dict[str, Any]:
    keys = [
        {"keyid": keyid, "kind": describe(root.keys[keyid])}
        for keyid in root.roles[role].keyids
        if keyid in root.keys
    ]
    return {"threshold": root.roles[role].threshold, "keys": keys}


def _quorum_facts(quorum: Quorum) -> dict[str, Any]:
    return {
        "by_root": quorum.version,
        "threshold": quorum.threshold,
        "signed": list(quorum.signed),
        "missing": list(quorum.missing),
        "lacks": quorum.lacks,
    }


def _role_lines(root: Root, role: str) -> Iterator[str]:
    listed = root.roles[role]
    yield _line(
        role.capitalize(), f"{listed.threshold} of {plural(len(listed.keyids), 'key')} must sign"
    )
    for keyid in listed.keyids:
        key = root.keys.get(keyid)
        yield _line("", f"  {short(keyid)}  {describe(key) if key else 'unknown'}")


def _quorum_lines(draft: Draft, quorum: Quorum) -> Iterator[str]:
    count = f"{len(quorum.signed)} of {quorum.threshold} needed"
    yield _line("Signed", f"by keys of root {quorum.version}: {count}")
    for word, keyids in (("signed", quorum.signed), ("not yet", quorum.missing)):
        for keyid in keyids:
            key = draft.signing_key(keyid)
            yield _line("", f"  {short(keyid)}  {describe(key) if key else '':<10}  {word}")


def _warning(root: Root) -> str | None:
    own = root.roles[Root.type]
    if own.threshold < len(own.keyids):
        return None
    return (
        "every root key must sign: once one is lost, no root can be signed any more; "
        "list one more than the threshold"
    )


def _distance(when: datetime, now: datetime) -> str:
    days = round(abs(when - now) / timedelta(days=1))
    return f"in {plural(days, 'day')}" if when > now else f"EXPIRED {plural(days, 'day')} ago"


def _labelled(label: str, texts: list[str]) -> Iterator[str]:
    for number, text in enumerate(texts):
        yield _line("" if number else label, text)


def _line(label: str, text: str) -> str:
    return f"{label:<{_LABEL}} {text}"
