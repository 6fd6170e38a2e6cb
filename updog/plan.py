"""What an update will do, checked while both sets are still untouched.

Decides whether an update can be installed at all: targets, sizes, partitions, boot flags,
migrations, room for what is noted and kept. Refuses early whatever can be refused early; writes
nothing.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

import msgspec

from signpost import disk as boot_disk
from signpost import state as boot_state
from signpost.disk import BootDisk, Window
from signpost.sets import PartitionSet, SetName, Sets
from updog import migrations
from updog.errors import ImageError, PartitionError, UpdogError
from updog.install import Role
from updog.machine import Machine
from updog.manifest import MANIFEST, Images, Manifest, Update
from updog.metadata import Repository, Target
from updog.partition import describe
from updog.stream import check_beginning
from updog.units import size

_NOTES_BYTES: Final = 16 << 10
"""What the events of one update take at most, each in blocks of its own."""

_PROOF_BYTES: Final = 64 << 10
"""What is kept with migrations to prove them: metadata, commonly a tenth of that."""


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What will be done, checked as far as it can be without changing anything."""

    update: Update
    sets: Sets
    inactive: SetName
    targets: Mapping[Role, Target]
    windows: Mapping[Role, Window]
    migrations: tuple[str, ...]

    @property
    def download_bytes(self) -> int:
        """What has to be fetched for the images."""
        return sum(target.length for target in self.targets.values())


def plan(machine: Machine, repository: Repository, manifest: Manifest, update: Update) -> Plan:
    """Check everything that can be checked while both sets are still untouched.

    Raises:
        UpdogError: targets, migrations or partitions do not fit, or an image cannot be fetched.
        SignpostError: the disk or its flags forbid an update.
    """
    found = boot_disk.read(machine.location)
    boot_state.clear_inactive(found.state)
    boot_disk.require_writable(machine.location)
    inactive = boot_state.inactive_set(found.state)
    windows = windows_of(found, found.sets[inactive])
    targets = {role: repository.target(_name(update.images, role)) for role in Role}
    for role in Role:
        _refuse_too_large(targets[role], windows[role], role)
    chain = migrations.find_chain(manifest, running=machine.host.version, goal=update.version)
    _require_room(machine, repository, chain)
    return Plan(
        update=update,
        sets=found.sets,
        inactive=inactive,
        targets=targets,
        windows=windows,
        migrations=chain,
    )


def _require_room(machine: Machine, repository: Repository, chain: Sequence[str]) -> None:
    """Refuse what would end in the middle for want of room: history or migrations."""
    paths = machine.config.paths
    _require_free(paths.state, _NOTES_BYTES, what="the history")
    names = dict.fromkeys((MANIFEST, *chain)) if chain else {}
    needed = sum(repository.target(name).length for name in names)
    if needed:
        _require_free(paths.migrations, needed + _PROOF_BYTES, what="the migrations")


def _require_free(directory: Path, needed_bytes: int, *, what: str) -> None:
    status = os.statvfs(next(each for each in (directory, *directory.parents) if each.exists()))
    free = status.f_bavail * status.f_frsize
    if status.f_blocks and free < needed_bytes:  # some file systems do not tell their size
        raise UpdogError(
            f"cannot keep {what} in {directory}: {size(free)} are free there, {size(needed_bytes)} "
            "are needed (both sets are untouched); make room, then run the command again"
        )


def require_images(planned: Plan, repository: Repository) -> None:
    """Fetch the beginning of every image: one that is of no use is found out before it is needed.

    Raises:
        ImageError: an image cannot be decompressed.
        TransportError: an image cannot be fetched.
    """
    for target in planned.targets.values():

        def check(chunks: Iterator[bytes], name: str = target.name) -> None:
            check_beginning(name, next(chunks, b""))

        try:
            repository.deliver(target, check)
        except ImageError as err:
            raise ImageError(
                f"{err} (both sets are untouched); run the command again once the publisher has "
                "mended it"
            ) from err


def windows_of(found: BootDisk, one: PartitionSet) -> dict[Role, Window]:
    """Return where the partitions of a set are."""
    return {
        Role.BOOT: found.window(one.boot),
        Role.ROOT: found.window(one.root),
        Role.HASH: found.window(one.hash),
    }


def _name(images: Images, role: Role) -> str:
    match role:
        case Role.BOOT:
            return images.boot
        case Role.ROOT:
            return images.root
        case Role.HASH:
            return images.hash


def _refuse_too_large(target: Target, window: Window, role: Role) -> None:
    needed = target.uncompressed_length
    if needed is not None and needed > window.length_bytes:
        raise PartitionError(
            f"cannot write the {role} image to {describe(window)}: the partition holds "
            f"{window.length_bytes} bytes, the image needs {needed} (both sets are untouched). "
            "Only a smaller image can be installed here"
        )
