"""Reading, locking, writing and flushing real files; what other tools then read."""

import fcntl
import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from signpost import disk, state
from signpost.disk import Location, Window
from signpost.errors import DiskError, SetError, TableError, TransitionError
from signpost.flags import BootFlags
from signpost.osdisk import OsDisk, PartitionNode
from signpost.sets import SetName
from signpost.state import BootState
from tests.helpers.gpt_builder import (
    BOOT_A,
    BOOT_B,
    HASH_B,
    PRIVATE,
    ROOT_B,
    DiskSpec,
    Flags,
    Mbr,
    Part,
    an_ab_disk,
    build,
    garble,
    noise,
    with_entry_fields,
    write_image,
)
from tests.helpers.gpt_readers import Medium, changed_lbas, uefi_reader

A, B = SetName.A, SetName.B
STAGED = Flags(0, 1, 0)


def an_image(tmp_path: Path, **facts: Any) -> Path:
    return write_image(tmp_path / "os.img", an_ab_disk(**facts))


def flags_on(path: Path, sector_size: int = 512) -> tuple[Flags, ...]:
    seen = uefi_reader(Medium.of_file(path, sector_size))
    assert seen is not None
    return seen.boot_flags


def attributes_on(path: Path) -> dict[int, int]:
    seen = uefi_reader(Medium.of_file(path, 512))
    assert seen is not None
    return {p.number: p.attributes for p in seen.partitions}


def unchanged(current: BootState) -> BootState:
    return current


class TestReading:
    @pytest.mark.parametrize("sector_size", [512, 4096])
    def test_an_image_tells_its_sets_flags_and_sector_size(
        self, tmp_path: Path, sector_size: int
    ) -> None:
        path = an_image(tmp_path, a=Flags(1, 0, 1), b=Flags(2, 15, 0), sector_size=sector_size)
        found = disk.read(Location(path=path))
        assert found.table.sector_size == sector_size
        assert not found.is_device
        assert found.state == BootState(
            flags={
                A: BootFlags(priority=1, tries=0, successful=True),
                B: BootFlags(priority=2, tries=15, successful=False),
            },
            active=None,
            ever_succeeded=False,
        )

    def test_a_file_that_ends_inside_a_sector_has_its_whole_sectors_read(
        self, tmp_path: Path
    ) -> None:
        path = an_image(tmp_path)
        with path.open("ab") as file:
            file.write(b"tail")
        assert disk.read(Location(path=path)).table.faults == ()

    def test_bit_57_of_private_says_that_a_boot_succeeded(self, tmp_path: Path) -> None:
        path = an_image(tmp_path, private_attributes=2**57)
        assert disk.read(Location(path=path)).state.ever_succeeded

    def test_bit_57_elsewhere_says_nothing(self, tmp_path: Path) -> None:
        path = an_image(tmp_path, foreign_attributes=2**57, private_attributes=0)
        spec = an_ab_disk()
        image = with_entry_fields(path.read_bytes(), spec, PRIVATE, attributes=0)
        path.write_bytes(image)
        assert not disk.read(Location(path=path)).state.ever_succeeded

    @pytest.mark.parametrize("mbr", [Mbr.HYBRID, Mbr.MISSING])
    def test_a_disk_that_must_not_be_written_can_be_read(self, tmp_path: Path, mbr: Mbr) -> None:
        assert disk.read(Location(path=an_image(tmp_path, mbr=mbr))).table.mbr == mbr.value

    def test_reading_changes_nothing(self, tmp_path: Path) -> None:
        path = an_image(tmp_path)
        path.chmod(0o400)
        before = path.read_bytes()
        disk.read(Location(path=path))
        assert path.read_bytes() == before

    @pytest.mark.parametrize("sector_size", [512, 4096])
    def test_a_partition_of_an_image_is_a_window_into_it(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sector_size: int
    ) -> None:
        monkeypatch.setattr(
            "signpost.disk.find_partition_node", lambda _disk, _number: Path("/dev/of-another-disk")
        )
        path = an_image(tmp_path, sector_size=sector_size)
        found = disk.read(Location(path=path))
        assert found.window(found.sets[B].boot) == Window(
            path=path, offset_bytes=3712 << 10, length_bytes=512 << 10
        )

    def test_the_partitions_of_a_set_are_described_for_json(self, tmp_path: Path) -> None:
        path = an_image(tmp_path)
        found = disk.read(Location(path=path))
        described = disk.describe(found.sets[B], found)
        assert {role: facts["number"] for role, facts in described.items()} == {
            "boot": BOOT_B,
            "root": ROOT_B,
            "hash": HASH_B,
        }
        assert described["root"] == {
            "number": ROOT_B,
            "path": str(path),
            "offset_bytes": 4224 << 10,
            "length_bytes": 1 << 20,
        }


