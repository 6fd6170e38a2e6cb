"""What a BOOT file system must hold, and the kernel command line made out of it.

Decides the names of the files and what `%U` stands for. Refuses a BOOT without a kernel, whatever
is no file, and a command line that the kernel would cut or misread. Reads files; loads nothing.
"""

import os
from typing import Final, NamedTuple
from uuid import UUID

from signpost.stage1.errors import LoadError

KERNEL: Final = "vmlinuz"
INITRD: Final = "initrd.img"
"""May be missing: a kernel with CONFIG_DM_INIT opens its root by itself."""
COMMAND_LINE: Final = "cmdline"
BOOT_UUID_PLACEHOLDER: Final = "%U"
"""Stands for the GUID of the BOOT partition itself, so that one image works in either set: root
and hash are named by their distance from it."""

_MOST_BYTES: Final = 2047
"""COMMAND_LINE_SIZE of x86 and arm64 kernels, without the end: what is longer would be cut."""


class BootFiles(NamedTuple):
    """What one set boots."""

    kernel: str
    initrd: str | None
    command_line: str


def find_boot_files(directory: str, boot_guid: UUID) -> BootFiles:
    """Find what a BOOT file system boots.

    Args:
        directory: where it is mounted.
        boot_guid: the unique GUID of its partition.

    Raises:
        LoadError: a file is missing, or the command line cannot be used.
    """
    kernel = _regular_file(directory, KERNEL)
    text = _read(_regular_file(directory, COMMAND_LINE))
    # A link that leads nowhere is no missing initrd: the kernel would start, and find no root.
    has_initrd = os.path.lexists(os.path.join(directory, INITRD))
    return BootFiles(
        kernel=kernel,
        initrd=_regular_file(directory, INITRD) if has_initrd else None,
        command_line=make_command_line(text, boot_guid),
    )


def make_command_line(text: bytes, boot_guid: UUID) -> str:
    """Return the command line for the set whose BOOT partition has `boot_guid`.

    Raises:
        LoadError: it is empty, no printable ASCII, or too long.
    """
    try:
        line = text.decode("ascii").strip().replace(BOOT_UUID_PLACEHOLDER, str(boot_guid))
    except UnicodeDecodeError as err:
        raise LoadError(f"its {COMMAND_LINE} is no ASCII text") from err
    if not line or not line.isprintable():
        raise LoadError(f"its {COMMAND_LINE} is not one line of printable text")
    if len(line) > _MOST_BYTES:
        raise LoadError(f"its {COMMAND_LINE} has {len(line)} bytes, the kernel takes {_MOST_BYTES}")
    return line


def _regular_file(directory: str, name: str) -> str:
    """Return the path of a file; opening a pipe or a device could wait for ever."""
    path = os.path.join(directory, name)
    if not os.path.isfile(path):
        raise LoadError(f"its BOOT file system holds no {name} that is a file")
    return path


def _read(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read(2 * _MOST_BYTES)
    except OSError as err:
        raise LoadError(f"its {COMMAND_LINE} cannot be read: {err.strerror}") from err
