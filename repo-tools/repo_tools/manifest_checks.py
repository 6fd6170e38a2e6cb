"""What is wrong with a manifest's meaning: images, migrations, limits and waves. Pure.

Decides by the rules that machines go by (`updog.choice`, `updog.migrations`, `updog.waves`), for
machines of every version that the manifest knows.
"""

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Final

from semver import Version

from repo_tools.findings import Finding, fault, warning
from updog.errors import UpdogError
from updog.manifest import MANIFEST, Images, Manifest, Update
from updog.migrations import find_chain
from updog.units import duration
from updog.waves import SEEDS

_LONGEST_ROLLOUT: Final = timedelta(days=180)


def image_names(images: Images) -> dict[str, str]:
    """Return the targets of an update by what they are for."""
    return {"boot": images.boot, "root": images.root, "hash": images.hash}


def referred(manifest: Manifest) -> set[str]:
    """Return the names of all targets that the manifest, or a machine, asks for."""
    images = {name for one in manifest.updates for name in image_names(one.images).values()}
    return {MANIFEST} | images | {name for names in manifest.migrations.values() for name in names}


def check_manifest(
    manifest: Manifest, listed: Collection[str], *, now: datetime
) -> Iterator[Finding]:
    """Look at a manifest that keeps the format's rules.

    Args:
        manifest: what machines read.
        listed: the names of all targets that were signed.
        now: the time, with a zone.
    """
    yield from _check_names(manifest, listed)
    yield from _check_chains(manifest)
    yield from _check_limits(manifest)
    for update in manifest.updates:
        yield from _check_waves(update, now)


def _check_names(manifest: Manifest, listed: Collection[str]) -> Iterator[Finding]:
    for update in manifest.updates:
        for role, name in image_names(update.images).items():
            if name not in listed:
                yield fault(shown(update), f"its {role} image {name} is no signed target")
    for (start, end), names in manifest.migrations.items():
        for name in names:
            if name not in listed:
                yield fault(f"step {start} to {end}", f"its migration {name} is no signed target")
    for name in sorted(set(listed) - referred(manifest)):
        yield warning(name, "is signed, but neither the manifest nor a machine asks for it")


def _check_chains(manifest: Manifest) -> Iterator[Finding]:
    listed = {update.version for update in manifest.updates}
    for running, goal in sorted(_journeys(manifest)):
        try:
            find_chain(manifest, running=running, goal=goal)
        except UpdogError as error:
            # A version that is not listed may be that of machines of another kind.
            found = fault if running in listed else warning
            yield found("migrations", f"from {running} to {goal}: {error}".partition(";")[0])


def _journeys(manifest: Manifest) -> set[tuple[Version, Version]]:
    """Return from which version machines come or will come to which.

    To the newest that they may take, and to the newest of all, which they may take one day. From
    versions above the limit the way leads down. Versions that only migrations name, like that of
    the factory, are ones to come from too.
    """
    listed = {update.version for update in manifest.updates}
    unlisted = {version for step in manifest.migrations for version in step} - listed
    journeys: set[tuple[Version, Version]] = set()
    for updates in _by_system(manifest).values():
        versions = {update.version for update in updates}
        allowed = {update.version for update in updates if update.version <= update.max_version}
        for goal in {max(allowed or versions), max(versions)}:
            journeys |= {(version, goal) for version in versions | unlisted if version < goal}
        if allowed:
            journeys |= {(v, max(allowed)) for v in versions if v > max(allowed)}
    return journeys


def _by_system(manifest: Manifest) -> Mapping[tuple[str, str], Sequence[Update]]:
    systems: dict[tuple[str, str], list[Update]] = defaultdict(list)
    for update in manifest.updates:
        systems[update.variant, update.arch].append(update)
    return systems


def _check_limits(manifest: Manifest) -> Iterator[Finding]:
    for (variant, arch), updates in _by_system(manifest).items():
        limits = sorted({update.max_version for update in updates})
        if len(limits) > 1:
            yield warning(
                f"{variant} {arch}",
                f"its updates have different limits (max_version {limits[0]} to {limits[-1]}): "
                "machines go by the one that they look at",
            )
        if all(update.version > update.max_version for update in updates):
            yield warning(
                f"{variant} {arch}", "every update is above its max_version: none offered"
            )


def _check_waves(update: Update, now: datetime) -> Iterator[Finding]:
    if not update.waves:
        return
    first, last = update.waves[0], update.waves[-1]
    if first.bound > 0:
        yield warning(
            shown(update), f"its first wave begins at seed {first.bound}: those below come with it"
        )
    if last.bound == SEEDS and len(update.waves) == 1:
        yield fault(shown(update), f"its only wave begins at {SEEDS}, above every seed")
    if last.starts_at - now > _LONGEST_ROLLOUT:
        yield warning(
            shown(update),
            f"its last wave begins in {duration(last.starts_at - now)}: is that meant?",
        )


def shown(update: Update) -> str:
    """Return what an update is called in messages."""
    return f"{update.variant} {update.arch} {update.version}"
