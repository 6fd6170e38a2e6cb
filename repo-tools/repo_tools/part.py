"""The part of a repository that one machine needs for one update. Pure.

Decides by what the agent asks for on the way: the manifest, the update's three images, and the
migrations from the version that runs. Refuses to guess where the manifest leaves a choice.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from semver import Version

from repo_tools.errors import RepoToolsError
from repo_tools.manifest_checks import image_names
from updog.errors import UpdogError
from updog.manifest import MANIFEST, Manifest, Update
from updog.migrations import find_chain


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """What is known of the machine; None for what is not."""

    variant: str | None = None
    arch: str | None = None
    version: Version | None = None
    from_version: Version | None = None

    @property
    def is_any(self) -> bool:
        """Whether nothing is known, so that the whole repository is meant."""
        return (self.variant, self.arch, self.version, self.from_version) == (None,) * 4


def choose(manifest: Manifest, machine: Machine) -> Update:
    """Find the update that a machine is to take: the one named, or the newest that is offered.

    Raises:
        RepoToolsError: there is none, or they are for several kinds of machines.
    """
    found = [each for each in manifest.updates if _fits(each, machine)]
    if not found:
        raise RepoToolsError(
            "the manifest offers no such update; it knows " + (_known(manifest.updates) or "none")
        )
    if len({(each.variant, each.arch) for each in found}) > 1:
        raise RepoToolsError(
            f"name the machine with --variant and --arch: there are {_known(found)}"
        )
    return max(found, key=lambda each: each.version)


def needed_targets(manifest: Manifest, update: Update, machine: Machine) -> frozenset[str]:
    """Return the names of the targets that a machine fetches for an update.

    Where it is not known which version runs, the migrations from every older one are included.

    Raises:
        RepoToolsError: no migrations lead from the version that runs.
    """
    names = {MANIFEST, *image_names(update.images).values()}
    for running in _starts(manifest, update, machine):
        try:
            names.update(find_chain(manifest, running=running, goal=update.version))
        except UpdogError as error:
            why = str(error).partition(";")[0]
            raise RepoToolsError(f"{why}; nothing was written") from error
    return frozenset(names)


def _fits(update: Update, machine: Machine) -> bool:
    return (
        machine.variant in (None, update.variant)
        and machine.arch in (None, update.arch)
        and (
            update.version <= update.max_version
            if machine.version is None
            else update.version == machine.version
        )
    )


def _starts(manifest: Manifest, update: Update, machine: Machine) -> Iterable[Version]:
    if machine.from_version is not None:
        return (machine.from_version,)
    system = (update.variant, update.arch)
    of_it = (each for each in manifest.updates if (each.variant, each.arch) == system)
    listed = {each.version for each in of_it} | {start for start, _ in manifest.migrations}
    return sorted(version for version in listed if version < update.version)


def _known(updates: Iterable[Update]) -> str:
    return ", ".join(sorted({f"{each.variant} {each.arch} {each.version}" for each in updates}))
