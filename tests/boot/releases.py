"""Releases of the guests' system, and the repositories that they are published in.

Decides how releases differ: all are one root image, built once, into which a version and its
behaviour are put. Real keys, images, trees and metadata, by repo-tools.
"""

import shutil
import tempfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path, PurePosixPath
from uuid import UUID, uuid4

from semver import Version

from repo_tools import ext4
from repo_tools.changes import Change, SetMaxVersion
from repo_tools.cmdline import FILE_NAME, format_command_line
from repo_tools.draft import make_changes
from repo_tools.images import Codec, SystemImages, build_hash_image
from repo_tools.keys import KeyDirectory
from repo_tools.programs import find_program, run_program
from repo_tools.repository import create_repository, publishing
from repo_tools.sources import Release, add_release
from repo_tools.tree import read_tree
from tests.boot.emulator import FOR_EMULATED
from tests.boot.place import kernel
from tests.boot.userland import build_set_initrd

VARIANT = "boot-test"
FACTORY = "1.0.0"
MADE_AT = 1_767_225_600
_ANY_UUID = UUID("0b0e5f1a-3a0f-4c39-8b60-0d6b1f4d4b11")


class Behaviour(StrEnum):
    """What a release does when it is booted."""

    GOOD = "good"
    HEALTH_FAILS = "health-fails"
    HEALTH_HANGS = "health-hangs"
    NEVER_MARKS = "never-marks"
    KERNEL_IS_BROKEN = "kernel-is-broken"
    BOOT_DOES_NOT_MOUNT = "boot-does-not-mount"


_HEALTH = "usr/lib/signpost/health.d"
_ROOM = tuple(f"etc/room-{number}" for number in range(8))
"""Empty files in the base image: one is built with no more inodes than it has files."""

_CHECKS = {
    Behaviour.HEALTH_FAILS: '#!/bin/sh\necho "no route to 192.0.2.1"\nexit 1\n',
    Behaviour.HEALTH_HANGS: "#!/bin/sh\nsleep 1000\n",
}
_GOOD_CHECK = '#!/bin/sh\ntouch /var/probe && echo "files can be written"\n'


@dataclass(slots=True)
class Workshop:
    """What all releases are made of, in a directory of one test session."""

    directory: Path
    build_root: Callable[[Path], None]
    built: dict[Path, SystemImages] = field(default_factory=dict)

    def prepare(self) -> None:
        """Build the parts that all releases share."""
        tree = self.directory / "root"
        self.build_root(tree)
        for name in _ROOM:
            (tree / name).touch()
        _build_file_system(tree, self._base)
        shutil.rmtree(tree)
        self._boot_tree.mkdir()
        shutil.copy2(kernel(), self._boot_tree / "vmlinuz")
        (self._boot_tree / "initrd.img").write_bytes(build_set_initrd())

    def release(self, version: str, behaviour: Behaviour = Behaviour.GOOD) -> Release:
        """Build a release, unless it is there already."""
        directory = self.directory / f"{version}-{behaviour}"
        parsed = Version.parse(version)
        if directory not in self.built:
            directory.mkdir()
            self.built[directory] = self._build(directory, parsed, behaviour)
        return Release(variant=VARIANT, arch="x86_64", version=parsed, images=self.built[directory])

    @property
    def _base(self) -> Path:
        return self.directory / "base.ext4"

    @property
    def _boot_tree(self) -> Path:
        return self.directory / "boot"

    def _build(self, directory: Path, version: Version, behaviour: Behaviour) -> SystemImages:
        images = _places(directory)
        shutil.copyfile(self._base, images["root"])
        _put_version(images["root"], version, behaviour)
        table = build_hash_image(images["root"], images["hash"])
        self._build_boot(
            images["boot"], f"{FOR_EMULATED} {format_command_line(table)}\n", behaviour
        )
        return SystemImages(**images, table=table)

    def _build_boot(self, image: Path, command_line: str, behaviour: Behaviour) -> None:
        tree = image.with_suffix(".tree")
        shutil.copytree(self._boot_tree, tree)
        (tree / FILE_NAME.lstrip("/")).write_text(command_line)
        if behaviour is Behaviour.KERNEL_IS_BROKEN:
            data = (tree / "vmlinuz").read_bytes()
            (tree / "vmlinuz").write_bytes(b"\0" * 1024 + data[1024:])
        _build_file_system(tree, image)
        shutil.rmtree(tree)
        if behaviour is Behaviour.BOOT_DOES_NOT_MOUNT:
            with image.open("r+b") as file:
                file.seek(1024)
                file.write(bytes(1024))  # its superblock


