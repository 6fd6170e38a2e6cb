"""Bytes <-> a partition table with both its copies, and the plan of writing it."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import combinations
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from signpost import gpt, spare_array, table_write
from signpost.errors import DiskError, TableError
from tests.helpers.gpt_builder import (
    BOOT_A,
    BOOT_B,
    PRIVATE,
    DiskSpec,
    Flags,
    Mbr,
    Part,
    PartitionSpec,
    an_ab_disk,
    build,
    flip_bit,
    garble,
    grown,
    header_field,
    noise,
    shrunk,
    wipe,
    with_entry_fields,
    with_header_fields,
    with_sector,
)
from tests.helpers.gpt_readers import (
    ALL_READERS,
    Medium,
    Seen,
    changed_lbas,
    libblkid_reader,
    linux_reader_with_gpt,
    sgdisk_reader,
    strict_gptprio_reader,
    uefi_reader,
)

GEOMETRIES = [
    pytest.param({"sector_size": 512}, id="512-byte sectors"),
    pytest.param({"sector_size": 4096}, id="4096-byte sectors"),
    pytest.param({"sector_size": 512, "entry_count": 16}, id="512, 16 entries"),
    pytest.param({"sector_size": 4096, "entry_count": 16}, id="4096, 16 entries"),
    pytest.param({"sector_size": 512, "entry_count": 256}, id="512, 256 entries"),
    pytest.param({"sector_size": 4096, "entry_count": 256}, id="4096, 256 entries"),
    pytest.param({"sector_size": 512, "entry_size": 256}, id="512, entries of 256 bytes"),
    pytest.param({"sector_size": 4096, "entry_size": 256}, id="4096, entries of 256 bytes"),
    pytest.param({"sector_size": 512, "entry_count": 13}, id="512, entries end inside a sector"),
]
Geometry = Mapping[str, int]

UPGRADE = {BOOT_A: Flags(1, 0, 1), BOOT_B: Flags(2, 1, 0)}
SOME_TYPE = UUID(int=0x1234)
SMALL = {"size_bytes": 2 << 20, "scale": 8}


def an_image(**facts: object) -> tuple[DiskSpec, bytes]:
    spec = an_ab_disk(**{**SMALL, **facts})  # type: ignore[arg-type]
    return spec, build(spec)


def load(image: bytes, sector_size: int = 512) -> gpt.DiskTable:
    medium = Medium.of_bytes(image, sector_size)
    return gpt.load(medium.read, sector_size=sector_size, sector_count=medium.sector_count)


def plan(
    image: bytes,
    sector_size: int = 512,
    flags: Mapping[int, Flags] = UPGRADE,
    *,
    rewrite: bool = False,
) -> tuple[table_write.Step, ...]:
    """Plan to write flags as the only attributes of some partitions."""
    table = load(image, sector_size)
    entries = table.with_attributes({number: f.attributes for number, f in flags.items()})
    medium = Medium.of_bytes(image, sector_size)
    return table_write.plan_write(table, entries, read=medium.read, rewrite=rewrite)


def applied(image: bytes, steps: Sequence[table_write.Step], sector_size: int = 512) -> bytes:
    changed = bytearray(image)
    for step in steps:
        for write in step.writes:
            at = write.lba * sector_size
            changed[at : at + len(write.data)] = write.data
    assert len(changed) == len(image), "a write beyond the end"
    return bytes(changed)


def written(
    image: bytes, sector_size: int = 512, flags: Mapping[int, Flags] = UPGRADE, **options: bool
) -> bytes:
    return applied(image, plan(image, sector_size, flags, **options), sector_size)


def planned_lbas(steps: Sequence[table_write.Step], sector_size: int = 512) -> set[int]:
    return {lba for step in steps for lba, _ in sectors_of(step, sector_size)}


def whats(steps: Sequence[table_write.Step]) -> list[str]:
    return [step.what for step in steps]


def seen(image: bytes, sector_size: int = 512) -> Seen:
    found = uefi_reader(Medium.of_bytes(image, sector_size))
    assert found is not None
    return found


def primary_array(image: bytes, spec: DiskSpec) -> int:
    return header_field(image, spec, Part.PRIMARY_HEADER, "entries_lba")


BACKUP_FIRST_SPARE = ["backup entries", "backup header", "primary entries", "primary header"]
BACKUP_FIRST_IN_PLACE = ["backup entries", "backup header", "primary header", "primary entries"]
PRIMARY_FIRST = ["primary entries", "primary header", "backup entries", "backup header"]


class TestReading:
    @pytest.mark.parametrize("geometry", GEOMETRIES)
    def test_every_field_of_every_partition_is_read(self, geometry: Geometry) -> None:
        spec, image = an_image(**geometry, foreign_attributes=0x8000_0000_0000_0005)
        table = load(image, spec.sector_size)
        assert table.faults == ()
        assert table.mbr == "protective"
        assert [
            (p.number, p.label, p.first_lba, p.last_lba, p.type_guid, p.unique_guid, p.attributes)
            for p in table.partitions
        ] == [
            (p.number, p.name, p.first_lba, p.last_lba, p.type_guid, p.unique_guid, p.attributes)
            for p in spec.partitions
        ]
        assert [p.sectors for p in table.partitions] == [p.sectors for p in spec.partitions]

    @pytest.mark.parametrize("geometry", GEOMETRIES)
    def test_both_headers_are_read(self, geometry: Geometry) -> None:
        spec, image = an_image(**geometry, first_usable=99)
        table = load(image, spec.sector_size)
        assert isinstance(table.primary, gpt.Copy)
        assert isinstance(table.backup, gpt.Copy)
        primary, backup = table.primary.header, table.backup.header
        assert (primary.current_lba, primary.alternate_lba) == (1, spec.last_lba)
        assert (backup.current_lba, backup.alternate_lba) == (spec.last_lba, 1)
        assert (primary.entries_lba, backup.entries_lba) == (2, spec.backup_entries_lba)
        for header in (primary, backup):
            assert header.disk_guid == spec.disk_guid
            assert header.first_usable_lba == 99
            assert header.last_usable_lba == spec.backup_entries_lba - 1
            assert header.array_sectors == spec.array_sectors
            assert header.array_bytes == spec.array_bytes

    def test_unused_entries_are_no_partitions_and_numbers_count_them(self) -> None:
        image = build(tiny_disk(a_partition(number=2), a_partition(number=15, first_lba=90)))
        assert [p.number for p in load(image).partitions] == [2, 15]

    @pytest.mark.parametrize(
        ("name", "label"),
        [
            pytest.param("", "", id="none"),
            pytest.param("x" * 36, "x" * 36, id="36 characters without a terminator"),
            pytest.param("ROOT\0junk", "ROOT", id="junk after the terminator"),
            pytest.param("\U0001f600 Größe", "\U0001f600 Größe", id="beyond the basic plane"),
        ],
    )
    def test_a_label_ends_at_its_terminator_or_its_field(self, name: str, label: str) -> None:
        (partition,) = load(build(tiny_disk(a_partition(name=name)))).partitions
        assert partition.label == label

    def test_a_label_that_is_no_utf_16_is_no_error(self) -> None:
        spec = tiny_disk(a_partition(number=1))
        image = with_entry_fields(build(spec), spec, 1, name=b"\x00\xd8\x41\x00")
        (partition,) = load(image).partitions
        assert partition.label == "\N{REPLACEMENT CHARACTER}A"

    def test_the_smallest_possible_disk_is_read(self) -> None:
        spec = DiskSpec(
            sector_count=6,
            entry_count=4,
            partitions=(a_partition(first_lba=3, last_lba=3),),
        )
        assert len(load(build(spec)).partitions) == 1

    def test_a_disk_without_room_for_a_table_is_refused(self) -> None:
        with pytest.raises(TableError, match=r"^no room for a GUID partition table in 5 sectors$"):
            load(bytes(5 * 512))


class TestWhichCopyCounts:
    @pytest.mark.parametrize(
        ("part", "fault"),
        [
            (Part.PRIMARY_HEADER, "primary copy: no header at LBA 1"),
            (Part.PRIMARY_ENTRIES, "primary copy: checksum of the entries is wrong"),
            (Part.BACKUP_HEADER, "backup copy: no header at LBA {last}"),
            (Part.BACKUP_ENTRIES, "backup copy: checksum of the entries is wrong"),
        ],
    )
    @pytest.mark.parametrize("damage", [garble, wipe])
    @pytest.mark.parametrize("sector_size", [512, 4096])
    def test_one_bad_part_costs_its_copy_and_nothing_else(
        self,
        part: Part,
        fault: str,
        damage: Callable[[bytes, DiskSpec, Part], bytes],
        sector_size: int,
    ) -> None:
        spec, image = an_image(sector_size=sector_size)
        table = load(damage(image, spec, part), sector_size)
        assert table.faults == (fault.format(last=spec.last_lba),)
        assert table.partitions == load(image, sector_size).partitions

    def test_the_primary_counts_when_both_are_valid(self) -> None:
        spec, image = an_image()
        image = with_entry_fields(
            image, spec, BOOT_A, parts=(Part.BACKUP_ENTRIES,), attributes=Flags(9, 9, 1).attributes
        )
        table = load(image)
        assert table.faults == ("backup copy: differs from the primary",)
        assert table.authority is table.primary

    @pytest.mark.parametrize("part", [Part.PRIMARY_HEADER, Part.PRIMARY_ENTRIES])
    def test_the_backup_counts_when_the_primary_is_bad(self, part: Part) -> None:
        spec, image = an_image()
        image = with_entry_fields(
            image, spec, BOOT_A, parts=(Part.BACKUP_ENTRIES,), attributes=Flags(9, 9, 1).attributes
        )
        table = load(garble(image, spec, part))
        assert table.authority is table.backup
        assert table.partitions[2].attributes == Flags(9, 9, 1).attributes

    @pytest.mark.parametrize("primary", [Part.PRIMARY_HEADER, Part.PRIMARY_ENTRIES])
    @pytest.mark.parametrize("backup", [Part.BACKUP_HEADER, Part.BACKUP_ENTRIES])
    def test_two_bad_copies_are_refused_with_both_reasons(
        self, primary: Part, backup: Part
    ) -> None:
        spec, image = an_image()
        reasons = {
            Part.PRIMARY_HEADER: "no header at LBA 1",
            Part.BACKUP_HEADER: f"no header at LBA {spec.last_lba}",
        }
        entries = "checksum of the entries is wrong"
        with pytest.raises(TableError) as caught:
            load(garble(garble(image, spec, primary), spec, backup))
        assert str(caught.value) == (
            f"no valid GUID partition table: primary: {reasons.get(primary, entries)}; "
            f"backup: {reasons.get(backup, entries)}"
        )

    def test_an_empty_disk_is_refused(self) -> None:
        with pytest.raises(TableError, match=r"^no valid GUID partition table: "):
            load(bytes(1 << 20))

    @pytest.mark.parametrize(
        "field",
        [
            {"disk_guid": bytes(range(16))},
            {"first_usable_lba": 35},
            {"last_usable_lba": 3000},
            {"alternate_lba": 2},
        ],
        ids=lambda field: next(iter(field)),
    )
    @pytest.mark.parametrize("part", [Part.PRIMARY_HEADER, Part.BACKUP_HEADER])
    def test_copies_that_differ_in_any_shared_field_disagree(
        self, part: Part, field: dict[str, int | bytes]
    ) -> None:
        spec, image = an_image()
        table = load(with_header_fields(image, spec, part, **field))
        assert table.faults == ("backup copy: differs from the primary",)

    def test_copies_whose_entry_counts_differ_disagree(self) -> None:
        spec, image = an_image()
        table = load(with_header_fields(image, spec, Part.BACKUP_HEADER, entry_count=64))
        assert table.faults == ("backup copy: differs from the primary",)

    def test_bytes_behind_the_last_entry_are_no_disagreement(self) -> None:
        spec, image = an_image(entry_count=13)
        sector = spec.backup_entries_lba + 3
        behind = image[sector * 512 : sector * 512 + 128] + b"\xff" * 384
        assert load(with_sector(image, spec, sector, behind)).faults == ()

    def test_a_grown_disk_says_where_the_backup_was(self) -> None:
        spec, image = an_image()
        table = load(grown(image, spec, 100))
        assert table.faults == (
            (
                f"backup copy: no header at LBA {spec.last_lba + 100} "
                f"(the disk has grown: the backup was last written to LBA {spec.last_lba})"
            ),
        )

    def test_a_disk_that_did_not_grow_says_nothing_of_growth(self) -> None:
        spec, image = an_image()
        (fault,) = load(garble(image, spec, Part.BACKUP_HEADER)).faults
        assert "grown" not in fault

    @settings(deadline=None, max_examples=60)
    @given(data=st.data())
    def test_any_flipped_bit_of_a_copy_is_noticed(self, data: st.DataObject) -> None:
        spec = tiny_disk(a_partition())
        part = data.draw(st.sampled_from(Part))
        length = 92 if part in {Part.PRIMARY_HEADER, Part.BACKUP_HEADER} else spec.array_bytes
        byte = data.draw(st.integers(min_value=0, max_value=length - 1))
        bit = data.draw(st.integers(min_value=0, max_value=7))
        table = load(flip_bit(build(spec), spec, part, byte=byte, bit=bit))
        (fault,) = table.faults
        assert fault.startswith(part.value.split()[0])
        assert "differs" not in fault

    def test_bytes_behind_the_header_are_not_covered_by_its_checksum(self) -> None:
        spec = tiny_disk(a_partition())
        assert load(flip_bit(build(spec), spec, Part.PRIMARY_HEADER, byte=92)).faults == ()

    def test_a_header_may_be_longer_than_this_specification_says(self) -> None:
        spec = replace(tiny_disk(a_partition()), header_size=512, header_beyond=noise(420))
        image = build(spec)
        assert load(image).faults == ()
        assert load(flip_bit(image, spec, Part.PRIMARY_HEADER, byte=511)).faults == (
            "primary copy: checksum of the header is wrong",
        )


class TestHeadersThatCannotBeMeant:
    @pytest.mark.parametrize(
        ("fields", "reason"),
        [
            ({"signature": b"EFI PARU"}, "no header at LBA 1"),
            ({"header_size": 91}, "header size 91 is impossible"),
            ({"header_size": 513}, "header size 513 is impossible"),
            ({"header_size": 2**32 - 1}, "header size 4294967295 is impossible"),
            ({"my_lba": 2}, "header at LBA 1 claims to be at LBA 2"),
            ({"entry_size": 0}, "entry size 0 is not 128 times a power of two"),
            ({"entry_size": 64}, "entry size 64 is not 128 times a power of two"),
            ({"entry_size": 136}, "entry size 136 is not 128 times a power of two"),
            ({"entry_size": 384}, "entry size 384 is not 128 times a power of two"),
            ({"entry_size": 2**31}, "16 entries of 2147483648 bytes are out of bounds"),
            ({"entry_count": 0}, "0 entries of 128 bytes are out of bounds"),
            ({"entry_count": 8193}, "8193 entries of 128 bytes are out of bounds"),
            ({"entry_count": 2**32 - 1}, "4294967295 entries of 128 bytes are out of bounds"),
            ({"entries_lba": 0}, "entries at LBA 0 lie outside their place"),
            ({"entries_lba": 1}, "entries at LBA 1 lie outside their place"),
            ({"entries_lba": 253}, "entries at LBA 253 lie outside their place"),
            ({"entries_lba": 256}, "entries at LBA 256 lie outside their place"),
            ({"entries_lba": 2**64 - 1}, f"entries at LBA {2**64 - 1} lie outside their place"),
        ],
        ids=lambda value: "=".join(map(str, *value.items())) if isinstance(value, dict) else "",
    )
    def test_a_field_out_of_bounds_is_a_fault_even_under_a_right_checksum(
        self, fields: dict[str, int | bytes], reason: str
    ) -> None:
        spec = tiny_disk(a_partition())
        table = load(with_header_fields(build(spec), spec, Part.PRIMARY_HEADER, **fields))
        assert table.primary == gpt.Fault(reason=reason)

    def test_backup_entries_may_not_cover_their_own_header(self) -> None:
        spec = tiny_disk(a_partition())
        image = with_header_fields(
            build(spec), spec, Part.BACKUP_HEADER, entries_lba=spec.last_lba - 3
        )
        assert load(image).backup == gpt.Fault(
            reason=f"entries at LBA {spec.last_lba - 3} lie outside their place"
        )

    @pytest.mark.parametrize("lba", [0, 1])
    def test_backup_entries_may_not_stand_on_the_mbr_or_the_primary_header(self, lba: int) -> None:
        spec = tiny_disk(a_partition())
        image = with_header_fields(build(spec), spec, Part.BACKUP_HEADER, entries_lba=lba)
        assert load(image).backup == gpt.Fault(
            reason=f"entries at LBA {lba} lie outside their place"
        )

    def test_an_array_that_ends_with_the_disk_is_within_it(self) -> None:
        spec = tiny_disk(a_partition())
        image = with_header_fields(
            build(spec),
            spec,
            Part.PRIMARY_HEADER,
            entries_lba=spec.sector_count - 4,
            entry_count=16,
        )
        assert isinstance(load(image).primary, gpt.Copy)

    def test_the_largest_allowed_array_is_read(self) -> None:
        spec = DiskSpec(sector_count=8192, entry_count=8192)
        assert load(build(spec)).faults == ()

    @settings(deadline=None, max_examples=150)
    @given(data=st.data())
    def test_whatever_a_sealed_header_says_there_is_an_answer_or_a_typed_error(
        self, data: st.DataObject
    ) -> None:
        spec = tiny_disk(a_partition(), a_partition(number=2, first_lba=90))
        image = build(spec)
        for part in (Part.PRIMARY_HEADER, Part.BACKUP_HEADER):
            image = with_header_fields(image, spec, part, **data.draw(hostile_headers))
        answered(image)

    @settings(deadline=None, max_examples=150)
    @given(data=st.data())
    def test_whatever_a_sealed_entry_says_there_is_an_answer_or_a_typed_error(
        self, data: st.DataObject
    ) -> None:
        spec = tiny_disk(a_partition(), a_partition(number=2, first_lba=90))
        image = build(spec)
        for number in (1, 2):
            image = with_entry_fields(image, spec, number, **data.draw(hostile_entries))
        answered(image)


class TestPartitionsThatCannotBeMeant:
    @pytest.mark.parametrize(
        ("first", "last"),
        [(70, 69), (2**64 - 1, 0), (70, 256), (70, 2**64 - 1), (256, 256)],
    )
    def test_a_reversed_or_endless_partition_is_refused(self, first: int, last: int) -> None:
        spec = tiny_disk(a_partition(number=7))
        image = with_entry_fields(build(spec), spec, 7, first_lba=first, last_lba=last)
        with pytest.raises(TableError) as caught:
            load(image)
        assert str(caught.value) == (
            f"partition 7 runs from LBA {first} to {last} on a disk of 256 sectors"
        )

    def test_a_partition_may_end_with_the_disk_for_a_reader(self) -> None:
        spec = tiny_disk(a_partition(number=7))
        image = with_entry_fields(build(spec), spec, 7, first_lba=255, last_lba=255)
        assert load(image).partitions[0].sectors == 1

    @pytest.mark.parametrize(("first", "last"), [(79, 90), (70, 79), (60, 70), (72, 74), (60, 90)])
    def test_overlapping_partitions_are_refused(self, first: int, last: int) -> None:
        spec = tiny_disk(
            a_partition(number=1, first_lba=70, last_lba=79),
            a_partition(number=2, first_lba=first, last_lba=last),
        )
        with pytest.raises(TableError, match=r"^partitions (1 and 2|2 and 1) overlap$"):
            load(build(spec))

    def test_a_partition_that_spans_several_others_is_refused(self) -> None:
        spec = tiny_disk(
            a_partition(number=1, first_lba=70, last_lba=79),
            a_partition(number=2, first_lba=90, last_lba=99),
            a_partition(number=3, first_lba=60, last_lba=110),
        )
        with pytest.raises(TableError, match=r"overlap$"):
            load(build(spec))

    def test_adjacent_partitions_in_any_order_are_fine(self) -> None:
        spec = tiny_disk(
            a_partition(number=1, first_lba=80, last_lba=89),
            a_partition(number=2, first_lba=70, last_lba=79),
        )
        assert len(load(build(spec)).partitions) == 2

    def test_the_range_of_an_unused_entry_means_nothing(self) -> None:
        unused = a_partition(number=2, type_guid=UUID(int=0), first_lba=9, last_lba=1)
        assert len(load(build(tiny_disk(a_partition(), unused))).partitions) == 1


class TestTheMasterBootRecord:
    @pytest.mark.parametrize("mbr", Mbr)
    @pytest.mark.parametrize("sector_size", [512, 4096])
    def test_its_kind_is_told(self, mbr: Mbr, sector_size: int) -> None:
        _, image = an_image(mbr=mbr, sector_size=sector_size)
        table = load(image, sector_size)
        assert table.mbr == mbr.value
        assert len(table.partitions) == 13

    @pytest.mark.parametrize("slot", range(4))
    def test_the_protective_record_may_stand_in_any_slot(self, slot: int) -> None:
        _, image = an_image()
        changed = bytearray(image)
        changed[446:510] = bytes(64)
        changed[446 + 16 * slot : 462 + 16 * slot] = image[446:462]
        assert load(bytes(changed)).mbr == "protective"

    @pytest.mark.parametrize(
        ("offset", "value"),
        [
            pytest.param(510, b"\x00\x00", id="no signature"),
            pytest.param(510, b"\xaa\x55", id="signature swapped"),
            pytest.param(446 + 4, b"\x83", id="another type"),
            pytest.param(446 + 8, b"\x02\x00\x00\x00", id="not from LBA 1"),
            pytest.param(446 + 8, b"\x01\x00\x00\x01", id="far from LBA 1"),
        ],
    )
    def test_without_a_record_of_ee_from_lba_1_there_is_no_protection(
        self, offset: int, value: bytes
    ) -> None:
        spec, image = an_image()
        mbr = bytearray(image[:512])
        mbr[offset : offset + len(value)] = value
        assert load(with_sector(image, spec, 0, bytes(mbr))).mbr == "missing"

    @pytest.mark.parametrize("slot", [1, 2, 3])
    def test_any_second_record_makes_it_hybrid(self, slot: int) -> None:
        spec, image = an_image()
        mbr = bytearray(image[:512])
        mbr[446 + 16 * slot + 4] = 0x0C
        assert load(with_sector(image, spec, 0, bytes(mbr))).mbr == "hybrid"

    @pytest.mark.parametrize(
        ("mbr", "message"),
        [
            (Mbr.HYBRID, "LBA 0 holds a hybrid MBR: firmware may read it instead of the GUID "),
            (Mbr.MISSING, "LBA 0 holds no protective MBR: other tools take this disk for "),
        ],
    )
    @pytest.mark.parametrize("rewrite", [False, True])
    def test_a_disk_without_a_plain_protective_record_is_not_written(
        self, mbr: Mbr, message: str, rewrite: bool
    ) -> None:
        _, image = an_image(mbr=mbr)
        with pytest.raises(TableError) as caught:
            plan(image, rewrite=rewrite)
        assert str(caught.value).startswith(message)
        assert str(caught.value).endswith("so this table is not written")


class TestWriting:
    @pytest.mark.parametrize("geometry", GEOMETRIES)
    def test_every_reader_sees_the_new_flags_in_both_copies(self, geometry: Geometry) -> None:
        spec, image = an_image(**geometry)
        after = written(image, spec.sector_size)
        assert load(after, spec.sector_size).faults == ()
        expected = tuple(UPGRADE.values())
        assert seen(after, spec.sector_size).boot_flags == expected
        for bad in (Part.PRIMARY_HEADER, Part.BACKUP_HEADER):
            one_left = Medium.of_bytes(wipe(after, spec, bad), spec.sector_size)
            for reader in (uefi_reader, strict_gptprio_reader):
                found = reader(one_left)
                assert found is not None
                assert found.boot_flags == expected

    @pytest.mark.parametrize("geometry", GEOMETRIES)
    def test_nothing_but_the_planned_sectors_of_the_table_changes(self, geometry: Geometry) -> None:
        spec, image = an_image(**geometry)
        steps = plan(image, spec.sector_size)
        changed = changed_lbas(image, applied(image, steps, spec.sector_size), spec.sector_size)
        spare = range(2 + spec.array_sectors, 2 + 2 * spec.array_sectors)
        allowed = {1, *spare, *spec.lbas(Part.BACKUP_ENTRIES), spec.last_lba}
        assert changed <= planned_lbas(steps, spec.sector_size) <= allowed

    @pytest.mark.parametrize("geometry", GEOMETRIES)
    def test_the_same_again_writes_nothing(self, geometry: Geometry) -> None:
        spec, image = an_image(**geometry)
        assert plan(written(image, spec.sector_size), spec.sector_size) == ()

    def test_flags_that_stand_already_write_nothing(self) -> None:
        _, image = an_image(a=Flags(1, 0, 1), b=Flags(2, 1, 0))
        assert plan(image) == ()

    @pytest.mark.parametrize("geometry", GEOMETRIES)
    def test_one_sector_is_the_commit(self, geometry: Geometry) -> None:
        spec, image = an_image(**geometry)
        steps = plan(image, spec.sector_size)
        assert whats(steps) == BACKUP_FIRST_SPARE
        (commit,) = steps[-1].writes
        assert (commit.lba, len(commit.data)) == (1, spec.sector_size)

    @pytest.mark.parametrize("geometry", GEOMETRIES)
    def test_the_primary_array_moves_to_and_fro_between_two_places(
        self, geometry: Geometry
    ) -> None:
        spec, image = an_image(**geometry)
        places = []
        for tries in (1, 2, 3):
            image = written(image, spec.sector_size, {BOOT_B: Flags(2, tries, 0)})
            places.append(primary_array(image, spec))
        second = 2 + spec.array_sectors
        assert places == [second, 2, second]
        assert load(image, spec.sector_size).faults == ()

    def test_only_sectors_that_differ_are_written(self) -> None:
        spec, image = an_image()
        for tries in (1, 2):
            image = written(image, flags={BOOT_B: Flags(2, tries, 0)})
        steps = plan(image, flags={BOOT_B: Flags(2, 3, 0)})
        # Entry 8 stands in the second sector of an array; four entries of 128 bytes in each.
        assert planned_lbas(steps) == {
            spec.backup_entries_lba + 1,
            spec.last_lba,
            2 + 32 + 1,
            1,
        }

    def test_the_second_array_is_reserved_from_the_first_write_on(self) -> None:
        spec, image = an_image()
        assert header_field(image, spec, Part.PRIMARY_HEADER, "first_usable_lba") == 34
        after = written(image)
        for part in (Part.PRIMARY_HEADER, Part.BACKUP_HEADER):
            assert header_field(after, spec, part, "first_usable_lba") == 66

    @pytest.mark.parametrize("first_usable", [66, 2048])
    def test_a_larger_reservation_is_kept(self, first_usable: int) -> None:
        spec, image = an_image(first_usable=first_usable)
        after = written(image)
        assert primary_array(after, spec) == 34
        assert header_field(after, spec, Part.PRIMARY_HEADER, "first_usable_lba") == first_usable

    def test_a_reserved_place_is_used_whatever_a_cut_left_there(self) -> None:
        _, image = an_image(first_usable=66, raw_sectors={34: noise(512)})
        assert whats(plan(image)) == BACKUP_FIRST_SPARE
        assert load(written(image)).faults == ()

    @pytest.mark.parametrize("rewrite", [False, True])
    def test_unknown_bytes_survive(self, rewrite: bool) -> None:
        spec, _ = an_image(entry_size=256, foreign_attributes=0xFE00_FFFF_FFFF_FFFF, entry_count=20)
        junk = PartitionSpec(
            number=17,
            type_guid=UUID(int=0),
            unique_guid=UUID(int=7),
            first_lba=3,
            last_lba=1,
            attributes=2**63,
            name="deleted",
            beyond=noise(128),
        )
        spec = replace(
            spec,
            partitions=(*spec.partitions, junk),
            header_size=128,
            header_beyond=noise(200),
        )
        image = build(spec)
        for part in (Part.PRIMARY_HEADER, Part.BACKUP_HEADER):
            image = with_header_fields(image, spec, part, revision=0x20000, reserved=0xABCD)
        before, after = load(image), load(written(image, flags={}, rewrite=rewrite))
        assert after.authority.entries == before.authority.entries
        for copy in (after.primary, after.backup):
            assert isinstance(copy, gpt.Copy)
            assert copy.header.raw[8:16] == before.authority.header.raw[8:16]
            assert copy.header.raw[20:24] == before.authority.header.raw[20:24]
            assert copy.header.raw[92:] == before.authority.header.raw[92:]

    @settings(deadline=None, max_examples=40)
    @given(
        attributes=st.lists(st.integers(min_value=0, max_value=2**64 - 1), min_size=3, max_size=3),
        names=st.lists(
            st.text(st.characters(exclude_categories=["Cs"], max_codepoint=0xFFFF), max_size=36),
            min_size=3,
            max_size=3,
        ),
        new=st.integers(min_value=0, max_value=2**64 - 1),
        sector_size=st.sampled_from([512, 4096]),
        entry_size=st.sampled_from([128, 256]),
    )
    def test_any_attributes_are_written_to_one_partition_and_stay_on_the_others(
        self,
        attributes: list[int],
        names: list[str],
        new: int,
        sector_size: int,
        entry_size: int,
    ) -> None:
        partitions = (
            a_partition(
                number=number,
                first_lba=100 + 10 * number,
                attributes=attributes[number - 1],
                name=names[number - 1],
                beyond=noise(entry_size - 128, seed=number),
            )
            for number in (1, 2, 3)
        )
        spec = replace(tiny_disk(*partitions), sector_size=sector_size, entry_size=entry_size)
        image = build(spec)
        table = load(image, sector_size)
        medium = Medium.of_bytes(image, sector_size)
        steps = table_write.plan_write(table, table.with_attributes({2: new}), read=medium.read)
        after = seen(applied(image, steps, sector_size), sector_size)
        before = seen(image, sector_size)
        assert [p.attributes for p in after.partitions] == [attributes[0], new, attributes[2]]
        assert [replace(p, attributes=0) for p in after.partitions] == [
            replace(p, attributes=0) for p in before.partitions
        ]

    def test_private_and_boot_flags_change_together(self) -> None:
        _, image = an_image()
        after = written(image, flags={BOOT_A: Flags(2, 0, 1), PRIVATE: Flags(0, 0, 0)})
        assert seen(after).boot_flags == (Flags(2, 0, 1), Flags(0, 0, 0))


class TestWhereThereIsNoRoomForASecondArray:
    @pytest.mark.parametrize(
        "facts",
        [
            pytest.param({"first_partition_lba": 34}, id="a partition right behind the array"),
            pytest.param({"first_partition_lba": 65}, id="a partition one sector too early"),
            pytest.param(
                {"first_partition_lba": 65, "raw_sectors": {65: bytes(512)}},
                id="a partition one sector too early, empty at its beginning",
            ),
            pytest.param(
                {"first_partition_lba": 65, "first_usable": 66},
                id="a partition inside what the header reserves",
            ),
            pytest.param({"raw_sectors": {40: noise(512)}}, id="a boot loader behind the array"),
            pytest.param({"raw_sectors": {65: b"\x01"}}, id="one byte in the last sector"),
            pytest.param(
                {
                    "primary_entries_lba": 34,
                    "first_usable": 66,
                    "raw_sectors": {16: noise(512)},
                },
                id="a boot loader at LBA 16, the array behind it",
            ),
            pytest.param(
                {"primary_entries_lba": 2000, "first_usable": 2032, "raw_sectors": {16: b"boot"}},
                id="an array far away",
            ),
            pytest.param(
                {"primary_entries_lba": 3, "first_usable": 35}, id="an array in no known place"
            ),
            pytest.param(
                {"sector_size": 4096, "first_partition_lba": 9}, id="4096, one sector too early"
            ),
            pytest.param(
                {"entry_count": 256, "first_partition_lba": 129}, id="256 entries, one too early"
            ),
        ],
    )
    def test_the_header_is_written_before_the_entries_and_the_gap_is_left_alone(
        self, facts: dict[str, object]
    ) -> None:
        spec, image = an_image(**facts)
        size = spec.sector_size
        steps = plan(image, size)
        assert whats(steps) == BACKUP_FIRST_IN_PLACE
        after = applied(image, steps, size)
        allowed = {sector for part in Part for sector in spec.lbas(part)}
        assert changed_lbas(image, after, size) <= allowed
        assert primary_array(after, spec) == spec.primary_entries_lba
        assert load(after, size).faults == ()
        assert seen(after, size).boot_flags == tuple(UPGRADE.values())
        for part in (Part.PRIMARY_HEADER, Part.BACKUP_HEADER):
            old = header_field(image, spec, part, "first_usable_lba")
            assert header_field(after, spec, part, "first_usable_lba") == old

    @pytest.mark.parametrize(
        "facts",
        [
            pytest.param({"first_partition_lba": 66}, id="512"),
            pytest.param({"first_partition_lba": 10, "sector_size": 4096}, id="4096"),
            pytest.param({"first_partition_lba": 130, "entry_count": 256}, id="256 entries"),
            pytest.param({"first_partition_lba": 10, "entry_count": 16}, id="16 entries"),
            pytest.param({"raw_sectors": {66: noise(512)}}, id="a boot loader behind both arrays"),
        ],
    )
    def test_room_for_exactly_two_arrays_is_enough(self, facts: dict[str, object]) -> None:
        spec, image = an_image(**facts)
        assert whats(plan(image, spec.sector_size)) == BACKUP_FIRST_SPARE

    def test_a_disk_without_partitions_has_room(self) -> None:
        image = build(DiskSpec(sector_count=256, entry_count=16))
        assert whats(plan(image, flags={}, rewrite=True)) == BACKUP_FIRST_SPARE

    def test_an_array_at_34_moves_back_to_2_where_nothing_stands_there(self) -> None:
        spec, image = an_image(primary_entries_lba=34, first_usable=66)
        steps = plan(image)
        assert whats(steps) == BACKUP_FIRST_SPARE
        assert primary_array(applied(image, steps), spec) == 2

    def test_an_older_array_of_this_disk_may_be_overwritten(self) -> None:
        spec, image = an_image()
        moved = written(image)
        # Another tool put the header's fields back to what they usually are.
        for part in (Part.PRIMARY_HEADER, Part.BACKUP_HEADER):
            moved = with_header_fields(moved, spec, part, first_usable_lba=34)
        moved = with_header_fields(moved, spec, Part.PRIMARY_HEADER, entries_lba=34)
        steps = plan(moved, flags={BOOT_B: Flags(2, 0, 0)})
        assert whats(steps) == BACKUP_FIRST_SPARE
        assert primary_array(applied(moved, steps), spec) == 2

    @pytest.mark.parametrize("geometry", GEOMETRIES)
    def test_an_array_with_an_ab_set_may_be_overwritten_whatever_its_unique_guids(
        self, geometry: Geometry
    ) -> None:
        """A reflash, or `sgdisk -G`, leaves signpost's own older array with other unique GUIDs."""
        spec, _ = an_image(**geometry)
        array = stale_array(spec)
        _, image = an_image(**geometry, raw_sectors={2 + spec.array_sectors: array})
        assert whats(plan(image, spec.sector_size)) == BACKUP_FIRST_SPARE

    @pytest.mark.parametrize(
        "fields",
        [
            pytest.param({"type_guid": UUID(int=5).bytes_le}, id="no BOOT of any set"),
            pytest.param({"unique_guid": bytes(16)}, id="no unique GUID"),
            pytest.param({"first_lba": 2**64 - 1}, id="reversed"),
            pytest.param({"last_lba": 4096}, id="beyond the disk"),
            pytest.param({"first_lba": 1}, id="on the header"),
        ],
    )
    def test_what_only_resembles_an_array_is_left_alone(self, fields: dict[str, Any]) -> None:
        spec, image = an_image(b=None)
        image = with_entry_fields(image, spec, BOOT_A, **fields)
        _, image = an_image(b=None, raw_sectors={34: stale_array(spec, image)})
        assert whats(plan(image, flags={BOOT_A: Flags(1, 1, 1)})) == BACKUP_FIRST_IN_PLACE

    @pytest.mark.parametrize("at", [13, 127], ids=["behind the last partition", "the last entry"])
    def test_an_array_beside_which_something_else_stands_is_left_alone(self, at: int) -> None:
        spec, _ = an_image()
        array = bytearray(stale_array(spec))
        array[128 * at + 100] = 1
        _, image = an_image(raw_sectors={34: bytes(array)})
        assert whats(plan(image)) == BACKUP_FIRST_IN_PLACE

    def test_an_array_with_bytes_behind_its_last_entry_is_left_alone(self) -> None:
        spec, _ = an_image(entry_count=13)
        array = stale_array(spec)[:-1] + b"\x01"
        _, image = an_image(entry_count=13, raw_sectors={2 + spec.array_sectors: array})
        assert whats(plan(image)) == BACKUP_FIRST_IN_PLACE

    def test_a_place_that_cannot_be_read_is_left_alone(self) -> None:
        _, image = an_image()
        table, medium = load(image), Medium.of_bytes(image, 512)

        def read(lba: int, count: int) -> bytes:
            if 40 in range(lba, lba + count):
                raise DiskError("cannot read sector 40")
            return medium.read(lba, count)

        entries = table.with_attributes({BOOT_B: Flags(2, 1, 0).attributes})
        steps = table_write.plan_write(table, entries, read=read)
        assert whats(steps) == BACKUP_FIRST_IN_PLACE

    @pytest.mark.parametrize(
        ("facts", "has_room"),
        [
            pytest.param({}, True, id="room"),
            pytest.param({"primary_entries_lba": 34, "first_usable": 66}, True, id="in front"),
            pytest.param({"first_partition_lba": 34}, False, id="a partition"),
            pytest.param({"raw_sectors": {40: noise(512)}}, False, id="a boot loader"),
        ],
    )
    def test_it_is_told_whether_changes_are_committed_by_one_sector(
        self, facts: dict[str, object], has_room: bool
    ) -> None:
        _, image = an_image(**facts)
        read = Medium.of_bytes(image, 512).read
        assert spare_array.has_room_for_a_second_array(load(image), read) is has_room

    def test_a_lost_primary_array_in_no_known_place_has_no_room_beside_it(self) -> None:
        spec, image = an_image(first_usable=2048, raw_sectors={2: noise(512), 34: noise(512)})
        image = garble(image, spec, Part.PRIMARY_HEADER)
        read = Medium.of_bytes(image, 512).read
        assert not spare_array.has_room_for_a_second_array(load(image), read)


