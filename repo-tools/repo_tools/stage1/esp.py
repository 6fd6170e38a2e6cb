"""The file system of an EFI-SYSTEM partition that firmware of either kind starts stage-1 from.

Decides where the files lie: UEFI firmware starts EFI/BOOT/BOOTX64.EFI of any disk by itself (UEFI
2.10, 3.5.1.1); a BIOS starts the boot code in LBA 0, which goes on to the syslinux in here. Needs
no root and no mounting. Refuses a size that the files do not fit into.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from repo_tools.errors import RepoToolsError
from repo_tools.layout import mark_legacy_bootable, write_image
from repo_tools.programs import find_program, run_program
from signpost.disk import Location, read
from signpost.sets import EFI_SYSTEM

_SECTOR: Final = 512
_BOOT_CODE_BYTES: Final = 440
"""What of LBA 0 is code (UEFI 2.10, table 5.1)."""
_SYSLINUX_CONFIG: Final = """\
SERIAL 0 115200
DEFAULT stage1
LABEL stage1
  LINUX /vmlinuz
  INITRD /initrd.img
  APPEND {command_line}
"""
_MTOOLS_NO: Final = re.compile(r"[Dd]isk full|No space")


@dataclass(frozen=True, slots=True, kw_only=True)
class BiosFiles:
    """What syslinux loads."""

    kernel: Path
    initrd: Path
    command_line: str


def build_esp(image: Path, size_mib: int, *, uki: Path | None, bios: BiosFiles | None) -> None:
    """Make the file system in a new file.

    Args:
        image: the file, replaced if it is there.
        size_mib: its size, at most that of the partition.
        uki: a unified kernel image, for UEFI firmware.
        bios: what syslinux is to load, for a BIOS.

    Raises:
        RepoToolsError: the files do not fit, or mtools or syslinux is missing.
    """
    image.unlink(missing_ok=True)
    with image.open("xb") as file:
        file.truncate(size_mib << 20)
    sectors = (size_mib << 20) // _SECTOR
    _mtools("mformat", image, "-T", str(sectors), "-h", "255", "-s", "63", "::")
    if uki is not None:
        _mtools("mmd", image, "::/EFI", "::/EFI/BOOT")
        _mtools("mcopy", image, uki, "::/EFI/BOOT/BOOTX64.EFI")
    if bios is not None:
        _add_syslinux(image, bios)


def put_into_disk(disk: Path, esp: Path, *, boot_code: Path | None) -> None:
    """Fill the EFI-SYSTEM partition of a disk, and let a BIOS start from it.

    Args:
        disk: the image of a disk whose EFI-SYSTEM has room.
        esp: what `build_esp` made.
        boot_code: for LBA 0, as syslinux' gptmbr.bin; it starts the partition that is marked for
            it (attribute bit 2). None where no BIOS has to.

    Raises:
        RepoToolsError: the image is too large, or the code is none.
    """
    found = read(Location(path=disk))
    efi = next((p for p in found.table.partitions if p.type_guid == EFI_SYSTEM), None)
    if efi is None:
        raise RepoToolsError(f"{disk} has no EFI-SYSTEM partition")
    write_image(esp, found.window(efi))
    if boot_code is not None:
        write_boot_code(disk, boot_code)
        mark_legacy_bootable(disk)


def write_boot_code(disk: Path, code: Path) -> None:
    """Put boot code for a GUID partition table into LBA 0, beside the protective record.

    Raises:
        RepoToolsError: the code is too long, or no boot code.
    """
    data = code.read_bytes()
    if not 0 < len(data) <= _BOOT_CODE_BYTES:
        raise RepoToolsError(f"{code} is no boot code: it has {len(data)} bytes, not 1 to 440")
    with disk.open("r+b") as file:
        file.write(data.ljust(_BOOT_CODE_BYTES, b"\0"))


def _add_syslinux(image: Path, bios: BiosFiles) -> None:
    config = image.with_name("syslinux.cfg")
    config.write_text(_SYSLINUX_CONFIG.format(command_line=bios.command_line))
    _mtools("mcopy", image, bios.kernel, "::/vmlinuz")
    _mtools("mcopy", image, bios.initrd, "::/initrd.img")
    _mtools("mcopy", image, config, "::/syslinux.cfg")
    # It calls mtools by itself.
    path = f"{find_program('mcopy').parent}:/usr/bin:/bin"
    done = run_program(
        find_program("syslinux"), "--install", image.absolute(), environment={"PATH": path}
    )
    if done.returncode != 0:
        raise RepoToolsError(f"syslinux cannot be put into {image}: {done.stderr.strip()}")


def _mtools(program: str, image: Path, *arguments: str | Path) -> None:
    done = run_program(find_program(program), "-i", image.absolute(), *arguments)
    if done.returncode != 0:
        what = (
            "the files do not fit: choose a larger size"
            if _MTOOLS_NO.search(done.stderr)
            else done.stderr.strip()
        )
        raise RepoToolsError(f"{program} failed on {image}: {what}")
