"""A unified kernel image: one EFI program of a stub, a kernel, its initrd and its command line.

Decides where the parts lie behind the stub (systemd-stub(7) finds them by the names of their
sections). Refuses nothing: whether the firmware starts it, signed or not, is the firmware's matter.
"""

import re
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from repo_tools.errors import RepoToolsError
from repo_tools.programs import find_program, run_program

_SECTION: Final = re.compile(
    r"^ *\d+ \S+ +(?P<size>[0-9a-f]{8}) +(?P<address>[0-9a-f]{8,16}) ", re.MULTILINE
)
_ALIGNMENT: Final = 1 << 16
"""More than any page size, so that no two sections share one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What goes into a unified kernel image."""

    stub: Path
    kernel: bytes
    initrd: bytes
    command_line: str


def build_uki(parts: Parts, target: Path) -> None:
    """Write the image.

    Raises:
        RepoToolsError: the stub is none, or binutils is missing.
    """
    sections = {
        ".osrel": b"ID=signpost-stage1\nPRETTY_NAME=signpost stage-1\n",
        ".cmdline": parts.command_line.encode() + b"\0",
        ".linux": parts.kernel,
        ".initrd": parts.initrd,
    }
    address = _end_of_stub(parts.stub)
    with tempfile.TemporaryDirectory() as scratch:
        arguments: list[str | Path] = []
        for name, data in sections.items():
            path = Path(scratch, name)
            path.write_bytes(data)
            arguments += ["--add-section", f"{name}={path}"]
            arguments += ["--change-section-vma", f"{name}={address:#x}"]
            address = _aligned(address + len(data))
        done = run_program(find_program("objcopy"), *arguments, parts.stub, target)
    if done.returncode != 0:
        raise RepoToolsError(f"objcopy failed on {parts.stub}: {done.stderr.strip()}")


def _end_of_stub(stub: Path) -> int:
    done = run_program(find_program("objdump"), "--section-headers", stub)
    ends = [
        int(found["address"], 16) + int(found["size"], 16)
        for found in _SECTION.finditer(done.stdout)
    ]
    if done.returncode != 0 or not ends:
        raise RepoToolsError(f"{stub} is no EFI stub (Debian: systemd-boot-efi has one)")
    return _aligned(max(ends))


def _aligned(address: int) -> int:
    return -(-address // _ALIGNMENT) * _ALIGNMENT