class TestRepair:
    @pytest.mark.parametrize("part", Part)
    @pytest.mark.parametrize("flags", [{}, UPGRADE], ids=["alone", "with a change"])
    @pytest.mark.parametrize("first_partition_lba", [34, 2048], ids=["in place", "spare"])
    def test_a_bad_part_is_made_good(
        self, part: Part, flags: dict[int, Flags], first_partition_lba: int
    ) -> None:
        spec, image = an_image(first_partition_lba=first_partition_lba)
        bad = garble(image, spec, part)
        after = written(bad, flags=flags)
        assert load(after).faults == ()
        expected = tuple((flags or {BOOT_A: Flags(1, 0, 1), BOOT_B: Flags(0, 0, 0)}).values())
        assert [reader(Medium.of_bytes(after, 512)) for reader in ALL_READERS] == [
            seen(after)
        ] * len(ALL_READERS)
        assert seen(after).boot_flags == expected
        assert seen(after).copy == "primary"

    @pytest.mark.parametrize("part", [Part.PRIMARY_HEADER, Part.PRIMARY_ENTRIES])
    def test_a_bad_primary_is_repaired_before_the_backup_is_touched(self, part: Part) -> None:
        spec, image = an_image()
        assert whats(plan(garble(image, spec, part))) == PRIMARY_FIRST

    @pytest.mark.parametrize("part", [Part.BACKUP_HEADER, Part.BACKUP_ENTRIES])
    def test_a_bad_backup_is_repaired_before_the_primary_is_touched(self, part: Part) -> None:
        spec, image = an_image()
        assert whats(plan(garble(image, spec, part))) == BACKUP_FIRST_SPARE

    def test_a_backup_that_disagrees_is_made_like_the_primary(self) -> None:
        spec, image = an_image()
        other = with_entry_fields(
            image, spec, BOOT_B, parts=(Part.BACKUP_ENTRIES,), attributes=Flags(7, 7, 1).attributes
        )
        after = written(other, flags={})
        assert load(after).faults == ()
        assert seen(after).boot_flags == (Flags(1, 0, 1), Flags(0, 0, 0))

    def test_a_primary_header_that_is_ahead_of_all_entries_is_made_good(self) -> None:
        spec, image = an_image(first_partition_lba=34)
        ahead = with_sector(image, spec, 1, written(image)[512:1024])
        assert load(ahead).faults == ("primary copy: checksum of the entries is wrong",)
        after = written(ahead)
        assert load(after).faults == ()
        assert seen(after).boot_flags == tuple(UPGRADE.values())

    def test_two_bad_copies_are_not_guessed_at(self) -> None:
        spec, image = an_image()
        bad = garble(garble(image, spec, Part.PRIMARY_HEADER), spec, Part.BACKUP_ENTRIES)
        with pytest.raises(TableError):
            plan(bad)

    @pytest.mark.parametrize("first_partition_lba", [34, 2048], ids=["in place", "spare"])
    def test_rewriting_writes_every_sector_of_both_copies(self, first_partition_lba: int) -> None:
        spec, image = an_image(first_partition_lba=first_partition_lba)
        steps = plan(image, flags={}, rewrite=True)
        array = 34 if first_partition_lba == 2048 else 2
        assert planned_lbas(steps) == {
            1,
            *range(array, array + 32),
            *spec.lbas(Part.BACKUP_ENTRIES),
            spec.last_lba,
        }
        assert load(applied(image, steps)).partitions == load(image).partitions

    def test_rewriting_can_be_done_again_and_again(self) -> None:
        _, image = an_image()
        for _ in range(3):
            steps = plan(image, flags={}, rewrite=True)
            assert whats(steps) == BACKUP_FIRST_SPARE
            image = applied(image, steps)
            assert load(image).faults == ()


