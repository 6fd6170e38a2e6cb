"""GPT disk images written from the UEFI specification (2.10, chapter 5), for tests.

Shares no code with `signpost.gpt`, so that one mistake cannot hide in both. Offsets are spelled
out as the specification's tables have them. Images are built in memory (`build`) or as sparse files
(`write_image`); `garble` and its relatives damage them; `with_header_fields` and
`with_entry_fields` change what stands in them and make the checksums right again.
"""

import binascii
import enum
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple
from uuid import UUID, uuid5

TYPES = {
    "BIOS-BOOT": UUID("21686148-6449-6e6f-744e-656564454649"),
    "EFI-SYSTEM": UUID("c12a7328-f81f-11d2-ba4b-00a0c93ec93b"),
    "EFI-BACKUP": UUID("b39ce39c-0a00-b4ab-2d11-f18f8237a21c"),
    "BOOT": UUID("6b636168-7420-6568-2070-6c616e657421"),
    "ROOT": UUID("5526016a-1a97-4ea4-b39a-b7c8c6ca4502"),
    "HASH": UUID("598f10af-c955-4456-6a99-7720068a6cea"),
    "RESERVED": UUID("0c5d99a5-d331-4147-baef-08e2b855bdc9"),
    "PRIVATE": UUID("440408bb-eb0b-4328-a6e5-a29038fad706"),
    "DATA": UUID("626f7474-6c65-6474-6861-726d61726b73"),
}
"""Type GUIDs by the role of a partition."""

_NAMESPACE = UUID("00000000-1111-2222-3333-444444444444")
_A_DISK_GUID = UUID("12345678-9abc-def0-1122-334455667788")
_MIB = 1 << 20
_KIB = 1 << 10


class Mbr(enum.Enum):
    """What LBA 0 holds."""

    PROTECTIVE = "protective"
    HYBRID = "hybrid"
    MISSING = "missing"


class Part(enum.Enum):
    """The four parts of a GPT that can be damaged."""

    PRIMARY_HEADER = "primary header"
    PRIMARY_ENTRIES = "primary entries"
    BACKUP_HEADER = "backup header"
    BACKUP_ENTRIES = "backup entries"


class Flags(NamedTuple):
    """Boot flags of one BOOT partition."""

    priority: int
    tries: int
    successful: int

    @property
    def attributes(self) -> int:
        """The flags as attribute bits of an otherwise bare entry."""
        return self.priority * 2**48 + self.tries * 2**52 + self.successful * 2**56


@dataclass(frozen=True, slots=True, kw_only=True)
class PartitionSpec:
    """One entry: everything of UEFI table 5.6, and what follows it in a larger entry."""

    number: int
    type_guid: UUID
    unique_guid: UUID
    first_lba: int
    last_lba: int
    attributes: int = 0
    name: str = ""
    beyond: bytes = b""

    @property
    def sectors(self) -> int:
        """Length in sectors."""
        return self.last_lba - self.first_lba + 1


@dataclass(frozen=True, slots=True, kw_only=True)
class DiskSpec:
    """A disk with a GPT, both copies whole. None stands for what every partitioner would choose."""

    sector_size: int = 512
    sector_count: int = 16384
    entry_count: int = 128
    entry_size: int = 128
    partitions: tuple[PartitionSpec, ...] = ()
    disk_guid: UUID = _A_DISK_GUID
    first_usable: int | None = None
    last_usable: int | None = None
    primary_entries_lba: int = 2
    mbr: Mbr = Mbr.PROTECTIVE
    header_size: int = 92
    header_beyond: bytes = b""
    raw_sectors: dict[int, bytes] = field(default_factory=dict)

    @property
    def array_bytes(self) -> int:
        """Bytes of the entry array."""
        return self.entry_count * self.entry_size

    @property
    def array_sectors(self) -> int:
        """Sectors that the entry array takes."""
        return (self.array_bytes + self.sector_size - 1) // self.sector_size

    @property
    def last_lba(self) -> int:
        """Where the backup header stands."""
        return self.sector_count - 1

    @property
    def backup_entries_lba(self) -> int:
        """Where the backup entries stand."""
        return self.last_lba - self.array_sectors

    @property
    def size_bytes(self) -> int:
        """Size of the disk."""
        return self.sector_size * self.sector_count

    def partition(self, number: int) -> PartitionSpec:
        """Return a partition by its number."""
        return next(p for p in self.partitions if p.number == number)

    def lbas(self, part: Part) -> range:
        """Return where a part of the table stands."""
        match part:
            case Part.PRIMARY_HEADER:
                return range(1, 2)
            case Part.PRIMARY_ENTRIES:
                return _span(self.primary_entries_lba, self.array_sectors)
            case Part.BACKUP_HEADER:
                return range(self.last_lba, self.sector_count)
            case Part.BACKUP_ENTRIES:
                return _span(self.backup_entries_lba, self.array_sectors)


