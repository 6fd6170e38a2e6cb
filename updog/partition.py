"""A partition opened to be written and read back: a device node, or a window into an image file.

Decides nothing about content. Opens block devices exclusively (the kernel refuses one that is
mounted or in use), never creates, truncates or writes outside the window, flushes, and reads back
past the page cache. Knows no network and no partition table.
"""

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final

from signpost.disk import Window
from updog.errors import PartitionError

READ_BACK_BYTES: Final = 1 << 20
_FLUSH_EVERY_BYTES: Final = 32 << 20
_PAGE: Final = 4096


class OpenPartition:
    """A partition that this process alone may write."""

    def __init__(self, window: Window, descriptor: int) -> None:
        self.window = window
        self._descriptor = descriptor
        self._unflushed = 0

    def write(self, offset: int, data: bytes | memoryview) -> None:
        """Write at an offset from the partition's start.

        Flushes every 32 MiB, so that the last flush is short and errors come up early.

        Raises:
            PartitionError: there is no room, or the device failed.
        """
        if offset + len(data) > self.window.length_bytes:
            raise PartitionError(
                f"{self._name} holds {self.window.length_bytes} bytes, the image is larger"
            )
        view = memoryview(data)
        try:
            while view:
                done = os.pwrite(self._descriptor, view, self.window.offset_bytes + offset)
                _require_progress(done)
                view, offset = view[done:], offset + done
        except OSError as err:
            raise PartitionError(f"cannot write to {self._name}: {err.strerror}") from err
        self._unflushed += len(data)
        if self._unflushed >= _FLUSH_EVERY_BYTES:
            self.flush()

    def flush(self) -> None:
        """Wait until the medium holds everything written so far.

        Raises:
            PartitionError: the device failed; what it holds is unknown.
        """
        try:
            os.fdatasync(self._descriptor)
        except OSError as err:
            raise PartitionError(f"cannot flush {self._name}: {err.strerror}") from err
        self._unflushed = 0

    def forget_cached(self) -> None:
        """Drop the flushed pages from the cache, so that reading asks the medium."""
        start = self.window.offset_bytes // _PAGE * _PAGE
        end = self.window.offset_bytes + self.window.length_bytes
        with suppress(OSError):  # advice: without it, less is proven but nothing is wrong
            os.posix_fadvise(self._descriptor, start, end - start, os.POSIX_FADV_DONTNEED)

    def read(self, offset: int, length: int) -> bytes:
        """Read exactly `length` bytes at an offset from the partition's start.

        Raises:
            PartitionError: the device failed or ended early, or the range is outside.
        """
        if offset < 0 or offset + length > self.window.length_bytes:
            raise PartitionError(f"{self._name} has no bytes {offset} to {offset + length}")
        data = bytearray()
        try:
            while len(data) < length:
                at = self.window.offset_bytes + offset + len(data)
                piece = os.pread(self._descriptor, length - len(data), at)
                if not piece:
                    raise PartitionError(f"{self._name} ends before its byte {offset + length}")
                data += piece
        except OSError as err:
            raise PartitionError(f"cannot read {self._name}: {err.strerror}") from err
        return bytes(data)

    def pieces(self, length: int) -> Iterator[tuple[int, bytes]]:
        """Yield the first `length` bytes as (offset, piece)."""
        for offset in range(0, length, READ_BACK_BYTES):
            yield offset, self.read(offset, min(READ_BACK_BYTES, length - offset))

    @property
    def _name(self) -> str:
        return describe(self.window)


def _require_progress(done: int) -> None:
    if done == 0:
        raise OSError(errno.EIO, "the device takes no more bytes")


def describe(window: Window) -> str:
    """Name a partition for a message."""
    if window.offset_bytes == 0:
        return str(window.path)
    return f"{window.path} at byte {window.offset_bytes}"


@contextmanager
def open_for_writing(window: Window) -> Iterator[OpenPartition]:
    """Open a partition for this process alone.

    Raises:
        PartitionError: it is missing, in use, no block device or image file, or too short.
    """
    with _opened(window, os.O_RDWR) as partition:
        yield partition


@contextmanager
def open_for_reading(window: Window) -> Iterator[OpenPartition]:
    """Open a partition to look at it.

    Raises:
        PartitionError: it is missing, no block device or image file, or too short.
    """
    with _opened(window, os.O_RDONLY) as partition:
        yield partition


@contextmanager
def _opened(window: Window, mode: int) -> Iterator[OpenPartition]:
    descriptor = _open(window, mode)
    try:
        size = os.lseek(descriptor, 0, os.SEEK_END)
        if window.offset_bytes + window.length_bytes > size:
            raise PartitionError(
                f"{describe(window)} should hold {window.length_bytes} bytes, but "
                f"{window.path} ends at byte {size}"
            )
        yield OpenPartition(window, descriptor)
    finally:
        os.close(descriptor)


def _open(window: Window, mode: int) -> int:
    try:
        kind = window.path.stat().st_mode
        if not (stat.S_ISBLK(kind) or stat.S_ISREG(kind)):
            raise PartitionError(f"{window.path} is neither a block device nor an image file")
        # open(2): O_EXCL without O_CREAT on a block device fails with EBUSY while it is in use.
        exclusive = os.O_EXCL if mode == os.O_RDWR and stat.S_ISBLK(kind) else 0
        return os.open(window.path, mode | exclusive | os.O_CLOEXEC)
    except OSError as err:
        raise PartitionError(f"cannot open {describe(window)}: {err.strerror}") from err
