"""Reading and changing the boot state that stands on a disk.

Decides nothing about boot flags or tables; it carries out what `state` and `gpt` decided. Every
change is made under an exclusive lock on the whole disk, from what is read under that lock, step by
step with a flush after each, and is read back from the medium before it counts. Refuses to work on
a disk that does not hold the running set.
"""

import fcntl
import os
import stat
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, NamedTuple

from signpost import gpt
from signpost.errors import DiskError, SetError, SignpostError, TableError
from signpost.flags import HAS_BOOT_EVER_SUCCEEDED, BootFlags
from signpost.open_disk import OpenDisk, opened
from signpost.osdisk import PartitionNode, StrPath, find_os_disk, find_partition_node
from signpost.sets import PartitionSet, SetName, Sets, discover
from signpost.spare_array import has_room_for_a_second_array
from signpost.state import BootState

if TYPE_CHECKING:
    from pathlib import Path

    from signpost.table_write import Step

Transition = Callable[[BootState], BootState]

# LBA 0 has no second copy, so writing it is left to a person.
_GDISK: Final = "`gdisk {path}` with the commands x, n, w and y (and the GPT, if it asks)"
_MBR_REMEDIES: Final = {
    gpt.Mbr.PROTECTIVE: "",
    gpt.Mbr.HYBRID: (
        f". The machine boots as it did. If nothing else boots by it, {_GDISK} replaces it by a "
        "protective one"
    ),
    gpt.Mbr.MISSING: (
        ". Firmware and boot loaders may not find the partitions either: before the next reboot, "
        f"{_GDISK} writes one"
    ),
}


class Location(NamedTuple):
    """A disk or image file, and what is known of the set that runs from it.

    `active` was named by the user; `active_partitions` were found in sysfs.
    """

    path: StrPath
    active: SetName | None = None
    active_partitions: frozenset[int] = frozenset()


class Window(NamedTuple):
    """A partition as a range of bytes of a device node or an image file.

    `device`: the number, as in `st_rdev`, of the node that must be found at the path; None where
    the path is all that is known of it.
    """

    path: "Path"
    offset_bytes: int
    length_bytes: int
    device: int | None = None


class BootDisk(NamedTuple):
    """What was read from a disk at one moment.

    `commits_at_once`: a change of flags takes effect with one sector; elsewhere the primary copy is
    written in place, and is not valid for a moment.
    """

    path: str
    is_device: bool
    table: gpt.DiskTable
    commits_at_once: bool
    sets: Sets
    state: BootState

    def window(self, partition: gpt.Partition) -> Window:
        """Return where to read and write a partition.

        A partition of a device is its own node where the kernel has one: the node and the whole
        disk have separate page caches. Otherwise it is a range of the disk or image.
        """
        from pathlib import Path  # noqa: PLC0415 -- `signpost status` does without, and is faster

        length = partition.sectors * self.table.sector_size
        node = self._node(partition) if self.is_device else None
        if node is not None:
            return Window(Path(node.path), 0, length, device=node.device)
        offset = partition.first_lba * self.table.sector_size
        return Window(path=Path(self.path), offset_bytes=offset, length_bytes=length)

    def _node(self, partition: gpt.Partition) -> PartitionNode | None:
        found = find_partition_node(os.stat(self.path).st_rdev, partition.number)
        if found is None:
            return None
        size = self.table.sector_size
        place = (partition.first_lba * size, partition.sectors * size)
        if (found.offset_bytes, found.length_bytes) != place:
            raise DiskError(
                f"the kernel still uses an older table of {self.path}: for it {found.path} begins "
                f"at byte {found.offset_bytes} and has {found.length_bytes}, in the table it is "
                f"{place[0]} and {place[1]}. Run `partprobe {self.path}`, or restart"
            )
        return found


class Change(NamedTuple):
    """A change that stands on the disk: the state before and after, and what it repaired."""

    before: BootDisk
    after: BootDisk
    repaired: tuple[str, ...]
    steps: "tuple[Step, ...]"


def find_location(
    disk: StrPath | None, active: SetName | None = None, active_file: StrPath | None = None
) -> Location:
    """Say which disk to work on and which set runs.

    Args:
        disk: a disk or image file; None for the disk under `/`.
        active: the set that runs, if the caller knows.
        active_file: a file that holds `A` or `B`, left by whatever booted the machine.

    Raises:
        DiskError: the OS disk cannot be found, or `active_file` does not name a set.
    """
    if active is None and active_file is not None:
        active = _read_active_file(active_file)
    if disk is None:
        found = find_os_disk()
        return Location(path=found.path, active=active, active_partitions=found.partition_numbers)
    return Location(path=disk, active=active, active_partitions=_partitions_running_from(disk))