def _span(start: int, length: int) -> range:
    return range(start, start + length)


def build(spec: DiskSpec) -> bytes:
    """Return the whole image. Every sector of a partition holds that partition's own pattern."""
    image = bytearray(spec.size_bytes)
    for lba, content in _pieces(spec):
        image[lba * spec.sector_size : lba * spec.sector_size + len(content)] = content
    return bytes(image)


def write_image(path: Path, spec: DiskSpec) -> Path:
    """Write a sparse image file: the table alone, the partitions left as holes."""
    with path.open("wb") as file:
        file.truncate(spec.size_bytes)
        for lba, content in _table_pieces(spec):
            file.seek(lba * spec.sector_size)
            file.write(content)
    return path


def _pieces(spec: DiskSpec) -> Iterator[tuple[int, bytes]]:
    for partition in spec.partitions:
        if partition.first_lba <= partition.last_lba < spec.sector_count:
            length = partition.sectors * spec.sector_size
            yield partition.first_lba, bytes([0x80 + partition.number % 0x80]) * length
    yield from _table_pieces(spec)


def _table_pieces(spec: DiskSpec) -> Iterator[tuple[int, bytes]]:
    array = _array(spec)
    yield 0, _mbr(spec)
    yield 1, _header(spec, my_lba=1, alternate=spec.last_lba, entries=spec.primary_entries_lba)
    yield spec.primary_entries_lba, array
    yield spec.backup_entries_lba, array
    yield (
        spec.last_lba,
        _header(spec, my_lba=spec.last_lba, alternate=1, entries=spec.backup_entries_lba),
    )
    yield from spec.raw_sectors.items()


def _little(value: int, length: int) -> bytes:
    return value.to_bytes(length, "little")


def _mbr(spec: DiskSpec) -> bytes:
    sector = bytearray(spec.sector_size)
    if spec.mbr is Mbr.MISSING:
        return bytes(sector)
    # UEFI table 5.4: the protective record spans the disk, or as much as 32 bits can say.
    covered = min(spec.sector_count - 1, 0xFFFFFFFF)
    record = bytes([0x00, 0x00, 0x02, 0x00, 0xEE, 0xFF, 0xFF, 0xFF])
    sector[446:462] = record + _little(1, 4) + _little(covered, 4)
    if spec.mbr is Mbr.HYBRID:
        linux = bytes([0x80, 0x00, 0x00, 0x00, 0x83, 0x00, 0x00, 0x00])
        sector[462:478] = linux + _little(2048, 4) + _little(100, 4)
    sector[510:512] = b"\x55\xaa"
    return bytes(sector)


def _header(spec: DiskSpec, *, my_lba: int, alternate: int, entries: int) -> bytes:
    """Lay out UEFI table 5.5, byte offset by byte offset."""
    first = 2 + spec.array_sectors if spec.first_usable is None else spec.first_usable
    last = spec.backup_entries_lba - 1 if spec.last_usable is None else spec.last_usable
    sector = bytearray(spec.sector_size)
    sector[0:8] = b"EFI PART"
    sector[8:12] = b"\x00\x00\x01\x00"
    sector[12:16] = _little(spec.header_size, 4)
    sector[24:32] = _little(my_lba, 8)
    sector[32:40] = _little(alternate, 8)
    sector[40:48] = _little(first, 8)
    sector[48:56] = _little(last, 8)
    sector[56:72] = spec.disk_guid.bytes_le
    sector[72:80] = _little(entries, 8)
    sector[80:84] = _little(spec.entry_count, 4)
    sector[84:88] = _little(spec.entry_size, 4)
    sector[88:92] = _little(binascii.crc32(_array(spec)[: spec.array_bytes]), 4)
    sector[92 : 92 + len(spec.header_beyond)] = spec.header_beyond
    _seal_header(sector)
    return bytes(sector)


def _seal_header(sector: bytearray) -> None:
    size = int.from_bytes(sector[12:16], "little")
    sector[16:20] = bytes(4)
    sector[16:20] = _little(binascii.crc32(sector[: min(size, len(sector))]), 4)


def _array(spec: DiskSpec) -> bytes:
    array = bytearray(spec.array_sectors * spec.sector_size)
    for partition in spec.partitions:
        entry = _entry(partition)
        at = (partition.number - 1) * spec.entry_size
        array[at : at + len(entry)] = entry
    return bytes(array)


def _entry(partition: PartitionSpec) -> bytes:
    return (
        partition.type_guid.bytes_le
        + partition.unique_guid.bytes_le
        + _little(partition.first_lba, 8)
        + _little(partition.last_lba, 8)
        + _little(partition.attributes, 8)
        + partition.name.encode("utf-16-le").ljust(72, b"\0")
        + partition.beyond
    )


