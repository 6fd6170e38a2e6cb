"""A directory tree with everything that images keep, and what stands for it afterwards."""

import os
import random
import stat
from pathlib import Path
from typing import TypeAlias

CAPABILITY = bytes.fromhex("0100000200040000000000000000000000000000")
"""cap_net_bind_service, permitted and effective."""

ODD_NAME = os.fsdecode(b'odd \xff "name"')


def a_root_tree(top: Path) -> Path:
    """Fill a new directory."""
    for name in ("etc", "usr/bin", "usr/lib/deep/er", "empty", "many"):
        (top / name).mkdir(parents=True)
    for path in (top, *top.rglob("*")):
        path.chmod(0o755)
    (top / "usr/lib/os-release").write_text('NAME="T"\nVARIANT_ID=t\nVERSION_ID=1.1.0\n')
    (top / "etc/os-release").symlink_to("../usr/lib/os-release")
    (top / "etc/long").symlink_to("l" * 100)
    (top / "usr/bin/tool").write_bytes(random.Random(1).randbytes(5000))
    (top / "usr/bin/tool").chmod(0o4755)
    (top / "usr/lib/deep/secret").write_text("secret")
    (top / "usr/lib/deep/secret").chmod(0o600)
    (top / ODD_NAME).write_text("odd")
    (top / "nothing").touch()
    (top / "zeros").write_bytes(bytes(3 << 12) + b"end")
    for length in (4000, 4095, 4096, 4097, 1 << 20):
        (top / f"usr/lib/{length}").write_bytes(random.Random(length).randbytes(length))
    for number in range(120):
        (top / f"many/{number:0100}").hardlink_to(top / "usr/lib/4097")
    return top


def give_capability(program: Path, capability: bytes = CAPABILITY) -> None:
    """Let a program do what else only root may, as setcap(8) would; this takes root."""
    os.setxattr(program, "security.capability", capability)


Facts: TypeAlias = dict[str, tuple[int, int, bytes | str]]


def facts_of(top: Path) -> Facts:
    """Return mode, number of names and content of everything below a directory."""
    return {str(path.relative_to(top)): _fact(path) for path in sorted(top.rglob("*"))}


def _fact(path: Path) -> tuple[int, int, bytes | str]:
    status = path.lstat()
    if stat.S_ISLNK(status.st_mode):
        return (stat.S_IFLNK, 1, str(path.readlink()))
    if stat.S_ISDIR(status.st_mode):
        return (status.st_mode, 1, "")
    return (status.st_mode, status.st_nlink, path.read_bytes())
