"""Bytes <-> a GUID partition table with both its copies (UEFI specification 2.10, chapter 5).

Decides whether each copy is valid and which one has authority. Performs no I/O: sectors come from a
`ReadSectors` function. Refuses tables whose partitions are reversed, overlap, or lie outside the
disk.

Fields and entries that this project does not know are carried over byte for byte. Facts are named
tuples here: a dataclass takes half a millisecond of every start of `signpost`.
"""

import struct
import zlib
from collections.abc import Callable, Iterator, Mapping
from enum import StrEnum
from itertools import pairwise
from typing import Final, NamedTuple
from uuid import UUID

from signpost.errors import DiskError, TableError

ReadSectors = Callable[[int, int], bytes]
"""`read(first_lba, count)` returns exactly `count` sectors."""

PRIMARY_LBA: Final = 1
FIRST_ARRAY_LBA: Final = 2
_SIGNATURE: Final = b"EFI PART"
# UEFI 2.10, table 5.5; the header checksum lies at bytes 16-19 and counts as zero while summed.
_HEADER: Final = struct.Struct("<8sIIIIQQQQ16sQIII")
_CHECKSUM_OFFSET: Final = 16
# UEFI 2.10, table 5.6.
_ENTRY: Final = struct.Struct("<16s16sQQQ72s")
_ATTRIBUTES_OFFSET: Final = 48
# With its mark, UTF-16 is decoded without loading a codec: a millisecond of `signpost status`.
_LITTLE_ENDIAN: Final = b"\xff\xfe"
UNUSED: Final = bytes(16)
_MBR_RECORDS: Final = range(446, 510, 16)
_MBR_TYPE_PROTECTIVE: Final = 0xEE
_MAX_ARRAY_BYTES: Final = 1 << 20
"""64 times the usual array: a bound on memory, far above any real table."""


class Mbr(StrEnum):
    """What the master boot record in LBA 0 says about the table behind it."""

    PROTECTIVE = "protective"
    HYBRID = "hybrid"
    MISSING = "missing"


class Partition(NamedTuple):
    """One used entry. `number` counts from 1; `last_lba` belongs to the partition."""

    number: int
    label: str
    first_lba: int
    last_lba: int
    type_guid: UUID
    unique_guid: UUID
    attributes: int

    @property
    def sectors(self) -> int:
        """Length in sectors."""
        return self.last_lba - self.first_lba + 1


