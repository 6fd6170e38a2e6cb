"""Work on buffers ends whole or at its lowest failure, in the memory of a few buffers."""

import threading

import pytest
from structlog.testing import capture_logs

from updog.blocks import BUFFER_BYTES, BlockWorkers


def fill_all(workers: BlockWorkers, count: int) -> None:
    """Hand over buffers that each hold their number."""
    for number in range(count):
        buffer = workers.take()
        buffer[0] = number
        workers.hand_over(number * BUFFER_BYTES, buffer)
    workers.finish()


def test_every_buffer_is_worked_on_once_under_its_offset() -> None:
    seen: list[tuple[int, int]] = []
    with BlockWorkers(lambda offset, data: seen.append((offset, data[0]))) as workers:
        fill_all(workers, 50)
    assert sorted(seen) == [(number * BUFFER_BYTES, number) for number in range(50)]


def test_of_a_buffer_that_is_partly_filled_that_part_is_worked_on() -> None:
    lengths: list[int] = []
    with BlockWorkers(lambda _offset, data: lengths.append(len(data))) as workers:
        for length in (1, 4096, BUFFER_BYTES):
            workers.hand_over(0, workers.take()[:length])
        assert len(workers.take()) == BUFFER_BYTES
        workers.finish()
    assert sorted(lengths) == [1, 4096, BUFFER_BYTES]


def test_work_goes_on_at_the_same_time() -> None:
    both = threading.Barrier(2, timeout=30)

    def meet(_offset: int, _data: memoryview) -> None:
        both.wait()

    with BlockWorkers(meet) as workers:
        fill_all(workers, 2)


@pytest.mark.parametrize("count", [1, 8])
def test_a_failure_reaches_the_thread_that_waits(count: int) -> None:
    def fail(offset: int, _data: memoryview) -> None:
        raise ValueError(offset)

    with pytest.raises(ValueError, match=r"^0$"), BlockWorkers(fail) as workers:
        fill_all(workers, count)


def test_the_failure_at_the_lowest_offset_is_the_one_that_is_told() -> None:
    later_failed = threading.Event()

    def fail(offset: int, _data: memoryview) -> None:
        if offset == 0:
            later_failed.wait(30)
        else:
            later_failed.set()
        raise ValueError(offset)

    with pytest.raises(ValueError, match=r"^0$"), BlockWorkers(fail) as workers:
        fill_all(workers, 30)


def test_after_a_failure_nothing_behind_it_is_begun() -> None:
    begun: list[int] = []

    def fail_first(offset: int, _data: memoryview) -> None:
        begun.append(offset)
        if offset == 0:
            raise ValueError

    with pytest.raises(ValueError), BlockWorkers(fail_first) as workers:  # noqa: PT011 -- ours
        fill_all(workers, 1000)
    assert len(begun) < 10


def test_an_interruption_leaves_no_thread_behind() -> None:
    before = threading.active_count()

    def interrupt(workers: BlockWorkers) -> None:
        workers.hand_over(0, workers.take())
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), BlockWorkers(lambda *_: None) as workers:
        interrupt(workers)
    assert threading.active_count() == before


def test_buffers_are_aligned_for_devices() -> None:
    import ctypes  # noqa: PLC0415 -- for this test only

    with BlockWorkers(lambda *_: None) as workers:
        buffer = workers.take()
        assert ctypes.addressof(ctypes.c_char.from_buffer(buffer)) % 4096 == 0


def test_where_no_thread_can_be_started_memory_is_said_to_lack(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    with BlockWorkers(lambda _offset, _data: None) as workers, pytest.raises(MemoryError):
        workers.hand_over(0, workers.take())


def test_a_stop_that_waits_for_the_disk_says_so() -> None:
    begun, may_end = threading.Event(), threading.Event()

    def work(_offset: int, _data: memoryview) -> None:
        begun.set()
        assert may_end.wait(30)

    def interrupted() -> None:
        with BlockWorkers(work) as workers:
            workers.hand_over(0, workers.take())
            assert begun.wait(30)
            threading.Timer(1.0, may_end.set).start()
            raise KeyboardInterrupt

    with capture_logs() as said, pytest.raises(KeyboardInterrupt):
        interrupted()
    assert [entry["summary"] for entry in said] == ["waiting for the disk to end what it has begun"]
