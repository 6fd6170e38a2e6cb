"""Which set stage-1 enters, on real image files, and what stands on the disk at that moment."""

from pathlib import Path

import pytest

from signpost.disk import Location
from signpost.errors import DiskError
from signpost.sets import SetName
from signpost.stage1.errors import LoadError
from signpost.stage1.turns import Selected, enter_in_turn
from tests.helpers.gpt_builder import Flags, Mbr, Part, an_ab_disk, wipe, write_image
from tests.helpers.gpt_readers import ALL_READERS, Medium, uefi_reader

A, B = SetName.A, SetName.B
PROVEN, TRIAL, EMPTY = Flags(1, 0, 1), Flags(2, 1, 0), Flags(0, 0, 0)


class Jumped(BaseException):
    """Another kernel has taken over: nothing of stage-1 runs any more."""

    def __init__(self, name: SetName) -> None:
        super().__init__(name)
        self.name = name


class Boot:
    """A machine whose sets load or do not, and what was on its disk when each was entered."""

    def __init__(self, path: Path, *, loads: set[SetName], error: Exception | None = None) -> None:
        self.path = path
        self.error = error or LoadError("its BOOT file system holds no vmlinuz")
        self.loads = loads
        self.entered: list[SetName] = []
        self.flags_then: list[tuple[Flags, ...]] = []
        self.said: list[str] = []

    def run(self) -> SetName | None:
        """Return the set that took over, None when stage-1 gave up."""
        try:
            enter_in_turn(Location(path=self.path), self._enter, self.said.append)
        except Jumped as jumped:
            return jumped.name
        return None

    def _enter(self, selected: Selected) -> None:
        self.entered.append(selected.name)
        self.flags_then.append(flags_on(self.path))
        if selected.name in self.loads:
            raise Jumped(selected.name)
        raise self.error


def flags_on(path: Path) -> tuple[Flags, ...]:
    seen = uefi_reader(Medium.of_file(path, 512))
    assert seen is not None
    return seen.boot_flags


def an_image(tmp_path: Path, *, a: Flags, b: Flags | None, mbr: Mbr = Mbr.PROTECTIVE) -> Path:
    return write_image(tmp_path / "os.img", an_ab_disk(a=a, b=b, mbr=mbr))


def test_the_try_of_a_set_is_spent_on_the_disk_before_anything_of_it_is_loaded(
    tmp_path: Path,
) -> None:
    boot = Boot(an_image(tmp_path, a=PROVEN, b=TRIAL), loads={A, B})
    assert boot.run() is B
    assert boot.flags_then == [(PROVEN, Flags(2, 0, 0))]


def test_a_proven_set_without_tries_is_entered_and_nothing_is_written(tmp_path: Path) -> None:
    path = an_image(tmp_path, a=PROVEN, b=EMPTY)
    before = path.read_bytes()
    assert Boot(path, loads={A}).run() is A
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    "error", [LoadError("its cmdline is no ASCII text"), OSError(8, "Exec format error")]
)
def test_a_set_that_does_not_load_makes_room_for_the_other_one(
    tmp_path: Path, error: Exception
) -> None:
    boot = Boot(an_image(tmp_path, a=PROVEN, b=TRIAL), loads={A}, error=error)
    assert boot.run() is A
    assert boot.entered == [B, A]
    assert any(line.startswith("set B does not load: ") for line in boot.said)


def test_whatever_entering_a_set_comes_to_the_other_one_has_its_turn(tmp_path: Path) -> None:
    boot = Boot(an_image(tmp_path, a=PROVEN, b=TRIAL), loads={A}, error=MemoryError("no room"))
    assert boot.run() is A
    assert "set B does not load: MemoryError: no room" in boot.said


def test_the_next_candidate_has_its_try_spent_likewise(tmp_path: Path) -> None:
    boot = Boot(an_image(tmp_path, a=Flags(1, 3, 0), b=Flags(2, 2, 0)), loads={A})
    assert boot.run() is A
    assert boot.flags_then == [
        (Flags(1, 3, 0), Flags(2, 1, 0)),
        (Flags(1, 2, 0), Flags(2, 1, 0)),
    ]


