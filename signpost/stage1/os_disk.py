"""Finding the OS disk where nothing runs from it yet.

Decides by what the disks hold: the first one, fixed before removable and in the order of their
names, whose table has the sets. Reads every disk; writes none. Never fails for what is on a disk:
the reasons are kept for the console.
"""

import os
import time
from collections.abc import Mapping
from typing import Final, NamedTuple

from signpost import disk
from signpost.errors import SignpostError
from signpost.osdisk import SYSFS, StrPath

_NO_DISKS: Final = ("loop", "ram", "zram", "dm-", "sr", "fd", "md", "nbd")
_POLL_SECONDS: Final = 0.05


class Search(NamedTuple):
    """The disks that hold sets, the best first, and why the others do not count."""

    found: tuple[str, ...]
    passed_over: Mapping[str, str]


def wait_for_os_disk(wanted: str | None, *, timeout_seconds: float) -> Search:
    """Search until a disk is found or the time is over: drivers find disks when they please.

    Args:
        wanted: the disk's node or the GUID of its table; None for any.
        timeout_seconds: how long to wait.
    """
    deadline = time.monotonic() + timeout_seconds
    while True:
        search = search_os_disks(wanted)
        if search.found or time.monotonic() >= deadline:
            return search
        time.sleep(_POLL_SECONDS)


def search_os_disks(
    wanted: str | None, *, sysfs: StrPath = SYSFS, devices: StrPath = "/dev"
) -> Search:
    """Look at every disk that the kernel has found so far."""
    found: list[str] = []
    passed_over: dict[str, str] = {}
    for name in _disk_names(sysfs):
        path = os.path.join(devices, name.replace("!", "/"))
        try:
            seen = disk.read(disk.Location(path=path))
        except (SignpostError, OSError) as err:
            passed_over[path] = str(err)
            continue
        guid = str(seen.table.authority.header.disk_guid)
        if wanted in (None, path) or wanted.lower() == guid:  # sgdisk prints capitals
            found.append(path)
        else:
            passed_over[path] = f"signpost.disk={wanted} asks for another one"
    return Search(found=tuple(found), passed_over=passed_over)


def _disk_names(sysfs: StrPath) -> list[str]:
    directory = os.path.join(sysfs, "block")
    names = [
        name
        for name in os.listdir(directory)
        if not name.startswith(_NO_DISKS) and _number(directory, name, "size") > 0
    ]
    return sorted(names, key=lambda name: (_number(directory, name, "removable"), name))


def _number(directory: str, name: str, attribute: str) -> int:
    try:
        with open(os.path.join(directory, name, attribute)) as file:
            return int(file.read())
    except (OSError, ValueError):  # gone, or a device without that attribute
        return 0
