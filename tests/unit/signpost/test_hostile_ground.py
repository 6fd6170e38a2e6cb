"""Disks on which a careless writer would destroy something: what must be left alone is."""

from pathlib import Path

import pytest

from signpost import disk, state
from signpost.disk import Location
from signpost.errors import DiskError, SetError, TableError, TransitionError
from signpost.flags import BootFlags
from signpost.gpt import Copy, Fault, ReadSectors, load
from signpost.sets import SetName
from signpost.state import BootState
from signpost.table_write import plan_write
from tests.helpers.gpt_builder import (
    BOOT_B,
    FACTORY_A,
    DiskSpec,
    Flags,
    Part,
    an_ab_disk,
    build,
    garble,
    noise,
    with_entry_fields,
)
from tests.helpers.gpt_readers import ALL_READERS, Medium, changed_lbas

STAGED = Flags(0, 1, 0)


def put(directory: Path, spec: DiskSpec, content: bytes | None = None) -> Path:
    path = directory / "disk.img"
    path.write_bytes(build(spec) if content is None else content)
    return path


def reading(content: bytes, size: int = 512) -> ReadSectors:
    return lambda lba, count: content[lba * size : (lba + count) * size]


class TestRawBootLoaders:
    """Boards start from sectors between the table and the first partition."""

    @pytest.mark.parametrize(
        ("loader_lba", "entry_count"), [(64, 128), (40, 128), (16, 56)], ids=str
    )
    @pytest.mark.parametrize("first_usable", [2048, 34, 66 + 1])
    def test_one_in_the_gap_is_never_touched(
        self, tmp_path: Path, loader_lba: int, entry_count: int, first_usable: int
    ) -> None:
        """A high FirstUsableLBA reserves nothing: sfdisk writes 2048 on every disk."""
        spec = an_ab_disk(
            b=STAGED,
            entry_count=entry_count,
            first_usable=first_usable,
            raw_sectors={loader_lba: noise(512)},
        )
        before = build(spec)
        path = put(tmp_path, spec, before)
        disk.change(Location(path=path, active=SetName.A), state.upgrade_to_inactive)
        after = path.read_bytes()
        assert after[loader_lba * 512 : (loader_lba + 1) * 512] == noise(512)
        touched = changed_lbas(before, after, 512)
        assert not touched & set(range(2 + spec.array_sectors, 2048))
        assert all(reader(Medium.of_bytes(after, 512)) for reader in ALL_READERS)

    def test_one_in_the_usual_place_of_the_array_is_not_taken_for_it(self, tmp_path: Path) -> None:
        """With the array moved and the primary header lost, nothing tells where it was."""
        spec = an_ab_disk(
            b=STAGED,
            primary_entries_lba=2000,
            first_usable=2048,
            raw_sectors={16: noise(512), 40: noise(512)},
        )
        content = garble(build(spec), spec, Part.PRIMARY_HEADER)
        path = put(tmp_path, spec, content)
        with pytest.raises(TableError, match=r"the primary header is lost.*may be a boot loader"):
            disk.change(Location(path=path, active=SetName.A), state.upgrade_to_inactive)
        assert path.read_bytes() == content

    def test_a_lost_header_is_repaired_where_the_array_still_stands(self, tmp_path: Path) -> None:
        spec = an_ab_disk(b=STAGED, first_usable=2048)
        path = put(tmp_path, spec, garble(build(spec), spec, Part.PRIMARY_HEADER))
        disk.change(Location(path=path, active=SetName.A), state.upgrade_to_inactive)
        assert disk.read(Location(path=path)).table.faults == ()


class TestPartsThatNeedNoWriting:
    def test_a_bad_backup_is_repaired_without_touching_the_primary(self, tmp_path: Path) -> None:
        spec = an_ab_disk()
        before = garble(build(spec), spec, Part.BACKUP_HEADER)
        path = put(tmp_path, spec, before)
        disk.change(Location(path=path, active=SetName.A), lambda same: same)
        touched = changed_lbas(before, path.read_bytes(), 512)
        assert touched == {spec.last_lba}
        assert disk.read(Location(path=path)).table.faults == ()


class TestSectorsThatCannotBeRead:
    @pytest.mark.parametrize("bad", [1, 2, 16383, 16360])
    def test_the_other_copy_counts(self, bad: int) -> None:
        content = build(an_ab_disk())

        def read(lba: int, count: int) -> bytes:
            if bad in range(lba, lba + count):
                raise DiskError(f"cannot read sector {bad}")
            return reading(content)(lba, count)

        table = load(read, sector_size=512, sector_count=16384)
        faulty = table.primary if bad < 100 else table.backup
        assert isinstance(faulty, Fault)
        assert isinstance(table.authority, Copy)
        assert plan_write(table, table.authority.entries, read=read)


class TestAnotherProgramAtWork:
    def test_partitions_that_moved_since_are_refused(self, tmp_path: Path) -> None:
        spec = an_ab_disk()
        content = build(spec)
        path = put(tmp_path, spec, content)
        location = Location(path=path, active=SetName.A)
        seen = disk.read(location).sets
        moved = with_entry_fields(
            content, spec, BOOT_B, first_lba=spec.partition(BOOT_B).first_lba + 8
        )
        path.write_bytes(moved)
        with pytest.raises(SetError, match=r"partition 8 of .* is not where it was a moment ago"):
            disk.change(location, state.clear_inactive, expected=seen)
        assert path.read_bytes() == moved

    def test_partitions_that_stayed_are_fine(self, tmp_path: Path) -> None:
        path = put(tmp_path, an_ab_disk())
        location = Location(path=path, active=SetName.A)
        disk.change(location, state.mark_inactive_valid, expected=disk.read(location).sets)


class TestWhatRuns:
    def test_set_b_cannot_run_from_a_disk_without_one(self, tmp_path: Path) -> None:
        path = put(tmp_path, an_ab_disk(b=None))
        with pytest.raises(SetError, match="B cannot be running"):
            disk.read(Location(path=path, active=SetName.B))

    def test_a_running_set_that_would_not_boot_again_keeps_the_other_one(self) -> None:
        flags = {
            SetName.A: BootFlags(priority=0, tries=0, successful=True),
            SetName.B: BootFlags(priority=1, tries=0, successful=True),
        }
        machine = BootState(flags=flags, active=SetName.A, ever_succeeded=True)
        with pytest.raises(TransitionError, match="has priority 0 and would not boot again"):
            state.clear_inactive(machine)


class TestCheckingThatATableMayBeWritten:
    def test_it_writes_nothing(self, tmp_path: Path) -> None:
        path = put(tmp_path, an_ab_disk(a=FACTORY_A))
        before = path.read_bytes()
        disk.require_writable(Location(path=path))
        assert path.read_bytes() == before

    def test_it_refuses_what_a_change_would_refuse(self, tmp_path: Path) -> None:
        spec = an_ab_disk()
        overlapping = with_entry_fields(build(spec), spec, 1, first_lba=20)
        path = put(tmp_path, spec, overlapping)
        with pytest.raises(TableError, match=f"^{path}: .*would overlap"):
            disk.require_writable(Location(path=path))
