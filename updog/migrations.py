"""Data migrations between two versions: which ones are needed, and keeping them for the reboot.

Decides the chain from the manifest and refuses a gap in it, before anything is written. Keeps the
migrations together with the metadata that proves them, so that they can be proven again without a
network. Runs none of them.
"""

import os
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path

from semver import Version

from updog.errors import UpdogError
from updog.manifest import Manifest
from updog.metadata import Repository


def find_chain(manifest: Manifest, *, running: Version, goal: Version) -> tuple[str, ...]:
    """Return the migrations that lead from one version to another, in the order of running.

    From the lower to the higher version, each step is the longest one that starts where the last
    one ended; a downgrade runs the same list backwards. A manifest without any steps says that its
    publisher uses no migrations.

    Raises:
        UpdogError: there is no chain of steps to the goal.
    """
    lower, higher = sorted((running, goal))
    steps = _steps_by_start(manifest)
    names: list[str] = []
    at = lower
    while steps and at < higher:
        reachable = [step for step in steps.get(at, ()) if step[0] <= higher]
        if not reachable:
            raise UpdogError(
                f"the manifest has no migrations from {at} on the way from {running} to {goal}; "
                "nothing was written, the publisher must add that step"
            )
        at, more = max(reachable, key=lambda step: step[0])
        names += more
    return tuple(names if running <= goal else reversed(names))


def _steps_by_start(manifest: Manifest) -> Mapping[Version, list[tuple[Version, tuple[str, ...]]]]:
    """Return, for each version that steps lead from, where each leads and its migrations."""
    steps: dict[Version, list[tuple[Version, tuple[str, ...]]]] = {}
    for (start, end), names in manifest.migrations.items():
        steps.setdefault(start, []).append((end, names))
    return steps


def keep(repository: Repository, names: Iterable[str], directory: Path) -> None:
    """Fetch and verify migrations and keep them with the metadata that proves them.

    Everything is collected beside `directory` first and then takes its place.

    Raises:
        UpdogError: a migration is not as signed, or cannot be kept.
    """
    scratch = directory.with_name(f".{directory.name}.new")
    try:
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir(parents=True)
        for name in dict.fromkeys(names):
            _fetch(repository, name, scratch / name)
        shutil.copytree(repository.cache, scratch / "metadata")
        _flush(scratch)
        _replace(directory, scratch)
    except OSError as err:
        raise UpdogError(f"cannot keep the migrations in {directory}: {err.strerror}") from err


def _fetch(repository: Repository, name: str, path: Path) -> None:
    def write(pieces: Iterable[bytes]) -> None:
        with path.open("wb") as file:
            file.writelines(pieces)

    repository.deliver(repository.target(name), write)


def _flush(directory: Path) -> None:
    for path in (*directory.rglob("*"), directory):
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _replace(directory: Path, scratch: Path) -> None:
    """Put a directory in another's place; a cut in between leaves none, which is fetched again."""
    shutil.rmtree(directory, ignore_errors=True)
    scratch.rename(directory)
    _flush_entry(directory.parent)


def _flush_entry(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
