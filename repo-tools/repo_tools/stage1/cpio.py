"""An initramfs archive (Linux, Documentation/driver-api/early-userspace/buffer-format.rst). Pure.

Decides that the same files give the same bytes: names in order, no times, everything owned by root.
Holds regular files, directories and the console node; parents come by themselves.
"""

import gzip
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Final

_CONSOLE: Final = "dev/console"
_CONSOLE_NUMBER: Final = (5, 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class File:
    """A regular file of an archive."""

    data: bytes
    is_executable: bool = False


def archive(files: Mapping[str, File]) -> bytes:
    """Return a `newc` archive of files, by their paths without a leading slash."""
    entries = b"".join(_entries(files))
    return entries + _entry("TRAILER!!!", mode=0, number=0)


def compress(data: bytes) -> bytes:
    """Compress an archive in the way that every kernel can read."""
    return gzip.compress(data, compresslevel=6, mtime=0)


def _entries(files: Mapping[str, File]) -> Iterator[bytes]:
    names = sorted(files)
    for number, name in enumerate([*_directories([*names, _CONSOLE]), _CONSOLE, *names], start=1):
        if name in files:
            file = files[name]
            mode = stat.S_IFREG | (0o755 if file.is_executable else 0o644)
            yield _entry(name, mode=mode, number=number, data=file.data)
        elif name == _CONSOLE:
            yield _entry(name, mode=stat.S_IFCHR | 0o600, number=number, device=_CONSOLE_NUMBER)
        else:
            yield _entry(name, mode=stat.S_IFDIR | 0o755, number=number)


def _directories(names: list[str]) -> list[str]:
    parents = {str(parent) for name in names for parent in PurePosixPath(name).parents}
    return sorted(parents - {"."})


def _entry(
    name: str, *, mode: int, number: int, data: bytes = b"", device: tuple[int, int] = (0, 0)
) -> bytes:
    encoded = name.encode() + b"\0"
    links = 1
    owner = times = 0
    fields = (
        *(number, mode, owner, owner, links, times, len(data)),
        *(0, 0, *device, len(encoded), 0),
    )
    header = b"070701" + b"".join(b"%08X" % field for field in fields)
    return _padded(header + encoded) + _padded(data)


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)