def read(location: Location) -> BootDisk:
    """Read the table, sets and boot state of a disk.

    Raises:
        DiskError: the disk cannot be opened, locked or read.
        TableError: it holds no trustworthy GUID partition table.
        SetError: its partitions form no A/B sets, or the running system is not one of them.
    """
    with opened(location.path, os.O_RDONLY, fcntl.LOCK_SH) as disk:
        return _read_open(disk, location)


def change(
    location: Location,
    transition: Transition,
    *,
    rewrite: bool = False,
    expected: Sets | None = None,
) -> Change:
    """Apply a transition to the boot state on a disk, so that no cut can lose the table.

    Args:
        location: the disk.
        transition: from the state that stands on the disk to the wanted one.
        rewrite: write both copies of the table even where nothing differs.
        expected: the sets that the caller has read before; refuse if they have moved since.

    Raises:
        DiskError: the disk cannot be opened, locked, read or written.
        TableError: its table must not be written.
        SetError: its partitions form no A/B sets, or not the expected ones.
        TransitionError: the transition is not allowed; nothing was written.
    """
    with opened(location.path, os.O_RDWR, fcntl.LOCK_EX) as disk:
        disk.settle()
        before = _read_open(disk, location)
        if expected is not None:
            _require_same_partitions(before, expected)
        entries = before.table.with_attributes(_attributes(before, transition(before.state)))
        steps = _plan(disk, before, entries, rewrite=rewrite)
        after = _write(disk, location, before=before, entries=entries, steps=steps)
    return Change(before=before, after=after, repaired=before.table.faults, steps=steps)


def require_writable(location: Location) -> None:
    """Check, without writing anything, that the table of a disk may be written.

    Raises:
        DiskError: the disk cannot be opened for writing, locked or read.
        TableError: its table must not be written.
        SetError: its partitions form no A/B sets.
    """
    with opened(location.path, os.O_RDWR, fcntl.LOCK_SH) as disk:
        found = _read_open(disk, location)
        _plan(disk, found, found.table.authority.entries, rewrite=True)


def why_not_writable(location: Location) -> str | None:
    """Say why the table of a disk must not be written, and the way out; None if it may be.

    Raises:
        DiskError: the disk cannot be opened, locked or read.
        TableError: it holds no trustworthy GUID partition table.
        SetError: its partitions form no A/B sets.
    """
    with opened(location.path, os.O_RDONLY, fcntl.LOCK_SH) as disk:
        found = _read_open(disk, location)
        try:
            _plan(disk, found, found.table.authority.entries, rewrite=True)
        except TableError as err:
            return str(err)
    return None


def _plan(disk: OpenDisk, found: BootDisk, entries: bytes, *, rewrite: bool) -> "tuple[Step, ...]":
    from signpost.table_write import plan_write  # noqa: PLC0415 -- reading does without

    read_sectors = disk.sectors(found.table.sector_size)
    try:
        return plan_write(found.table, entries, read=read_sectors, rewrite=rewrite)
    except TableError as err:
        remedy = _MBR_REMEDIES[found.table.mbr].format(path=disk.path)
        raise TableError(f"{disk.path}: {err}{remedy}") from err


def _require_same_partitions(found: BootDisk, expected: Sets) -> None:
    for now, before in zip(found.sets.present(), expected.present(), strict=False):
        for one, other in zip(now.partitions, before.partitions, strict=True):
            if _place(one) != _place(other):
                raise SetError(
                    f"partition {other.number} of {found.path} is not where it was a moment ago: "
                    "another program has changed the partition table; nothing more was written"
                )


def _place(partition: gpt.Partition) -> tuple[object, ...]:
    return (
        partition.number,
        partition.unique_guid,
        partition.first_lba,
        partition.last_lba,
    )


def _write(
    disk: OpenDisk,
    location: Location,
    *,
    before: BootDisk,
    entries: bytes,
    steps: "tuple[Step, ...]",
) -> BootDisk:
    """Write step by step and read back; whatever fails, say which flags count then.

    The first step that fails is the last one: while one copy cannot be written the other stays as
    it is, else a cut could lose both.
    """
    try:
        for step in steps:
            disk.write_step(step, before.table.sector_size)
        after = _read_open(disk, location)
        _require_written(after, entries)
    except SignpostError as err:
        outcome = _which_flags_count(disk, location, before=before, wanted=entries)
        raise DiskError(
            f"{err}. {outcome}. The disk may be failing: replace it if `signpost rewrite-table` "
            "fails too"
        ) from err
    return after


def _require_written(after: BootDisk, entries: bytes) -> None:
    faults = after.table.faults
    if faults or after.table.authority.entries != entries:
        detail = "; ".join(faults) or "the partition table is not the one that was written"
        raise DiskError(f"{after.path} did not keep what was written: {detail}")


