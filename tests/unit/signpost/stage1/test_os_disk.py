"""Which disk is taken, with files for disks and a small sysfs of plain files."""

import errno
from pathlib import Path

import pytest

from signpost import disk
from signpost.stage1.os_disk import Search, search_os_disks, wait_for_os_disk
from tests.helpers.gpt_builder import an_ab_disk, write_image


class Devices:
    """Disks as the kernel shows them."""

    def __init__(self, tmp_path: Path) -> None:
        self.sysfs, self.nodes = tmp_path / "sys", tmp_path / "dev"
        (self.sysfs / "block").mkdir(parents=True)
        self.nodes.mkdir()

    def add(self, name: str, *, holds_sets: bool = True, removable: bool = False) -> None:
        directory = self.sysfs / "block" / name
        directory.mkdir()
        (directory / "size").write_text("16384\n")
        (directory / "removable").write_text(f"{int(removable)}\n")
        if holds_sets:
            write_image(self.nodes / name, an_ab_disk())
        else:
            (self.nodes / name).write_bytes(bytes(1 << 20))

    def search(self, wanted: str | None = None) -> list[str]:
        return [Path(path).name for path in self._search(wanted).found]

    def reasons(self, wanted: str | None = None) -> dict[str, str]:
        return {Path(k).name: v for k, v in self._search(wanted).passed_over.items()}

    def _search(self, wanted: str | None) -> Search:
        return search_os_disks(wanted, sysfs=self.sysfs, devices=self.nodes)


def test_the_disk_that_holds_sets_is_found_among_others(tmp_path: Path) -> None:
    devices = Devices(tmp_path)
    devices.add("vda", holds_sets=False)
    devices.add("vdb")
    assert devices.search() == ["vdb"]
    assert "no valid GUID partition table" in devices.reasons()["vda"]


def test_a_fixed_disk_comes_before_a_removable_one_whatever_their_names(tmp_path: Path) -> None:
    devices = Devices(tmp_path)
    devices.add("sda", removable=True)
    devices.add("sdb")
    assert devices.search() == ["sdb", "sda"]


def test_devices_that_are_no_disks_are_not_looked_at(tmp_path: Path) -> None:
    devices = Devices(tmp_path)
    for name in ("loop0", "dm-0", "sr0", "ram0"):
        devices.add(name)
    assert devices.search() == []
    assert devices.reasons() == {}


def test_a_drive_without_a_medium_is_not_opened(tmp_path: Path) -> None:
    devices = Devices(tmp_path)
    devices.add("sda")
    (devices.sysfs / "block" / "sda" / "size").write_text("0\n")
    assert devices.search() == []


def test_a_disk_can_be_chosen_by_its_node_or_its_guid(tmp_path: Path) -> None:
    devices = Devices(tmp_path)
    devices.add("vda")
    node = str(devices.nodes / "vda")
    guid = str(an_ab_disk().disk_guid)
    assert devices.search(node) == ["vda"]
    assert devices.search(guid) == ["vda"]
    assert devices.search(guid.upper()) == ["vda"]  # as sgdisk prints it
    assert devices.search("/dev/other") == []
    assert devices.reasons("/dev/other") == {"vda": "signpost.disk=/dev/other asks for another one"}


def test_a_disk_that_fails_in_a_new_way_does_not_hide_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    devices = Devices(tmp_path)
    devices.add("vda")
    devices.add("vdb")

    def read(location: disk.Location) -> disk.BootDisk:
        if str(location.path).endswith("vda"):
            raise OSError(errno.ENOTTY, "Inappropriate ioctl for device")
        return whole(location)

    whole = disk.read
    monkeypatch.setattr(disk, "read", read)
    assert devices.search() == ["vdb"]
    assert "Inappropriate ioctl" in devices.reasons()["vda"]


def test_the_search_ends_when_its_time_is_over() -> None:
    assert wait_for_os_disk("/dev/nowhere", timeout_seconds=0).found == ()