class Header(NamedTuple):
    """A header whose checksum holds. `raw` is its whole sector, for what is not known here."""

    raw: bytes
    size: int
    current_lba: int
    alternate_lba: int
    first_usable_lba: int
    last_usable_lba: int
    disk_guid: UUID
    entries_lba: int
    entry_count: int
    entry_size: int
    entries_checksum: int

    @property
    def array_bytes(self) -> int:
        """Length of the entry array as covered by its checksum."""
        return self.entry_count * self.entry_size

    @property
    def array_sectors(self) -> int:
        """Length of the entry array in whole sectors."""
        return -(-self.array_bytes // len(self.raw))


class Copy(NamedTuple):
    """One valid copy. `entries` is the array in whole sectors, its padding included."""

    header: Header
    entries: bytes

    def agrees_with(self, other: "Copy") -> bool:
        """Whether both copies describe the same table and point at each other."""
        mine, theirs = self.header, other.header
        return (
            self.content == other.content
            and mine.alternate_lba == theirs.current_lba
            and theirs.alternate_lba == mine.current_lba
        )

    @property
    def content(self) -> tuple[object, ...]:
        """What both copies of one table have in common."""
        header = self.header
        return (
            header.disk_guid,
            header.first_usable_lba,
            header.last_usable_lba,
            header.entry_count,
            header.entry_size,
            self.entries[: header.array_bytes],
        )


class Fault(NamedTuple):
    """Why a copy of the table does not count; with its header where that is whole."""

    reason: str
    header: Header | None = None


class DiskTable(NamedTuple):
    """What stands on a disk: both copies, good or faulty, at least one of them good.

    On a grown disk, the backup of a bad primary may stand where the disk ended before.
    """

    sector_size: int
    sector_count: int
    mbr: Mbr
    primary: Copy | Fault
    backup: Copy | Fault

    @property
    def authority(self) -> Copy:
        """The copy that every boot loader believes: the primary if valid, else the backup."""
        if isinstance(self.primary, Copy):
            return self.primary
        if isinstance(self.backup, Copy):
            return self.backup
        raise TableError(
            f"no valid GUID partition table: primary: {self.primary.reason}; "
            f"backup: {self.backup.reason}"
        )

    @property
    def faults(self) -> tuple[str, ...]:
        """What a write would repair, in words; empty when both copies are good and agree."""
        if isinstance(self.primary, Fault):
            return (f"primary copy: {self.primary.reason}",)
        if isinstance(self.backup, Fault):
            return (f"backup copy: {self.backup.reason}{self._growth(self.primary)}",)
        if not self.primary.agrees_with(self.backup):
            return ("backup copy: differs from the primary",)
        return ()

    def _growth(self, primary: Copy) -> str:
        expected = primary.header.alternate_lba
        if expected >= self.sector_count - 1:
            return ""
        return f" (the disk has grown: the backup was last written to LBA {expected})"

    @property
    def partitions(self) -> tuple[Partition, ...]:
        """The used entries of the authoritative copy, in ascending number."""
        return tuple(_partitions(self.authority))

    def with_attributes(self, attributes: Mapping[int, int]) -> bytes:
        """Return the entry array with new attribute bits for some partition numbers."""
        entries = bytearray(self.authority.entries)
        entry_size = self.authority.header.entry_size
        for number, value in attributes.items():
            struct.pack_into("<Q", entries, (number - 1) * entry_size + _ATTRIBUTES_OFFSET, value)
        return bytes(entries)


def load(read: ReadSectors, *, sector_size: int, sector_count: int) -> DiskTable:
    """Read both copies of a table and judge them as boot loaders do.

    Args:
        read: gives the sectors of the disk.
        sector_size: bytes in a logical sector, 512 to 4096.
        sector_count: logical sectors on the disk.

    Raises:
        TableError: neither copy is valid, or the valid table cannot be meant seriously.
    """
    if sector_count < 6:
        raise TableError(f"no room for a GUID partition table in {sector_count} sectors")
    primary, backup = _load_copies(read, sector_count)
    table = DiskTable(
        sector_size=sector_size,
        sector_count=sector_count,
        mbr=_judge_mbr(read(0, 1)),
        primary=primary,
        backup=backup,
    )
    _refuse_absurd(table)
    return table


def _judge_mbr(sector: bytes) -> Mbr:
    if sector[510:512] != b"\x55\xaa":
        return Mbr.MISSING
    used = [sector[at : at + 16] for at in _MBR_RECORDS if sector[at + 4] != 0]
    # UEFI 2.10, 5.2.3: the protective record begins at LBA 1.
    protective = [
        r for r in used if r[4] == _MBR_TYPE_PROTECTIVE and int.from_bytes(r[8:12], "little") == 1
    ]
    if not protective:
        return Mbr.MISSING
    return Mbr.PROTECTIVE if len(used) == 1 else Mbr.HYBRID


def _load_copies(read: ReadSectors, sector_count: int) -> tuple[Copy | Fault, Copy | Fault]:
    """Load the primary and the backup, with less asked of them where neither would count.

    Firmware does not look at the usable sectors, so it boots from a copy that reaches beyond a
    shrunk disk; writing mends that. And on a grown disk only the primary header tells where the
    backup is.
    """
    last = sector_count - 1
    primary = _load_copy(read, PRIMARY_LBA, sector_count)
    backup = _load_copy(read, last, sector_count)
    if isinstance(primary, Copy) or isinstance(backup, Copy):
        return primary, backup
    mendable = _load_copy(read, PRIMARY_LBA, sector_count, is_usable=_can_be_mended)
    if isinstance(mendable, Copy):
        return mendable, backup
    if primary.header is not None and PRIMARY_LBA < primary.header.alternate_lba < last:
        before_growth = _load_copy(read, primary.header.alternate_lba, sector_count)
        if isinstance(before_growth, Copy):
            return primary, before_growth
    return primary, _load_copy(read, last, sector_count, is_usable=_can_be_mended)


def _has_possible_range(header: Header, sector_count: int) -> bool:
    """Whether Linux (efi.c) and libblkid accept the usable sectors; others do not look at them."""
    first, last = header.first_usable_lba, header.last_usable_lba
    return first <= last < sector_count and not first < header.current_lba < last


def _can_be_mended(header: Header, _sector_count: int) -> bool:
    """Whether a usable sector may be left when those are cut off that cannot be."""
    return header.first_usable_lba <= header.last_usable_lba


def _load_copy(
    read: ReadSectors,
    lba: int,
    sector_count: int,
    *,
    is_usable: Callable[[Header, int], bool] = _has_possible_range,
) -> Copy | Fault:
    try:
        header = _parse_header(read(lba, 1), lba, sector_count)
    except (TableError, DiskError) as fault:
        return Fault(reason=str(fault))
    if not is_usable(header, sector_count):
        first, last = header.first_usable_lba, header.last_usable_lba
        reason = f"usable sectors {first} to {last} are impossible on {sector_count} sectors"
        return Fault(reason=reason, header=header)
    try:
        entries = read(header.entries_lba, header.array_sectors)
    except DiskError as fault:
        return Fault(reason=str(fault), header=header)
    if zlib.crc32(entries[: header.array_bytes]) != header.entries_checksum:
        return Fault(reason="checksum of the entries is wrong", header=header)
    return Copy(header=header, entries=entries)


def _parse_header(sector: bytes, lba: int, sector_count: int) -> Header:
    """Check a header as UEFI 2.10, 5.3.2 asks of every reader."""
    fields = _HEADER.unpack_from(sector)
    signature, _revision, size, checksum, _reserved = fields[:5]
    if signature != _SIGNATURE:
        raise TableError(f"no header at LBA {lba}")
    if not _HEADER.size <= size <= len(sector):
        raise TableError(f"header size {size} is impossible")
    if _header_checksum(sector, size) != checksum:
        raise TableError("checksum of the header is wrong")
    header = Header(
        raw=sector,
        size=size,
        current_lba=fields[5],
        alternate_lba=fields[6],
        first_usable_lba=fields[7],
        last_usable_lba=fields[8],
        disk_guid=UUID(bytes_le=fields[9]),
        entries_lba=fields[10],
        entry_count=fields[11],
        entry_size=fields[12],
        entries_checksum=fields[13],
    )
    _refuse_misplaced(header, lba, sector_count)
    return header


def _refuse_misplaced(header: Header, lba: int, sector_count: int) -> None:
    if header.current_lba != lba:
        raise TableError(f"header at LBA {lba} claims to be at LBA {header.current_lba}")
    size = header.entry_size
    if size < _ENTRY.size or size & (size - 1):
        raise TableError(f"entry size {size} is not 128 times a power of two")
    if not 0 < header.array_bytes <= _MAX_ARRAY_BYTES:
        raise TableError(f"{header.entry_count} entries of {size} bytes are out of bounds")
    array = range(header.entries_lba, header.entries_lba + header.array_sectors)
    if array.start < FIRST_ARRAY_LBA or array.stop > sector_count or lba in array:
        raise TableError(f"entries at LBA {header.entries_lba} lie outside their place")


def _header_checksum(sector: bytes, size: int) -> int:
    head = sector[:_CHECKSUM_OFFSET] + bytes(4) + sector[_CHECKSUM_OFFSET + 4 : size]
    return zlib.crc32(head)


class HeaderPlace(NamedTuple):
    """Where a header, the other copy's header and the entry array stand."""

    current_lba: int
    alternate_lba: int
    entries_lba: int


def renewed_header(old: Header, entries: bytes, *, place: HeaderPlace, usable: range) -> bytes:
    """Return a header's sector for other entries in another place, its checksums renewed.

    Args:
        old: what is carried over, bytes that nobody here knows included.
        entries: the entry array in whole sectors.
        place: what the header says of itself, the other copy and the array.
        usable: the sectors that partitions may use.
    """
    sector = bytearray(old.raw)
    struct.pack_into("<QQ", sector, 24, place.current_lba, place.alternate_lba)
    struct.pack_into("<QQ", sector, 40, usable.start, usable.stop - 1)
    struct.pack_into("<Q", sector, 72, place.entries_lba)
    struct.pack_into("<I", sector, 88, zlib.crc32(entries[: old.array_bytes]))
    checksum = _header_checksum(bytes(sector), old.size)
    struct.pack_into("<I", sector, _CHECKSUM_OFFSET, checksum)
    return bytes(sector)


def _partitions(copy: Copy) -> Iterator[Partition]:
    header = copy.header
    for index in range(header.entry_count):
        fields = _ENTRY.unpack_from(copy.entries, index * header.entry_size)
        if fields[0] != UNUSED:
            yield Partition(
                number=index + 1,
                type_guid=UUID(bytes_le=fields[0]),
                unique_guid=UUID(bytes_le=fields[1]),
                first_lba=fields[2],
                last_lba=fields[3],
                attributes=fields[4],
                label=(_LITTLE_ENDIAN + fields[5]).decode("utf-16", "replace").partition("\0")[0],
            )


def _refuse_absurd(table: DiskTable) -> None:
    """Refuse a table that no tool would have made: acting on it could destroy a partition."""
    ordered = sorted(table.partitions, key=lambda p: p.first_lba)
    for partition in ordered:
        if not partition.first_lba <= partition.last_lba < table.sector_count:
            raise TableError(
                f"partition {partition.number} runs from LBA {partition.first_lba} to "
                f"{partition.last_lba} on a disk of {table.sector_count} sectors"
            )
    for before, after in pairwise(ordered):
        if after.first_lba <= before.last_lba:
            raise TableError(f"partitions {before.number} and {after.number} overlap")
