"""Releases with images of a few MiB, published for a test's machine within a second."""

import random
import shutil
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from semver import Version

from repo_tools.images import Codec, SystemImages, build_images
from repo_tools.playground.place import Playground, find_playground
from repo_tools.playground.system import MADE_AT, OS_RELEASE, VARIANT, write_boot_tree
from repo_tools.releases import Release, add_release, read_manifest, set_max_version
from repo_tools.repository import publishing
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
        add_release(publication, release, waves=(), codec=codec)
        manifest = set_max_version(publication, version)
        for name in (name for names in (migrations or {}).values() for name in names):
            publication.add_bytes(name, f"{name} moves the settings\n".encode() * 100)
        changed = replace(manifest, migrations={**manifest.migrations, **(migrations or {})})
        publication.add_bytes("manifest.json", serialise(changed))
        assert read_manifest(publication) == changed
    return release.images


def _build(playground: Playground, version: Version) -> Release:
    directory = playground.releases / str(version)
    root, boot = directory / "root", directory / "boot"
    _write_root_tree(root, version)
    write_boot_tree(boot)
    host = read_host(root / OS_RELEASE)
    images = build_images(root, boot, directory, made_at=MADE_AT)
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