def test_when_no_set_loads_each_was_tried_once_and_the_console_says_so(tmp_path: Path) -> None:
    boot = Boot(an_image(tmp_path, a=PROVEN, b=Flags(2, 9, 0)), loads=set())
    assert boot.run() is None
    assert boot.entered == [B, A]
    assert "no other set can boot" in boot.said[-1]


def test_without_a_bootable_set_nothing_is_entered_and_the_console_shows_the_flags(
    tmp_path: Path,
) -> None:
    boot = Boot(an_image(tmp_path, a=EMPTY, b=Flags(2, 0, 0)), loads={A, B})
    assert boot.run() is None
    assert boot.entered == []
    assert "A 0/0/0, B 2/0/0" in boot.said[-1]


def test_a_single_set_disk_boots(tmp_path: Path) -> None:
    assert Boot(an_image(tmp_path, a=Flags(1, 2, 0), b=None), loads={A}).run() is A


class TestTableThatCannotBeWritten:
    def test_a_trial_is_not_entered_for_its_try_could_not_be_spent(self, tmp_path: Path) -> None:
        path = an_image(tmp_path, a=PROVEN, b=TRIAL, mbr=Mbr.HYBRID)
        before = path.read_bytes()
        boot = Boot(path, loads={A, B})
        assert boot.run() is A
        assert path.read_bytes() == before
        assert "cannot be written" in boot.said[0]

    def test_a_proven_set_is_entered_also_with_tries_that_cannot_be_spent(
        self, tmp_path: Path
    ) -> None:
        path = an_image(tmp_path, a=Flags(1, 15, 1), b=TRIAL, mbr=Mbr.HYBRID)
        before = path.read_bytes()
        boot = Boot(path, loads={A, B})
        assert boot.run() is A
        assert path.read_bytes() == before
        assert boot.said[-1] == "set A, marked successful, 15 more tries"

    def test_without_a_proven_set_no_trial_is_entered(self, tmp_path: Path) -> None:
        path = an_image(tmp_path, a=EMPTY, b=Flags(2, 15, 0), mbr=Mbr.HYBRID)
        assert Boot(path, loads={A, B}).run() is None

    def test_a_disk_that_fails_at_the_first_write_boots_what_needs_none(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse(*_: object) -> None:
            raise DiskError("cannot write the backup copy to /dev/vda: Input/output error")

        monkeypatch.setattr("signpost.open_disk.OpenDisk.write_step", refuse)
        boot = Boot(an_image(tmp_path, a=PROVEN, b=TRIAL), loads={A, B})
        assert boot.run() is A

    def test_a_damaged_copy_on_a_disk_that_takes_no_writes_stops_no_proven_set(
        self, tmp_path: Path
    ) -> None:
        spec = an_ab_disk(a=PROVEN, b=EMPTY, mbr=Mbr.HYBRID)
        path = tmp_path / "os.img"
        write_image(path, spec)
        path.write_bytes(wipe(path.read_bytes(), spec, Part.BACKUP_HEADER))
        assert Boot(path, loads={A}).run() is A


@pytest.mark.parametrize("part", [Part.PRIMARY_HEADER, Part.BACKUP_HEADER])
def test_a_damaged_copy_is_repaired_before_the_set_is_entered(tmp_path: Path, part: Part) -> None:
    spec = an_ab_disk(a=PROVEN, b=TRIAL)
    path = write_image(tmp_path / "os.img", spec)
    path.write_bytes(wipe(path.read_bytes(), spec, part))
    boot = Boot(path, loads={B})
    assert boot.run() is B
    assert any("repaired the partition table" in line for line in boot.said)
    for reader in ALL_READERS:
        seen = reader(Medium.of_file(path, 512))
        assert seen is not None, reader
        assert seen.boot_flags == (PROVEN, Flags(2, 0, 0))
