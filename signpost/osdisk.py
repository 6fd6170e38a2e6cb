"""Finding the OS disk of the running machine, and partition nodes, through sysfs.

Decides which disk holds the file system under `/` and which of its partitions that file system
uses, also when a device-mapper target such as dm-verity lies between. Reads sysfs and nothing else;
refuses a root file system that spans disks or has no block device.
"""

import os
from collections.abc import Iterator
from typing import NamedTuple

from signpost.errors import DiskError

StrPath = str | os.PathLike[str]
"""A path; strings inside, because pathlib is a sixth of the time that `signpost status` takes."""

SYSFS = "/sys"
_MAX_STACKED = 8
"""Device-mapper targets on top of each other; more than any sane system has."""


class OsDisk(NamedTuple):
    """A disk and the numbers of its partitions that the running system is made of."""

    path: str
    partition_numbers: frozenset[int]


class PartitionNode(NamedTuple):
    """A partition as the kernel knows it: its node, the node's number, its place in bytes."""

    path: str
    device: int
    offset_bytes: int
    length_bytes: int


def find_os_disk() -> OsDisk:
    """Find the disk that holds the file system mounted at `/`.

    Raises:
        DiskError: that file system is not on partitions of exactly one disk.
    """
    return find_disk_under(os.stat("/").st_dev)


def find_disk_under(device: int, *, sysfs: StrPath = SYSFS) -> OsDisk:
    """Find the disk under a block device, through any device-mapper targets.

    Args:
        device: its number, as in `st_dev` of a file on it.
        sysfs: where sysfs is mounted.

    Raises:
        DiskError: there is no such block device, or it is not on partitions of exactly one disk.
    """
    major, minor = os.major(device), os.minor(device)
    start = _device_directory(device, sysfs)
    if not os.path.exists(start):
        raise DiskError(
            f"the file system under / has no block device (device {major}:{minor}), so the OS disk "
            "cannot be found; name it with --disk, and the running set with --active"
        )
    partitions = sorted(_partitions_under(start, _MAX_STACKED))
    disks = {os.path.dirname(partition) for partition in partitions}
    if len(disks) > 1:
        names = ", ".join(sorted(_node(partition) for partition in partitions))
        raise DiskError(
            f"the file system under / spans several disks (partitions {names}); "
            "name the OS disk with --disk"
        )
    return OsDisk(
        path=_node(disks.pop()),
        partition_numbers=frozenset(_read_number(p, "partition") for p in partitions),
    )


def find_partition_node(disk: int, number: int, *, sysfs: StrPath = SYSFS) -> PartitionNode | None:
    """Return a partition as the kernel knows it, or None when the kernel does not.

    Args:
        disk: the disk's number, as in `st_rdev` of its node.
        number: the partition's number in the table.
        sysfs: where sysfs is mounted.
    """
    for candidate in _children(_device_directory(disk, sysfs)):
        if _is_partition(candidate) and _read_number(candidate, "partition") == number:
            # Linux, Documentation/ABI/stable/sysfs-block: in units of 512 bytes on every device.
            return PartitionNode(
                path=_node(candidate),
                device=_read_device(candidate),
                offset_bytes=_read_number(candidate, "start") * 512,
                length_bytes=_read_number(candidate, "size") * 512,
            )
    return None


def _device_directory(device: int, sysfs: StrPath) -> str:
    name = f"{os.major(device)}:{os.minor(device)}"
    return os.path.realpath(os.path.join(sysfs, "dev", "block", name))


def _partitions_under(device: str, depth: int) -> set[str]:
    if _is_partition(device):
        return {device}
    slaves = list(_children(os.path.join(device, "slaves")))
    if depth == 0 or not slaves:
        raise DiskError(
            f"the file system under / is on {_node(device)}, which is not a partition; "
            "name the OS disk with --disk"
        )
    found: set[str] = set()
    for slave in slaves:
        found |= _partitions_under(os.path.realpath(slave), depth - 1)
    return found


def _children(directory: str) -> Iterator[str]:
    if os.path.isdir(directory):
        for name in os.listdir(directory):
            yield os.path.join(directory, name)


def _is_partition(device: str) -> bool:
    return os.path.exists(os.path.join(device, "partition"))


def _read_number(device: str, name: str) -> int:
    with open(os.path.join(device, name)) as file:
        return int(file.read())


def _read_device(device: str) -> int:
    with open(os.path.join(device, "dev")) as file:
        major, minor = file.read().split(":")
    return os.makedev(int(major), int(minor))


def _node(device: str) -> str:
    # The kernel writes `!` for `/` in the directory names of devices such as cciss/c0d0.
    return "/dev/" + os.path.basename(device).replace("!", "/")
