"""Where roots and their draft lie, and how a complete one is put in place.

Decides that the draft is `next-root.json` in the publisher's directory, one at a time, and that
N.root.json appears whole, flushed, and never in the place of other bytes. Refuses a root that
clients would refuse: one that does not follow the current one, lacks signatures, has expired, is
too large, or does not vouch for what is published now; the keys of both roots can sign that first.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Final

from tuf.api.exceptions import UnsignedMetadataError
from tuf.api.metadata import Metadata, Root

from repo_tools.durable import create_durably, write_durably
from repo_tools.errors import RepoToolsError
from repo_tools.policy import ONLINE_ROLES, Policy
from repo_tools.repository import PublishedRepository, publishing
from repo_tools.root.ceremony import Draft, parse_draft, parse_root, root_bytes, without_worthless
from repo_tools.root.change import MOST_BYTES, require_sound
from repo_tools.signers import RoleSigners

DRAFT_NAME: Final = "next-root.json"


def draft_path(policy: Policy) -> Path:
    """Return where the draft of the next root lies."""
    return policy.directory / DRAFT_NAME


def read_draft(path: Path) -> Draft | None:
    """Return the draft in a file, None where there is no file.

    Raises:
        RepoToolsError: it cannot be read, or holds something else.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise RepoToolsError(f"cannot read {path}: {error.strerror}") from error
    return parse_draft(data, what=str(path))


def root_path(repository: Path, version: int) -> Path:
    """Return where a version of the root stands."""
    return repository / "metadata" / f"{version}.root.json"


def current_root(repository: Path) -> Metadata[Root] | None:
    """Return the newest root of a repository, None where there is none yet.

    Raises:
        RepoToolsError: it cannot be read.
    """
    names = (
        path.name.partition(".")[0] for path in root_path(repository, 0).parent.glob("*.root.json")
    )
    versions = [int(name) for name in names if name.isdecimal()]
    return read_root(repository, max(versions)) if versions else None


def read_root(repository: Path, version: int) -> Metadata[Root]:
    """Return a version of the root.

    Raises:
        RepoToolsError: it cannot be read, or is none.
    """
    path = root_path(repository, version)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise RepoToolsError(f"cannot read {path}: {error.strerror}") from error
    root = parse_root(data, what=str(path))
    if root.signed.version != version:
        raise RepoToolsError(f"{path} holds root {root.signed.version}: restore it")
    return root


@contextmanager
def alone(directory: Path) -> Iterator[None]:
    """Be the only ceremony that changes a directory's draft.

    Raises:
        RepoToolsError: another one is at work, or there is no such directory.
    """
    with _locked(directory, f"another ceremony is at work in {directory}"):
        yield


@contextmanager
def _locked(directory: Path, refusal: str) -> Iterator[None]:
    try:
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise RepoToolsError(f"cannot work in {directory}: {error.strerror}") from error
    try:
        _lock(descriptor, refusal)
        yield
    finally:
        os.close(descriptor)


def _lock(descriptor: int, refusal: str) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise RepoToolsError(
            f"{refusal}: try again when it is done; nothing was changed"
        ) from error


def write_draft(path: Path, draft: Draft) -> None:
    """Replace the draft, whole and flushed."""
    write_durably(path, draft.to_bytes())


def place(repository: Path, draft: Draft, *, now: datetime, before_publish: bool) -> Path:
    """Make a complete root the one that clients are led to, and return where it stands.

    Args:
        repository: holds `metadata/` and `targets/`; they are made for the first root.
        draft: what was signed.
        now: an expiry must be later.
        before_publish: put it in place although it does not vouch for what is published now, so
            that clients refuse all of it until the next publish.

    Raises:
        RepoToolsError: clients would refuse it; the repository is as it was.
    """
    draft = without_worthless(draft)
    _require_acceptable(draft, now=now)
    metadata = root_path(repository, draft.version).parent
    if draft.previous is None:
        for name in ("metadata", "targets"):
            (repository / name).mkdir(parents=True, exist_ok=True)
    with _locked(metadata, f"a publisher is at work on {repository}"):
        path = root_path(repository, draft.version)
        require_next(repository, draft)
        if path.exists():
            return path
        if not before_publish:
            _require_vouched(repository, draft.root.signed)
        create_durably(path, root_bytes(draft))
        return path


