"""The schedule of an update that is published, and what it costs by the published sizes.

Decides from when on it is played. Refuses to choose between variants that have different waves.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from semver import Version
from tuf.api.metadata import TargetFile

from repo_tools.draft import read_catalogue
from repo_tools.errors import RepoToolsError
from repo_tools.repository import PublishedRepository
from repo_tools.rollout.schedule import Schedule, Traffic
from updog.manifest import MANIFEST, Update
from updog.waves import Wave


def from_repository(
    directory: Path, version: Version, *, start: datetime | None, update_bytes: int | None
) -> Schedule:
    """Read the schedule of a published version, and from the metadata what it costs.

    Args:
        directory: Holds `metadata/` and `targets/`.
        version: Of the update. Its variants must have the same waves.
        start: What times count from; when None, the start of the first wave.
        update_bytes: The size of all images, when it is not to be that of the largest variant.

    Raises:
        RepoToolsError: no such version is published, or with different waves.
    """
    published = PublishedRepository(directory)
    updates = [
        each for each in read_catalogue(published).manifest.updates if each.version == version
    ]
    waves = _common_waves(updates, version, directory)
    return Schedule(
        name=str(version),
        # Without waves all come at once, whenever that is.
        start=start or (waves[0].starts_at if waves else datetime.fromtimestamp(0, UTC)),
        waves=waves,
        traffic=_traffic_of(published, updates, update_bytes),
    )


def _common_waves(updates: Sequence[Update], version: Version, directory: Path) -> tuple[Wave, ...]:
    if not updates:
        raise RepoToolsError(f"no update {version} is published in {directory}")
    different = {update.waves for update in updates}
    if len(different) > 1:
        names = " and ".join(f"{update.variant} for {update.arch}" for update in updates)
        raise RepoToolsError(
            f"the waves of {version} in {directory} are not the same for {names}: "
            "simulate their wave files one by one"
        )
    return different.pop()


def _traffic_of(
    published: PublishedRepository, updates: Sequence[Update], update_bytes: int | None
) -> Traffic:
    """Take sizes from the published files; an update's are those of the largest variant."""
    targets = published.roles["targets"].signed.targets
    largest = max(_image_bytes(targets, each) for each in updates)
    return Traffic(
        check_bytes=_metadata_bytes(published, "timestamp") + targets[MANIFEST].length,
        news_bytes=sum(_metadata_bytes(published, role) for role in ("snapshot", "targets")),
        update_bytes=largest if update_bytes is None else update_bytes,
    )


def _image_bytes(targets: Mapping[str, TargetFile], update: Update) -> int:
    names = (update.images.boot, update.images.root, update.images.hash)
    for name in names:
        if name not in targets:
            raise RepoToolsError(f"the image {name} of {update.version} is not among the targets")
    return sum(targets[name].length for name in names)


def _metadata_bytes(published: PublishedRepository, role: str) -> int:
    version = published.roles[role].signed.version
    return published.metadata_path(role, version).stat().st_size