IMPOSSIBLE_RANGES = [
    pytest.param({"first_usable_lba": 2**64 - 1}, id="begins behind the disk"),
    pytest.param({"last_usable_lba": 0}, id="ends before it begins"),
    pytest.param({"first_usable_lba": 3000, "last_usable_lba": 100}, id="reversed"),
    pytest.param({"last_usable_lba": 4096}, id="ends behind the disk"),
    pytest.param({"last_usable_lba": 2**64 - 1}, id="endless"),
    pytest.param({"first_usable_lba": 0}, id="holds the header"),
]


class TestUsableSectorsThatCannotBe:
    """Linux (efi.c) and libblkid reject such a copy and take the other; firmware does not look."""

    @pytest.mark.parametrize("first_partition_lba", [34, 2048], ids=["in place", "spare"])
    @pytest.mark.parametrize("fields", IMPOSSIBLE_RANGES)
    def test_a_primary_that_claims_them_is_repaired_from_the_backup(
        self, fields: dict[str, int], first_partition_lba: int
    ) -> None:
        spec, image = an_image(first_partition_lba=first_partition_lba)
        bad = with_header_fields(image, spec, Part.PRIMARY_HEADER, **fields)
        table = load(bad)
        assert table.authority is table.backup
        first, last = (fields.get("first_usable_lba", 34), fields.get("last_usable_lba", 4062))
        assert table.faults == (
            f"primary copy: usable sectors {first} to {last} are impossible on 4096 sectors",
        )
        after = written(bad)
        assert load(after).faults == ()
        assert_every_reader_sees_the_upgrade(after)

    @pytest.mark.parametrize("fields", IMPOSSIBLE_RANGES[:-1])
    def test_a_backup_that_claims_them_is_repaired_from_the_primary(
        self, fields: dict[str, int]
    ) -> None:
        spec, image = an_image()
        bad = with_header_fields(image, spec, Part.BACKUP_HEADER, **fields)
        table = load(bad)
        assert table.authority is table.primary
        (fault,) = table.faults
        assert fault.startswith("backup copy: usable sectors ")
        after = written(bad)
        assert load(after).faults == ()
        assert_every_reader_sees_the_upgrade(wipe(after, spec, Part.PRIMARY_HEADER), UEFI_AND_LINUX)

    @pytest.mark.parametrize("first_partition_lba", [34, 2048], ids=["in place", "spare"])
    @pytest.mark.parametrize("fields", IMPOSSIBLE_RANGES[3:])
    def test_where_both_copies_claim_them_what_cannot_be_is_cut_off(
        self, fields: dict[str, int], first_partition_lba: int
    ) -> None:
        spec, image = an_image(first_partition_lba=first_partition_lba)
        for part in (Part.PRIMARY_HEADER, Part.BACKUP_HEADER):
            image = with_header_fields(image, spec, part, **fields)
        assert load(image).faults != ()
        for bad in (image, wipe(image, spec, Part.PRIMARY_HEADER)):
            after = written(bad)
            assert load(after).faults == ()
            assert_every_reader_sees_the_upgrade(after)

    @pytest.mark.parametrize("fields", IMPOSSIBLE_RANGES[:3])
    def test_where_both_copies_claim_that_none_is_usable_the_disk_is_refused(
        self, fields: dict[str, int]
    ) -> None:
        spec, image = an_image()
        for part in (Part.PRIMARY_HEADER, Part.BACKUP_HEADER):
            image = with_header_fields(image, spec, part, **fields)
        with pytest.raises(TableError, match=r"^no valid .* primary: usable sectors .* backup: us"):
            load(image)

    def test_no_table_is_written_that_leaves_no_usable_sector(self) -> None:
        spec, image = an_image(first_partition_lba=34)
        for part in (Part.PRIMARY_HEADER, Part.BACKUP_HEADER):
            image = with_header_fields(
                image, spec, part, first_usable_lba=4090, last_usable_lba=4094
            )
        assert load(image).faults == ()
        with pytest.raises(TableError) as caught:
            plan(image)
        assert str(caught.value) == (
            "partitions could use LBA 4090 to 4062, which other tools take for no table: "
            "this table is not written"
        )

    def test_a_second_array_that_would_leave_no_usable_sector_is_not_made(self) -> None:
        spec, image = an_image()
        for part in (Part.PRIMARY_HEADER, Part.BACKUP_HEADER):
            image = with_header_fields(image, spec, part, last_usable_lba=65)
        assert whats(plan(image)) == BACKUP_FIRST_IN_PLACE
        assert_every_reader_sees_the_upgrade(written(image))

    def test_an_array_that_firmware_still_reads_is_not_written_over(self) -> None:
        """Its primary has 256 entries, reaching over both places of an array of 128."""
        spec, image = an_image()
        longer = with_header_fields(
            image, spec, Part.PRIMARY_HEADER, entry_count=256, first_usable_lba=2**64 - 1
        )
        before = Medium.of_bytes(longer, 512)
        assert uefi_reader(before) == strict_gptprio_reader(before)
        assert whats(plan(longer))[0] == "primary header"
        for after_cut in cuts(before, plan(longer)):
            for reader in (uefi_reader, strict_gptprio_reader):
                assert reader(after_cut) is not None


