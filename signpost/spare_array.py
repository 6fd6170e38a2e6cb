"""Where a second entry array stands, so that one sector can commit a change.

Decides from what is on the disk which of the two places in front of the first partition holds the
primary array, and whether the other may take the next one. Performs no I/O. Refuses places that may
hold something else.
"""

from typing import Final

from signpost.errors import DiskError, TableError
from signpost.gpt import FIRST_ARRAY_LBA, UNUSED, Copy, DiskTable, ReadSectors
from signpost.sets import BOTTLEROCKET_BOOT, BOTTLEROCKET_HASH, BOTTLEROCKET_ROOT

_TYPES_OF_A_SET: Final = (
    BOTTLEROCKET_BOOT.bytes_le,
    BOTTLEROCKET_ROOT.bytes_le,
    BOTTLEROCKET_HASH.bytes_le,
)


def has_room_for_a_second_array(table: DiskTable, read: ReadSectors) -> bool:
    """Whether changes are committed by one sector; else the primary copy is written in place."""
    try:
        return spare_array(table, old_array(table, read), read) is not None
    except TableError:
        return False


def last_usable(table: DiskTable) -> int:
    """Return the last sector that partitions may use once the backup stands at the end."""
    header = table.authority.header
    return min(header.last_usable_lba, table.sector_count - 2 - header.array_sectors)


def old_array(table: DiskTable, read: ReadSectors) -> int:
    """Return where the primary array stands, or where it belongs if nothing tells.

    A header whose entries are bad still counts: were its array overwritten, some cut could complete
    the bad entries to an older table.

    Raises:
        TableError: the header is gone, and what stands in the usual place may be something else.
    """
    if table.primary.header is not None:
        return table.primary.header.entries_lba
    backup = table.authority
    usual_end = FIRST_ARRAY_LBA + backup.header.array_sectors
    for slot in (FIRST_ARRAY_LBA, usual_end):
        if backup.header.first_usable_lba > slot and _is_ours(slot, table, read):
            return slot
    if backup.header.first_usable_lba > usual_end:
        raise TableError(
            f"the primary header is lost, and what stands from LBA {FIRST_ARRAY_LBA} on is no "
            "entry array of this disk but may be a boot loader: this table is not written. The "
            "backup copy is good: `sgdisk -b FILE` saves it, `sgdisk -l FILE` writes both anew"
        )
    return FIRST_ARRAY_LBA


def spare_array(table: DiskTable, old: int, read: ReadSectors) -> int | None:
    """Return where a second entry array may stand, or None where there is no safe room for one."""
    header = table.authority.header
    first, second = FIRST_ARRAY_LBA, FIRST_ARRAY_LBA + header.array_sectors
    slots_end = second + header.array_sectors
    lowest = min((p.first_lba for p in table.partitions), default=slots_end)
    if old not in (first, second) or min(lowest, last_usable(table)) < slots_end:
        return None
    lost = table.primary.header
    if lost is not None and lost.array_sectors > header.array_sectors:
        return None  # firmware may still read that longer array, which reaches into both places
    spare = second if old == first else first
    # Exactly this value is what signpost leaves; a cut may have left anything in the place.
    is_reserved = spare == second and header.first_usable_lba == slots_end
    return spare if is_reserved or _is_ours(spare, table, read) else None


def _is_ours(slot: int, table: DiskTable, read: ReadSectors) -> bool:
    """Whether an entry array may be put there: nothing, or an older array of such a disk, is there.

    Boards keep raw boot loaders between the table and the first partition. That FirstUsableLBA is
    high does not say that the room is free: sfdisk sets it to 1 MiB on every disk.
    """
    copy = table.authority
    try:
        found = read(slot, copy.header.array_sectors)
    except DiskError:
        return False
    return (
        not any(found)
        or _is_older_array(found, copy)
        or _is_ab_array(found, copy, table.sector_count)
    )


def _is_older_array(found: bytes, copy: Copy) -> bool:
    """Whether an entry's unique GUID stands there as it does in the table."""
    size = copy.header.entry_size
    return any(
        found[at + 16 : at + 32] == copy.entries[at + 16 : at + 32] != UNUSED
        for at in range(0, copy.header.array_bytes, size)
    )


def _is_ab_array(found: bytes, copy: Copy, sector_count: int) -> bool:
    """Whether the bytes are an entry array with an A/B set, by themselves.

    So reads an array that signpost wrote before the disk was flashed anew, or before another tool
    gave its partitions new unique GUIDs.
    """
    size, end = copy.header.entry_size, copy.header.array_bytes
    entries = [found[at : at + size] for at in range(0, end, size)]
    types = [entry[:16] for entry in entries]
    return (
        any(tuple(types[at : at + 3]) == _TYPES_OF_A_SET for at in range(len(types)))
        and all(_is_plausible(entry, sector_count) for entry in entries)
        and not any(found[end:])
    )


def _is_plausible(entry: bytes, sector_count: int) -> bool:
    if not any(entry):
        return True
    first, last = (int.from_bytes(entry[at : at + 8], "little") for at in (32, 40))
    guids = entry[:16], entry[16:32]
    return UNUSED not in guids and FIRST_ARRAY_LBA <= first <= last < sector_count
