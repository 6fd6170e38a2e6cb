"""The playground's publisher: builds its small system and puts it into its repository.

Decides where built images stay, so that they can be looked into and compared with the disk.
"""

import shutil

from semver import Version

from repo_tools.images import BootContent, Recipe, build_images
from repo_tools.playground.place import Playground
from repo_tools.playground.system import (
    MADE_AT,
    OS_RELEASE,
    VARIANT,
    write_boot_tree,
    write_root_tree,
)
from repo_tools.sources import Release
from repo_tools.tree import read_tree
from updog.host import read_host


def build_release(playground: Playground, version: Version, *, healthy: bool) -> Release:
    """Build the images of one release in `releases/VERSION`.

    Args:
        playground: whose release it is.
        version: what the system calls itself.
        healthy: whether its own health checks find it in order.
    """
    directory = playground.releases / str(version)
    root_tree, boot_tree = directory / "root", directory / "boot"
    shutil.rmtree(directory, ignore_errors=True)
    write_root_tree(root_tree, version, healthy=healthy)
    write_boot_tree(boot_tree)
    host = read_host(root_tree / OS_RELEASE)
    images = build_images(
        read_tree(root_tree), BootContent(tree=boot_tree), directory, Recipe(made_at=MADE_AT)
    )
    for tree in (root_tree, boot_tree):
        shutil.rmtree(tree)
    return Release(variant=VARIANT, arch=host.arch, version=host.version, images=images)


def sizes(release: Release) -> str:
    """Return the sizes of a release's images in words."""
    images = {"boot": release.images.boot, "root": release.images.root, "hash": release.images.hash}
    return ", ".join(f"{role} {_size(path.stat().st_size)}" for role, path in images.items())


def _size(length: int) -> str:
    return f"{length / (1 << 20):.1f} MiB" if length >= 1 << 20 else f"{length >> 10} KiB"