def pose_as_device(monkeypatch: pytest.MonkeyPatch, *, sector_size: int) -> None:
    """Let every file pass for a block device of this sector size; its number is 0:0."""

    def ioctl(_descriptor: int, request: int, _argument: bytes) -> bytes:
        assert request == 0x1268, "not BLKSSZGET"
        return sector_size.to_bytes(4, "little")

    monkeypatch.setattr(stat, "S_ISBLK", lambda _mode: True)
    monkeypatch.setattr(fcntl, "ioctl", ioctl)


def have_devices(monkeypatch: pytest.MonkeyPatch, **numbers: int) -> None:
    """Let there be block devices of these names in /dev, with these device numbers."""
    real_stat = os.stat
    devices = {f"/dev/{name}": number for name, number in numbers.items()}

    def fake_stat(path: Any, **options: Any) -> Any:
        number = devices.get(str(path))
        if number is None:
            return real_stat(path, **options)
        return SimpleNamespace(st_mode=stat.S_IFBLK | 0o660, st_rdev=number)

    monkeypatch.setattr(os, "stat", fake_stat)


class TestDevices:
    def test_a_device_says_its_sector_size(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path = an_image(tmp_path, sector_size=4096)
        pose_as_device(monkeypatch, sector_size=4096)
        found = disk.read(Location(path=path))
        assert found.is_device
        assert found.table.sector_size == 4096

    def test_no_other_sector_size_is_tried_than_the_device_s(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path = an_image(tmp_path, sector_size=4096)
        pose_as_device(monkeypatch, sector_size=512)
        with pytest.raises(TableError, match=r"no header at LBA 1;"):
            disk.read(Location(path=path))

    def test_a_partition_is_its_own_node_where_the_kernel_has_one(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path = an_image(tmp_path)
        pose_as_device(monkeypatch, sector_size=512)
        nodes = {
            (0, 4): PartitionNode(
                path="/dev/vda4", device=7, offset_bytes=2 << 20, length_bytes=1 << 20
            )
        }
        monkeypatch.setattr("signpost.disk.find_partition_node", lambda *asked: nodes[asked])
        found = disk.read(Location(path=path))
        assert found.window(found.sets.a.root) == Window(
            path=Path("/dev/vda4"), offset_bytes=0, length_bytes=1 << 20, device=7
        )

    @pytest.mark.parametrize(("offset", "length"), [(1 << 20, 1 << 20), (2 << 20, 2 << 20)])
    def test_a_node_of_an_older_table_is_refused(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, offset: int, length: int
    ) -> None:
        path = an_image(tmp_path)
        pose_as_device(monkeypatch, sector_size=512)
        stale = PartitionNode(path="/dev/vda4", device=7, offset_bytes=offset, length_bytes=length)
        monkeypatch.setattr("signpost.disk.find_partition_node", lambda *_: stale)
        found = disk.read(Location(path=path))
        with pytest.raises(DiskError, match=r"still uses an older table .* `partprobe "):
            found.window(found.sets.a.root)

    def test_a_partition_without_a_node_is_a_window_into_the_disk(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path = an_image(tmp_path)
        pose_as_device(monkeypatch, sector_size=512)
        monkeypatch.setattr("signpost.disk.find_partition_node", lambda *_: None)
        found = disk.read(Location(path=path))
        assert found.window(found.sets.a.root) == Window(
            path=path, offset_bytes=2048 << 10, length_bytes=1 << 20
        )


@contextmanager
def in_time() -> Iterator[None]:
    """Let the test fail where it would wait for ever."""

    def fail(*_: object) -> None:
        raise TimeoutError("it waits")

    before = signal.signal(signal.SIGALRM, fail)
    signal.alarm(30)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


class TestWhatCannotBeRead:
    def test_a_missing_file_is_named(self, tmp_path: Path) -> None:
        with pytest.raises(DiskError) as caught:
            disk.read(Location(path=tmp_path / "none.img"))
        assert (
            str(caught.value) == f"cannot open disk {tmp_path}/none.img: No such file or directory"
        )

    def test_a_missing_file_is_not_created_by_a_change(self, tmp_path: Path) -> None:
        with pytest.raises(DiskError):
            disk.change(Location(path=tmp_path / "none.img", active=A), unchanged)
        assert not (tmp_path / "none.img").exists()

    @pytest.mark.parametrize("kind", ["directory", "fifo", "character device"])
    def test_only_a_block_device_or_a_file_will_do(self, tmp_path: Path, kind: str) -> None:
        path = tmp_path / "odd"
        if kind == "directory":
            path.mkdir()
        elif kind == "fifo":
            os.mkfifo(path)
        else:
            path = Path("/dev/null")
        with pytest.raises(DiskError) as caught, in_time():
            disk.read(Location(path=path))
        assert str(caught.value) == f"{path} is neither a block device nor an image file"

    @pytest.mark.parametrize("size", [0, 512, 1 << 20])
    def test_a_file_without_a_table_is_named(self, tmp_path: Path, size: int) -> None:
        path = tmp_path / "empty.img"
        path.write_bytes(bytes(size))
        with pytest.raises(TableError) as caught:
            disk.read(Location(path=path))
        assert str(caught.value).startswith(f"{path}: no ")

    def test_a_disk_without_sets_is_refused(self, tmp_path: Path) -> None:
        path = write_image(tmp_path / "os.img", DiskSpec())
        with pytest.raises(SetError, match=r": no BOOT partition"):
            disk.read(Location(path=path))

    def test_a_read_error_says_where(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        path = an_image(tmp_path)

        def fail(*_: object) -> bytes:
            raise OSError(5, "Input/output error")

        monkeypatch.setattr(os, "pread", fail)
        with pytest.raises(DiskError, match=r"at byte 0: Input/output error$"):
            disk.read(Location(path=path))

    def test_a_file_that_shrinks_meanwhile_says_so(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path = an_image(tmp_path)
        monkeypatch.setattr(os, "pread", lambda *_: b"")
        with pytest.raises(DiskError) as caught:
            disk.read(Location(path=path))
        assert str(caught.value) == f"{path} ends at byte 0 while being read"

    def test_reads_that_return_less_than_asked_are_continued(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path = an_image(tmp_path)
        whole = os.pread

        def piecemeal(descriptor: int, length: int, offset: int) -> bytes:
            return whole(descriptor, min(length, 1000), offset)

        monkeypatch.setattr(os, "pread", piecemeal)
        assert disk.read(Location(path=path)).table.faults == ()


class TestWhichSetRuns:
    @pytest.mark.parametrize(
        ("numbers", "active"), [({3}, A), ({4, 5}, A), ({8, 9, 10}, B), ({9}, B), (set(), None)]
    )
    def test_partitions_of_the_running_system_tell(
        self, tmp_path: Path, numbers: set[int], active: SetName | None
    ) -> None:
        location = Location(path=an_image(tmp_path), active_partitions=frozenset(numbers))
        assert disk.read(location).state.active is active

    @pytest.mark.parametrize("name", [A, B])
    def test_the_user_may_tell(self, tmp_path: Path, name: SetName) -> None:
        assert disk.read(Location(path=an_image(tmp_path), active=name)).state.active is name

    @pytest.mark.parametrize("numbers", [{4, 9}, {12}, {4, 12}, {99}])
    def test_a_system_that_is_not_in_one_set_of_this_disk_is_refused(
        self, tmp_path: Path, numbers: set[int]
    ) -> None:
        path = an_image(tmp_path)
        with pytest.raises(SetError) as caught:
            disk.read(Location(path=path, active_partitions=frozenset(numbers)))
        shown = ", ".join(map(str, sorted(numbers)))
        assert str(caught.value) == (
            f"the running system (partition {shown} of {path}) is not in one set of that disk; "
            "this is the wrong disk, or its table was changed"
        )

    def test_the_user_may_not_contradict_what_runs(self, tmp_path: Path) -> None:
        path = an_image(tmp_path)
        with pytest.raises(SetError) as caught:
            disk.read(Location(path=path, active=B, active_partitions=frozenset({4})))
        assert str(caught.value) == f"set A of {path} is running, not set B"

    def test_the_user_may_confirm_what_runs(self, tmp_path: Path) -> None:
        location = Location(
            path=an_image(tmp_path), active=B, active_partitions=frozenset({BOOT_B})
        )
        assert disk.read(location).state.active is B


class TestFindingTheLocation:
    def test_a_named_image_is_taken_as_it_is(self, tmp_path: Path) -> None:
        path = an_image(tmp_path)
        assert disk.find_location(path, B) == Location(path=path, active=B)

    def test_without_a_name_it_is_the_disk_under_the_root(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        found = OsDisk(path="/dev/vda", partition_numbers=frozenset({9, 10}))
        monkeypatch.setattr("signpost.disk.find_os_disk", lambda: found)
        assert disk.find_location(None) == Location(
            path="/dev/vda", active_partitions=frozenset({9, 10})
        )

    def test_a_named_disk_that_is_the_one_under_the_root_tells_what_runs(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        have_devices(monkeypatch, vda=0xFE00, alias=0xFE00)
        found = OsDisk(path="/dev/vda", partition_numbers=frozenset({9, 10}))
        monkeypatch.setattr("signpost.disk.find_os_disk", lambda: found)
        location = disk.find_location(Path("/dev/alias"), B)
        assert location.path == Path("/dev/alias")
        assert location.active is B
        assert location.active_partitions == {9, 10}

    def test_another_disk_tells_nothing_of_what_runs(self, monkeypatch: pytest.MonkeyPatch) -> None:
        have_devices(monkeypatch, vda=0xFE00, vdb=0xFE10)
        found = OsDisk(path="/dev/vda", partition_numbers=frozenset({9, 10}))
        monkeypatch.setattr("signpost.disk.find_os_disk", lambda: found)
        assert disk.find_location(Path("/dev/vdb")).active_partitions == frozenset()

    def test_a_named_disk_needs_no_disk_under_the_root(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fail() -> OsDisk:
            raise DiskError("the file system under / has no block device")

        have_devices(monkeypatch, vdb=0xFE10)
        monkeypatch.setattr("signpost.disk.find_os_disk", fail)
        assert disk.find_location(Path("/dev/vdb")).active_partitions == frozenset()

    @pytest.mark.parametrize(("content", "name"), [("A", A), ("B\n", B), (" B \n", B)])
    def test_a_file_may_say_which_set_runs(
        self, tmp_path: Path, content: str, name: SetName
    ) -> None:
        file = tmp_path / "active"
        file.write_text(content)
        assert disk.find_location(tmp_path / "os.img", None, file).active is name

    def test_what_the_user_says_is_stronger_than_the_file(self, tmp_path: Path) -> None:
        file = tmp_path / "active"
        file.write_text("A")
        assert disk.find_location(tmp_path / "os.img", B, file).active is B

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            (b"C\n", "{file} must hold A or B, the running set, not 'C'"),
            (b"a", "{file} must hold A or B, the running set, not 'a'"),
            (b"", "{file} must hold A or B, the running set, not ''"),
            (b"AB", "{file} must hold A or B, the running set, not 'AB'"),
            (b"\xff", "{file} must hold A or B, the running set, and is no text"),
            (None, "cannot read which set is running from {file}: No such file or directory"),
        ],
    )
    def test_a_file_that_names_no_set_is_refused(
        self, tmp_path: Path, content: bytes | None, message: str
    ) -> None:
        file = tmp_path / "active"
        if content is not None:
            file.write_bytes(content)
        with pytest.raises(DiskError) as caught:
            disk.find_location(tmp_path / "os.img", None, file)
        assert str(caught.value).startswith(message.format(file=file))


class TestChanging:
    @pytest.mark.parametrize("sector_size", [512, 4096])
    def test_a_transition_stands_on_the_disk(self, tmp_path: Path, sector_size: int) -> None:
        path = an_image(tmp_path, b=STAGED, sector_size=sector_size)
        changed = disk.change(Location(path=path, active=A), state.upgrade_to_inactive)
        assert flags_on(path, sector_size) == (Flags(1, 0, 1), Flags(2, 1, 0))
        assert str(changed.before.state.flags[B]) == "0/1/0"
        assert str(changed.after.state.flags[B]) == "2/1/0"
        assert changed.after.state == disk.read(Location(path=path, active=A)).state
        assert changed.repaired == ()

    def test_a_first_success_is_marked_on_private_and_stays(self, tmp_path: Path) -> None:
        foreign = 0x8000_0000_0000_0001
        path = an_image(
            tmp_path, a=Flags(1, 1, 0), foreign_attributes=foreign, private_attributes=2**48
        )
        before = attributes_on(path)
        disk.change(Location(path=path, active=A), state.mark_successful_boot)
        disk.change(Location(path=path, active=A), state.clear_inactive)
        assert attributes_on(path) == before | {
            PRIVATE: foreign | 2**48 | 2**57,
            BOOT_A: foreign | Flags(1, 1, 1).attributes,
        }

    def test_a_disk_without_private_can_be_marked_successful(self, tmp_path: Path) -> None:
        spec = an_ab_disk()
        image = with_entry_fields(build(spec), spec, PRIVATE, type_guid=b"\x01" * 16)
        path = tmp_path / "os.img"
        path.write_bytes(image)
        changed = disk.change(Location(path=path, active=A), state.mark_successful_boot)
        assert not changed.after.state.ever_succeeded

    def test_a_single_set_disk_can_be_changed(self, tmp_path: Path) -> None:
        path = an_image(tmp_path, a=Flags(1, 3, 0), b=None)
        disk.change(Location(path=path), state.select_boot)
        disk.change(Location(path=path, active=A), state.mark_successful_boot)
        assert flags_on(path) == (Flags(1, 2, 1),)

    def test_the_contents_of_partitions_and_gaps_stay(self, tmp_path: Path) -> None:
        spec = an_ab_disk(b=STAGED, raw_sectors={200: noise(512)})
        image = build(spec)
        path = tmp_path / "os.img"
        path.write_bytes(image)
        disk.change(Location(path=path, active=A), state.upgrade_to_inactive)
        allowed = {1, *range(34, 66), *spec.lbas(Part.BACKUP_ENTRIES), spec.last_lba}
        assert changed_lbas(image, path.read_bytes(), 512) <= allowed

    def test_doing_it_again_writes_nothing(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path = an_image(tmp_path, b=Flags(2, 1, 1))
        location = Location(path=path, active=A)
        disk.change(location, state.clear_inactive)

        def refuse(*_: object) -> int:
            raise AssertionError("nothing may be written")

        monkeypatch.setattr(os, "pwrite", refuse)
        assert disk.change(location, state.clear_inactive).steps == ()

    def test_rewriting_writes_even_where_nothing_differs(self, tmp_path: Path) -> None:
        path = an_image(tmp_path)
        changed = disk.change(Location(path=path), unchanged, rewrite=True)
        assert len(changed.steps) == 4
        assert flags_on(path) == (Flags(1, 0, 1), Flags(0, 0, 0))

    @pytest.mark.parametrize("part", Part)
    def test_a_bad_part_is_repaired_along_the_way_and_reported(
        self, tmp_path: Path, part: Part
    ) -> None:
        spec = an_ab_disk()
        path = tmp_path / "os.img"
        path.write_bytes(garble(build(spec), spec, part))
        changed = disk.change(Location(path=path, active=A), state.mark_successful_boot)
        (repaired,) = changed.repaired
        assert repaired.startswith(f"{part.value.split()[0]} copy: ")
        assert changed.after.table.faults == ()
        assert disk.read(Location(path=path)).table.faults == ()

    def test_a_forbidden_transition_writes_nothing(self, tmp_path: Path) -> None:
        path = an_image(tmp_path)
        before = path.read_bytes()
        with pytest.raises(TransitionError):
            disk.change(Location(path=path, active=A), state.upgrade_to_inactive)
        assert path.read_bytes() == before

    @pytest.mark.parametrize("mbr", [Mbr.HYBRID, Mbr.MISSING])
    def test_a_disk_without_a_plain_protective_mbr_is_not_written(
        self, tmp_path: Path, mbr: Mbr
    ) -> None:
        path = an_image(tmp_path, mbr=mbr)
        before = path.read_bytes()
        with pytest.raises(TableError, match=r"so this table is not written\. .* `gdisk "):
            disk.change(Location(path=path, active=A), state.mark_successful_boot)
        assert path.read_bytes() == before


@contextmanager
def watched(path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[object]]:
    """Record the LBAs written, `flush`, and whether anyone else could have locked the file."""
    events: list[object] = []
    real_write, real_flush = os.pwrite, os.fsync

    def write(descriptor: int, data: bytes, offset: int) -> int:
        with path.open("rb") as other, pytest.raises(BlockingIOError):
            fcntl.flock(other, fcntl.LOCK_SH | fcntl.LOCK_NB)
        done = real_write(descriptor, data, offset)
        events.extend(offset // 512 + at for at in range(len(data) // 512))
        return done

    def flush(descriptor: int) -> None:
        real_flush(descriptor)
        events.append("flush")

    with monkeypatch.context() as patched:
        patched.setattr(os, "pwrite", write)
        patched.setattr(os, "fsync", flush)
        yield events


class TestWriting:
    def test_every_step_is_flushed_before_the_next(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path = an_image(tmp_path, b=STAGED)
        with watched(path, monkeypatch) as events:
            disk.change(Location(path=path, active=A), state.upgrade_to_inactive)
        spec = an_ab_disk()
        array = spec.backup_entries_lba
        # Entries 3 and 8 change; the second array is written whole, four sectors of it not empty.
        # The first flush is for what an earlier run may have left.
        assert events == [
            "flush",
            *(array + 1, "flush"),
            *(spec.last_lba, "flush"),
            *(34, 35, 36, 37, "flush"),
            *(1, "flush"),
        ]

    def test_where_there_is_no_second_array_the_header_goes_first(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path = an_image(tmp_path, b=STAGED, first_partition_lba=34)
        with watched(path, monkeypatch) as events:
            disk.change(Location(path=path, active=A), state.upgrade_to_inactive)
        spec = an_ab_disk(first_partition_lba=34)
        assert events == [
            "flush",
            *(spec.backup_entries_lba + 1, "flush"),
            *(spec.last_lba, "flush"),
            *(1, "flush"),
            *(3, "flush"),
        ]

    def test_writes_that_take_less_than_given_are_continued(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path = an_image(tmp_path, b=STAGED)
        whole = os.pwrite

        def piecemeal(descriptor: int, data: bytes, offset: int) -> int:
            return whole(descriptor, data[:100], offset)

        monkeypatch.setattr(os, "pwrite", piecemeal)
        disk.change(Location(path=path, active=A), state.upgrade_to_inactive)
        assert flags_on(path) == (Flags(1, 0, 1), Flags(2, 1, 0))
        assert disk.read(Location(path=path)).table.faults == ()

    def test_what_was_written_is_asked_of_the_medium_again(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path = an_image(tmp_path, b=STAGED)

        with watched(path, monkeypatch) as events:

            def forget(_descriptor: int, offset: int, length: int, advice: int) -> None:
                assert advice == os.POSIX_FADV_DONTNEED
                assert offset % 4096 == length % 4096 == 0
                events.append(range(offset // 512, (offset + length) // 512))

            monkeypatch.setattr(os, "posix_fadvise", forget)
            disk.change(Location(path=path, active=A), state.upgrade_to_inactive)
        spec = an_ab_disk()
        for lba in (spec.backup_entries_lba + 1, spec.last_lba, 34, 37, 1):
            after = events[events.index(lba) :]
            flushed = after[after.index("flush") :]
            assert any(isinstance(event, range) and lba in event for event in flushed), lba

    def test_a_disk_that_takes_nothing_more_is_not_asked_for_ever(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        answers = iter([0])  # an endless loop would exhaust it and fail
        monkeypatch.setattr(os, "pwrite", lambda *_: next(answers))
        with pytest.raises(DiskError, match="the device takes no more bytes"):
            disk.change(
                Location(path=an_image(tmp_path, b=STAGED), active=A), state.upgrade_to_inactive
            )

    def test_a_disk_that_refuses_a_write_leaves_a_whole_table_and_says_so(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path = an_image(tmp_path, b=STAGED)

        def full(*_: object) -> int:
            raise OSError(28, "No space left on device")

        with monkeypatch.context() as patched:
            patched.setattr(os, "pwrite", full)
            with pytest.raises(DiskError) as caught:
                disk.change(Location(path=path, active=A), state.upgrade_to_inactive)
        assert str(caught.value) == (
            f"cannot write the backup entries to {path}: No space left on device. As the disk "
            "reads now, the old flags count, in the primary copy; none are changed while the other "
            "copy cannot be written. The disk may be failing: replace it if `signpost "
            "rewrite-table` fails too"
        )
        assert flags_on(path) == (Flags(1, 0, 1), STAGED)

    @pytest.mark.parametrize("failing_flush", [1, 2, 3, 4])
    def test_a_failed_flush_stops_everything_that_would_follow(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing_flush: int
    ) -> None:
        path = an_image(tmp_path, b=STAGED)
        flushes: list[None] = []
        told, expected = ("new", Flags(2, 1, 0)) if failing_flush == 4 else ("old", STAGED)

        def fail(_descriptor: int) -> None:
            flushes.append(None)
            if len(flushes) == 1 + failing_flush:
                raise OSError(5, "Input/output error")

        with monkeypatch.context() as patched:
            patched.setattr(os, "fsync", fail)
            with pytest.raises(DiskError, match=rf": Input/output error\. As .* the {told} flags"):
                disk.change(Location(path=path, active=A), state.upgrade_to_inactive)
        assert len(flushes) == 1 + failing_flush
        assert flags_on(path) == (Flags(1, 0, 1), expected)

    def test_a_disk_that_forgets_what_it_was_given_is_found_out(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path = an_image(tmp_path, b=STAGED)
        monkeypatch.setattr(os, "pwrite", lambda _descriptor, data, _offset: len(data))
        with pytest.raises(DiskError) as caught:
            disk.change(Location(path=path, active=A), state.upgrade_to_inactive)
        assert str(caught.value) == (
            f"{path} did not keep what was written: the partition table is not the one that was "
            "written. As the disk reads now, the old flags count, in the primary copy; none are "
            "changed while the other copy cannot be written. The disk may be failing: replace it "
            "if `signpost rewrite-table` fails too"
        )

    def test_a_disk_that_damages_one_copy_is_found_out(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path = an_image(tmp_path, b=STAGED)
        spec = an_ab_disk()
        real = os.pwrite

        def damage(descriptor: int, data: bytes, offset: int) -> int:
            if offset == spec.last_lba * 512:
                data = noise(len(data))
            return real(descriptor, data, offset)

        monkeypatch.setattr(os, "pwrite", damage)
        told = r"did not keep .*: backup copy: no header at LBA .* new flags count, in the primary"
        with pytest.raises(DiskError, match=told):
            disk.change(Location(path=path, active=A), state.upgrade_to_inactive)


class TestTheLock:
    def test_a_change_waits_and_then_starts_from_what_the_other_left(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path = an_image(tmp_path, b=Flags(2, 9, 0))
        other = path.open("r+b")
        fcntl.flock(other, fcntl.LOCK_EX)
        real_sleep = time.sleep

        def meanwhile(seconds: float) -> None:
            if not other.closed:
                write_image(path, an_ab_disk(b=Flags(2, 5, 0)))
                other.close()
            real_sleep(seconds)

        monkeypatch.setattr(time, "sleep", meanwhile)
        disk.change(Location(path=path), state.select_boot)
        assert other.closed
        assert flags_on(path) == (Flags(1, 0, 1), Flags(2, 4, 0))

    @pytest.mark.parametrize("work", [disk.read, lambda where: disk.change(where, unchanged)])
    def test_a_disk_that_stays_locked_names_the_process_that_holds_it(
        self,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        work: Callable[[Location], object],
    ) -> None:
        path = an_image(tmp_path)
        monkeypatch.setattr("signpost.open_disk.LOCK_TIMEOUT_SECONDS", 0.1)
        with (
            locked(tmp_path / "of no interest"),
            holding_lock(path) as holder,
            locked(tmp_path / "of no interest either"),
            pytest.raises(DiskError) as caught,
        ):
            work(Location(path=path, active=A))
        assert str(caught.value) == (
            f"{path} is locked by another process (process {holder.pid}); "
            "waited 0 s, nothing was changed"
        )

    def test_two_may_read_at_once(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("signpost.open_disk.LOCK_TIMEOUT_SECONDS", 0)
        path = an_image(tmp_path)
        with path.open("rb") as other:
            fcntl.flock(other, fcntl.LOCK_SH)
            disk.read(Location(path=path))

    def test_a_change_does_not_go_beside_a_reader(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("signpost.open_disk.LOCK_TIMEOUT_SECONDS", 0)
        path = an_image(tmp_path)
        with path.open("rb") as other:
            fcntl.flock(other, fcntl.LOCK_SH)
            with pytest.raises(DiskError, match=r"is locked by another process"):
                disk.change(Location(path=path, active=A), state.mark_successful_boot)

    def test_the_lock_is_given_back(self, tmp_path: Path) -> None:
        path = an_image(tmp_path)
        disk.change(Location(path=path, active=A), state.mark_successful_boot)
        with pytest.raises(TransitionError):
            disk.change(Location(path=path), state.clear_inactive)
        with path.open("rb") as other:
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the exclusive lock on a new file in this process."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextmanager
def holding_lock(path: Path) -> Iterator[subprocess.Popen[str]]:
    """Run a process that holds the exclusive lock on a file until the block ends."""
    program = (
        "import fcntl, sys\n"
        "file = open(sys.argv[1])\n"
        "fcntl.flock(file, fcntl.LOCK_EX)\n"
        "print('held', flush=True)\n"
        "sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as holder:
        try:
            assert holder.stdout is not None
            assert holder.stdout.readline() == "held\n"
            yield holder
        finally:
            holder.kill()


def a_tool(name: str) -> str:
    """Return the path of a partitioning tool."""
    found = shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    if found is None:
        pytest.skip(f"{name} is not installed: what it reads of our tables was NOT checked")
    return found


def run_tool(tool: str, *arguments: str, script: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [a_tool(tool), *arguments], input=script, check=True, capture_output=True, text=True
    )


def output_of(tool: str, *arguments: str) -> str:
    return run_tool(tool, *arguments).stdout


def errors_of(tool: str, *arguments: str) -> str:
    return run_tool(tool, *arguments).stderr


class TestOtherTools:
    @pytest.fixture
    def path(self, tmp_path: Path) -> Path:
        """An image whose flags signpost has written several times."""
        path = an_image(tmp_path, a=Flags(1, 0, 0), b=STAGED, foreign_attributes=2**2 | 2**63)
        location = Location(path=path, active=A)
        disk.change(location, state.mark_successful_boot)
        disk.change(location, state.upgrade_to_inactive)
        disk.change(location, lambda old: old.with_flags(B, BootFlags.from_attributes(0xFA << 48)))
        assert flags_on(path) == (Flags(1, 0, 1), Flags(10, 15, 0))
        return path

    def test_sfdisk_reads_the_same_bits(self, path: Path) -> None:
        table = json.loads(output_of("sfdisk", "--json", str(path)))["partitiontable"]
        assert table["firstlba"] == 66
        attributes = {
            row["node"].removeprefix(str(path)): row["attrs"] for row in table["partitions"]
        }
        always = "LegacyBIOSBootable GUID:"
        assert attributes == {
            **{str(number): f"{always}63" for number in range(1, 14)},
            str(BOOT_A): f"{always}48,56,63",
            str(BOOT_B): f"{always}49,51,52,53,54,55,63",
            str(PRIVATE): f"{always}57,63",
        }

    @pytest.mark.parametrize(
        ("number", "bits"),
        [
            (1, "8000000000000004"),
            (BOOT_A, "8101000000000004"),
            (BOOT_B, "80FA000000000004"),
            (PRIVATE, "8200000000000004"),
        ],
    )
    def test_sgdisk_reads_the_same_bits(self, path: Path, number: int, bits: str) -> None:
        shown = output_of("sgdisk", "-i", str(number), str(path))
        assert f"Attribute flags: {bits}" in shown
        listed = output_of("sgdisk", "-A", f"{number}:show", str(path))
        assert {int(line.split(":")[1]) for line in listed.splitlines()} == {
            bit for bit in range(64) if int(bits, 16) >> bit & 1
        }

    def test_parted_reads_the_same_partitions(self, path: Path) -> None:
        rows = output_of("parted", "-sm", str(path), "unit", "s", "print").splitlines()[2:]
        spec = an_ab_disk()
        assert [row.split(":")[:3] for row in rows] == [
            [str(p.number), f"{p.first_lba}s", f"{p.last_lba}s"] for p in spec.partitions
        ]

    @pytest.mark.parametrize(
        "edit",
        [
            pytest.param(["sgdisk", "-c", "13:renamed", "{path}"], id="sgdisk"),
            pytest.param(["parted", "-s", "{path}", "name", "13", "renamed"], id="parted"),
            pytest.param(
                ["sfdisk", "-q", "--no-reread", "--part-label", "{path}", "13", "renamed"],
                id="sfdisk",
            ),
        ],
    )
    def test_what_another_tool_changed_meanwhile_is_read_and_kept(
        self, path: Path, edit: list[str]
    ) -> None:
        tool, *arguments = (word.format(path=path) for word in edit)
        output_of(tool, *arguments)
        found = disk.read(Location(path=path, active=A))
        assert found.table.faults == ()
        assert found.table.partitions[12].label == "renamed"
        assert str(found.state.flags[B]) == "10/15/0"
        changed = disk.change(Location(path=path, active=A), state.clear_inactive)
        assert changed.after.table.partitions[12].label == "renamed"
        assert flags_on(path) == (Flags(1, 0, 1), Flags(0, 0, 0))

    @pytest.mark.parametrize("sectors", [1, 2048])
    def test_sgdisk_and_sfdisk_find_the_backup_of_a_grown_disk(
        self, path: Path, sectors: int
    ) -> None:
        with path.open("ab") as file:
            file.write(bytes(512 * sectors))
        assert "not on the end" in errors_of("sfdisk", "--verify", str(path))
        disk.change(Location(path=path, active=A), unchanged)
        assert "No problems found" in output_of("sgdisk", "-v", str(path))
        assert "not on the end" not in errors_of("sfdisk", "--verify", str(path))

    def test_tables_of_other_tools_are_read(self, tmp_path: Path) -> None:
        spec = an_ab_disk()
        script = "label: gpt\n" + "".join(
            f"start={p.first_lba}, size={p.sectors}, type={p.type_guid}, uuid={p.unique_guid}, "
            f'name="{p.name}"\n'
            for p in spec.partitions
        )
        path = tmp_path / "sfdisk.img"
        path.write_bytes(bytes(spec.size_bytes))
        run_tool("sfdisk", "-q", "--no-reread", str(path), script=script)
        ours = disk.read(Location(path=an_image(tmp_path, a=Flags(0, 0, 0))))
        theirs = disk.read(Location(path=path))
        assert theirs.table.partitions == ours.table.partitions
        disk.change(
            Location(path=path, active=A),
            lambda old: old.with_flags(A, BootFlags(priority=1, tries=0, successful=True)),
        )
        assert flags_on(path) == (Flags(1, 0, 1), Flags(0, 0, 0))
