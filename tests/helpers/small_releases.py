"""Releases with images of a few MiB, published for a test's machine within a second."""

import random
import shutil
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from msgspec.structs import replace
from semver import Version

from repo_tools.changes import Change, SetMaxVersion
from repo_tools.draft import make_changes, read_catalogue
from repo_tools.images import BootContent, Codec, Recipe, SystemImages, build_images
from repo_tools.playground.place import Playground, find_playground
from repo_tools.playground.system import MADE_AT, OS_RELEASE, VARIANT, write_boot_tree
from repo_tools.repository import publishing
from repo_tools.sources import Release, add_release
from repo_tools.tree import read_tree
from updog.host import read_host
from updog.manifest import serialise

ROOT_BYTES = 8 << 20

Step = tuple[Version, Version]


def publish_small_release(
    directory: Path,
    version: Version,
    *,
    codec: Codec,
    migrations: Mapping[Step, tuple[str, ...]] | None = None,
) -> SystemImages:
    """Publish a release for all machines of a playground at once.

    Args:
        directory: of the playground.
        version: of the release.
        codec: how its images are compressed.
        migrations: what is needed between which versions, beside what is published already.
    """
    playground = find_playground(directory)
    release = _build(playground, version)
    with publishing(playground.repository, playground.keys, now=datetime.now(UTC)) as publication:
        changes: list[Change] = [
            add_release(release, codec=codec),
            SetMaxVersion(max_version=version),
        ]
        manifest = make_changes(publication, changes, clock=lambda: datetime.now(UTC)).manifest
        for name in (name for names in (migrations or {}).values() for name in names):
            publication.add_bytes(name, f"{name} moves the settings\n".encode() * 100)
        changed = replace(manifest, migrations={**manifest.migrations, **(migrations or {})})
        publication.add_bytes("manifest.json", serialise(changed))
        assert read_catalogue(publication).manifest == changed
    return release.images


def _build(playground: Playground, version: Version) -> Release:
    directory = playground.releases / str(version)
    root, boot = directory / "root", directory / "boot"
    _write_root_tree(root, version)
    write_boot_tree(boot)
    host = read_host(root / OS_RELEASE)
    content = BootContent(tree=boot)
    images = build_images(read_tree(root), content, directory, Recipe(made_at=MADE_AT))
    for tree in (root, boot):
        shutil.rmtree(tree)
    return Release(variant=VARIANT, arch=host.arch, version=version, images=images)


def _write_root_tree(root: Path, version: Version) -> None:
    """Write a system of one file that cannot be compressed, another one for each version."""
    os_release, data = root / OS_RELEASE, root / "usr" / "data"
    for path in (os_release, data):
        path.parent.mkdir(parents=True)
    os_release.write_text(f"ID=small\nVARIANT_ID={VARIANT}\nVERSION_ID={version}\n")
    data.write_bytes(random.Random(str(version)).randbytes(ROOT_BYTES))
