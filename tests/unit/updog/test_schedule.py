"""Windows and strategies at every edge, and on the nights on which the clock is changed."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from updog.schedule import (
    Answer,
    Day,
    Strategy,
    Window,
    is_open,
    may_restart,
    next_opening,
    parse_clock,
)

BERLIN = ZoneInfo("Europe/Berlin")


def a_window(begin: str, end: str, *days: Day, zone: str = "Europe/Berlin") -> Window:
    return Window(
        days=frozenset(days or Day),
        begin=parse_clock(begin),
        end=parse_clock(end),
        zone=ZoneInfo(zone),
    )


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def berlin(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=BERLIN)


NIGHT = a_window("02:00", "04:30")


@pytest.mark.parametrize(
    ("wall", "expected"),
    [
        ("2026-11-25T01:59:59", False),
        ("2026-11-25T02:00:00", True),
        ("2026-11-25T04:29:59", True),
        ("2026-11-25T04:30:00", False),
    ],
)
def test_a_window_is_open_from_its_begin_until_before_its_end(wall: str, expected: bool) -> None:
    assert NIGHT.is_open(berlin(wall)) is expected


@pytest.mark.parametrize(
    ("wall", "expected"),
    [
        ("2026-11-27T21:59:59", False),
        ("2026-11-27T22:00:00", True),  # a Friday
        ("2026-11-28T03:59:59", True),
        ("2026-11-28T04:00:00", False),
        ("2026-11-28T22:00:00", False),
        ("2026-11-27T03:00:00", False),
    ],
)
def test_a_window_over_midnight_belongs_to_the_day_on_which_it_begins(
    wall: str, expected: bool
) -> None:
    assert a_window("22:00", "04:00", Day.FRI).is_open(berlin(wall)) is expected


def test_sunday_goes_on_into_monday() -> None:
    assert a_window("23:00", "01:00", Day.SUN).is_open(berlin("2026-11-30T00:30"))
    assert not a_window("23:00", "01:00", Day.MON).is_open(berlin("2026-11-30T00:30"))


def test_a_window_of_a_whole_day() -> None:
    day = a_window("00:00", "24:00", Day.SAT)
    assert day.is_open(berlin("2026-11-28T00:00"))
    assert day.is_open(berlin("2026-11-28T23:59:59"))
    assert not day.is_open(berlin("2026-11-29T00:00"))
    assert not day.is_open(berlin("2026-11-27T23:59:59"))


def test_the_days_are_those_of_the_windows_own_zone() -> None:
    tokyo = a_window("01:00", "03:00", Day.MON, zone="Asia/Tokyo")
    assert tokyo.is_open(utc("2026-11-29T16:30"))  # a Sunday here, Monday 01:30 there


class TestClockPutForward:
    """In Berlin, 2026-03-29 has no time from 02:00 to 03:00: at 01:00 UTC it is 03:00."""

    def test_a_window_around_it_is_an_hour_shorter(self) -> None:
        opened = [hour for hour in range(24) if NIGHT.is_open(utc(f"2026-03-29T{hour:02}:15"))]
        assert opened == [1, 2]  # 03:15 and 04:15 on the wall

    def test_one_that_lies_in_the_missing_hour_is_left_out_that_night(self) -> None:
        window = a_window("02:00", "03:00")
        minutes = (utc("2026-03-28T22:00") + timedelta(minutes=n) for n in range(24 * 60))
        assert not any(window.is_open(minute) for minute in minutes)
        assert next_opening([window], utc("2026-03-28T12:00")) == utc("2026-03-30T00:00")

    def test_one_that_begins_in_the_missing_hour_opens_after_it(self) -> None:
        window = a_window("02:30", "04:00")
        assert next_opening([window], utc("2026-03-28T12:00")) == utc("2026-03-29T01:00")


class TestClockPutBack:
    """In Berlin, 2026-10-25 has the time from 02:00 to 03:00 twice, from 00:00 UTC to 02:00."""

    def test_an_hour_that_is_shown_twice_counts_twice(self) -> None:
        window = a_window("02:00", "03:00")
        assert window.is_open(utc("2026-10-25T00:30"))
        assert window.is_open(utc("2026-10-25T01:30"))
        assert not window.is_open(utc("2026-10-25T02:00"))

    def test_the_end_of_a_window_is_what_the_wall_shows(self) -> None:
        assert NIGHT.is_open(utc("2026-10-25T03:29:59"))
        assert not NIGHT.is_open(utc("2026-10-25T03:30"))


@given(
    minutes=st.integers(0, 366 * 24 * 60),
    begin=st.integers(0, 23),
    length=st.integers(1, 24),
    day=st.sampled_from(Day),
)
def test_a_window_is_open_only_at_times_of_day_that_it_names(
    minutes: int, begin: int, length: int, day: Day
) -> None:
    end = (begin + length) % 24
    window = a_window(f"{begin:02}:00", f"{end:02}:00", day)
    now = utc("2026-01-01T00:00") + timedelta(minutes=minutes)
    if window.is_open(now):
        wall = now.astimezone(BERLIN)
        assert (wall.hour - begin) % 24 < length
        assert day in (tuple(Day)[wall.weekday()], tuple(Day)[wall.weekday() - 1])


def test_the_next_opening_is_the_first_of_any_window() -> None:
    weekly, nightly = a_window("10:00", "11:00", Day.SAT), a_window("02:00", "03:00")
    now = utc("2026-11-25T12:00:30.5")
    assert next_opening([weekly, nightly], now) == utc("2026-11-26T01:00")
    assert next_opening([weekly], now) == utc("2026-11-28T09:00")
    assert next_opening([], now) is None


@pytest.mark.parametrize(
    "text",
    ["2:00", "24:01", "25:00", "02:60", "02:00:00", "", "2pm", "\N{ARABIC-INDIC DIGIT ZERO}2:00"],
)
def test_what_is_no_time_of_day_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="write a time of day like 02:30"):
        parse_clock(text)


OPEN, CLOSED = berlin("2026-11-25T03:00"), berlin("2026-11-25T05:00")


@pytest.mark.parametrize(
    ("strategy", "windows", "now", "answer"),
    [
        (Strategy.NOW, (), CLOSED, Answer.YES),
        (Strategy.NOW, (NIGHT,), CLOSED, Answer.YES),
        (Strategy.MANUAL, (NIGHT,), OPEN, Answer.MANUAL),
        (Strategy.WINDOW, (NIGHT,), OPEN, Answer.YES),
        (Strategy.WINDOW, (NIGHT,), CLOSED, Answer.WINDOW_CLOSED),
        (Strategy.WHEN_IDLE, (), CLOSED, Answer.YES),
        (Strategy.WHEN_IDLE, (NIGHT,), OPEN, Answer.YES),
        (Strategy.WHEN_IDLE, (NIGHT,), CLOSED, Answer.WINDOW_CLOSED),
    ],
)
def test_when_a_machine_may_be_restarted(
    strategy: Strategy, windows: tuple[Window, ...], now: datetime, answer: Answer
) -> None:
    assert may_restart(strategy, windows, busy_with=(), is_held=False, now=now) is answer
    held = may_restart(strategy, windows, busy_with=(), is_held=True, now=now)
    assert held is Answer.ON_HOLD
    busy = may_restart(strategy, windows, busy_with=("ann",), is_held=False, now=now)
    is_idleness_asked = strategy is Strategy.WHEN_IDLE and answer is Answer.YES
    assert busy is (Answer.BUSY if is_idleness_asked else answer)


@given(minutes=st.integers(0, 366 * 24 * 60), busy=st.booleans())
def test_what_waited_past_the_end_of_its_window_is_not_done_outside_of_it(
    minutes: int, busy: bool
) -> None:
    now = utc("2026-01-01T00:00") + timedelta(minutes=minutes)
    for strategy in (Strategy.WINDOW, Strategy.WHEN_IDLE):
        answer = may_restart(strategy, [NIGHT], busy_with=("ann",) * busy, is_held=False, now=now)
        assert answer is not Answer.YES or is_open([NIGHT], now)
