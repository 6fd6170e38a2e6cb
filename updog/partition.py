"""A partition opened to be written and read back: a device node, or a window into an image file.

Decides nothing about content. Opens block devices exclusively (the kernel refuses one that is
mounted or in use), never creates, truncates or writes outside the window, flushes, and reads back
past the page cache. Goes past the cache (O_DIRECT) wherever device, position and buffer allow it:
that takes half the time, and what is read back then comes from the device for certain. Knows no
network and no partition table.
"""

import ctypes
import errno
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from ctypes import c_char
from threading import Lock
from typing import Final

from signpost.disk import Window
from updog.errors import PartitionError

_ALIGNMENT: Final = 4096
"""Of positions, lengths and addresses that may go past the cache, whatever the sector size; and the
least that the cache holds."""

_IN_USE: Final = "it is mounted, or another program holds it; unmount it, or end that program"

_FLUSH_EVERY_BYTES: Final = 32 << 20


class OpenPartition:
    """A partition that this process alone may write; its methods may be called by several threads.

    Args:
        window: where it is.
        descriptor: of the device or file; whoever opened it closes it.
        direct: the same, opened to go past the page cache, where that is possible.
    """

    def __init__(self, window: Window, descriptor: int, direct: int | None = None) -> None:
        self.window = window
        self._descriptor = descriptor
        self._direct = direct if window.offset_bytes % _ALIGNMENT == 0 else None
        self._unflushed = 0
        self._counting = Lock()

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
        try:
            self._transfer(_write_all, offset, memoryview(data))
        except OSError as err:
            raise PartitionError(f"cannot write to {self._name}: {err.strerror}") from err
        if self._is_flush_due(len(data)):
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

    def forget_cached(self) -> None:
        """Drop the flushed pages from the cache, so that reading asks the medium."""
        # The kernel keeps pages that the range covers in part.
        start = self.window.offset_bytes // _ALIGNMENT * _ALIGNMENT
        end = -(-(self.window.offset_bytes + self.window.length_bytes) // _ALIGNMENT) * _ALIGNMENT
        with suppress(OSError):  # advice: without it, less is proven but nothing is wrong
            os.posix_fadvise(self._descriptor, start, end - start, os.POSIX_FADV_DONTNEED)

    def read(self, offset: int, length: int) -> bytes:
        """Read exactly `length` bytes at an offset from the partition's start.

        Raises:
            PartitionError: the device failed or ended early, or the range is outside.
        """
        data = bytearray(length)
        self.read_into(offset, memoryview(data))
        return bytes(data)

    def read_into(self, offset: int, buffer: memoryview) -> None:
        """Fill a buffer from an offset from the partition's start on; raises as `read` does."""
        end = offset + len(buffer)
        if offset < 0 or end > self.window.length_bytes:
            raise PartitionError(f"{self._name} has no bytes {offset} to {end}")
        try:
            self._transfer(_read_all, offset, buffer)
        except EOFError as err:
            raise PartitionError(f"{self._name} ends before its byte {end}") from err
        except OSError as err:
            raise PartitionError(f"cannot read {self._name}: {err.strerror}") from err

    def _transfer(self, transfer: "_Transfer", offset: int, data: memoryview) -> None:
        """Write or read a range: past the cache as far as it can be, the rest through it."""
        position = self.window.offset_bytes + offset
        whole = len(data) // _ALIGNMENT * _ALIGNMENT if offset % _ALIGNMENT == 0 else 0
        if whole and _is_aligned(data) and self._pass_cache(transfer, data[:whole], position):
            position, data = position + whole, data[whole:]
        if data:
            transfer(self._descriptor, data, position)

    def _pass_cache(self, transfer: "_Transfer", data: memoryview, position: int) -> bool:
        """Write or read past the cache, and tell whether the device lets us."""
        direct = self._direct
        if direct is None:
            return False
        try:
            transfer(direct, data, position)
        except OSError as err:
            if err.errno != errno.EINVAL:
                raise
            self._direct = None
            return False
        return True

    def _is_flush_due(self, count: int) -> bool:
        with self._counting:
            self._unflushed += count
            is_due = self._unflushed >= _FLUSH_EVERY_BYTES
            if is_due:
                self._unflushed = 0
            return is_due

    @property
    def _name(self) -> str:
        return describe(self.window)


def _is_aligned(data: memoryview) -> bool:
    return not data.readonly and ctypes.addressof(c_char.from_buffer(data)) % _ALIGNMENT == 0


_Transfer = Callable[[int, memoryview, int], None]
"""`transfer(descriptor, data, position_bytes)` writes or fills the whole of `data`."""


def _write_all(descriptor: int, data: memoryview, position: int) -> None:
    while data:
        done = os.pwrite(descriptor, data, position)
        if done == 0:
            raise OSError(errno.EIO, "the device takes no more bytes")
        data, position = data[done:], position + done


def _read_all(descriptor: int, buffer: memoryview, position: int) -> None:
    while buffer:
        done = os.preadv(descriptor, [buffer], position)
        if done == 0:
            raise EOFError
        buffer, position = buffer[done:], position + done


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
        with _opened_past_cache(descriptor, mode) as direct:
            yield OpenPartition(window, descriptor, direct)
    finally:
        os.close(descriptor)


@contextmanager
def _opened_past_cache(descriptor: int, mode: int) -> Iterator[int | None]:
    """Open the very same device or file once more; None where it cannot go past the cache."""
    try:
        direct = os.open(f"/proc/self/fd/{descriptor}", mode | os.O_DIRECT | os.O_CLOEXEC)
    except OSError:  # tmpfs and others do not know how; no /proc in a chroot
        yield None
        return
    try:
        yield direct
    finally:
        os.close(direct)


def _open(window: Window, mode: int) -> int:
    try:
        kind = window.path.stat().st_mode
        if not (stat.S_ISBLK(kind) or stat.S_ISREG(kind)):
            raise PartitionError(f"{window.path} is neither a block device nor an image file")
        # open(2): O_EXCL without O_CREAT on a block device fails with EBUSY while it is in use.
        # A window further in means a disk whose partitions the kernel does not know, so that none
        # can be mounted; all of a set are open at once, and only the first could be exclusive.
        is_node = stat.S_ISBLK(kind) and window.offset_bytes == 0
        exclusive = os.O_EXCL if mode == os.O_RDWR and is_node else 0
        descriptor = os.open(window.path, mode | exclusive | os.O_CLOEXEC)
    except OSError as err:
        why = _IN_USE if err.errno == errno.EBUSY else err.strerror
        raise PartitionError(f"cannot open {describe(window)}: {why}") from err
    found = os.fstat(descriptor).st_rdev
    if window.device not in (None, found):
        os.close(descriptor)
        what = f"device {os.major(found)}:{os.minor(found)}" if found else "a file"
        raise PartitionError(
            f"cannot open {describe(window)}: {what} is in the place of the partition, which is "
            f"device {os.major(window.device)}:{os.minor(window.device)}"
        )
    return descriptor
