"""The kernel command line of a BOOT file system, and the dm-verity table inside it. Pure.

Decides the words through which a boot image vouches for the root image of its set: the kernel
makes /dev/dm-0 from the `dm-mod.create` argument (Linux Documentation/admin-guide/device-mapper/
dm-init.rst and verity.rst) and refuses every block that does not lead to the root digest in it.
Refuses command lines without exactly such a table, and ones that a kernel would cut off.
"""

import re
from dataclasses import dataclass

from repo_tools.errors import CommandLineError

BOOT_UUID_PLACEHOLDER = "%U"
"""Stands for the BOOT partition's own GUID; the boot loader, which knows it, puts it in. Root and
hash are named by their distance from it, so one image works in either set."""

FILE_NAME = "/cmdline"
"""Where a BOOT file system holds its command line."""

_GUID_CHARACTERS = 36
_MOST_BYTES = 2047
"""COMMAND_LINE_SIZE of x86 and ARM kernels (asm/setup.h) is 2048, the final zero included."""
_BLOCK_SIZE = 4096
_SECTORS_PER_BLOCK = _BLOCK_SIZE // 512
_CREATE = re.compile(
    r'(?:^| )dm-mod\.create="root,,,ro,0 (?P<sectors>\d+) verity 1 '
    r"PARTUUID=\S+/PARTNROFF=1 PARTUUID=\S+/PARTNROFF=2 "
    r"4096 4096 (?P<blocks>\d+) 1 sha256 "
    r"(?P<digest>[0-9a-f]{64}) (?P<salt>(?:[0-9a-f]{2}){1,256}|-)"
    r'(?: [^"]*)?"(?: |$)'
)


@dataclass(frozen=True, slots=True, kw_only=True)
class VerityTable:
    """What a kernel must know to check a root image: its length, root digest and salt."""

    data_blocks: int
    """Blocks of 4096 bytes."""
    root_digest: bytes
    salt: bytes


def format_command_line(table: VerityTable, *, append: str = "") -> str:
    """Return a kernel command line that boots the root image that `table` describes.

    Args:
        table: the root image.
        append: words that go behind; where a kernel takes the last of several, they win.

    Raises:
        CommandLineError: `append` is no part of a line, would name another root, or is too long.
    """
    boot = f"PARTUUID={BOOT_UUID_PLACEHOLDER}"
    verity = (
        f"root,,,ro,0 {table.data_blocks * _SECTORS_PER_BLOCK} verity 1 "
        f"{boot}/PARTNROFF=1 {boot}/PARTNROFF=2 {_BLOCK_SIZE} {_BLOCK_SIZE} {table.data_blocks} 1 "
        f"sha256 {table.root_digest.hex()} {table.salt.hex() or '-'} 1 panic_on_corruption"
    )
    line = f'console=ttyS0 panic=1 root=/dev/dm-0 rootwait ro dm-mod.create="{verity}"'
    if not append.strip():
        return line
    _refuse_unfit(append)
    line = f"{line} {append.strip()}"
    growth = line.count(BOOT_UUID_PLACEHOLDER) * (_GUID_CHARACTERS - len(BOOT_UUID_PLACEHOLDER))
    if len(line.encode()) + growth > _MOST_BYTES:
        raise CommandLineError(
            f"the kernel command line would have {len(line.encode()) + growth} bytes, and kernels "
            f"take {_MOST_BYTES}: append less"
        )
    return line


def _refuse_unfit(append: str) -> None:
    """Refuse words that would break the line, or undo that it vouches for one root."""
    if not (append.isascii() and append.isprintable()) or append.count('"') % 2:
        raise CommandLineError(
            f"{append!r} cannot go into a kernel command line: one line of ASCII, with quotes in "
            "pairs"
        )
    if re.search(r'(?:^|[\s"])(?:root|dm-mod\.create)=', append):
        raise CommandLineError(
            f"{append!r} would name another root than the one that the boot image vouches for"
        )


def parse_command_line(text: str) -> VerityTable:
    """Read the dm-verity table out of a kernel command line.

    Raises:
        CommandLineError: it has none, or one that this project's images do not use.
    """
    found = _CREATE.search(text.strip())
    if found is None:
        raise CommandLineError('the kernel command line has no dm-mod.create="root,... verity ..."')
    blocks = int(found["blocks"])
    if int(found["sectors"]) != blocks * _SECTORS_PER_BLOCK:
        raise CommandLineError(
            f"the kernel command line maps {found['sectors']} sectors onto {blocks} blocks"
        )
    salt = "" if found["salt"] == "-" else found["salt"]
    return VerityTable(
        data_blocks=blocks,
        root_digest=bytes.fromhex(found["digest"]),
        salt=bytes.fromhex(salt),
    )
