"""A disk that fails on demand: a plugin for `nbdkit python`, run by the system's Python.

Serves the file of the parameter `file`. Before every request it looks for the file of the parameter
`faults`: a JSON list of faults, which a test may change at any time. Each has

    op          "pread", "pwrite" or "flush"
    first, end  the bytes that it concerns, the whole disk if left out
    errno       what the request fails with, by name
    flip        true: the first byte of what is read comes out changed
    loses       true: what is written is acknowledged and never arrives
    seconds     how much longer the request takes
    after       how many such requests go well before the fault begins; none if left out
    mends       true: a write to these bytes ends the fault, as disks replace a bad sector
"""

import errno
import io
import json
import os
import threading
import time
from collections import Counter
from typing import Any

import nbdkit  # type: ignore[import-not-found]  # nbdkit brings it

API_VERSION = 2
_parameters: dict[str, str] = {}
_mended: list[dict[str, Any]] = []
_met: Counter[str] = Counter()
_counting = threading.Lock()


def config(key: str, value: str) -> None:
    _parameters[key] = value


def open(_readonly: bool) -> int:  # noqa: A001 -- named and called by nbdkit
    return os.open(_parameters["file"], os.O_RDWR | os.O_CLOEXEC)


def close(disk: int) -> None:
    os.close(disk)


def get_size(disk: int) -> int:
    return os.fstat(disk).st_size


def can_flush(_disk: int) -> bool:
    return True


def can_trim(_disk: int) -> bool:
    return False


def can_zero(_disk: int) -> bool:
    return False


def pread(disk: int, buffer: bytearray, offset: int, _flags: int) -> None:
    end = offset + len(buffer)
    faults = _meet("pread", offset, end)
    os.preadv(disk, [buffer], offset)
    for fault in faults:
        if fault.get("flip"):
            buffer[max(fault["first"], offset) - offset] ^= 0xFF


def pwrite(disk: int, buffer: bytearray, offset: int, _flags: int) -> None:
    faults = _meet("pwrite", offset, offset + len(buffer))
    if not any(fault.get("loses") for fault in faults):
        os.pwrite(disk, buffer, offset)
    touched = (f for f in _all_faults() if _concerns(f, offset, offset + len(buffer)))
    _mended.extend(fault for fault in touched if fault.get("mends"))


def flush(disk: int, _flags: int) -> None:
    _meet("flush", 0, 1 << 62)
    os.fdatasync(disk)


def _faults(operation: str, first: int, end: int) -> list[dict[str, Any]]:
    return [
        fault
        for fault in _all_faults()
        if fault["op"] == operation and _concerns(fault, first, end) and fault not in _mended
    ]


def _all_faults() -> list[dict[str, Any]]:
    try:
        with io.open(_parameters["faults"]) as file:  # noqa: UP020 -- nbdkit calls our open
            faults: list[dict[str, Any]] = json.load(file)
    except FileNotFoundError:
        return []
    return faults


def _concerns(fault: dict[str, Any], first: int, end: int) -> bool:
    return bool(fault.get("first", 0) < end and first < fault.get("end", 1 << 62))


def _meet(operation: str, first: int, end: int) -> list[dict[str, Any]]:
    """Let a request wait or fail as its faults want it; return those that have begun."""
    begun = [fault for fault in _faults(operation, first, end) if _has_begun(fault)]
    for fault in begun:
        time.sleep(fault.get("seconds", 0))
        if "errno" in fault:
            number = getattr(errno, fault["errno"])
            nbdkit.set_error(number)
            raise OSError(number, os.strerror(number))
    return begun


def _has_begun(fault: dict[str, Any]) -> bool:
    with _counting:
        _met[key := json.dumps(fault)] += 1
        return bool(_met[key] > fault.get("after", 0))
