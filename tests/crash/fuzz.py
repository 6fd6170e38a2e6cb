"""Hostile tables for as long as you like: `make fuzz`, `make fuzz FUZZ_SECONDS=3600`.

Each input is a small disk with some of its fields, entries or bytes changed, checksums made right
again where a field was. Most are judged in memory: signpost must answer within bounds of time and
memory, with the table that an independent reader sees, or with a typed error. Of the changes that
it plans, one in `FOLLOWED_SHARE` is carried out: each reader that saw the table must see the old
one or the new one after every step. One input in `FILE_SHARE` goes through a real file, which must
stay as it is when signpost refuses. Prints how many inputs it tried.
"""

import random
import resource
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import Any

from signpost import disk, gpt, sets, state, table_write
from signpost.disk import Location
from signpost.errors import DiskError, SignpostError
from signpost.sets import SetName
from tests.helpers.gpt_builder import (
    DiskSpec,
    Part,
    an_ab_disk,
    build,
    with_entry_fields,
    with_header_fields,
)
from tests.helpers.gpt_readers import (
    ALL_READERS,
    Medium,
    SeenPartition,
    libblkid_reader,
    linux_reader_without_gpt,
    uefi_reader,
)

SLOWEST_SECONDS = 2.0
MOST_MEMORY_KIB = 128 << 10
FILE_SHARE = 16
FOLLOWED_SHARE = 4
UNREADABLE_SHARE = 8
_NUMBERS = (
    *(0, 1, 2, 3, 33, 34, 65, 66, 127, 128, 129, 255, 4096),
    *(2**31, 2**32 - 1, 2**63, 2**64 - 1),
)
_HEADER_FIELDS = {
    "revision": 4,
    "header_size": 4,
    "my_lba": 8,
    "alternate_lba": 8,
    "first_usable_lba": 8,
    "last_usable_lba": 8,
    "entries_lba": 8,
    "entry_count": 4,
    "entry_size": 4,
}
_ENTRY_NUMBERS = {"first_lba": 8, "last_lba": 8, "attributes": 8}
_TRANSITIONS = (
    state.mark_successful_boot,
    state.clear_inactive,
    state.mark_inactive_valid,
    state.upgrade_to_inactive,
    state.rollback_to_inactive,
    state.select_boot,
)
SPECS = (
    an_ab_disk(scale=64, size_bytes=160 << 10, first_partition_lba=66),
    an_ab_disk(scale=64, size_bytes=160 << 10, first_partition_lba=34),
    an_ab_disk(scale=64, size_bytes=256 << 10, first_partition_lba=130, entry_count=256),
    an_ab_disk(scale=64, size_bytes=256 << 10, first_partition_lba=130, entry_size=256),
    an_ab_disk(scale=32, size_bytes=320 << 10, first_partition_lba=10, sector_size=4096),
)


@dataclass(slots=True, kw_only=True)
class Input:
    """A disk in memory, and what changes it at random."""

    chance: random.Random
    spec: DiskSpec
    image: bytes
    plain_mbr: bytes

    def change(self) -> None:
        """Change the disk in one to four ways."""
        for _ in range(self.chance.randint(1, 4)):
            match self.chance.randrange(5):
                case 0 | 1:
                    name = self.chance.choice(list(_HEADER_FIELDS))
                    part = self.chance.choice((Part.PRIMARY_HEADER, Part.BACKUP_HEADER))
                    value = self._number(_HEADER_FIELDS[name])
                    self.image = with_header_fields(self.image, self.spec, part, **{name: value})
                case 2:
                    fields: dict[str, Any] = {
                        self.chance.choice(list(_ENTRY_NUMBERS)): self._number(8)
                    }
                    number = self.chance.randint(1, 16)
                    self.image = with_entry_fields(self.image, self.spec, number, **fields)
                case 3:
                    self._put(446 + self.chance.randrange(66), self.chance.randbytes(1))
                case _:
                    self._put(self._place(), self.chance.randbytes(1))

    def _number(self, length: int) -> int:
        """Return an interesting number that fits into a field."""
        spec = self.spec
        near = self.chance.choice(
            (*_NUMBERS, spec.sector_count, spec.last_lba, spec.backup_entries_lba)
        )
        if self.chance.random() < 0.7:
            return int((near + self.chance.randint(-2, 2)) % 2 ** (8 * length))
        return self.chance.getrandbits(8 * length)

    def _place(self) -> int:
        """Return a byte of either copy of the table, or of the gap behind the primary one."""
        table = (3 + self.spec.array_sectors) * self.spec.sector_size
        at = self.chance.randrange(2 * table)
        return at if self.chance.random() < 0.5 else len(self.image) - 1 - at % table

    def _put(self, at: int, content: bytes) -> None:
        self.image = self.image[:at] + content + self.image[at + len(content) :]

    def a_bad_lba(self) -> int | None:
        """Return a sector that cannot be read; most disks have none."""
        if self.chance.randrange(UNREADABLE_SHARE):
            return None
        return self._place() // self.spec.sector_size


def reading(medium: Medium, bad_lba: int | None) -> gpt.ReadSectors:
    """Return a reader of sectors that fails at one of them."""

    def read(lba: int, count: int) -> bytes:
        if bad_lba is not None and bad_lba in range(lba, lba + count):
            raise DiskError(f"cannot read sector {bad_lba}")
        return medium.read(lba, count)

    return read


