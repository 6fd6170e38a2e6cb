"""When a machine may be restarted: maintenance windows, and the strategy of its operator.

Decides from facts alone: the time, the windows, who is at work, what holds updates back. Reads no
clock and no time zone database, and restarts nothing.

A window is what the clock on the wall shows in its time zone, from `begin` until before `end`, on
its days. So nothing ever happens at a time of day that nobody has named. Where the clock is put
back, an hour that it shows twice counts twice; where it is put forward, what it does not show does
not count: a window that lies in that hour alone is left out that night.
"""

import re
from collections.abc import Sequence
from datetime import UTC, datetime, time, timedelta, tzinfo
from enum import StrEnum
from typing import Final

import msgspec

_CLOCK: Final = re.compile(r"(?P<hour>[01]\d|2[0-3]):(?P<minute>[0-5]\d)", re.ASCII)
_MIDNIGHT: Final = time()
_LOOK_AHEAD: Final = timedelta(days=15)
"""A window of one day a week that is left out once opens within that time."""
_MINUTE: Final = timedelta(minutes=1)


class Day(StrEnum):
    """A day of the week, in the order of `datetime.weekday`."""

    MON = "mon"
    TUE = "tue"
    WED = "wed"
    THU = "thu"
    FRI = "fri"
    SAT = "sat"
    SUN = "sun"


class Strategy(StrEnum):
    """When an update that is installed is entered."""

    NOW = "now"
    """At once."""
    WINDOW = "window"
    """In a maintenance window."""
    WHEN_IDLE = "when-idle"
    """When nobody is logged in and nothing inhibits it; in a window, if there are any."""
    MANUAL = "manual"
    """When somebody restarts the machine."""


def parse_clock(text: str) -> time:
    """Read a time of day like `02:30`; `24:00` is the midnight at the end of the day.

    Raises:
        ValueError: It is none; the message says how to write one.
    """
    if text == "24:00":
        return _MIDNIGHT
    match = _CLOCK.fullmatch(text)
    if match is None:
        raise ValueError("write a time of day like 02:30, from 00:00 to 24:00")
    return time(int(match["hour"]), int(match["minute"]))


class Window(msgspec.Struct, frozen=True, kw_only=True):
    """A time of the day on some days of the week, in a time zone.

    One whose end is not after its begin goes on into the next day; its days are those on which it
    begins.
    """

    days: frozenset[Day]
    begin: time
    end: time
    zone: tzinfo

    def is_open(self, now: datetime) -> bool:
        """Tell whether the clock on the wall shows a time of this window."""
        there = now.astimezone(self.zone)
        clock, weekday = there.time(), there.weekday()
        is_day, was_day = (_day(number) in self.days for number in (weekday, weekday - 1))
        if self.begin < self.end:
            return is_day and self.begin <= clock < self.end
        return (is_day and clock >= self.begin) or (was_day and clock < self.end)


def _day(number: int) -> Day:
    return tuple(Day)[number % 7]


def is_open(windows: Sequence[Window], now: datetime) -> bool:
    """Tell whether any of the windows is open."""
    return any(window.is_open(now) for window in windows)


def next_opening(windows: Sequence[Window], now: datetime) -> datetime | None:
    """Return when the next window opens, to the minute; None if none does for fifteen days."""
    begin = now.astimezone(UTC).replace(second=0, microsecond=0)
    moment, end = begin + _MINUTE, begin + _LOOK_AHEAD
    while moment <= end:
        if is_open(windows, moment):
            return moment
        moment += _MINUTE
    return None


class Answer(StrEnum):
    """Whether the machine may be restarted now, and why not."""

    YES = "yes"
    ON_HOLD = "on hold"
    MANUAL = "manual"
    WINDOW_CLOSED = "outside of the windows"
    BUSY = "busy"


def may_restart(
    strategy: Strategy,
    windows: Sequence[Window],
    *,
    busy_with: Sequence[str],
    is_held: bool,
    now: datetime,
) -> Answer:
    """Decide whether the machine is restarted now to enter an update.

    Asked anew right before each restart: what had to wait until its window closed waits for the
    next one.

    Args:
        strategy: What the operator wants.
        windows: The maintenance windows.
        busy_with: Who is logged in and what inhibits a restart, in words.
        is_held: Updates are on hold.
        now: The time, aware.
    """
    if is_held:
        return Answer.ON_HOLD
    match strategy:
        case Strategy.MANUAL:
            return Answer.MANUAL
        case Strategy.NOW:
            return Answer.YES
        case Strategy.WINDOW:
            return Answer.YES if is_open(windows, now) else Answer.WINDOW_CLOSED
        case Strategy.WHEN_IDLE:
            if windows and not is_open(windows, now):
                return Answer.WINDOW_CLOSED
            return Answer.BUSY if busy_with else Answer.YES
