"""An open, locked disk: reading and writing its sectors, flushing, and forgetting what is cached.

Knows no partition table and decides nothing; `disk` says what to read and write, and in which
order. Never creates or truncates anything, and refuses what is neither a block device nor a file.
"""

import errno
import fcntl
import os
import stat
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Final

from signpost import gpt
from signpost.errors import DiskError
from signpost.osdisk import StrPath

if TYPE_CHECKING:
    from signpost.table_write import Step

LOCK_TIMEOUT_SECONDS: Final = 10.0
_LOCK_POLL_SECONDS: Final = 0.05
_PAGE: Final = 4096
_FILE_SECTOR_SIZES: Final = (512, 4096)
_BLKROGET: Final = 0x125E
_BLKSSZGET: Final = 0x1268


class OpenDisk:
    """An open, locked disk."""

    def __init__(self, path: StrPath, descriptor: int) -> None:
        self.path = os.fspath(path)
        self._descriptor = descriptor
        self.is_device = stat.S_ISBLK(os.fstat(descriptor).st_mode)
        self.size_bytes = os.lseek(descriptor, 0, os.SEEK_END)

    def settle(self) -> None:
        """Make sure that what is read next is what the medium holds.

        A run that was killed before it flushed leaves pages that only the cache holds. Taken for
        written, they would rob the next run of the order in which it relies on its own writes.

        Raises:
            DiskError: the medium did not take what was left.
        """
        try:
            os.fsync(self._descriptor)
        except OSError as err:
            raise DiskError(
                f"{self.path} did not take what an earlier run wrote: {err.strerror}; "
                "nothing was changed"
            ) from err
        self._forget_cached(0, self.size_bytes)

    def sector_sizes(self) -> tuple[int, ...]:
        """Return the sector sizes to try: one for a device, the usual ones for a file."""
        if not self.is_device:
            return _FILE_SECTOR_SIZES
        answer = fcntl.ioctl(self._descriptor, _BLKSSZGET, bytes(4))
        return (int.from_bytes(answer, sys.byteorder),)

    def sectors(self, sector_size: int) -> gpt.ReadSectors:
        """Return a reader of whole sectors."""

        def read_sectors(first_lba: int, count: int) -> bytes:
            return self._read(first_lba * sector_size, count * sector_size)

        return read_sectors

    def _read(self, offset: int, length: int) -> bytes:
        data = bytearray()
        while len(data) < length:
            piece = self._read_piece(offset + len(data), length - len(data))
            if not piece:
                raise DiskError(f"{self.path} ends at byte {offset + len(data)} while being read")
            data += piece
        return bytes(data)

    def _read_piece(self, offset: int, length: int) -> bytes:
        try:
            return os.pread(self._descriptor, length, offset)
        except OSError as err:
            piece = self._read_past_the_cache(offset, length) if self.is_device else None
            if piece is not None:
                return piece
            raise DiskError(f"cannot read {self.path} at byte {offset}: {err.strerror}") from err

    def _read_past_the_cache(self, offset: int, length: int) -> bytes | None:
        """Read no more than was asked for: the cache fails on a bad neighbour in its page, too."""
        with suppress(OSError), _aligned(length) as view, self._past_the_cache():
            count = os.preadv(self._descriptor, [view], offset)
            return bytes(view[:count])
        return None

    def write_step(self, step: "Step", sector_size: int) -> None:
        """Write the sectors of one step and flush them to the medium.

        Raises:
            DiskError: the medium refused; by the order of the steps the old or the new table
                is whole.
        """
        try:
            for write in step.writes:
                self._write(write.lba * sector_size, write.data)
            os.fsync(self._descriptor)
        except OSError as err:
            raise DiskError(f"cannot write the {step.what} to {self.path}: {err.strerror}") from err
        finally:
            for write in step.writes:
                self._forget_cached(write.lba * sector_size, len(write.data))

    @contextmanager
    def _past_the_cache(self) -> Iterator[None]:
        """Read or write the very sectors of a device: the cache takes whole pages around them."""
        flags = fcntl.fcntl(self._descriptor, fcntl.F_GETFL)
        if self.is_device:
            fcntl.fcntl(self._descriptor, fcntl.F_SETFL, flags | os.O_DIRECT)
        try:
            yield
        finally:
            fcntl.fcntl(self._descriptor, fcntl.F_SETFL, flags)

    def _write(self, offset: int, data: bytes) -> None:
        try:
            with self._past_the_cache():
                self._write_all(offset, data)
        except OSError as err:
            if err.errno != errno.EINVAL:
                raise
            # A device that has no way around the cache, or promised one and refuses what comes.
            self._write_all(offset, data)

    def _write_all(self, offset: int, data: bytes) -> None:
        with _aligned(len(data)) as view:
            view[:] = data
            done = 0
            while done < len(data):
                with view[done:] as rest:
                    count = os.pwrite(self._descriptor, rest, offset + done)
                if count == 0:
                    raise OSError(errno.EIO, "the device takes no more bytes")
                done += count

    def _forget_cached(self, offset: int, length: int) -> None:
        """Drop clean pages, so that reading back asks the medium."""
        start = offset // _PAGE * _PAGE
        end = -(-(offset + length) // _PAGE) * _PAGE
        with suppress(OSError):  # advice: without it, less is proven but nothing is wrong
            os.posix_fadvise(self._descriptor, start, end - start, os.POSIX_FADV_DONTNEED)


@contextmanager
def _aligned(length: int) -> Iterator[memoryview]:
    """Lend memory that O_DIRECT takes: an anonymous map begins with a page."""
    import mmap  # noqa: PLC0415 -- reading does without, and is faster

    with mmap.mmap(-1, length) as memory, memoryview(memory) as view:
        yield view


@contextmanager
def opened(path: StrPath, mode: int, lock: int) -> Iterator[OpenDisk]:
    """Open and lock a disk or image file for as long as a context lasts.

    Args:
        path: the disk.
        mode: os.O_RDONLY or os.O_RDWR.
        lock: fcntl.LOCK_SH or fcntl.LOCK_EX.

    Raises:
        DiskError: it cannot be opened, stayed locked, or is neither a disk nor a file.
    """
    try:
        descriptor = os.open(path, mode | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK)
    except OSError as err:
        raise DiskError(f"cannot open disk {path}: {err.strerror}") from err
    try:
        kind = os.fstat(descriptor).st_mode
        if not (stat.S_ISBLK(kind) or stat.S_ISREG(kind)):
            raise DiskError(f"{path} is neither a block device nor an image file")
        if mode == os.O_RDWR and stat.S_ISBLK(kind):
            _refuse_read_only(descriptor, path)
        _lock(descriptor, path, lock)
        yield _measure(path, descriptor)
    finally:
        os.close(descriptor)


def _refuse_read_only(descriptor: int, path: StrPath) -> None:
    """Refuse a device that may be opened for writing, as some may, but takes no writes."""
    if any(fcntl.ioctl(descriptor, _BLKROGET, bytes(4))):
        raise DiskError(f"cannot write to disk {path}: the device is read-only")


def _measure(path: StrPath, descriptor: int) -> OpenDisk:
    try:
        return OpenDisk(path, descriptor)
    except OSError as err:
        raise DiskError(f"cannot tell the size of {path}: {err.strerror}") from err


def _lock(descriptor: int, path: StrPath, kind: int) -> None:
    """Take the BSD lock that systemd-udevd, sfdisk and systemd-repart honour on a whole disk."""
    deadline = time.monotonic() + LOCK_TIMEOUT_SECONDS
    while True:
        try:
            fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
        except BlockingIOError as err:
            if time.monotonic() > deadline:
                raise DiskError(
                    f"{path} is locked by another process{_lock_holder(descriptor)}; "
                    f"waited {LOCK_TIMEOUT_SECONDS:.0f} s, nothing was changed"
                ) from err
            time.sleep(_LOCK_POLL_SECONDS)
        except OSError as err:
            raise DiskError(f"cannot lock {path}: {err.strerror}; nothing was changed") from err
        else:
            return


def _lock_holder(descriptor: int) -> str:
    """Name the process that holds the lock, as far as /proc/locks tells."""
    status = os.fstat(descriptor)
    device = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}"
    try:
        with open("/proc/locks") as file:
            lines = file.read().splitlines()
    except OSError:
        return ""
    for line in lines:
        fields = line.split()
        if len(fields) >= 6 and fields[1] == "FLOCK" and fields[5] == f"{device}:{status.st_ino}":
            return f" (process {fields[4]})"
    return ""
