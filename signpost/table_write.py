"""Which sectors to write, and in which order, so that no cut can lose a partition table.

Decides where the parts of a table go and plans `Step`s, each of which must be flushed before the
next. Performs no I/O. Refuses tables that must not be written, and places that hold something else.
"""

from collections.abc import Mapping
from itertools import pairwise
from typing import NamedTuple

from signpost.errors import DiskError, TableError
from signpost.gpt import (
    FIRST_ARRAY_LBA,
    PRIMARY_LBA,
    Copy,
    DiskTable,
    HeaderPlace,
    Mbr,
    ReadSectors,
    renewed_header,
)
from signpost.spare_array import last_usable, old_array, spare_array


class Write(NamedTuple):
    """Whole sectors to be written from `lba` on."""

    lba: int
    data: bytes


class Step(NamedTuple):
    """Writes that may reach the disk in any order, then a flush before the next step."""

    what: str
    writes: tuple[Write, ...]


def plan_write(
    table: DiskTable, entries: bytes, *, read: ReadSectors, rewrite: bool = False
) -> tuple[Step, ...]:
    """Plan the sectors to write so that no cut can lose the table.

    The copy that readers do not believe is written first, while the other still stands. Where a
    second entry array fits in front of the first partition, the primary copy is then replaced by a
    single sector: the new array goes where the header does not point, and LBA 1 is made to point at
    it. Elsewhere the primary copy is written in place, its header before its entries: while they do
    not match, the strictest reader believes the backup only if the two headers agree.

    Args:
        table: what stands on the disk now.
        entries: the new entry array in whole sectors.
        read: gives the sectors of the disk, to leave out those that need no change.
        rewrite: write every sector, also where the disk already holds the same bytes.

    Returns:
        Steps to be flushed one by one; none when the disk already holds this table.

    Raises:
        TableError: the table must not be written.
    """
    is_same = entries == table.authority.entries and not rewrite
    if is_same and not table.faults:
        return ()
    _refuse_unwritable(table)
    layout = _lay_out(table, read, move_array=not is_same)
    _refuse_collisions(layout, table)
    _refuse_impossible_range(layout)
    _refuse_to_overwrite_what_is_believed(layout, table)
    writer = _Writer(table=table, layout=layout, read=read, rewrite=rewrite)
    return tuple(step for step in writer.steps(entries) if step.writes)


def _refuse_unwritable(table: DiskTable) -> None:
    match table.mbr:
        case Mbr.HYBRID:
            raise TableError(
                "LBA 0 holds a hybrid MBR: firmware may read it instead of the GUID partition "
                "table, so this table is not written"
            )
        case Mbr.MISSING:
            raise TableError(
                "LBA 0 holds no protective MBR: other tools take this disk for unpartitioned, so "
                "this table is not written"
            )
        case Mbr.PROTECTIVE:
            pass


class _Layout(NamedTuple):
    """Where the parts of the table stand after the write, in LBAs."""

    array_sectors: int
    old_array: int
    new_array: int
    backup_array: int
    backup_header: int
    first_usable: int
    last_usable: int

    @property
    def in_place(self) -> bool:
        """Whether the primary entries are overwritten where LBA 1 points at now."""
        return self.new_array == self.old_array


def _lay_out(table: DiskTable, read: ReadSectors, *, move_array: bool) -> _Layout:
    """Decide where the parts of the table go.

    A good primary copy that stays as it is is left where it is; only the backup is written then.
    """
    header = table.authority.header
    slots_end = FIRST_ARRAY_LBA + 2 * header.array_sectors
    is_good = isinstance(table.primary, Copy)
    old = old_array(table, read)
    spare = spare_array(table, old, read) if move_array or not is_good else None
    backup_array = table.sector_count - 1 - header.array_sectors
    return _Layout(
        array_sectors=header.array_sectors,
        old_array=old,
        new_array=old if spare is None else spare,
        backup_array=backup_array,
        backup_header=table.sector_count - 1,
        # Reserved from now on: no other tool may place a partition over the second array.
        first_usable=max(header.first_usable_lba, FIRST_ARRAY_LBA if spare is None else slots_end),
        last_usable=last_usable(table),
    )


def _refuse_collisions(layout: _Layout, table: DiskTable) -> None:
    """Refuse to write where a partition or another part of the table stands.

    A second array is written only where both places lie in front of all partitions and the backup,
    so the place that is left needs no look.
    """
    size = layout.array_sectors
    parts = {
        "the MBR": range(1),
        "the primary header": range(PRIMARY_LBA, PRIMARY_LBA + 1),
        "the primary entries": range(layout.new_array, layout.new_array + size),
        "the backup entries": range(layout.backup_array, layout.backup_array + size),
        "the backup header": range(layout.backup_header, layout.backup_header + 1),
    }
    placed = [(name, part.start, part.stop) for name, part in parts.items()]
    placed += [(f"partition {p.number}", p.first_lba, p.last_lba + 1) for p in table.partitions]
    placed.sort(key=lambda part: part[1])
    for (name, _, stop), (after, start, _) in pairwise(placed):
        if start < stop:
            raise TableError(f"{name} and {after} would overlap: this table is not written")


