"""Releases in a catalogue: how it changes when one is added, held back or withdrawn. Pure.

Decides the limit that each update carries, and the steps that tie a version to its neighbours. A
machine goes down when what it runs is above the limit of another update, so all updates of one
variant and architecture carry the same limit; only a withdrawn one keeps a lower one of its own, so
that it is offered to nobody even when the limit rises again. Where machines land is answered by the
agent's own choice. Refuses a version that machines may have in another form, and a change that
would leave machines nothing to go to.
"""

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from msgspec.structs import replace
from semver import Version

from repo_tools.catalogue import Catalogue, Identity, identity
from repo_tools.errors import RepoToolsError
from repo_tools.rescheduling import reached
from updog.choice import Chosen, Policy, choose, judge
from updog.errors import UpdogError
from updog.host import Host
from updog.manifest import Manifest, Update
from updog.migrations import find_chain
from updog.waves import SEEDS, Seed

_BELOW_ALL: Final = Version.parse("0.0.0-0")
"""The lowest version there is: as a limit, it holds everything back."""

Steps = Mapping[tuple[Version, Version], tuple[str, ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Which updates are meant: by version, else the newest on offer, and by where they run."""

    version: Version | None = None
    variant: str | None = None
    arch: str | None = None

    def covers(self, update: Update) -> bool:
        """Tell whether an update runs where it is meant to, whatever its version."""
        return self.variant in {None, update.variant} and self.arch in {None, update.arch}

    def __str__(self) -> str:
        words = [str(self.version or "the newest"), *filter(None, (self.variant, self.arch))]
        return " ".join(words)


@dataclass(frozen=True, slots=True, kw_only=True)
class Landing:
    """What machines of the seeds from `first` up to but not including `end` do next.

    They move to `version` now. Without one they stay where they are: until `at`, when the last of
    them may move, or for good.
    """

    first: int
    end: int
    version: Version | None
    at: datetime | None

    @property
    def share(self) -> float:
        """Their part of the fleet, from 0 to 1."""
        return (self.end - self.first) / SEEDS


def select(manifest: Manifest, wanted: Selection) -> tuple[Update, ...]:
    """Return the updates that are meant, at least one.

    Raises:
        RepoToolsError: there is none.
    """
    covered = [update for update in manifest.updates if wanted.covers(update)]
    offered = [update.version for update in covered if is_offered(update)]
    version = wanted.version or max(offered or [update.version for update in covered], default=None)
    found = tuple(update for update in covered if update.version == version)
    if not found:
        there_are = ", ".join(dict.fromkeys(str(update.version) for update in covered)) or "none"
        raise RepoToolsError(f"no release is {wanted}; there are: {there_are}")
    return found


def with_release(
    catalogue: Catalogue,
    update: Update,
    *,
    follows: Version | None = None,
    migrations: tuple[str, ...] = (),
    hold_back: bool = False,
) -> Catalogue:
    """Return the catalogue with a release added, whose limit rises to it unless it is held back.

    Args:
        catalogue: what is offered so far.
        update: the release; its limit is decided here.
        follows: a version that machines come from, if the catalogue does not know it.
        migrations: what leads to it from the version below.
        hold_back: keep the limit where it is.

    Raises:
        RepoToolsError: the version is there already, or migrations lead from nowhere.
    """
    family = family_of(catalogue.manifest, update)
    present = limit(family)
    if present is None:
        present = _BELOW_ALL if hold_back else update.version
    most = present if hold_back else max(present, update.version)
    manifest = with_update(
        catalogue.manifest,
        replace(update, max_version=most),
        follows=follows,
        migrations=migrations,
    )
    where = Selection(variant=update.variant, arch=update.arch)
    return _with_limit(catalogue.with_manifest(manifest), most, where)


def with_update(
    manifest: Manifest,
    update: Update,
    *,
    follows: Version | None = None,
    migrations: tuple[str, ...] = (),
) -> Manifest:
    """Return the manifest with an update added and tied into the chain of steps, if there is one.

    Raises:
        RepoToolsError: the version is there already, or migrations lead from nowhere.
    """
    refuse_published(manifest, update)
    known = known_versions(manifest) | ({follows} if follows else set())
    steps = dict(manifest.migrations)
    if steps or follows or migrations:
        for version in sorted(known | {update.version}):
            steps = {**_ties(version, known, steps), **steps}
    if migrations:
        steps[_below(update.version, known), update.version] = migrations
    updates = sorted((*manifest.updates, update), key=lambda each: each.version, reverse=True)
    return Manifest(updates=tuple(updates), migrations=steps)


def with_max_version(catalogue: Catalogue, most: Version, where: Selection) -> Catalogue:
    """Return the catalogue with another limit; what was withdrawn stays so.

    Raises:
        RepoToolsError: there is no update, or none would be left to go to.
    """
    if not any(where.covers(update) for update in catalogue.manifest.updates):
        raise RepoToolsError("the manifest lists no update: add a release first")
    changed = _with_limit(catalogue, most, where)
    for family in families(changed.manifest):
        if where.covers(family[0]) and not any(map(is_offered, family)):
            raise RepoToolsError(
                f"no update of {family[0].variant} for {family[0].arch} would be left at or below "
                f"{most}: its machines would have nothing to go to"
            )
    return changed


def with_withdrawal(catalogue: Catalogue, update: Update, now: datetime) -> Catalogue:
    """Return the catalogue with an update taken back, so that machines leave it.

    Raises:
        RepoToolsError: there is nothing to leave it for, or no migrations lead there.
    """
    family = family_of(catalogue.manifest, update)
    others = [each.version for each in family if is_offered(each) and each != update]
    if not others:
        raise RepoToolsError(
            f"{update.version} of {update.variant} for {update.arch} is all that is offered: "
            "machines would have nothing to land on; publish another release first"
        )
    below = max((version for version in others if version < update.version), default=_BELOW_ALL)
    changed = catalogue.with_withdrawal(update, now).with_update(replace(update, max_version=below))
    if max(others) < update.version:
        where = Selection(variant=update.variant, arch=update.arch)
        changed = _with_limit(changed, max(others), where)
    _refuse_dead_ends(changed, update, now)
    return changed


def without_withdrawal(catalogue: Catalogue, update: Update) -> Catalogue:
    """Return the catalogue with a withdrawn update offered again."""
    changed = catalogue.with_withdrawal(update, None)
    present = limit(each for each in family_of(catalogue.manifest, update) if each != update)
    most = max(update.version, present or update.version)
    return _with_limit(changed, most, Selection(variant=update.variant, arch=update.arch))


def with_migrations(
    manifest: Manifest, start: Version, end: Version, *, names: tuple[str, ...]
) -> Manifest:
    """Return the manifest with the migrations of one step replaced.

    Raises:
        RepoToolsError: the step does not lead upwards.
    """
    if start >= end:
        raise RepoToolsError(
            f"a step leads upwards, from {end} to {start}: going down, machines walk it backwards"
        )
    return replace(manifest, migrations={**manifest.migrations, (start, end): names})


def landings(catalogue: Catalogue, update: Update, now: datetime) -> tuple[Landing, ...]:
    """Return what machines that run an update will do, by the agent's own choice."""
    host = Host(variant=update.variant, arch=update.arch, version=update.version)
    family = family_of(catalogue.manifest, update)
    ends = sorted({SEEDS, *(reached(each.waves, now) for each in family)} - {0})
    found: list[Landing] = []
    for first, end in zip([0, *ends], ends, strict=False):
        # Readiness rises with the seed: between two of these ends, one answer is that of all.
        seed = Seed(end - 1)
        outcome = choose(judge(catalogue.manifest, host, policy=Policy(), seed=seed, now=now))
        version = outcome.update.version if isinstance(outcome, Chosen) else None
        at = None if isinstance(outcome, Chosen) else outcome.ready_at
        if found and version is not None and found[-1].version == version:
            found[-1] = dataclasses.replace(found[-1], end=end)
        else:
            found.append(Landing(first=first, end=end, version=version, at=at))
    return tuple(found)


def limit(updates: Iterable[Update]) -> Version | None:
    """Return the version that machines may go up to, None while there is no update."""
    return max((update.max_version for update in updates), default=None)


def is_offered(update: Update) -> bool:
    """Tell whether machines may take it, when their wave has come."""
    return update.version <= update.max_version


def families(manifest: Manifest) -> tuple[tuple[Update, ...], ...]:
    """Return the updates by variant and architecture, the newest of each first."""
    groups: dict[tuple[str, str], list[Update]] = {}
    for update in sorted(manifest.updates, key=lambda each: each.version, reverse=True):
        groups.setdefault((update.variant, update.arch), []).append(update)
    return tuple(tuple(group) for _, group in sorted(groups.items()))


def family_of(manifest: Manifest, update: Update) -> tuple[Update, ...]:
    """Return the updates of the same variant and architecture."""
    where = (update.variant, update.arch)
    return tuple(each for each in manifest.updates if (each.variant, each.arch) == where)


def known_versions(manifest: Manifest) -> frozenset[Version]:
    """Return every version that the manifest offers or leads from or to."""
    steps = (version for step in manifest.migrations for version in step)
    return frozenset(steps) | {update.version for update in manifest.updates}


def find_listed(manifest: Manifest, wanted: Identity) -> Update | None:
    """Return the listed update of this variant, architecture and version."""
    return next((each for each in manifest.updates if identity(each) == wanted), None)


def refuse_published(manifest: Manifest, update: Update) -> None:
    """Refuse a version that machines may already have.

    Raises:
        RepoToolsError: the manifest lists it.
    """
    if find_listed(manifest, identity(update)):
        raise RepoToolsError(
            f"{update.version} is published already and machines may run it: choose a new version"
        )


def _with_limit(catalogue: Catalogue, most: Version, where: Selection) -> Catalogue:
    updates = tuple(
        replace(update, max_version=most)
        if where.covers(update) and not catalogue.is_withdrawn(update)
        else replace(update, max_version=min(most, update.max_version))
        if where.covers(update)
        else update
        for update in catalogue.manifest.updates
    )
    return catalogue.with_manifest(replace(catalogue.manifest, updates=updates))


def _ties(version: Version, known: Iterable[Version], steps: Steps) -> Steps:
    """Return the steps from the version below and to the one above.

    What was needed to get from one neighbour to the other is needed from here on up: a version in
    between brings no migrations of its own, unless it is told to.
    """
    below = max((each for each in known if each < version), default=None)
    above = min((each for each in known if each > version), default=None)
    ties: dict[tuple[Version, Version], tuple[str, ...]] = {}
    if below is not None:
        ties[below, version] = ()
    if above is not None:
        ties[version, above] = steps.get((below, above), ()) if below is not None else ()
    return ties


def _below(version: Version, known: Iterable[Version]) -> Version:
    below = max((each for each in known if each < version), default=None)
    if below is None:
        raise RepoToolsError(
            f"there is no version below {version} that migrations could lead from: "
            "name it by --follows"
        )
    return below


def _refuse_dead_ends(catalogue: Catalogue, update: Update, now: datetime) -> None:
    """Refuse to send machines where no migrations lead: they would stay with what is withdrawn."""
    for landing in landings(catalogue, update, now):
        if landing.version is None:
            continue
        try:
            find_chain(catalogue.manifest, running=update.version, goal=landing.version)
        except UpdogError as error:
            raise RepoToolsError(
                f"machines that run {update.version} could not go to {landing.version}: {error}"
            ) from error
