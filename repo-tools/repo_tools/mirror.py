"""A copy of a repository in a directory, brought up to date while clients read it.

Decides the order in which files appear, so that a client that reads meanwhile sees the repository
as it was or as it is now: targets first, then the metadata that lists them, the roots, and
timestamp.json last, each whole and flushed before the next (TUF specification 1.0.33, 6.2). Only
where a new root has replaced a key that signs the other roles, there is a moment, between the last
two renames, in which a client fails and must try again; no order of files avoids that. The same
goes for repositories without consistent snapshots, whose files are replaced one by one.

Refuses what is older than what stands there, other bytes of the same version, and two writers at
once. What stands there but cannot be read is replaced. Removes nothing: what older metadata lists
may still be asked for.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from tuf.api.metadata import Root

from repo_tools.durable import TEMPORARY_SUFFIX, place_durably, write_durably
from repo_tools.errors import RepoToolsError
from repo_tools.offer import TIMESTAMP, Offer, parse, parse_root
from updog.errors import ImageError, TrustError
from updog.files import read_small_file
from updog.floor import ROLES, AcceptedRole, Floor, find_rollback
from updog.metadata import RoleVersions, Target
from updog.metadata_cache import LARGEST_FILE_BYTES
from updog.proof import require_content

_PARTS: Final = ("metadata", "targets")


class Mirror:
    """A directory that holds, or will hold, a copy of a repository; made by `writing`."""

    def __init__(self, directory: Path) -> None:
        self.metadata = directory / "metadata"
        self.targets = directory / "targets"

    def require_not_older(self, offer: Offer) -> None:
        """Refuse to take a step back.

        Raises:
            RepoToolsError: what stands here is newer, or another of the same version.
        """
        standing = self._standing()
        if standing is None:
            return
        why = find_rollback(standing, _as_floor(offer.trusted.versions, offer.trusted.root))
        if why is not None:
            raise RepoToolsError(
                f"{self.metadata.parent} holds newer metadata than this: {why}; nothing was changed"
            )
        for role in ROLES:
            if getattr(standing, role).version == getattr(offer.trusted.versions, role):
                self._refuse_fork(offer, role)

    def holds(self, target: Target, file_name: str) -> bool:
        """Tell whether a target's file is here, and is what was signed."""
        try:
            require_content(self.targets / file_name, target)
        except (OSError, ImageError):
            return False
        return True

    def lacks(self, offer: Offer) -> list[str]:
        """Return the names of the targets that are not here."""
        return [
            target.name
            for target in offer.targets.values()
            if not all((self.targets / name).is_file() for name in offer.file_names(target))
        ]

    def temporary(self, file_name: str) -> Path:
        """Return where a target's file is written before it is whole."""
        return self.targets / f".{file_name}{TEMPORARY_SUFFIX}"

    def place(self, file_name: str) -> None:
        """Give a target's file that is whole its name."""
        place_durably(self.temporary(file_name), self.targets / file_name)

    def put_metadata(self, offer: Offer) -> int:
        """Make public what the targets here belong to; return how many files were written."""
        written = 0
        for name, data in offer.collected.files.items():
            if _read(self.metadata / name) != data:
                write_durably(self.metadata / name, data)
                written += 1
        return written

    def discard_beginnings(self) -> None:
        """Remove what was begun under names that no client asks for; only the writer may."""
        for path in self.targets.glob(f".*{TEMPORARY_SUFFIX}"):
            path.unlink()

    def _refuse_fork(self, offer: Offer, role: str) -> None:
        version = getattr(offer.trusted.versions, role)
        name = offer.collected.roles.get(role, f"{version}.root.json")
        standing, data = _read(self.metadata / name), offer.collected.files.get(name)
        if data is not None and standing != data and _is_metadata(standing):
            raise RepoToolsError(
                f"{self.metadata / name} is another version {version} of {role} than this one: "
                "they come from two publishers, or from one that has begun anew; nothing was "
                "changed"
            )

    def _standing(self) -> Floor | None:
        """Return what clients of this directory are offered, as far as it can be read."""
        roots = [int(path.name.split(".")[0]) for path in self.metadata.glob("[0-9]*.root.json")]
        with suppress(TrustError):
            newest = max(roots, default=0)
            root = parse_root(_read(self.metadata / f"{newest}.root.json") or b"")
            return _as_floor(self._standing_versions(root), root, accepted_at=self._changed_at())
        return None

    def _standing_versions(self, root: Root) -> RoleVersions:
        timestamp = snapshot = targets = 0
        with suppress(TrustError, AttributeError, KeyError):
            signed: Any = parse(_read(self.metadata / TIMESTAMP) or b"")
            timestamp, snapshot = signed.version, signed.snapshot_meta.version
            listed: Any = parse(self._read_either("snapshot", snapshot))
            targets = listed.meta["targets.json"].version
        return RoleVersions(
            root=root.version,
            timestamp=timestamp,
            snapshot=snapshot,
            targets=targets,
            timestamp_expires=root.expires,
        )

    def _changed_at(self) -> datetime:
        """Return when clients of this directory were offered something new last."""
        with suppress(OSError):
            return datetime.fromtimestamp((self.metadata / TIMESTAMP).stat().st_mtime, UTC)
        return datetime.now(UTC)

    def _read_either(self, role: str, version: int) -> bytes:
        return (
            _read(self.metadata / f"{version}.{role}.json")
            or _read(self.metadata / f"{role}.json")
            or b""
        )


@contextmanager
def writing(directory: Path) -> Iterator[Mirror]:
    """Claim a directory, made if need be, as the only writer; what was made goes if it stays empty.

    Raises:
        RepoToolsError: somebody else writes there.
    """
    if directory.exists() and not directory.is_dir():
        raise RepoToolsError(f"{directory} is not a directory; nothing was changed")
    made = [
        path for path in (directory, *(directory / part for part in _PARTS)) if not path.exists()
    ]
    for path in made:
        path.mkdir(parents=True, exist_ok=True)
    try:
        with _locked(directory / "metadata"):
            yield Mirror(directory)
    finally:
        for path in reversed(made):
            with suppress(OSError):  # it is not empty: it stays
                path.rmdir()


@contextmanager
def _locked(metadata: Path) -> Iterator[None]:
    """Hold the lock that publishers of this repository take too."""
    descriptor = os.open(metadata, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError as error:
        raise RepoToolsError(
            f"another writer is at work on {metadata.parent}: try again when it is done"
        ) from error
    finally:
        os.close(descriptor)


def _as_floor(versions: RoleVersions, root: Root, *, accepted_at: datetime | None = None) -> Floor:
    """Put versions, and the keys that a root lets sign them, as the agent compares them."""
    accepted = {
        role: AcceptedRole(
            version=getattr(versions, role), key_ids=frozenset(root.roles[role].keyids)
        )
        for role in ROLES
    }
    return Floor(accepted_at=accepted_at or datetime.now(UTC), **accepted)


def _is_metadata(data: bytes | None) -> bool:
    try:
        return parse(data or b"") is not None
    except TrustError:
        return False


def _read(path: Path) -> bytes | None:
    """Return a metadata file that stands here, None for whatever cannot be one."""
    try:
        return read_small_file(path, limit_bytes=LARGEST_FILE_BYTES)
    except (OSError, ValueError):
        return None