def _which_flags_count(
    disk: OpenDisk, location: Location, *, before: BootDisk, wanted: bytes
) -> str:
    """Say what boot loaders find after a write that failed."""
    try:
        table = _read_open(disk, location).table
    except SignpostError as err:
        return f"What is left cannot be read now ({err})"
    copy = "primary" if isinstance(table.primary, gpt.Copy) else "backup"
    if table.authority.entries == before.table.authority.entries:
        return (
            f"As the disk reads now, the old flags count, in the {copy} copy; none are changed "
            "while the other copy cannot be written"
        )
    if table.authority.entries == wanted:
        return f"As the disk reads now, the new flags count, in the {copy} copy"
    return f"As the disk reads now, the {copy} copy counts: neither the old table nor the new one"


def _attributes(disk: BootDisk, wanted: BootState) -> dict[int, int]:
    attributes = {
        found.boot.number: wanted.flags[found.name].written_into(found.boot.attributes)
        for found in disk.sets.present()
    }
    private = disk.sets.private
    if wanted.ever_succeeded and private is not None:
        attributes[private.number] = private.attributes | HAS_BOOT_EVER_SUCCEEDED
    return attributes


def _read_open(disk: OpenDisk, location: Location) -> BootDisk:
    table = _load_table(disk)
    try:
        sets = discover(table.partitions)
    except SetError as err:
        raise SetError(f"{disk.path}: {err}") from err
    return BootDisk(
        path=disk.path,
        is_device=disk.is_device,
        table=table,
        commits_at_once=has_room_for_a_second_array(table, disk.sectors(table.sector_size)),
        sets=sets,
        state=BootState(
            flags={
                found.name: BootFlags.from_attributes(found.boot.attributes)
                for found in sets.present()
            },
            active=_active(location, sets),
            ever_succeeded=_has_boot_ever_succeeded(sets),
        ),
    )


def _load_table(disk: OpenDisk) -> gpt.DiskTable:
    """Load the table; an image file does not tell its sector size, so try the usual ones."""
    errors: list[TableError] = []
    for sector_size in disk.sector_sizes():
        try:
            return gpt.load(
                disk.sectors(sector_size),
                sector_size=sector_size,
                sector_count=disk.size_bytes // sector_size,
            )
        except TableError as err:
            errors.append(err)
    # Where one size finds a header and the other none, the one that does tells what is wrong.
    telling = min(errors, key=lambda err: str(err).count("no header at LBA"))
    raise TableError(f"{disk.path}: {telling}") from telling


def _active(location: Location, sets: Sets) -> SetName | None:
    """Return the running set; a name given by the user must not contradict what runs."""
    names = {sets.holding(number) for number in location.active_partitions}
    if None in names or len(names) > 1:
        numbers = ", ".join(str(n) for n in sorted(location.active_partitions))
        raise SetError(
            f"the running system (partition {numbers} of {location.path}) is not in one set of "
            "that disk; this is the wrong disk, or its table was changed"
        )
    found = next(iter(names), None)
    if found and location.active and found is not location.active:
        raise SetError(f"set {found} of {location.path} is running, not set {location.active}")
    active = found or location.active
    if active is SetName.B and sets.b is None:
        raise SetError(
            f"{location.path} has a single set (one BOOT partition): B cannot be running"
        )
    return active


def _has_boot_ever_succeeded(sets: Sets) -> bool:
    return bool(sets.private and sets.private.attributes & HAS_BOOT_EVER_SUCCEEDED)


def _partitions_running_from(disk: StrPath) -> frozenset[int]:
    """Return the running system's partitions if `disk` is the OS disk, else nothing."""
    try:
        if not stat.S_ISBLK(os.stat(disk).st_mode):
            return frozenset()
        found = find_os_disk()
        same = os.stat(found.path).st_rdev == os.stat(disk).st_rdev
    except (DiskError, OSError):
        return frozenset()
    return found.partition_numbers if same else frozenset()


def _read_active_file(path: StrPath) -> SetName:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        with open(descriptor, encoding="ascii") as file:
            text = file.read(16).strip()
    except OSError as err:
        raise DiskError(f"cannot read which set is running from {path}: {err.strerror}") from err
    except UnicodeDecodeError as err:
        raise DiskError(f"{path} must hold A or B, the running set, and is no text") from err
    try:
        return SetName(text)
    except ValueError as err:
        raise DiskError(f"{path} must hold A or B, the running set, not {text!r}") from err


def describe(found: PartitionSet, disk: BootDisk) -> dict[str, dict[str, object]]:
    """Return the partitions of a set as plain facts, for JSON."""
    described: dict[str, dict[str, object]] = {}
    for role, partition in zip(("boot", "root", "hash"), found.partitions, strict=True):
        window = disk.window(partition)
        described[role] = {
            "number": partition.number,
            "path": str(window.path),
            "offset_bytes": window.offset_bytes,
            "length_bytes": window.length_bytes,
        }
    return described