class TestDisksThatChangedTheirSize:
    @pytest.mark.parametrize("sectors", [1, 7, 32, 33, 34, 1000])
    @pytest.mark.parametrize("first_partition_lba", [34, 2048], ids=["in place", "spare"])
    def test_on_a_grown_disk_the_backup_of_a_bad_primary_is_found_and_never_lost(
        self, sectors: int, first_partition_lba: int
    ) -> None:
        spec, image = an_image(first_partition_lba=first_partition_lba)
        larger = grown(garble(image, spec, Part.PRIMARY_ENTRIES), spec, sectors)
        table = load(larger)
        assert table.faults == ("primary copy: checksum of the entries is wrong",)
        assert table.partitions == load(image).partitions
        before = Medium.of_bytes(larger, 512)
        for after_cut in cuts(before, plan(larger)):
            assert sgdisk_reader(after_cut) is not None
        after = written(larger)
        assert load(after).faults == ()
        assert_every_reader_sees_the_upgrade(after)
        for reader in (uefi_reader, strict_gptprio_reader, linux_reader_with_gpt):
            assert reader(Medium.of_bytes(wipe(after, spec, Part.PRIMARY_HEADER), 512))

    @pytest.mark.parametrize("first_partition_lba", [34, 2048], ids=["in place", "spare"])
    def test_on_a_grown_disk_the_new_end_holds_a_backup_before_anything_else_changes(
        self, first_partition_lba: int
    ) -> None:
        """Else a cut that garbles LBA 1 loses what alone tells where the backup is."""
        spec, image = an_image(first_partition_lba=first_partition_lba)
        larger = grown(garble(image, spec, Part.PRIMARY_ENTRIES), spec, 10)
        first, *_ = steps = plan(larger)
        assert planned_lbas([first]) == {spec.last_lba + 10}
        moved = applied(larger, steps[:1])
        assert load(garble(moved, spec, Part.PRIMARY_HEADER)).partitions == load(image).partitions

    @pytest.mark.parametrize("alternate", [0, 1, 2, 4195, 4196, 2**64 - 1])
    def test_a_primary_header_that_tells_of_no_backup_leads_to_none(self, alternate: int) -> None:
        spec, image = an_image()
        image = with_header_fields(image, spec, Part.PRIMARY_HEADER, alternate_lba=alternate)
        larger = grown(garble(image, spec, Part.PRIMARY_ENTRIES), spec, 100)
        with pytest.raises(TableError, match=r"^no valid GUID partition table"):
            load(larger)

    @pytest.mark.parametrize("sectors", [1, 7, 32, 33, 34, 1000])
    @pytest.mark.parametrize("first_partition_lba", [34, 2048], ids=["in place", "spare"])
    def test_on_a_grown_disk_the_backup_moves_to_the_new_end(
        self, sectors: int, first_partition_lba: int
    ) -> None:
        spec, image = an_image(first_partition_lba=first_partition_lba)
        larger = grown(image, spec, sectors)
        after = written(larger)
        table = load(after)
        assert table.faults == ()
        assert isinstance(table.primary, gpt.Copy)
        assert isinstance(table.backup, gpt.Copy)
        new_last = spec.last_lba + sectors
        assert table.primary.header.alternate_lba == new_last
        assert table.backup.header.current_lba == new_last
        assert table.backup.header.entries_lba == new_last - 32
        assert table.primary.header.last_usable_lba == spec.backup_entries_lba - 1
        only_backup = Medium.of_bytes(wipe(after, spec, Part.PRIMARY_HEADER), 512)
        for reader in (uefi_reader, strict_gptprio_reader):
            found = reader(only_backup)
            assert found is not None
            assert found.boot_flags == tuple(UPGRADE.values())

    def test_on_a_grown_disk_the_old_backup_is_not_erased(self) -> None:
        spec, image = an_image()
        larger = grown(image, spec, 100)
        changed = changed_lbas(larger, written(larger), 512)
        assert changed.isdisjoint(range(spec.backup_entries_lba, spec.sector_count))

    def test_a_grown_disk_whose_primary_is_bad_has_no_table(self) -> None:
        spec, image = an_image()
        with pytest.raises(TableError, match=r"^no valid GUID partition table"):
            load(garble(grown(image, spec, 100), spec, Part.PRIMARY_HEADER))

    def test_a_shrunk_disk_with_room_for_a_backup_gets_one(self) -> None:
        spec, _ = an_image()
        spec = replace(spec, partitions=spec.partitions[:-1])
        smaller = shrunk(build(spec), spec, 100)
        after = written(smaller)
        table = load(after)
        assert table.faults == ()
        last = spec.last_lba - 100
        assert table.authority.header.alternate_lba == last
        assert table.authority.header.last_usable_lba == last - 33

    def test_a_shrunk_disk_is_not_said_to_have_grown(self) -> None:
        spec, _ = an_image()
        spec = replace(spec, partitions=spec.partitions[:-1])
        (fault,) = load(shrunk(build(spec), spec, 100)).faults
        assert fault == f"backup copy: no header at LBA {spec.last_lba - 100}"

    @pytest.mark.parametrize("sectors", [1, 33])
    def test_a_shrunk_disk_whose_last_partition_is_in_the_way_is_not_written(
        self, sectors: int
    ) -> None:
        spec, image = an_image()
        smaller = shrunk(image, spec, sectors)
        assert len(load(smaller).partitions) == 13
        with pytest.raises(TableError) as caught:
            plan(smaller)
        assert str(caught.value) == (
            "partition 13 and the backup entries would overlap: this table is not written"
        )

    def test_a_disk_shrunk_into_a_partition_is_refused(self) -> None:
        spec, image = an_image()
        with pytest.raises(TableError, match=r"^partition 13 runs from LBA \d+ to \d+ on a disk"):
            load(shrunk(image, spec, 34))