# a disk of the project's layout

_AB_LAYOUT = (
    ("BIOS-BOOT", "BIOS-BOOT", 256),
    ("EFI-SYSTEM", "EFI-SYSTEM", 256),
    ("BOOT", "BOTTLEROCKET-BOOT-A", 512),
    ("ROOT", "BOTTLEROCKET-ROOT-A", 1024),
    ("HASH", "BOTTLEROCKET-HASH-A", 256),
    ("RESERVED", "BOTTLEROCKET-RESERVED-A", 128),
    ("EFI-BACKUP", "EFI-BACKUP", 256),
    ("BOOT", "BOTTLEROCKET-BOOT-B", 512),
    ("ROOT", "BOTTLEROCKET-ROOT-B", 1024),
    ("HASH", "BOTTLEROCKET-HASH-B", 256),
    ("RESERVED", "BOTTLEROCKET-RESERVED-B", 128),
    ("PRIVATE", "BOTTLEROCKET-PRIVATE", 256),
)
"""Role, name and KiB of each partition but DATA, which takes the rest."""

BOOT_A, ROOT_A, HASH_A = 3, 4, 5
BOOT_B, ROOT_B, HASH_B = 8, 9, 10
PRIVATE = 12
FACTORY_A = Flags(1, 0, 1)
FACTORY_B = Flags(0, 0, 0)


