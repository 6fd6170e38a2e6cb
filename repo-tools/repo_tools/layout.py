"""A whole OS disk in an image file: the partition table with both sets, and images put into them.

Decides order, sizes and types of the partitions (as the cloned system plans them: some of them
grow with the disk, the root partitions take what is left) and the factory boot state: set A boots
and has booted, set B is empty. Reserves room for a second entry array in front of the first
partition, so that later changes of the boot flags cannot be cut in half.

pyparted lays the table out; libparted before 3.6 cannot set partition types and none sets the
attribute bits, so these are put in by way of `signpost.table_write`. Needs no root and no loop
device.
"""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import _ped
import parted

from repo_tools.errors import RepoToolsError
from signpost import gpt, sets, table_write
from signpost.disk import Location, Window, change
from signpost.flags import CLEARED, BootFlags
from signpost.state import BootState
from updog.partition import open_for_writing

MEBIBYTE: Final = 1 << 20
_GIBIBYTE_MIB: Final = 1024
SECTOR_SIZE: Final = 512
"""libparted treats every image file as a disk of such sectors."""
_SECTORS_PER_MIB: Final = MEBIBYTE // SECTOR_SIZE
_TABLE_MIB: Final = 1
"""Before the first partition: the table, room for its second entry array, and alignment."""
_BACKUP_MIB: Final = 1
MINIMUM_MIB: Final = 192