class TestCollisions:
    @pytest.mark.parametrize(
        ("first", "last", "names"),
        [
            pytest.param(0, 0, "the MBR and partition 2", id="on the MBR"),
            pytest.param(1, 1, "the primary header and partition 2", id="on the primary header"),
            pytest.param(5, 5, "the primary entries and partition 2", id="on the primary entries"),
            pytest.param(2, 5, "the primary entries and partition 2", id="as the primary entries"),
            pytest.param(251, 251, "the backup entries and partition 2", id="on backup entries"),
            pytest.param(240, 251, "partition 2 and the backup entries", id="into backup entries"),
            pytest.param(255, 255, "the backup header and partition 2", id="on the backup header"),
        ],
    )
    def test_a_partition_on_a_part_of_the_table_is_read_but_never_written(
        self, first: int, last: int, names: str
    ) -> None:
        spec = tiny_disk(a_partition())
        image = build(spec)
        unused = a_partition(number=2, first_lba=first, last_lba=last)
        image = with_entry_fields(
            image,
            spec,
            2,
            type_guid=unused.type_guid.bytes_le,
            first_lba=first,
            last_lba=last,
        )
        assert [p.number for p in load(image).partitions] == [1, 2]
        with pytest.raises(TableError) as caught:
            plan(image, flags={1: Flags(1, 1, 1)})
        one, other = names.split(" and ")
        assert str(caught.value) in (
            f"{one} and {other} would overlap: this table is not written",
            f"{other} and {one} would overlap: this table is not written",
        )

    def test_a_primary_array_inside_a_partition_is_read_but_never_written(self) -> None:
        spec = replace(tiny_disk(a_partition()), primary_entries_lba=75)
        image = build(spec)
        assert load(image).faults == ()
        with pytest.raises(TableError, match=r"partition 1 and the primary entries would overlap"):
            plan(image, flags={1: Flags(1, 1, 1)})

    def test_a_primary_array_in_place_of_the_backup_is_never_written(self) -> None:
        spec = tiny_disk(a_partition())
        image = with_header_fields(
            build(spec), spec, Part.PRIMARY_HEADER, entries_lba=spec.backup_entries_lba
        )
        with pytest.raises(TableError, match=r"entries .* would overlap"):
            plan(image, flags={1: Flags(1, 1, 1)})

    def test_the_backup_is_never_written_over_the_primary_array_that_is_still_believed(
        self,
    ) -> None:
        spec = DiskSpec(sector_count=14, entry_count=16, primary_entries_lba=6)
        image = build(spec)
        assert load(image).faults == ()
        with pytest.raises(TableError, match=r"would overlap"):
            plan(image, flags={}, rewrite=True)

    def test_arrays_too_large_for_the_disk_are_never_written(self) -> None:
        spec = DiskSpec(sector_count=12, entry_count=16)
        smaller = shrunk(build(spec), spec, 3)
        assert load(smaller).partitions == ()
        with pytest.raises(TableError, match=r"would overlap"):
            plan(smaller, flags={}, rewrite=True)