def an_ab_disk(
    *,
    a: Flags = FACTORY_A,
    b: Flags | None = FACTORY_B,
    sector_size: int = 512,
    size_bytes: int = 8 * _MIB,
    scale: int = 1,
    entry_count: int = 128,
    entry_size: int = 128,
    first_usable: int | None = None,
    primary_entries_lba: int = 2,
    first_partition_lba: int | None = None,
    mbr: Mbr = Mbr.PROTECTIVE,
    foreign_attributes: int = 0,
    private_attributes: int = 0,
    raw_sectors: dict[int, bytes] | None = None,
) -> DiskSpec:
    """Describe a disk with both sets, scaled down, as an image is delivered.

    Args:
        a: flags of BOOT-A.
        b: flags of BOOT-B; None for a single-set disk.
        sector_size: bytes in a sector.
        size_bytes: size of the disk.
        scale: how many times smaller the partitions are, so that a smaller disk will do.
        entry_count: entries of the table.
        entry_size: bytes in an entry; what lies beyond 128 is filled with a pattern.
        first_usable: FirstUsableLBA; None for the sector after one entry array at LBA 2.
        primary_entries_lba: where the primary array stands.
        first_partition_lba: first sector of partition 1; None for 1 MiB.
        mbr: what LBA 0 holds.
        foreign_attributes: bits set on every partition besides the flags.
        private_attributes: bits set on PRIVATE.
        raw_sectors: contents of single sectors outside the table, by LBA.
    """
    layout = [row for row in _AB_LAYOUT if b is not None or not row[1].endswith("-B")]
    bits = {"BOTTLEROCKET-BOOT-A": a.attributes, "BOTTLEROCKET-PRIVATE": private_attributes}
    if b is not None:
        bits["BOTTLEROCKET-BOOT-B"] = b.attributes
    array_sectors = -(-entry_count * entry_size // sector_size)
    data_end = size_bytes // sector_size - 1 - array_sectors
    at = _MIB // sector_size if first_partition_lba is None else first_partition_lba
    partitions = []
    for number, (role, name, kib) in enumerate([*layout, ("DATA", "BOTTLEROCKET-DATA", 0)], 1):
        end = at + kib * _KIB // scale // sector_size if kib else data_end
        partitions.append(
            PartitionSpec(
                number=number,
                type_guid=TYPES[role],
                unique_guid=uuid5(_NAMESPACE, name),
                first_lba=at,
                last_lba=end - 1,
                attributes=foreign_attributes | bits.get(name, 0),
                name=name,
                beyond=bytes([number]) * (entry_size - 128),
            )
        )
        at = end
    return DiskSpec(
        sector_size=sector_size,
        sector_count=size_bytes // sector_size,
        entry_count=entry_count,
        entry_size=entry_size,
        partitions=tuple(partitions),
        first_usable=first_usable,
        primary_entries_lba=primary_entries_lba,
        mbr=mbr,
        raw_sectors=raw_sectors or {},
    )


# damage


def noise(length: int, seed: int = 0) -> bytes:
    """Return garbage, the same for the same seed."""
    return random.Random(seed).randbytes(length)


def garble(image: bytes, spec: DiskSpec, part: Part, *, seed: int = 0) -> bytes:
    """Fill the first sector of one part of the table with garbage."""
    return with_sector(image, spec, spec.lbas(part).start, noise(spec.sector_size, seed))


def wipe(image: bytes, spec: DiskSpec, part: Part) -> bytes:
    """Fill every sector of one part of the table with zeros."""
    for lba in spec.lbas(part):
        image = with_sector(image, spec, lba, bytes(spec.sector_size))
    return image


def flip_bit(image: bytes, spec: DiskSpec, part: Part, *, byte: int, bit: int = 0) -> bytes:
    """Flip one bit of one part of the table; `byte` counts from the part's beginning."""
    changed = bytearray(image)
    changed[spec.lbas(part).start * spec.sector_size + byte] ^= 1 << bit
    return bytes(changed)


def with_sector(image: bytes, spec: DiskSpec, lba: int, content: bytes) -> bytes:
    """Replace the beginning of one sector."""
    changed = bytearray(image)
    changed[lba * spec.sector_size : lba * spec.sector_size + len(content)] = content
    return bytes(changed)


def grown(image: bytes, spec: DiskSpec, sectors: int) -> bytes:
    """Add empty sectors at the end, as a larger virtual disk has."""
    return image + bytes(sectors * spec.sector_size)


def shrunk(image: bytes, spec: DiskSpec, sectors: int) -> bytes:
    """Cut sectors off the end."""
    return image[: len(image) - sectors * spec.sector_size]


# changes with the checksums made right

_HEADER_FIELDS = {
    "signature": (0, 8),
    "revision": (8, 4),
    "header_size": (12, 4),
    "header_crc": (16, 4),
    "reserved": (20, 4),
    "my_lba": (24, 8),
    "alternate_lba": (32, 8),
    "first_usable_lba": (40, 8),
    "last_usable_lba": (48, 8),
    "disk_guid": (56, 16),
    "entries_lba": (72, 8),
    "entry_count": (80, 4),
    "entry_size": (84, 4),
    "entries_crc": (88, 4),
}
"""Offset and length, UEFI table 5.5."""

_ENTRY_FIELDS = {
    "type_guid": (0, 16),
    "unique_guid": (16, 16),
    "first_lba": (32, 8),
    "last_lba": (40, 8),
    "attributes": (48, 8),
    "name": (56, 72),
}
"""Offset and length, UEFI table 5.6."""


def header_field(image: bytes, spec: DiskSpec, part: Part, name: str) -> int:
    """Read one field of a header as a little-endian number."""
    offset, length = _HEADER_FIELDS[name]
    at = spec.lbas(part).start * spec.sector_size + offset
    return int.from_bytes(image[at : at + length], "little")


def with_header_fields(image: bytes, spec: DiskSpec, part: Part, **fields: int | bytes) -> bytes:
    """Change fields of one header, with both its checksums made right again."""
    sector_at = spec.lbas(part).start * spec.sector_size
    changed = bytearray(image)
    for name, value in fields.items():
        _put(changed, sector_at, _HEADER_FIELDS[name], value)
    _reseal(changed, spec, sector_at, keep_entries_crc="entries_crc" in fields)
    return bytes(changed)


def with_entry_fields(
    image: bytes,
    spec: DiskSpec,
    number: int,
    *,
    parts: tuple[Part, ...] = (Part.PRIMARY_ENTRIES, Part.BACKUP_ENTRIES),
    **fields: int | bytes,
) -> bytes:
    """Change fields of one entry, by default in both copies, the checksums made right again."""
    changed = bytearray(image)
    headers = {
        Part.PRIMARY_ENTRIES: Part.PRIMARY_HEADER,
        Part.BACKUP_ENTRIES: Part.BACKUP_HEADER,
    }
    for part in parts:
        entry_at = spec.lbas(part).start * spec.sector_size + (number - 1) * spec.entry_size
        for name, value in fields.items():
            _put(changed, entry_at, _ENTRY_FIELDS[name], value)
        _reseal(changed, spec, spec.lbas(headers[part]).start * spec.sector_size)
    return bytes(changed)


def _put(image: bytearray, base: int, place: tuple[int, int], value: int | bytes) -> None:
    offset, length = place
    content = value if isinstance(value, bytes) else _little(value, length)
    if len(content) > length:
        raise ValueError(f"{content!r} does not fit into {length} bytes")
    image[base + offset : base + offset + length] = content.ljust(length, b"\0")


def _reseal(
    image: bytearray, spec: DiskSpec, sector_at: int, *, keep_entries_crc: bool = False
) -> None:
    """Make both checksums of a header right for what it says now."""
    sector = image[sector_at : sector_at + spec.sector_size]
    start = int.from_bytes(sector[72:80], "little") * spec.sector_size
    length = int.from_bytes(sector[80:84], "little") * int.from_bytes(sector[84:88], "little")
    if not keep_entries_crc and start + length <= len(image):
        sector[88:92] = _little(binascii.crc32(image[start : start + length]), 4)
    _seal_header(sector)
    image[sector_at : sector_at + spec.sector_size] = sector
