"""The program that the stage-1 kernel starts as its first process.

Decides the order: kernel modules, the OS disk, one set after the other. Whatever goes wrong ends in
a message on the console, a pause, and a restart: a first process must not end, and a machine that
nobody watches must try again.
"""

import os
import sys
import time
from contextlib import suppress
from typing import Final, NoReturn

from signpost import disk
from signpost.stage1 import kernel
from signpost.stage1.boot_files import find_boot_files
from signpost.stage1.errors import LoadError
from signpost.stage1.os_disk import Search, wait_for_os_disk
from signpost.stage1.settings import Settings, parse_settings
from signpost.stage1.turns import Selected, enter_in_turn

MODULES: Final = "/modules"
"""Holds the kernel modules, their names sorting in the order in which they are loaded."""
_BOOT: Final = "/boot"
# A BOOT is never written here, not even to mend its journal, and its superblock cannot ask for a
# panic.
_MOUNT_OPTIONS: Final = "noload,errors=continue"


def main() -> NoReturn:
    """Boot the machine, or restart it."""
    settings = Settings()
    try:
        _mount_kernel_file_systems()
        settings = _read_settings()
        _boot(settings)
    except Exception as err:  # noqa: BLE001 -- the kernel panics when its first process ends
        _tell(f"stopped by {type(err).__name__}: {err}")
    _tell(f"nothing boots. Restarting in {settings.pause_seconds} s")
    time.sleep(settings.pause_seconds)
    kernel.restart()


def _mount_kernel_file_systems() -> None:
    for kind, target in (("proc", "/proc"), ("sysfs", "/sys"), ("devtmpfs", "/dev")):
        kernel.mount(kind, target, kind)


def _read_settings() -> Settings:
    with open("/proc/cmdline") as file:
        return parse_settings(file.read())


def _boot(settings: Settings) -> None:
    left_out = _load_modules()
    search = wait_for_os_disk(settings.disk, timeout_seconds=settings.wait_seconds)
    if not search.found:
        for reason in (*left_out, *_why_none(search)):
            _tell(reason)
        return
    _tell(f"OS disk {search.found[0]}")
    for other in search.found[1:]:
        _tell(f"{other} holds sets too and is not used; signpost.disk= chooses")
    enter_in_turn(disk.Location(path=search.found[0]), _enter, _tell)


def _load_modules() -> list[str]:
    """Load every module that was put in; return why some are not: mostly, no such hardware."""
    left_out = []
    for name in sorted(os.listdir(MODULES)):
        try:
            kernel.load_module(os.path.join(MODULES, name))
        except OSError as err:
            left_out.append(f"module not loaded: {err.strerror}")
    return left_out


def _why_none(search: Search) -> list[str]:
    if not search.passed_over:
        return ["no disk at all: is the module of its controller among stage-1's?"]
    return [f"no OS disk: {reason}" for reason in search.passed_over.values()]


def _enter(selected: Selected) -> None:
    """Load the kernel of a set and jump into it; return only by an error."""
    boot = selected.disk.sets[selected.name].boot
    node = _boot_node(selected)
    with kernel.mounted_read_only(node, _BOOT, "ext4", data=_MOUNT_OPTIONS) as directory:
        files = find_boot_files(directory, boot.unique_guid)
        kernel.load_kernel(files.kernel, files.initrd, files.command_line)
    _tell(
        f"set {selected.name} loaded, {time.clock_gettime(time.CLOCK_BOOTTIME):.1f} s after start"
    )
    kernel.start_loaded_kernel()


def _boot_node(selected: Selected) -> str:
    """Return the node of a set's BOOT; Linux knows none where the primary table was bad at boot."""
    boot = selected.disk.sets[selected.name].boot
    window = selected.disk.window(boot)
    if str(window.path) == selected.disk.path:
        kernel.add_partition(
            selected.disk.path,
            number=boot.number,
            offset_bytes=window.offset_bytes,
            length_bytes=window.length_bytes,
        )
        window = selected.disk.window(boot)
    if str(window.path) == selected.disk.path:
        raise LoadError(f"the kernel has no node for partition {boot.number}")
    return str(window.path)


def _tell(message: str) -> None:
    with suppress(OSError):  # no console is no reason not to boot
        print("stage-1:", message, file=sys.stderr, flush=True)  # noqa: T201 -- the console
