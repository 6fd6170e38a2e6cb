"""Releases of a repository: their targets, and their place in manifest.json.

Decides what a release's targets are called and how the manifest changes when one is added or held
back. Refuses to publish a version twice: machines that have it would never learn of the other one.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from semver import Version

from repo_tools.errors import RepoToolsError
from repo_tools.filesystems import Kind
from repo_tools.images import Codec, SystemImages, compress
from repo_tools.repository import Publication, PublishedRepository, StagedTarget
from updog.manifest import Images, Manifest, Update, parse_manifest, serialise
from updog.waves import Wave

MANIFEST: Final = "manifest.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """A built system that may be published."""

    variant: str
    arch: str
    version: Version
    images: SystemImages


def read_manifest(repository: Publication | PublishedRepository) -> Manifest:
    """Return the repository's manifest, an empty one while it has none."""
    data = repository.read(MANIFEST)
    return Manifest(updates=(), migrations={}) if data is None else parse_manifest(data)


def add_release(
    publication: Publication,
    release: Release,
    *,
    waves: tuple[Wave, ...],
    codec: Codec,
    follows: Version | None = None,
) -> Update:
    """Add a release's images and its manifest entry to a publication.

    Args:
        publication: what will be published together.
        release: the built system.
        waves: when it reaches whom; none for everybody at once.
        codec: how its images are compressed.
        follows: a version that machines come from, if the manifest does not list it.

    Returns:
        The manifest entry. A version above the manifest's limit is held back until
        `set_max_version` raises it.

    Raises:
        RepoToolsError: the version is published already.
    """
    manifest = read_manifest(publication)
    update = Update(
        variant=release.variant,
        arch=release.arch,
        version=release.version,
        max_version=limit(manifest) or release.version,
        waves=waves,
        images=_stage_images(publication, release, codec),
    )
    manifest = with_update(manifest, update, follows=follows)
    publication.add_bytes(MANIFEST, serialise(manifest))
    return update


def set_max_version(publication: Publication, max_version: Version) -> Manifest:
    """Let machines go up to `max_version` and no further, whatever else is published.

    Raises:
        RepoToolsError: nothing is published yet.
    """
    manifest = with_max_version(read_manifest(publication), max_version)
    publication.add_bytes(MANIFEST, serialise(manifest))
    return manifest


def with_update(manifest: Manifest, update: Update, *, follows: Version | None) -> Manifest:
    """Return the manifest with an update added, and a step of no migrations from its predecessor.

    Raises:
        RepoToolsError: the version is there already.
    """
    refuse_published(manifest, variant=update.variant, arch=update.arch, version=update.version)
    known = known_versions(manifest) | ({follows} if follows else set())
    return Manifest(
        updates=tuple(sorted((*manifest.updates, update), key=lambda u: u.version, reverse=True)),
        migrations={**_steps(update.version, known), **manifest.migrations},
    )


def with_max_version(manifest: Manifest, max_version: Version) -> Manifest:
    """Return the manifest with the same limit in every update, as machines expect it.

    Raises:
        RepoToolsError: there is no update.
    """
    if not manifest.updates:
        raise RepoToolsError("the manifest lists no update: publish a release first")
    updates = tuple(replace(update, max_version=max_version) for update in manifest.updates)
    return replace(manifest, updates=updates)


def limit(manifest: Manifest) -> Version | None:
    """Return the version that machines may go up to, None while there is no update."""
    return max((update.max_version for update in manifest.updates), default=None)


def known_versions(manifest: Manifest) -> frozenset[Version]:
    """Return every version that the manifest offers or leads from or to."""
    steps = (version for step in manifest.migrations for version in step)
    return frozenset(steps) | {update.version for update in manifest.updates}


def refuse_published(manifest: Manifest, *, variant: str, arch: str, version: Version) -> None:
    """Refuse a version that machines may already have.

    Raises:
        RepoToolsError: the manifest lists it.
    """
    for update in manifest.updates:
        if (update.variant, update.arch, update.version) == (variant, arch, version):
            raise RepoToolsError(
                f"{version} is published already and machines may run it: choose a new version"
            )


def _steps(
    version: Version, known: frozenset[Version]
) -> Mapping[tuple[Version, Version], tuple[str, ...]]:
    """Return the steps that tie a version into the chain: from the one below, to the one above."""
    below = max((v for v in known if v < version), default=None)
    above = min((v for v in known if v > version), default=None)
    steps: dict[tuple[Version, Version], tuple[str, ...]] = {}
    if below is not None:
        steps[below, version] = ()
    if above is not None:
        steps[version, above] = ()
    return steps


def _stage_images(publication: Publication, release: Release, codec: Codec) -> Images:
    name = f"{release.variant}-{release.arch}-{release.version}-{release.images.build_id}"
    images = release.images
    return Images(
        boot=_stage(publication, f"{name}-boot.ext4.{codec}", images.boot, codec),
        root=_stage(publication, f"{name}-{_root_ending(images)}.{codec}", images.root, codec),
        hash=_stage(publication, f"{name}-root.verity.{codec}", images.hash, codec),
    )


def _root_ending(images: SystemImages) -> str:
    return f"root.{Kind.EROFS if images.root.suffix == '.erofs' else Kind.EXT4}"


def _stage(publication: Publication, name: str, image: Path, codec: Codec) -> str:
    """Compress an image straight to where it will be published from."""
    path = publication.staging_path(name)
    packed = compress(image, path, codec)
    uncompressed = {"length": packed.uncompressed_length, "sha256": packed.uncompressed_sha256}
    publication.add(
        StagedTarget(
            name=name,
            path=path,
            length=packed.length,
            sha256=packed.sha256,
            custom={"uncompressed": uncompressed},
        )
    )
    return name