def _refuse_impossible_range(layout: _Layout) -> None:
    """Refuse to write usable sectors for which Linux would take neither copy for a table."""
    if layout.first_usable > layout.last_usable:
        raise TableError(
            f"partitions could use LBA {layout.first_usable} to {layout.last_usable}, which other "
            "tools take for no table: this table is not written"
        )


def _refuse_to_overwrite_what_is_believed(layout: _Layout, table: DiskTable) -> None:
    """Refuse to write a lost primary array over the entries of the backup.

    Nothing keeps a backup header from pointing in front of the first partition.
    """
    if isinstance(table.primary, Copy):
        return
    believed, size = table.authority.header.entries_lba, layout.array_sectors
    stays = layout.in_place and believed == layout.new_array
    if abs(believed - layout.new_array) < size and not stays:
        raise TableError(
            f"the primary copy is lost, and the backup keeps its entries at LBA {believed}, where "
            "those of the primary belong: this table is not written. `sgdisk -b FILE` saves it, "
            "`sgdisk -l FILE` writes both copies anew"
        )


class _Writer:
    """Puts the steps of one write together; remembers what the disk will hold after them."""

    def __init__(
        self, *, table: DiskTable, layout: _Layout, read: ReadSectors, rewrite: bool
    ) -> None:
        self._table = table
        self._layout = layout
        self._read = read
        self._rewrite = rewrite
        self._written: dict[int, bytes] = {}

    def steps(self, entries: bytes) -> list[Step]:
        """Return all steps, in the order that leaves a whole table at every cut."""
        if isinstance(self._table.primary, Copy):
            return [*self._backup(entries), *self._primary(entries)]
        moved = self._moved_backup()
        if not self._layout.in_place:
            return [*moved, *self._primary(entries), *self._backup(entries)]
        # In place, a bad primary is first made what the backup says, so that both headers agree: in
        # the usable sectors too, which may be impossible there.
        repair = self._primary(self._table.authority.entries, usable=self._said_usable)
        return [*moved, *repair, *self._backup(entries), *self._primary(entries)]

    @property
    def _said_usable(self) -> range:
        header = self._table.authority.header
        return range(header.first_usable_lba, header.last_usable_lba + 1)

    def _moved_backup(self) -> list[Step]:
        """Let all readers find the backup of a grown disk before the primary is touched.

        The one sector at the new end points at the entries where they are: new entries could
        overwrite the old header, of which there is no other.
        """
        backup = self._table.authority
        last = self._layout.backup_header
        if backup.header.current_lba == last:
            return []
        place = HeaderPlace(
            current_lba=last, alternate_lba=PRIMARY_LBA, entries_lba=backup.header.entries_lba
        )
        header = self._header(backup.entries, place, usable=self._said_usable)
        return [self._step("backup header at the new end", last, header)]

    def _backup(self, entries: bytes) -> list[Step]:
        layout = self._layout
        place = HeaderPlace(
            current_lba=layout.backup_header,
            alternate_lba=PRIMARY_LBA,
            entries_lba=layout.backup_array,
        )
        header = self._header(entries, place)
        return [
            self._step("backup entries", layout.backup_array, entries),
            self._step("backup header", layout.backup_header, header),
        ]

    def _primary(self, entries: bytes, *, usable: range | None = None) -> list[Step]:
        layout = self._layout
        place = HeaderPlace(
            current_lba=PRIMARY_LBA,
            alternate_lba=layout.backup_header,
            entries_lba=layout.new_array,
        )
        header = self._header(entries, place, usable=usable)
        parts = [
            ("primary entries", layout.new_array, entries),
            ("primary header", PRIMARY_LBA, header),
        ]
        if layout.in_place:
            parts.reverse()
        return [self._step(*part) for part in parts]

    def _header(self, entries: bytes, place: HeaderPlace, *, usable: range | None = None) -> bytes:
        if usable is None:
            usable = range(self._layout.first_usable, self._layout.last_usable + 1)
        return renewed_header(self._table.authority.header, entries, place=place, usable=usable)

    def _step(self, what: str, first_lba: int, data: bytes) -> Step:
        """Plan to write those sectors that the disk will not hold already."""
        size = self._table.sector_size
        wanted = {first_lba + at // size: data[at : at + size] for at in range(0, len(data), size)}
        changed = {
            lba: new for lba, new in wanted.items() if self._rewrite or new != self._now(lba)
        }
        self._written.update(changed)
        return Step(what=what, writes=_join(changed))

    def _now(self, lba: int) -> bytes:
        if lba in self._written:
            return self._written[lba]
        try:
            return self._read(lba, 1)
        except DiskError:  # writing a sector is what makes a disk replace a bad one
            return b""


def _join(sectors: Mapping[int, bytes]) -> tuple[Write, ...]:
    """Join neighbouring sectors, given in ascending order, into one write each."""
    writes: list[Write] = []
    for lba, content in sectors.items():
        last = writes[-1] if writes else None
        if last is not None and last.lba + len(last.data) // len(content) == lba:
            writes[-1] = Write(lba=last.lba, data=last.data + content)
        else:
            writes.append(Write(lba=lba, data=content))
    return tuple(writes)