_FACTORY_FLAGS: Final = {
    sets.SetName.A: BootFlags(priority=1, tries=0, successful=True),
    sets.SetName.B: CLEARED,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedPartition:
    """A partition to be made, of `size_mib` MiB; 0 stands for the rest of the disk."""

    label: str
    type_guid: UUID
    size_mib: int


def plan(disk_mib: int) -> tuple[PlannedPartition, ...]:
    """Return the partitions of a disk of `disk_mib` MiB, in their order on the disk.

    Raises:
        RepoToolsError: the disk is too small.
    """
    if disk_mib < MINIMUM_MIB:
        raise RepoToolsError(f"a disk of {disk_mib} MiB is too small: at least {MINIMUM_MIB} MiB")
    set_mib, private_mib = _set_sizes(disk_mib), _private_mib(disk_mib)
    bios = PlannedPartition(label="BIOS-BOOT", type_guid=sets.BIOS_BOOT, size_mib=4)
    return (
        bios,
        *_planned_set("A", "EFI-SYSTEM", sets.EFI_SYSTEM, set_mib),
        *_planned_set("B", "EFI-BACKUP", sets.EFI_BACKUP, set_mib),
        PlannedPartition(
            label="BOTTLEROCKET-PRIVATE",
            type_guid=sets.BOTTLEROCKET_PRIVATE,
            size_mib=private_mib,
        ),
        PlannedPartition(label="BOTTLEROCKET-DATA", type_guid=sets.BOTTLEROCKET_DATA, size_mib=0),
    )


def refuse_oversized(images: Mapping[str, Path], disk_mib: int) -> None:
    """Refuse images that do not fit the partitions of a set.

    Args:
        images: by the role of their partition: boot, root, hash.
        disk_mib: the size of the disk, in MiB.

    Raises:
        RepoToolsError: one is too large, or the disk too small to have sets.
    """
    sizes = {partition.label: partition.size_mib * MEBIBYTE for partition in plan(disk_mib)}
    for role, image in images.items():
        length, room = image.stat().st_size, sizes[f"BOTTLEROCKET-{role.upper()}-A"]
        if length > room:
            raise RepoToolsError(
                f"the {role} image has {length} bytes, its partition on a disk of {disk_mib} MiB "
                f"only {room}: choose a larger disk or a smaller tree"
            )


def create_disk(path: Path, disk_mib: int) -> None:
    """Make a sparse image file with the whole partition table, in its factory state.

    Raises:
        RepoToolsError: the file exists, the disk is too small, or the table cannot be written.
    """
    planned = plan(disk_mib)
    try:
        with path.open("xb") as file:
            file.truncate(disk_mib * MEBIBYTE)
    except OSError as error:
        raise RepoToolsError(f"cannot create {path}: {error.strerror}") from error
    _commit_table(path, planned)
    _set_types(path, disk_mib, planned)
    change(Location(path=path), _factory_state)


def write_image(image: Path, window: Window) -> None:
    """Copy an image into a partition, flushed; the partition's bytes behind it stay as they are.

    Raises:
        RepoToolsError: the image does not fit; nothing was written.
        PartitionError: the disk cannot be opened or written.
    """
    length = image.stat().st_size
    if length > window.length_bytes:
        raise RepoToolsError(
            f"{image} has {length} bytes, its partition in {window.path} "
            f"only {window.length_bytes}: choose a larger disk"
        )
    with image.open("rb") as source, open_for_writing(window) as partition:
        while chunk := source.read(MEBIBYTE):
            partition.write(source.tell() - len(chunk), chunk)
        partition.flush()


def _set_sizes(disk_mib: int) -> Mapping[str, int]:
    """Share out the disk. In a 2 GiB disk: EFI 5, boot 40, hash 10, reserved 25, root 920 MiB."""
    fixed = {
        "EFI": 5,
        "BOOT": max(8, _scaled(20, disk_mib)),
        "HASH": max(2, _scaled(5, disk_mib)),
        "RESERVED": max(1, _scaled(15, disk_mib) - 5),
    }
    outside = _TABLE_MIB + 4 + _private_mib(disk_mib) + 1 + _BACKUP_MIB
    root = (disk_mib - outside) // 2 - sum(fixed.values())
    return {**fixed, "ROOT": root}


def _private_mib(disk_mib: int) -> int:
    return max(1, _scaled(24, disk_mib) - 7)


def _scaled(mib_per_gib: int, disk_mib: int) -> int:
    return -(-mib_per_gib * disk_mib // _GIBIBYTE_MIB)


def _planned_set(
    name: str, efi_label: str, efi_type: UUID, sizes: Mapping[str, int]
) -> Iterator[PlannedPartition]:
    """Yield the partitions of one set: boot, root and hash must follow each other."""
    yield PlannedPartition(label=efi_label, type_guid=efi_type, size_mib=sizes["EFI"])
    types = {
        "BOOT": sets.BOTTLEROCKET_BOOT,
        "ROOT": sets.BOTTLEROCKET_ROOT,
        "HASH": sets.BOTTLEROCKET_HASH,
        "RESERVED": sets.BOTTLEROCKET_RESERVED,
    }
    for role, type_guid in types.items():
        yield PlannedPartition(
            label=f"BOTTLEROCKET-{role}-{name}", type_guid=type_guid, size_mib=sizes[role]
        )


def _commit_table(path: Path, planned: tuple[PlannedPartition, ...]) -> None:
    """Let libparted write a table with places and labels."""
    try:
        device = parted.getDevice(str(path))
        disk = parted.freshDisk(device, "gpt")
        start = _TABLE_MIB * _SECTORS_PER_MIB
        for partition in planned:
            length = partition.size_mib * _SECTORS_PER_MIB or _rest(device, start)
            _add(disk, partition.label, start, length)
            start += length
        disk.commitToDevice()
    except _PARTED_ERRORS as error:
        raise RepoToolsError(f"libparted cannot lay out {path}: {error}") from error


_PARTED_ERRORS = (
    _ped.DeviceException,
    _ped.DiskException,
    _ped.GeometryException,
    _ped.IOException,
    _ped.PartitionException,
)


def _rest(device: Any, start: int) -> int:
    """Return the sectors from `start` to the last whole MiB before the backup table."""
    return int(device.length) - _BACKUP_MIB * _SECTORS_PER_MIB - start


def _add(disk: Any, label: str, start: int, length: int) -> None:
    geometry = parted.Geometry(device=disk.device, start=start, length=length)
    partition = parted.Partition(disk=disk, type=parted.PARTITION_NORMAL, geometry=geometry)
    disk.addPartition(partition, parted.Constraint(exactGeom=geometry))
    partition.name = label


def _set_types(path: Path, disk_mib: int, planned: tuple[PlannedPartition, ...]) -> None:
    """Write the partition types and, as its place is still empty, reserve a second entry array."""
    with path.open("r+b", buffering=0) as file:

        def read(first_lba: int, count: int) -> bytes:
            return os.pread(file.fileno(), count * SECTOR_SIZE, first_lba * SECTOR_SIZE)

        count = disk_mib * MEBIBYTE // SECTOR_SIZE
        table = gpt.load(read, sector_size=SECTOR_SIZE, sector_count=count)
        for step in table_write.plan_write(table, _typed_entries(table, planned), read=read):
            for write in step.writes:
                os.pwrite(file.fileno(), write.data, write.lba * SECTOR_SIZE)
            os.fsync(file.fileno())


def _typed_entries(table: gpt.DiskTable, planned: tuple[PlannedPartition, ...]) -> bytes:
    """Return the entry array with the planned types (UEFI 2.10, table 5.6: the first 16 bytes)."""
    entries = bytearray(table.authority.entries)
    for index, partition in enumerate(planned):
        start = index * table.authority.header.entry_size
        entries[start : start + 16] = partition.type_guid.bytes_le
    return bytes(entries)


def _factory_state(fresh: BootState) -> BootState:
    return replace(fresh, flags=_FACTORY_FLAGS, ever_succeeded=True)