class TestACutAtAnyMoment:
    @pytest.mark.parametrize("sector_size", [512, 4096])
    @pytest.mark.parametrize("start", [None, *Part])
    def test_with_a_second_array_every_reader_sees_the_old_or_the_new_flags(
        self, start: Part | None, sector_size: int
    ) -> None:
        spec, image = an_image(sector_size=sector_size)
        if start is not None:
            image = garble(image, spec, start)
        whole = {Flags(1, 0, 1), Flags(0, 0, 0)}, {Flags(1, 0, 1), Flags(2, 1, 0)}
        before = Medium.of_bytes(image, sector_size)
        for after_cut in cuts(before, plan(image, sector_size)):
            for reader in ALL_READERS:
                found = reader(after_cut)
                if reader(before) is not None:
                    assert found is not None
                assert found is None or set(found.boot_flags) in whole

    @pytest.mark.parametrize("start", [None, *Part])
    def test_in_place_no_reader_that_knows_the_backup_loses_the_table(
        self, start: Part | None
    ) -> None:
        spec, image = an_image(first_partition_lba=34)
        if start is not None:
            image = garble(image, spec, start)
        whole = {Flags(1, 0, 1), Flags(0, 0, 0)}, {Flags(1, 0, 1), Flags(2, 1, 0)}
        for after_cut in cuts(Medium.of_bytes(image, 512), plan(image)):
            for reader in (uefi_reader, strict_gptprio_reader):
                found = reader(after_cut)
                assert found is not None
                assert set(found.boot_flags) in whole

    @pytest.mark.parametrize("first_partition_lba", [34, 2048], ids=["in place", "spare"])
    @pytest.mark.parametrize("array_lba", [2, 3, 18, 34, 35, 50, 66])
    def test_the_only_good_array_is_not_overwritten_wherever_the_backup_keeps_it(
        self, array_lba: int, first_partition_lba: int
    ) -> None:
        """Nothing keeps a backup header from pointing into the gap before the first partition."""
        spec, image = an_image(first_partition_lba=first_partition_lba)
        if array_lba + spec.array_sectors > first_partition_lba:
            return
        array = image[1024 : 1024 + spec.array_bytes]
        image = wipe(image, spec, Part.PRIMARY_ENTRIES)
        image = with_sector(image, spec, array_lba, array)
        image = with_header_fields(image, spec, Part.BACKUP_HEADER, entries_lba=array_lba)
        image = garble(image, spec, Part.PRIMARY_HEADER)
        before = Medium.of_bytes(image, 512)
        try:
            steps = plan(image)
        except TableError as err:
            assert "the backup keeps its entries at LBA" in str(err)  # noqa: PT017 -- or a plan
            return
        for after_cut in cuts(before, steps):
            for reader in (uefi_reader, strict_gptprio_reader):
                assert reader(after_cut) is not None


