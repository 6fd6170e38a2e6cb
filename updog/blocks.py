"""A few aligned buffers that one thread fills while others work on them.

Decides how much memory an image of any size needs, and that a failure ends the work at its lowest
offset, whichever thread met it first. Does not know what the work is.
"""

import ctypes
import mmap
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from queue import SimpleQueue
from typing import Final, Self

import structlog

_log = structlog.get_logger()

BUFFER_BYTES: Final = 2 << 20
"""Half of it makes writing past the page cache slower, twice of it no faster."""

_QUIET_SECONDS: Final = 0.5
"""A stop that takes longer than this is said to wait for the disk."""

_BUFFERS: Final = 4
_THREADS: Final = 2
"""Two blocks at work, one being filled, one waiting: more of either gained nothing on two cores."""

Work = Callable[[int, memoryview], None]
"""`work(offset_bytes, data)` is called in any order, from several threads at a time."""


class BlockWorkers:
    """Threads that work on buffers handed to them; to be used as a context.

    Args:
        work: what is to be done with each; what it raises, `take` or `finish` raises.
    """

    def __init__(self, work: Work) -> None:
        self._work = work
        self._free: SimpleQueue[memoryview] = SimpleQueue()
        self._failures: dict[int, Exception] = {}
        self._at_work: set[int] = set()
        for buffer in _make_buffers():
            self._free.put(buffer)

    def __enter__(self) -> Self:
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="blocks")
        return self

    def __exit__(self, *_: object) -> None:
        """Wait for what is being done: nobody may close what a thread still writes to."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._say_if_it_takes_long()
        self._threads.shutdown()

    def _say_if_it_takes_long(self) -> None:
        deadline = time.monotonic() + _QUIET_SECONDS
        while self._at_work and time.monotonic() < deadline:
            time.sleep(0.01)
        if self._at_work:
            _log.warning("stopping", summary="waiting for the disk to end what it has begun")

    def take(self) -> memoryview:
        """Wait for an empty buffer."""
        self._raise_failure()
        return self._free.get()

    def hand_over(self, offset: int, buffer: memoryview) -> None:
        """Let the threads work on a buffer that was taken, or on its filled beginning.

        Raises:
            MemoryError: no thread can be started.
        """
        try:
            self._threads.submit(self._run, offset, buffer)
        except RuntimeError as err:
            raise MemoryError from err

    def finish(self) -> None:
        """Wait until all work is done.

        Raises:
            Exception: what the work at the lowest offset raised, if any did.
        """
        self._threads.shutdown()
        self._raise_failure()

    def _run(self, offset: int, buffer: memoryview) -> None:
        self._at_work.add(offset)
        try:
            if all(offset < failed for failed in tuple(self._failures)):
                self._work(offset, buffer)
        except Exception as err:  # noqa: BLE001 -- carried over to the thread that waits
            self._failures[offset] = err
        finally:
            self._at_work.discard(offset)
            self._free.put(_whole(buffer))

    def _raise_failure(self) -> None:
        if self._failures:
            self._threads.shutdown()  # a lower offset may still be at work
            raise self._failures[min(self._failures)]


def _make_buffers() -> Iterator[memoryview]:
    """Return the buffers, each a page of the largest kind where the system has such.

    A disk is handed a buffer by its pages, and the kernel looks each of them up: a fifth of the
    time of reading back is saved if there is one.
    """
    mapping = mmap.mmap(
        -1, (_BUFFERS + 1) * BUFFER_BYTES, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
    )
    with suppress(OSError):  # a kernel that knows no such pages
        mapping.madvise(mmap.MADV_HUGEPAGE)
    begin = -ctypes.addressof(ctypes.c_char.from_buffer(mapping)) % BUFFER_BYTES
    for number in range(_BUFFERS):
        at = begin + number * BUFFER_BYTES
        yield memoryview((ctypes.c_char * BUFFER_BYTES).from_buffer(mapping, at)).cast("B")


def _whole(part: memoryview) -> memoryview:
    """Return the buffer of which this is a part."""
    return memoryview(part.obj).cast("B")