def _places(directory: Path) -> dict[str, Path]:
    return {name: directory / f"{name}.img" for name in ("boot", "root", "hash")}


def _build_file_system(directory: Path, image: Path) -> None:
    tree = read_tree(directory)
    how = ext4.Format(size_bytes=ext4.needed_bytes(tree), uuid=_ANY_UUID, made_at=MADE_AT)
    ext4.build_file_system(tree, image, how)


def _put_version(root: Path, version: Version, behaviour: Behaviour) -> None:
    """Put into a root image what tells it from those of other releases."""
    checks = {"10-disk.sh": _GOOD_CHECK}
    if behaviour in _CHECKS:
        checks["20-special.sh"] = _CHECKS[behaviour]
    put_files(
        root,
        {
            "etc/os-release": os_release(str(version)).encode(),
            "etc/boot-test/behaviour": f"{behaviour}\n".encode(),
            **{f"{_HEALTH}/{name}": text.encode() for name, text in checks.items()},
        },
        remove=_ROOM,
    )


def os_release(version: str) -> str:
    """Return what a release calls itself."""
    return f"ID=boot-test\nVARIANT_ID={VARIANT}\nVERSION_ID={version}\n"


def put_files(image: Path, files: Mapping[str, bytes], *, remove: Iterable[str] = ()) -> None:
    """Write files, owned by root, into a file system; directories are made where they lack."""
    with tempfile.TemporaryDirectory() as scratch:
        commands = [f"rm /{name}" for name in remove]
        commands += [f"mkdir /{parent}" for parent in _parents(files)]
        for number, (name, data) in enumerate(files.items()):
            path = Path(scratch, str(number))
            path.write_bytes(data)
            path.chmod(0o755 if name.endswith(".sh") else 0o644)
            commands.append(f"write {path} /{name}")
        script = Path(scratch, "commands")
        script.write_text("".join(f"{line}\n" for line in commands))
        complaints = ext4.complaints(run("debugfs", "-w", "-f", script, image))
    left = [line for line in complaints if "already exists" not in line]
    assert not left, left


def _parents(files: Iterable[str]) -> list[str]:
    parents = {str(parent) for name in files for parent in PurePosixPath(name).parents}
    return sorted(parents - {"."})


def run(program: str, *arguments: str | Path) -> str:
    """Run a program to its success and return what it wrote to stderr."""
    done = run_program(find_program(program), *arguments)
    assert done.returncode == 0, f"{program}: {done.stderr}"
    return done.stderr


@dataclass(frozen=True, slots=True)
class Publisher:
    """Signs repositories below one served directory, all with the same keys."""

    directory: Path

    @property
    def served(self) -> Path:
        return self.directory / "served"

    @property
    def keys(self) -> KeyDirectory:
        return KeyDirectory(path=self.directory / "keys")

    def publish(self, *releases: Release) -> "Channel":
        """Publish releases that machines with the factory version may take, in their order."""
        name = uuid4().hex
        repository, now = self.served / name, datetime.now(UTC)
        root = create_repository(repository, self.keys, now=now)
        changes: list[Change] = [
            add_release(release, codec=Codec.LZ4, follows=Version.parse(FACTORY))
            for release in releases
        ]
        changes.append(SetMaxVersion(max_version=max(release.version for release in releases)))
        with publishing(repository, self.keys, now=now) as publication:
            make_changes(publication, changes, clock=lambda: now)
        return Channel(name=name, trusted_root=root)


@dataclass(frozen=True, slots=True, kw_only=True)
class Channel:
    """A repository as a machine is told of it."""

    name: str
    trusted_root: bytes
