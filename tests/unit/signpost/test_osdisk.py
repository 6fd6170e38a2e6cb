"""Finding the OS disk and partition nodes, on a built tree that imitates sysfs."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import pytest

from signpost.errors import DiskError
from signpost.osdisk import (
    OsDisk,
    PartitionNode,
    find_disk_under,
    find_os_disk,
    find_partition_node,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sysfs:
    """A tree with the directories and links of /sys that say how block devices hang together."""

    root: Path

    def disk(self, name: str, device: str) -> Path:
        return self._device(self.root / "devices/pci0000:00/0000:00:05.0/block" / name, device)

    def partition(self, disk: Path, name: str, device: str, number: int) -> Path:
        directory = self._device(disk / name, device)
        (directory / "partition").write_text(f"{number}\n")
        (directory / "start").write_text(f"{number * 2048}\n")
        (directory / "size").write_text("2048\n")
        return directory

    def mapped(self, name: str, device: str, slaves: Sequence[Path]) -> Path:
        directory = self._device(self.root / "devices/virtual/block" / name, device)
        (directory / "slaves").mkdir()
        for slave in slaves:
            (directory / "slaves" / slave.name).symlink_to(_relative(directory / "slaves", slave))
        return directory

    def _device(self, directory: Path, device: str) -> Path:
        (directory / "queue").mkdir(parents=True)
        (directory / "dev").write_text(f"{device}\n")
        links = self.root / "dev/block"
        links.mkdir(parents=True, exist_ok=True)
        (links / device).symlink_to(_relative(links, directory))
        return directory


def _relative(start: Path, target: Path) -> str:
    return os.path.relpath(target, start)


@pytest.fixture
def sysfs(tmp_path: Path) -> Sysfs:
    return Sysfs(root=tmp_path / "sys")


class Names(NamedTuple):
    """What the kernel calls a disk and its fourth partition: sysfs names, numbers, nodes."""

    disk: str
    disk_device: str
    partition: str
    device: str
    disk_node: str
    node: str

    def put_into(self, sysfs: Sysfs) -> None:
        sysfs.partition(sysfs.disk(self.disk, self.disk_device), self.partition, self.device, 4)


NAMES = [
    Names("sda", "8:0", "sda4", "8:4", "/dev/sda", "/dev/sda4"),
    Names("sdaa", "65:160", "sdaa4", "65:164", "/dev/sdaa", "/dev/sdaa4"),
    Names("vda", "254:0", "vda4", "254:4", "/dev/vda", "/dev/vda4"),
    Names("nvme0n1", "259:0", "nvme0n1p4", "259:4", "/dev/nvme0n1", "/dev/nvme0n1p4"),
    Names("mmcblk0", "179:0", "mmcblk0p4", "179:4", "/dev/mmcblk0", "/dev/mmcblk0p4"),
    Names("loop0", "7:0", "loop0p4", "259:9", "/dev/loop0", "/dev/loop0p4"),
    Names("cciss!c0d0", "104:0", "cciss!c0d0p4", "104:4", "/dev/cciss/c0d0", "/dev/cciss/c0d0p4"),
]


def numbers(device: str) -> tuple[int, int]:
    major, minor = device.split(":")
    return int(major), int(minor)


class TestTheDiskUnderAFileSystem:
    @pytest.mark.parametrize("names", NAMES, ids=lambda names: names.disk)
    def test_it_is_the_disk_of_the_partition_whatever_its_name(
        self, sysfs: Sysfs, names: Names
    ) -> None:
        names.put_into(sysfs)
        assert find_disk_under(os.makedev(*numbers(names.device)), sysfs=sysfs.root) == OsDisk(
            path=names.disk_node, partition_numbers=frozenset({4})
        )

    def test_the_partition_number_is_not_taken_from_the_name(self, sysfs: Sysfs) -> None:
        sysfs.partition(sysfs.disk("sda", "8:0"), "sda4", "8:4", 12)
        assert find_disk_under(os.makedev(8, 4), sysfs=sysfs.root).partition_numbers == {12}

    def test_other_disks_do_not_matter(self, sysfs: Sysfs) -> None:
        for index, letter in enumerate("abc"):
            disk = sysfs.disk(f"sd{letter}", f"8:{16 * index}")
            for number in (3, 4):
                sysfs.partition(disk, f"sd{letter}{number}", f"8:{16 * index + number}", number)
        found = find_disk_under(os.makedev(8, 19), sysfs=sysfs.root)
        assert found == OsDisk(path="/dev/sdb", partition_numbers=frozenset({3}))

    def test_a_minor_above_255_is_kept_whole(self, sysfs: Sysfs) -> None:
        disk = sysfs.disk("nvme1n1", "259:1000")
        sysfs.partition(disk, "nvme1n1p4", "259:70000", 4)
        sysfs.partition(disk, "nvme1n1p5", "259:112", 5)
        found = find_disk_under(os.makedev(259, 70000), sysfs=sysfs.root)
        assert found == OsDisk(path="/dev/nvme1n1", partition_numbers=frozenset({4}))

    def test_the_file_system_is_the_one_under_the_root(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        found = OsDisk(path="/dev/vda", partition_numbers=frozenset({4}))
        disks = {Path("/").stat().st_dev: found}
        monkeypatch.setattr("signpost.osdisk.find_disk_under", disks.__getitem__)
        assert find_os_disk() == found

    def test_it_is_found_for_a_real_directory(self, sysfs: Sysfs, tmp_path: Path) -> None:
        device = tmp_path.stat().st_dev
        disk = sysfs.disk("sda", "8:999")
        sysfs.partition(disk, "sda4", f"{os.major(device)}:{os.minor(device)}", 4)
        assert find_disk_under(device, sysfs=sysfs.root).path == "/dev/sda"


class TestTheDiskUnderDeviceMapper:
    def test_dm_verity_leads_to_the_partitions_of_its_data_and_hashes(self, sysfs: Sysfs) -> None:
        disk = sysfs.disk("vda", "254:0")
        root = sysfs.partition(disk, "vda9", "254:9", 9)
        hashes = sysfs.partition(disk, "vda10", "254:10", 10)
        sysfs.mapped("dm-0", "252:0", [root, hashes])
        assert find_disk_under(os.makedev(252, 0), sysfs=sysfs.root) == OsDisk(
            path="/dev/vda", partition_numbers=frozenset({9, 10})
        )

    def test_targets_may_stand_on_each_other(self, sysfs: Sysfs) -> None:
        below = sysfs.partition(sysfs.disk("sda", "8:0"), "sda4", "8:4", 4)
        for level in range(8):
            below = sysfs.mapped(f"dm-{level}", f"252:{level}", [below])
        assert find_disk_under(os.makedev(252, 7), sysfs=sysfs.root).partition_numbers == {4}

    def test_targets_that_stand_on_each_other_in_a_circle_end(self, sysfs: Sysfs) -> None:
        one = sysfs.mapped("dm-0", "252:0", [])
        (one / "slaves" / "dm-0").symlink_to(one)
        with pytest.raises(DiskError, match=r"which is not a partition"):
            find_disk_under(os.makedev(252, 0), sysfs=sysfs.root)

    def test_partitions_of_several_disks_are_refused_by_name(self, sysfs: Sysfs) -> None:
        one = sysfs.partition(sysfs.disk("sdb", "8:16"), "sdb4", "8:20", 4)
        other = sysfs.partition(sysfs.disk("sda", "8:0"), "sda5", "8:5", 5)
        sysfs.mapped("dm-0", "252:0", [one, other])
        with pytest.raises(DiskError) as caught:
            find_disk_under(os.makedev(252, 0), sysfs=sysfs.root)
        assert str(caught.value) == (
            "the file system under / spans several disks (partitions /dev/sda5, /dev/sdb4); "
            "name the OS disk with --disk"
        )


class TestWithoutAPartition:
    def test_a_partition_beside_a_whole_disk_is_refused(self, sysfs: Sysfs) -> None:
        one = sysfs.partition(sysfs.disk("sdb", "8:16"), "sdb4", "8:20", 4)
        sysfs.mapped("dm-0", "252:0", [one, sysfs.disk("sda", "8:0")])
        with pytest.raises(DiskError, match=r"is on /dev/sda, which is not a partition"):
            find_disk_under(os.makedev(252, 0), sysfs=sysfs.root)

    def test_a_file_system_without_a_block_device_says_what_to_do(self, sysfs: Sysfs) -> None:
        with pytest.raises(DiskError) as caught:
            find_disk_under(os.makedev(0, 42), sysfs=sysfs.root)
        assert str(caught.value) == (
            "the file system under / has no block device (device 0:42), so the OS disk cannot be "
            "found; name it with --disk, and the running set with --active"
        )

    def test_a_whole_disk_is_refused(self, sysfs: Sysfs) -> None:
        sysfs.disk("vda", "254:0")
        with pytest.raises(DiskError) as caught:
            find_disk_under(os.makedev(254, 0), sysfs=sysfs.root)
        assert str(caught.value) == (
            "the file system under / is on /dev/vda, which is not a partition; "
            "name the OS disk with --disk"
        )

    def test_device_mapper_on_a_whole_disk_is_refused(self, sysfs: Sysfs) -> None:
        sysfs.mapped("dm-0", "252:0", [sysfs.disk("vda", "254:0")])
        with pytest.raises(DiskError, match=r"is on /dev/vda, which is not a partition"):
            find_disk_under(os.makedev(252, 0), sysfs=sysfs.root)


class TestTheNodeOfAPartition:
    @pytest.mark.parametrize("names", NAMES, ids=lambda names: names.disk)
    def test_it_has_the_name_that_the_kernel_gave_it(self, sysfs: Sysfs, names: Names) -> None:
        names.put_into(sysfs)
        disk = os.makedev(*numbers(names.disk_device))
        found = find_partition_node(disk, 4, sysfs=sysfs.root)
        assert found == PartitionNode(
            path=names.node,
            device=os.makedev(*numbers(names.device)),
            offset_bytes=4 << 20,
            length_bytes=1 << 20,
        )

    def test_numbers_with_the_same_digits_are_told_apart(self, sysfs: Sysfs) -> None:
        disk = sysfs.disk("sda", "8:0")
        for number in (11, 10, 1):
            sysfs.partition(disk, f"sda{number}", f"8:{number}", number)
        node = os.makedev(8, 0)
        for number in (1, 10, 11):
            found = find_partition_node(node, number, sysfs=sysfs.root)
            assert found is not None
            assert found.path == f"/dev/sda{number}"

    def test_a_disk_with_a_minor_above_255_has_partitions_too(self, sysfs: Sysfs) -> None:
        sysfs.partition(sysfs.disk("nvme9n1", "259:70000"), "nvme9n1p3", "259:70003", 3)
        node = find_partition_node(os.makedev(259, 70000), 3, sysfs=sysfs.root)
        assert node is not None
        assert node.path == "/dev/nvme9n1p3"

    def test_a_partition_that_the_kernel_does_not_know_has_none(self, sysfs: Sysfs) -> None:
        sysfs.partition(sysfs.disk("loop0", "7:0"), "loop0p3", "259:3", 3)
        assert find_partition_node(os.makedev(7, 0), 4, sysfs=sysfs.root) is None

    def test_a_disk_that_sysfs_does_not_know_has_none(self, sysfs: Sysfs) -> None:
        assert find_partition_node(os.makedev(8, 0), 1, sysfs=sysfs.root) is None
