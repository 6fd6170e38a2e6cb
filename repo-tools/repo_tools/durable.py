"""Files that are there whole or not at all, whatever interrupts the writer.

Decides how a file takes its final name: written under another one, flushed, renamed, and the
directory flushed, so that a reader sees the old bytes or the new and a power cut loses neither.
"""

import os
import secrets
from pathlib import Path

TEMPORARY_SUFFIX = ".partial"
"""Ends the name of a file that is not whole yet."""


def write_durably(path: Path, data: bytes, *, mode: int = 0o644) -> None:
    """Replace the content of `path`, atomically and flushed to the disk."""
    temporary = path.with_name(path.name + TEMPORARY_SUFFIX)
    temporary.unlink(missing_ok=True)
    with open(temporary, "xb", opener=lambda name, flags: os.open(name, flags, mode)) as file:
        file.write(data)
    place_durably(temporary, path)


def place_durably(temporary: Path, path: Path) -> None:
    """Give a finished file its final name on the same disk, flushing both file and name."""
    _flush(temporary)
    temporary.replace(path)
    _flush(path.parent)


def create_durably(path: Path, data: bytes, *, mode: int = 0o644) -> None:
    """Make a file that is not there yet, atomically and flushed to the disk.

    Raises:
        FileExistsError: it is there; it stays as it is.
    """
    # A name of its own: two who make the same file at once must not give it each other's content.
    temporary = path.with_name(f"{path.name}.{secrets.token_hex(4)}{TEMPORARY_SUFFIX}")
    try:
        with open(temporary, "xb", opener=lambda name, flags: os.open(name, flags, mode)) as file:
            file.write(data)
        _flush(temporary)
        # Unlike a rename, a link never takes the place of a file.
        os.link(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    _flush(path.parent)


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