def require_next(repository: Path, draft: Draft) -> None:
    """Refuse a draft that was not made to follow the root of a repository.

    A draft that is in place already is none: a run before this one was cut short.

    Raises:
        RepoToolsError: it follows another root, or its version is taken.
    """
    current = current_root(repository)
    if current and current.signed_bytes == draft.root.signed_bytes:
        return
    known = current.signed_bytes if current else None
    if known != (draft.previous.signed_bytes if draft.previous else None):
        at = f"is at root {current.signed.version}" if current else "has no root"
        again = "rotate" if current else "create"
        raise RepoToolsError(
            f"this draft of root {draft.version} does not follow the root in {repository}, which "
            f"{at}: begin anew with `repo-tools root {again} --force`"
        )


def _require_acceptable(draft: Draft, *, now: datetime) -> None:
    """Check what clients check (TUF specification 1.0.33, 5.3.4 to 5.3.10)."""
    for quorum in draft.quorums:
        if quorum.lacks:
            raise RepoToolsError(
                f"root {draft.version} lacks {quorum.lacks} of {quorum.threshold} signatures "
                f"that root {quorum.version} asks for"
            )
    previous = draft.previous.signed if draft.previous else None
    require_sound(draft.root.signed, previous=previous, now=now)
    size = len(root_bytes(draft))
    if size >= MOST_BYTES:
        raise RepoToolsError(
            f"root {draft.version} holds {size} bytes; clients take less than {MOST_BYTES}"
        )


def hand_over(policy: Policy, root: Root, *, signers: RoleSigners, now: datetime) -> bool:
    """Have what is published signed by the keys of two roots, and tell whether it had to be.

    Clients that know the new root and those that do not yet then take it alike. Nothing is signed
    where the signers do not suffice for the new root.

    Raises:
        RepoToolsError: a signer cannot be had, or does not sign. What clients see is unchanged.
    """
    if not _unvouched(policy.repository, root) or not _suffice(signers, root):
        return False
    with publishing(policy.repository, signers, now=now, lifetimes=policy.lifetimes):
        pass
    return True


def _suffice(signers: RoleSigners, root: Root) -> bool:
    return all(
        len(_keyids(signers, role).intersection(root.roles[role].keyids))
        >= root.roles[role].threshold
        for role in ONLINE_ROLES
    )


def _keyids(signers: RoleSigners, role: str) -> set[str]:
    return {signer.public_key.keyid for signer in signers.signers(role)}


def _unvouched(repository: Path, root: Root) -> dict[str, UnsignedMetadataError]:
    """Return what is published that the keys of a root have not signed as they must."""
    found: dict[str, UnsignedMetadataError] = {}
    roles = PublishedRepository(repository).roles
    for role in (role for role in ONLINE_ROLES if role in roles):
        try:
            root.verify_delegate(role, roles[role].signed_bytes, roles[role].signatures)
        except UnsignedMetadataError as error:
            found[role] = error
    return found


def _require_vouched(repository: Path, root: Root) -> None:
    """Clients ask for the root first: what it does not vouch for is lost to them at once."""
    for role, error in _unvouched(repository, root).items():
        raise RepoToolsError(
            f"root {root.version} is complete but does not vouch for the {role} metadata that is "
            f"published ({error}), so that clients would refuse it: name the old and the new keys "
            f"in [keys] of publisher.toml and run `repo-tools root sign` again, which has both "
            f"sign it; where an old key is lost or stolen, add `--before-publish`, and run "
            f"`repo-tools refresh` at once"
        ) from error
