"""Small files: those that others wrote are read with care, our own are replaced as a whole.

Refuses what is no regular file, so that a pipe cannot hold a run up, and what is larger than such a
file ever is. Does not judge what a file holds.
"""

import errno
import os
import stat
from io import BufferedReader
from pathlib import Path
from typing import Final

_PIECE_BYTES: Final = 64 << 10


def read_small_file(path: Path, *, limit_bytes: int) -> bytes:
    """Return what a file holds.

    Raises:
        OSError: It cannot be opened or read.
        ValueError: It is no regular file, or larger than the limit; the message says which.
    """
    data = bytearray()
    with open_regular_file(path) as file:
        # By the piece: one read of so much takes the memory for all of it, however short the file.
        while len(data) <= limit_bytes and (piece := file.read(_PIECE_BYTES)):
            data += piece
    if len(data) > limit_bytes:
        raise ValueError(f"it holds more than {limit_bytes >> 10} KiB")
    return bytes(data)


def open_regular_file(path: Path, *, follows_link: bool = True) -> BufferedReader:
    """Open a file for reading.

    Raises:
        OSError: It cannot be opened.
        ValueError: It is no regular file, or is a link that is not to be followed.
    """
    # O_NONBLOCK: else opening a pipe waits for somebody to write into it.
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK
    try:
        descriptor = os.open(path, flags if follows_link else flags | os.O_NOFOLLOW)
    except OSError as err:
        if err.errno == errno.ELOOP and not follows_link:
            raise ValueError("it is a link, not a regular file") from err
        raise
    file = open(descriptor, "rb")  # noqa: PTH123, SIM115 -- a descriptor, which the caller closes
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        file.close()
        raise ValueError("it is no regular file")
    return file


def read_small_text(path: Path, *, limit_bytes: int) -> str:
    """Return what a text file holds; raises as `read_small_file` does, also if it is not UTF-8."""
    data = read_small_file(path, limit_bytes=limit_bytes)
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as err:
        line = data.count(b"\n", 0, err.start) + 1
        raise ValueError(f"it is not UTF-8 text: line {line} holds other bytes") from err


def replace_file(path: Path, data: bytes) -> None:
    """Give a file new content: whoever looks, also after a power cut, finds the old or the new.

    Raises:
        OSError: It cannot be written; the old content stays.
    """
    temporary = path.with_name(f".{path.name}.new")
    with temporary.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    _flush_directory(path.parent)


def _flush_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
