"""What boot loaders and kernels make of a GPT: readers for judging images in tests.

Share no code with `signpost`: they are written after the readers they stand for, so that a mistake
in signpost's idea of a valid table shows. Each returns what that reader sees, or None where it
finds no table.
"""

import binascii
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

from tests.helpers.gpt_builder import Flags

_BOOT = UUID("6b636168-7420-6568-2070-6c616e657421")
_LARGEST_ARRAY_BYTES = 4 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Medium:
    """A disk as a reader sees it: whole sectors by number."""

    sector_size: int
    sector_count: int
    read: Callable[[int, int], bytes]

    @classmethod
    def of_bytes(cls, image: bytes, sector_size: int) -> "Medium":
        """Wrap an image in memory."""

        def read(lba: int, count: int) -> bytes:
            return image[lba * sector_size : (lba + count) * sector_size]

        return cls(sector_size=sector_size, sector_count=len(image) // sector_size, read=read)

    @classmethod
    def of_file(cls, path: Path, sector_size: int) -> "Medium":
        """Wrap an image file, which is read when sectors are asked for."""

        def read(lba: int, count: int) -> bytes:
            with path.open("rb") as file:
                file.seek(lba * sector_size)
                return file.read(count * sector_size)

        count = path.stat().st_size // sector_size
        return cls(sector_size=sector_size, sector_count=count, read=read)

    def overlaid(self, sectors: Mapping[int, bytes]) -> "Medium":
        """Return this disk with some sectors replaced, and nothing copied."""

        def read(lba: int, count: int) -> bytes:
            under = self.read(lba, count)
            if not sectors.keys() & range(lba, lba + count):
                return under
            size = self.sector_size
            pieces = [under[at : at + size] for at in range(0, len(under), size)]
            return b"".join(sectors.get(lba + at, piece) for at, piece in enumerate(pieces))

        return Medium(sector_size=self.sector_size, sector_count=self.sector_count, read=read)


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenPartition:
    """A used entry as it stands in the table."""

    number: int
    type_guid: UUID
    unique_guid: UUID
    first_lba: int
    last_lba: int
    attributes: int
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """The table that a reader believes in. `boot_flags` has one item a BOOT partition."""

    copy: str
    partitions: tuple[SeenPartition, ...]
    boot_flags: tuple[Flags, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Header:
    my_lba: int
    alternate_lba: int
    first_usable: int
    last_usable: int
    disk_guid: bytes
    entries_lba: int
    entry_count: int
    entry_size: int
    entries_crc: int

    @property
    def shared_facts(self) -> tuple[object, ...]:
        return (
            self.disk_guid,
            self.entry_count,
            self.entry_size,
            self.first_usable,
            self.last_usable,
            self.entries_crc,
        )


def uefi_reader(medium: Medium) -> Seen | None:
    """See what EDK2's PartitionDxe sees: a valid primary, else a valid backup at the last LBA."""
    if not _has_protective_record(medium):
        return None
    return _seen(medium, 1, "primary") or _seen(medium, medium.sector_count - 1, "backup")


def strict_gptprio_reader(medium: Medium) -> Seen | None:
    """See what GRUB's gptprio sees: a backup that contradicts a valid primary header is void."""
    if not _has_protective_record(medium):
        return None
    last = medium.sector_count - 1
    primary, backup = _header(medium, 1), _header(medium, last)
    seen = _seen(medium, 1, "primary")
    if seen is not None:
        return seen
    if primary is not None and backup is not None and primary.shared_facts != backup.shared_facts:
        return None
    return _seen(medium, last, "backup")


def linux_reader_without_gpt(medium: Medium) -> Seen | None:
    """See what Linux (block/partitions/efi.c) sees without `gpt` on its command line.

    The backup is never believed, entries have 128 bytes, and the usable range lies on the disk.
    """
    return _seen(medium, 1, "primary") if _linux_takes_header(medium, 1) else None


def linux_reader_with_gpt(medium: Medium) -> Seen | None:
    """See what Linux sees with `gpt` on its command line: the backup at the last LBA counts too."""
    return linux_reader_without_gpt(medium) or _linux_backup(medium)


def _linux_backup(medium: Medium) -> Seen | None:
    last = medium.sector_count - 1
    return _seen(medium, last, "backup") if _linux_takes_header(medium, last) else None


def _linux_takes_header(medium: Medium, lba: int) -> bool:
    if not _has_protective_record(medium) or medium.read(0, 1)[510:512] != b"\x55\xaa":
        return False
    header = _header(medium, lba)
    if header is None or header.entry_size != 128:
        return False
    return header.first_usable <= header.last_usable < medium.sector_count


def libblkid_reader(medium: Medium) -> Seen | None:
    """See what libblkid sees: as Linux with `gpt`, and no header lies among its usable sectors."""
    for lba, read in ((1, linux_reader_without_gpt), (medium.sector_count - 1, _linux_backup)):
        header = _header(medium, lba)
        if header and not header.first_usable < lba < header.last_usable and (seen := read(medium)):
            return seen
    return None


def sgdisk_reader(medium: Medium) -> Seen | None:
    """See what sgdisk sees: a bad primary's header still tells where the backup is."""
    seen = uefi_reader(medium)
    primary = _header(medium, 1)
    if seen is not None or primary is None or not _has_protective_record(medium):
        return seen
    if not 1 < primary.alternate_lba < medium.sector_count:
        return None
    return _seen(medium, primary.alternate_lba, "backup")


LINUX_READERS = (linux_reader_without_gpt, linux_reader_with_gpt)
ALL_READERS = (uefi_reader, strict_gptprio_reader, *LINUX_READERS, sgdisk_reader)


def can_boot(flags: Flags) -> bool:
    """Whether gptprio considers a BOOT partition with these flags."""
    if flags.priority == 0:
        return False
    return bool(flags.successful) or flags.tries != 0


def boot_rule(flags: Sequence[Flags]) -> int | None:
    """Return which of the BOOT partitions gptprio.next boots, counted from 0; None for none."""
    chosen: int | None = None
    for index, candidate in enumerate(flags):
        if can_boot(candidate) and (chosen is None or candidate.priority > flags[chosen].priority):
            chosen = index
    return chosen


def flags_after_boot(flags: Sequence[Flags]) -> tuple[Flags, ...]:
    """Return the flags as gptprio.next leaves them: one try of the chosen set spent, if any."""
    chosen = boot_rule(flags)
    return tuple(
        one._replace(tries=one.tries - 1) if index == chosen and one.tries else one
        for index, one in enumerate(flags)
    )


def changed_lbas(before: bytes, after: bytes, sector_size: int) -> set[int]:
    """Return every sector in which two images of the same size differ."""
    assert len(before) == len(after), "the image changed its size"
    chunk = 256 * sector_size
    return {
        at // sector_size
        for start in range(0, len(before), chunk)
        if before[start : start + chunk] != after[start : start + chunk]
        for at in range(start, min(start + chunk, len(before)), sector_size)
        if before[at : at + sector_size] != after[at : at + sector_size]
    }


def _number(data: bytes, offset: int, length: int) -> int:
    return int.from_bytes(data[offset : offset + length], "little")


def _has_protective_record(medium: Medium) -> bool:
    sector = medium.read(0, 1)
    records = (sector[at : at + 16] for at in (446, 462, 478, 494))
    return any(r[0] == 0 and r[4] == 0xEE and _number(r, 8, 4) == 1 for r in records)


def _header(medium: Medium, lba: int) -> _Header | None:
    """Return a header if it is valid by itself, whatever its entries are."""
    sector = medium.read(lba, 1)
    size = _number(sector, 12, 4)
    if sector[:8] != b"EFI PART" or not 92 <= size <= medium.sector_size:
        return None
    unsigned = bytearray(sector[:size])
    unsigned[16:20] = b"\0\0\0\0"
    if binascii.crc32(unsigned) != _number(sector, 16, 4) or _number(sector, 24, 8) != lba:
        return None
    return _Header(
        my_lba=lba,
        alternate_lba=_number(sector, 32, 8),
        first_usable=_number(sector, 40, 8),
        last_usable=_number(sector, 48, 8),
        disk_guid=bytes(sector[56:72]),
        entries_lba=_number(sector, 72, 8),
        entry_count=_number(sector, 80, 4),
        entry_size=_number(sector, 84, 4),
        entries_crc=_number(sector, 88, 4),
    )


def _array(medium: Medium, header: _Header) -> bytes | None:
    length = header.entry_count * header.entry_size
    if header.entry_size < 128 or not 0 < length <= _LARGEST_ARRAY_BYTES:
        return None
    sectors = -(-length // medium.sector_size)
    if header.entries_lba < 2 or header.entries_lba + sectors > medium.sector_count:
        return None
    array = medium.read(header.entries_lba, sectors)[:length]
    return array if binascii.crc32(array) == header.entries_crc else None


def _seen(medium: Medium, lba: int, copy: str) -> Seen | None:
    header = _header(medium, lba)
    array = None if header is None else _array(medium, header)
    if header is None or array is None:
        return None
    entries = [array[at : at + header.entry_size] for at in range(0, len(array), header.entry_size)]
    partitions = tuple(
        _partition(number, entry) for number, entry in enumerate(entries, 1) if any(entry[:16])
    )
    return Seen(
        copy=copy,
        partitions=partitions,
        boot_flags=tuple(_flags(p.attributes) for p in partitions if p.type_guid == _BOOT),
    )


def _partition(number: int, entry: bytes) -> SeenPartition:
    name, _, _ = entry[56:128].decode("utf-16-le", errors="replace").partition("\0")
    return SeenPartition(
        number=number,
        type_guid=UUID(bytes_le=entry[0:16]),
        unique_guid=UUID(bytes_le=entry[16:32]),
        first_lba=_number(entry, 32, 8),
        last_lba=_number(entry, 40, 8),
        attributes=_number(entry, 48, 8),
        name=name,
    )


def _flags(attributes: int) -> Flags:
    """Read the flags by byte: the sixth has tries and priority, the seventh begins with success."""
    data = attributes.to_bytes(8, "little")
    return Flags(priority=data[6] % 16, tries=data[6] // 16, successful=data[7] % 2)
