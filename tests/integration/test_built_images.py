"""What `repo-tools image` makes is installed by `updog`, and boots."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from semver import Version

from repo_tools.draft import make_changes
from repo_tools.images import Codec, load_images
from repo_tools.playground.place import find_playground
from repo_tools.playground.system import VARIANT, write_root_tree
from repo_tools.repository import publishing
from repo_tools.sources import Release, add_release
from tests.helpers.machine import DISK_SIZE, Machine
from updog.host import read_host

VERSION = Version(1, 3, 0)


def build(machine: Machine, place: Path, *options: str) -> Path:
    """Build images of the playground's system by the installed command."""
    write_root_tree(place / "tree", VERSION, healthy=True)
    (place / "kernel").write_bytes(b"no kernel: the boot is simulated")
    what = ("--kernel", str(place / "kernel"), "--disk-size-mib", DISK_SIZE.removesuffix("MiB"))
    out = place / "images"
    machine.run("repo-tools", "image", "build", str(place / "tree"), str(out), *what, *options)
    return out


def publish(machine: Machine, images: Path) -> None:
    playground = find_playground(machine.directory)
    arch = read_host(playground.os_release).arch
    release = Release(variant=VARIANT, arch=arch, version=VERSION, images=load_images(images))
    now = datetime.now(UTC)
    with publishing(playground.repository, playground.keys, now=now) as publication:
        make_changes(publication, [add_release(release, codec=Codec.ZSTD)], clock=lambda: now)


def inspect(machine: Machine) -> Any:
    return machine.run("repo-tools", "image", "inspect", "disk.img", "--json").succeeded().json()


def test_an_erofs_root_is_installed_by_updog_and_boots(machine: Machine, tmp_path: Path) -> None:
    images = build(machine, tmp_path, "--root-format", "erofs", "--compression", "none")
    publish(machine, images)
    found = machine.updog("check-update", "--json").succeeded().json()
    assert found["images"]["root"].endswith("-root.erofs.zst")
    machine.updog("update", "--now", "--reboot").succeeded()
    running = machine.status()["running"]
    assert (running["version"], running["set"]) == ("1.3.0", "B")
    sets = inspect(machine)["sets"]
    assert sets["A"]["verified"]
    assert sets["B"]["verified"]
    assert sets["B"]["flags"] == "2/0/1"
    assert sets["B"]["root"]["file_system"] == "erofs"
    assert sets["B"]["root"]["os_release"]["VERSION_ID"] == "1.3.0"


def test_a_disk_made_of_built_images_boots(machine: Machine, tmp_path: Path) -> None:
    images = build(machine, tmp_path, "--compression", "none")
    size = ("--size-mib", DISK_SIZE.removesuffix("MiB"))
    disk = ("image", "disk", "disk.img", *size, "--set-a", str(images), "--force")
    machine.run("repo-tools", *disk).succeeded()
    machine.reboot()
    running = machine.status()["running"]
    assert (running["version"], running["set"]) == ("1.3.0", "A")
    assert machine.flags()["A"] == (1, 0, True)
