import pytest

from updog.answers import Broken, Refused, Wanted
from updog.patience import MOST_PIECE_BYTES, PATIENT, Download, Limits, Pace, Throttle

LIMITS = Limits(
    first_pause_seconds=1,
    longest_pause_seconds=10,
    minimum_bytes_per_second=100,
    window_seconds=5,
)


def a_download(*, length: int | None = 100) -> Download:
    return Download(url="http://h/x", wanted=Wanted(length=length), deadline_seconds=60)


@pytest.mark.parametrize(("failures", "seconds"), [(1, 1), (2, 2), (3, 4), (4, 8), (5, 10)])
def test_pauses_double_up_to_the_longest(failures: int, seconds: float) -> None:
    assert LIMITS.pause_seconds(failures, asked=None, chance=1) == seconds


def test_pauses_are_scattered_between_half_and_whole() -> None:
    assert LIMITS.pause_seconds(3, asked=None, chance=0) == 2
    assert LIMITS.pause_seconds(3, asked=None, chance=0.5) == 3


def test_a_server_may_ask_for_a_pause_but_not_for_any() -> None:
    assert LIMITS.pause_seconds(1, asked=7, chance=1) == 7
    assert LIMITS.pause_seconds(1, asked=21600, chance=1) == 10


def test_a_download_counts_its_bytes() -> None:
    download = a_download()
    download.receive(60)
    download.receive(40)
    download.refuse_short_end()
    assert download.wanted.offset == 100


def test_a_byte_beyond_the_length_is_refused() -> None:
    download = a_download()
    download.receive(100)
    with pytest.raises(Refused, match="sent more than the 100 bytes that are expected"):
        download.receive(1)


def test_an_end_before_the_length_is_a_break() -> None:
    download = a_download()
    download.receive(99)
    with pytest.raises(Broken, match="the connection broke off"):
        download.refuse_short_end()


def test_without_a_known_length_any_end_is_the_end() -> None:
    download = a_download(length=None)
    download.receive(1)
    download.refuse_short_end()


def test_waiting_ends_at_the_deadline() -> None:
    download = a_download()
    download.wait(60)
    with pytest.raises(Refused, match="it took more than 60 s; try again later"):
        download.wait(0.1)


@pytest.mark.parametrize(
    ("offset", "status", "failures"),
    [(0, None, 4), (65535, None, 4), (65536, 429, 4), (65536, None, 14), (65536, 503, 14)],
)
def test_a_file_that_has_begun_to_come_is_waited_for_longer(
    offset: int, status: int | None, failures: int
) -> None:
    download = a_download(length=None)
    download.receive(offset)
    download.failures = failures - 1
    assert not download.is_hopeless(PATIENT, status=status)
    download.failures = failures
    assert download.is_hopeless(PATIENT, status=status)


def test_a_vanished_server_has_about_five_minutes_to_return() -> None:
    pauses = [
        PATIENT.pause_seconds(failures, asked=None, chance=0.5)
        for failures in range(1, PATIENT.attempts_to_go_on)
    ]
    assert 240 < sum(pauses) < 360
    assert max(pauses) == 45


def test_a_pace_at_the_minimum_is_fast_enough() -> None:
    pace = Pace(limits=LIMITS)
    for _ in range(100):
        pace.add(1, 100)


def test_a_pace_below_the_minimum_is_broken_off_after_a_window() -> None:
    pace = Pace(limits=LIMITS)
    for _ in range(4):
        pace.add(1, 99)
    with pytest.raises(Broken, match="sent less than 100 bytes a second"):
        pace.add(1, 99)


def test_a_fast_start_does_not_pay_for_a_drip_later() -> None:
    pace = Pace(limits=LIMITS)
    pace.add(5, 1_000_000)
    with pytest.raises(Broken):
        pace.add(5, 1)


def test_without_a_limit_nothing_is_held_back() -> None:
    throttle = Throttle()
    assert throttle.piece_bytes == MOST_PIECE_BYTES
    assert throttle.pause_seconds(10**9, now=0) == 0


def test_a_limit_holds_over_all_pieces_together() -> None:
    throttle = Throttle(bytes_per_second=1000)
    assert throttle.pause_seconds(500, now=10) == 0.5
    assert throttle.pause_seconds(500, now=10.25) == 0.75


def test_time_that_was_not_used_is_not_saved_up() -> None:
    throttle = Throttle(bytes_per_second=1000)
    throttle.pause_seconds(500, now=0)
    assert throttle.pause_seconds(500, now=100) == 0.5


def test_a_slow_limit_takes_small_pieces() -> None:
    assert Throttle(bytes_per_second=4096).piece_bytes == 1024
    assert Throttle(bytes_per_second=10**9).piece_bytes == MOST_PIECE_BYTES