def try_in_memory(one: Input) -> str:
    """Read a hostile table and plan a change of it; return what came of it."""
    medium, bad_lba = Medium.of_bytes(one.image, one.spec.sector_size), one.a_bad_lba()
    if bad_lba is not None:  # for readers that know no errors
        medium = medium.overlaid({bad_lba: one.chance.randbytes(one.spec.sector_size)})
    read = reading(medium, bad_lba)
    try:
        table = gpt.load(read, sector_size=one.spec.sector_size, sector_count=one.spec.sector_count)
        _require_seen_by_firmware(table, medium, one.plain_mbr)
        entries = _changed_entries(table, one.chance)
        steps = table_write.plan_write(table, entries, read=read, rewrite=one.chance.random() < 0.2)
    except SignpostError as err:
        return type(err).__name__
    if one.chance.randrange(FOLLOWED_SHARE):
        return "planned"
    _follow(one, steps, medium, table, entries)
    return "carried out"


def _require_seen_by_firmware(table: gpt.DiskTable, medium: Medium, plain_mbr: bytes) -> None:
    """A primary copy that signpost believes must be the one that firmware believes."""
    seen = uefi_reader(medium.overlaid({0: plain_mbr}))
    if isinstance(table.primary, gpt.Copy):
        assert seen is not None, "firmware sees no table"
        assert _rows(seen.partitions) == _rows(table.partitions), "firmware sees another table"


def _rows(partitions: Iterable[SeenPartition | gpt.Partition]) -> list[tuple[int, ...]]:
    return [(p.number, p.first_lba, p.last_lba, p.attributes) for p in partitions]


def _changed_entries(table: gpt.DiskTable, chance: random.Random) -> bytes:
    found = sets.discover(table.partitions)
    numbers = [one.boot.number for one in found.present()]
    return table.with_attributes({chance.choice(numbers): chance.getrandbits(64)})


def _follow(
    one: Input,
    steps: tuple[table_write.Step, ...],
    medium: Medium,
    table: gpt.DiskTable,
    entries: bytes,
) -> None:
    """Carry a plan out step by step, those readers looking on that see what signpost sees."""
    old = _rows(table.partitions)
    readers = [
        reader
        for reader in ALL_READERS
        if reader is not linux_reader_without_gpt
        if (seen := reader(medium)) and _rows(seen.partitions) == old
    ]
    new = _rows(table._replace(primary=table.authority._replace(entries=entries)).partitions)
    sectors: dict[int, bytes] = {}
    for step in steps:
        for lba, data in step.writes:
            for at in range(0, len(data), medium.sector_size):
                sectors[lba + at // medium.sector_size] = data[at : at + medium.sector_size]
        for reader in readers:
            seen = reader(medium.overlaid(sectors))
            assert seen is not None, f"{reader.__name__} finds no table between two steps"
            assert _rows(seen.partitions) in (old, new), f"{reader.__name__} sees half a change"
    after = medium.overlaid(sectors)
    left = gpt.load(after.read, sector_size=medium.sector_size, sector_count=medium.sector_count)
    assert not left.faults, left.faults
    assert left.authority.entries == entries
    if left.authority.header.entry_size == 128:
        seen = libblkid_reader(after.overlaid({0: one.plain_mbr}))
        assert seen is not None, "libblkid takes what was written for no table"
        assert (seen.copy, _rows(seen.partitions)) == ("primary", new)


def try_in_a_file(one: Input, path: Path) -> str:
    """Read and change a hostile disk; return what came of it."""
    path.write_bytes(one.image)
    location = Location(path=path, active=SetName.A)
    try:
        disk.read(location)
        disk.change(location, one.chance.choice(_TRANSITIONS))
    except SignpostError as err:
        if path.read_bytes() != one.image:
            raise AssertionError(f"wrote although it refused: {err}") from err
        return type(err).__name__
    assert not disk.read(location).table.faults, "a change that succeeded left a fault"
    return "changed"


def outcomes(seed: int, directory: Path) -> Iterator[str]:
    """Try one input after the other, for ever, and yield what came of each."""
    chance = random.Random(seed)
    images = [build(spec) for spec in SPECS]
    while True:
        which = chance.randrange(len(SPECS))
        spec, image = SPECS[which], images[which]
        mbr = image[: spec.sector_size]
        one = Input(chance=chance, spec=spec, image=image, plain_mbr=mbr)
        one.change()
        started = time.process_time()
        in_memory = chance.randrange(FILE_SHARE) > 0
        outcome = try_in_memory(one) if in_memory else try_in_a_file(one, directory / "disk.img")
        assert time.process_time() - started < SLOWEST_SECONDS, "an input took too long"
        yield outcome


def main() -> None:
    """Fuzz for the seconds given, with a seed that is printed."""
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 60
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else random.SystemRandom().randrange(2**32)
    print(f"seed {seed}", flush=True)
    deadline = time.monotonic() + seconds
    with tempfile.TemporaryDirectory() as directory:
        tried = takewhile(lambda _: time.monotonic() < deadline, outcomes(seed, Path(directory)))
        counts = Counter(tried)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(f"{counts.total()} inputs: {dict(counts)}; peak memory {peak >> 10} MiB")
    if peak > MOST_MEMORY_KIB:
        raise SystemExit("too much memory")


if __name__ == "__main__":
    main()