READERS = (*ALL_READERS, libblkid_reader)
UEFI_AND_LINUX = (uefi_reader, strict_gptprio_reader, linux_reader_with_gpt, libblkid_reader)


def assert_every_reader_sees_the_upgrade(
    image: bytes, readers: Sequence[Callable[[Medium], Seen | None]] = READERS
) -> None:
    for reader in readers:
        found = reader(Medium.of_bytes(image, 512))
        assert found is not None, reader.__name__
        assert found.boot_flags == tuple(UPGRADE.values()), reader.__name__


def stale_array(spec: DiskSpec, image: bytes | None = None) -> bytes:
    """Return the primary array of a disk with another disk's unique GUIDs."""
    start = 2 * spec.sector_size
    array = bytearray((image or build(spec))[start : start + spec.array_sectors * spec.sector_size])
    for at in range(16, len(array) - 16, spec.entry_size):
        if any(array[at : at + 16]):
            array[at] ^= 1
    return bytes(array)


def cuts(medium: Medium, steps: Sequence[table_write.Step]) -> Iterator[Medium]:
    """Yield the disk with all steps before some step done, and any part of that step."""
    done: dict[int, bytes] = {}
    for step in steps:
        pending = dict(sectors_of(step, medium.sector_size))
        for count in range(len(pending)) if len(pending) <= 4 else (0, 1, len(pending) - 1):
            for kept in combinations(pending, count):
                yield medium.overlaid(done | {lba: pending[lba] for lba in kept})
        done |= pending
    yield medium.overlaid(done)


