"""Migrations kept for the reboot, with everything that proves them once more without a network.

    versions.json   from which version to which they lead
    targets/        the migrations, and the manifest.json that says which are needed in which order
    metadata/       what was signed about all of them

Decides, from the trusted root on, whether each kept file is what was signed and whether it is part
of the way from the one version to the other; the order of running is found from the manifest again
and stands in no file that nobody signed. Only the two versions do: whoever runs migrations compares
them with the systems at hand. All of it is replaced in one step. Runs no migration.
"""

import json
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec
from semver import Version

from updog.durable import WholeDirectory
from updog.errors import ImageError, TrustError, UpdogError
from updog.files import read_small_file
from updog.manifest import MANIFEST, MAX_MANIFEST_BYTES, Manifest, parse_manifest
from updog.metadata_cache import copy_files
from updog.migrations import find_chain
from updog.names import printable
from updog.proof import Trusted, UnsignedError, prove, require_content

if TYPE_CHECKING:
    from updog.metadata import Repository

_VERSIONS: Final = "versions.json"
_TARGETS: Final = "targets"
_METADATA: Final = "metadata"

_LONGEST_VERSIONS_BYTES: Final = 4096

_OTHER_KEYS: Final = (
    "; if the root that came with this system has replaced the online keys, do not run them: its "
    "publisher must keep listing the old ones in the root of the release that migrations lead to"
)


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one kept migration: `fault` says why it must not be run, if so."""

    name: str
    fault: str | None


class KeptMigrations(msgspec.Struct, frozen=True, kw_only=True):
    """The migrations from one version to another in the order of running, each with its verdict.

    Files that are no part of the way come last, each with its fault.
    """

    running: Version
    goal: Version
    verdicts: tuple[Verdict, ...]

    @property
    def unproven(self) -> tuple[str, ...]:
        """The names of what must not be run."""
        return tuple(dict.fromkeys(each.name for each in self.verdicts if each.fault))


class _Versions(msgspec.Struct, rename={"start": "from", "end": "to"}):
    start: str
    end: str


def keep(
    repository: "Repository",
    names: Iterable[str],
    directory: Path,
    *,
    running: Version,
    goal: Version,
) -> None:
    """Fetch and verify migrations and keep them with what proves them.

    Everything is collected beside `directory` first and then takes its place.

    Raises:
        UpdogError: A migration is not as signed, or cannot be kept; what was kept before still is.
    """
    whole = WholeDirectory(directory)
    try:
        scratch = whole.begin()
        _collect(repository, names, scratch)
        versions = {"from": str(running), "to": str(goal)}
        (scratch / _VERSIONS).write_text(json.dumps(versions) + "\n")
        whole.publish()
    except BaseException as err:
        with suppress(OSError):
            whole.discard()
        if isinstance(err, OSError):
            raise UpdogError(
                f"cannot keep the migrations in {directory}: {err.strerror}; make room there or "
                "set paths.migrations"
            ) from err
        raise


def forget(directory: Path) -> None:
    """Empty the directory of what an earlier update left: it is not for the next reboot.

    Raises:
        UpdogError: It cannot be removed.
    """
    whole = WholeDirectory(directory)
    try:
        if not _is_empty(whole.current):
            whole.begin()
            whole.publish()
    except OSError as err:
        raise UpdogError(
            f"cannot remove the migrations of an earlier update from {directory}: {err.strerror}"
        ) from err


def verify(trusted_root: bytes, directory: Path) -> KeptMigrations | None:
    """Prove every kept migration again, whether or not the metadata has expired meanwhile.

    Returns:
        The verdicts; None where no migrations are kept.

    Raises:
        TrustError: Nothing can be proven at all: the metadata, the manifest or the versions are not
            there, or not as they must be.
        UpdogError: The manifest knows no way from the one version to the other.
    """
    kept = WholeDirectory(directory).current
    try:
        if _is_empty(kept):
            return None
        if (kept / _TARGETS).is_symlink():
            raise TrustError(f"{kept / _TARGETS} is a link")  # it could lead elsewhere after this
        running, goal = _read_versions(kept / _VERSIONS)
        trusted = prove(trusted_root, kept / _METADATA)
        manifest = _read_manifest(trusted, kept / _TARGETS)
    except (UpdogError, OSError) as err:
        why = err.strerror if isinstance(err, OSError) else err
        advice = _OTHER_KEYS if isinstance(err, UnsignedError) else ""
        raise TrustError(f"the migrations in {directory} cannot be proven: {why}{advice}") from err
    names = find_chain(manifest, running=running, goal=goal)
    verdicts = [Verdict(name=name, fault=_fault(trusted, kept / _TARGETS, name)) for name in names]
    return KeptMigrations(
        running=running,
        goal=goal,
        verdicts=(*verdicts, *_strangers(kept / _TARGETS, {MANIFEST, *names})),
    )


def _is_empty(directory: Path) -> bool:
    try:
        return not any(directory.iterdir())
    except FileNotFoundError:
        return True


def _collect(repository: "Repository", names: Iterable[str], scratch: Path) -> None:
    (scratch / _TARGETS).mkdir()
    for name in dict.fromkeys((MANIFEST, *names)):
        repository.save(repository.target(name), scratch / _TARGETS / name)
    # Last: looking up a target may have fetched the metadata that lists it.
    copy_files(repository.cache, scratch / _METADATA)


def _read_versions(path: Path) -> tuple[Version, Version]:
    try:
        data = read_small_file(path, limit_bytes=_LONGEST_VERSIONS_BYTES)
        versions = msgspec.json.decode(data, type=_Versions)
        return Version.parse(versions.start), Version.parse(versions.end)
    except (OSError, ValueError) as err:
        why = err.strerror if isinstance(err, OSError) else printable(str(err))
        raise TrustError(f"{path}: {why}") from err


def _read_manifest(trusted: Trusted, targets: Path) -> Manifest:
    fault = _fault(trusted, targets, MANIFEST)
    if fault is not None:
        raise TrustError(f"{targets / MANIFEST} is {fault}")
    return parse_manifest(read_small_file(targets / MANIFEST, limit_bytes=MAX_MANIFEST_BYTES))


def _fault(trusted: Trusted, targets: Path, name: str) -> str | None:
    """Say why a kept file must not be run, if so."""
    try:
        require_content(targets / name, trusted.target(name))
    except TrustError as err:
        return f"not listed: {err}"
    except FileNotFoundError:
        return "missing"
    except OSError as err:
        return f"not readable: {err.strerror}"
    except ImageError as err:
        return f"changed: {err}"
    return None


def _strangers(targets: Path, known: set[str]) -> list[Verdict]:
    found = sorted(path.name for path in targets.iterdir() if path.name not in known)
    fault = "not listed: it is no part of the way between these versions"
    return [Verdict(name=name, fault=fault) for name in found]