def sectors_of(step: table_write.Step, sector_size: int) -> Iterator[tuple[int, bytes]]:
    """Yield the number and content of each sector that a step writes."""
    for write in step.writes:
        for at in range(0, len(write.data), sector_size):
            yield write.lba + at // sector_size, write.data[at : at + sector_size]


def a_partition(
    *,
    number: int = 1,
    first_lba: int = 70,
    last_lba: int | None = None,
    type_guid: UUID = SOME_TYPE,
    attributes: int = 0,
    name: str = "",
    beyond: bytes = b"",
) -> PartitionSpec:
    return PartitionSpec(
        number=number,
        type_guid=type_guid,
        unique_guid=UUID(int=number),
        first_lba=first_lba,
        last_lba=first_lba + 9 if last_lba is None else last_lba,
        attributes=attributes,
        name=name,
        beyond=beyond,
    )


def tiny_disk(*partitions: PartitionSpec) -> DiskSpec:
    """Describe a disk of 256 sectors with 16 entries, for tests that build many."""
    return DiskSpec(sector_count=256, entry_count=16, partitions=partitions)


def answered(image: bytes) -> None:
    """Load, plan and apply: the result is whole, or a `TableError` says why not."""
    try:
        table = load(image)
        steps = plan(image, flags={p.number: Flags(5, 5, 1) for p in table.partitions})
    except TableError:
        return
    after = load(applied(image, steps))
    assert after.faults == ()
    assert [p._replace(attributes=0) for p in after.partitions] == [
        p._replace(attributes=0) for p in table.partitions
    ]


def interesting(bits: int, *near: int) -> st.SearchStrategy[int]:
    edges = {0, 1, 2, 2**bits - 1, *(n + d for n in near for d in (-1, 0, 1))}
    return st.one_of(
        st.sampled_from(sorted(edges)), st.integers(min_value=0, max_value=2**bits - 1)
    )


Fields = st.SearchStrategy[dict[str, Any]]
hostile_headers: Fields = st.fixed_dictionaries(
    {},
    optional={
        "header_size": interesting(32, 92, 512),
        "my_lba": interesting(64, 255),
        "alternate_lba": interesting(64, 255),
        "first_usable_lba": interesting(64, 34, 66, 255),
        "last_usable_lba": interesting(64, 34, 255),
        "entries_lba": interesting(64, 34, 70, 251, 255),
        "entry_count": interesting(32, 4, 16, 17, 128),
        "entry_size": interesting(32, 128, 256, 512),
        "disk_guid": st.binary(min_size=16, max_size=16),
    },
)
hostile_entries: Fields = st.fixed_dictionaries(
    {},
    optional={
        "type_guid": st.sampled_from([bytes(16), b"\x01" * 16]),
        "unique_guid": st.binary(min_size=16, max_size=16),
        "first_lba": interesting(64, 34, 66, 80, 251, 255),
        "last_lba": interesting(64, 34, 66, 80, 251, 255),
        "attributes": interesting(64),
        "name": st.binary(max_size=72),
    },
)
