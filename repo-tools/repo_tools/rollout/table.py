"""Curves as text of 80 columns: a table, a chart, and what deserves attention.

Decides what somebody must be told before a rollout starts. Only forms what `curve` and `schedule`
found out.
"""

from collections.abc import Iterator, Sequence
from typing import Final

from repo_tools.rollout.curve import Curve, Row
from repo_tools.rollout.schedule import Rush, Schedule, find_rush
from updog.units import size

MOST_ROWS: Final = 26
WORTH_A_WARNING: Final = 0.05
"""A larger share of the fleet that is let in within a minute is pointed out."""

_MILESTONES = (0.5, 0.9, 0.99)
_CHART_COLUMNS, _CHART_ROWS = 70, 10
_SIGNS = "ox"
_BOTH = "*"


def moment(seconds: float) -> str:
    """Return a time after the start: `2 d 06:30`."""
    minutes = round(seconds / 60)
    return f"{minutes // 1440:2} d {minutes // 60 % 24:02}:{minutes % 60:02}"


def table(curves: Sequence[Curve]) -> Iterator[str]:
    """Yield the lines of a table of one curve, or of two side by side."""
    if len(curves) == 1:
        yield from _table_of_one(curves[0])
    else:
        yield from _table_of_many(curves)


def _table_of_one(curve: Curve) -> Iterator[str]:
    yield f"{'after':>10}  {'let in':>8} {'updated':>8}  {'requests/s':>10} {'bytes/s':>11}  waves"
    rows = tuple(curve.rows(most=MOST_ROWS))
    ends = (*(row.seconds for row in rows[1:]), None)
    for row, end in zip(rows, ends, strict=True):
        line = (
            f"{moment(row.seconds):>10}  {_percent(row.let_in):>8} {_percent(row.updated):>8}  "
            f"{_rates(row)}  {_waves_between(curve.schedule, row.seconds, end)}"
        )
        yield line.rstrip()


def _table_of_many(curves: Sequence[Curve]) -> Iterator[str]:
    yield f"{'':10}" + "".join(f"  {curve.schedule.name[:31]:^32}" for curve in curves).rstrip()
    heading = f"  {'updated':>8}  {'requests/s':>10} {'bytes/s':>11}"
    yield f"{'after':>10}" + heading * len(curves)
    for rows in zip(*(curve.rows(most=MOST_ROWS) for curve in curves), strict=True):
        cells = "".join(f"  {_percent(row.updated):>8}  {_rates(row)}" for row in rows)
        yield f"{moment(rows[0].seconds):>10}{cells}".rstrip()


def _rates(row: Row) -> str:
    if row.requests_per_second is None or row.bytes_per_second is None:
        return " " * 22
    return f"{_rate(row.requests_per_second):>10} {size(round(row.bytes_per_second)):>9}/s"


def _rate(value: float) -> str:
    return f"{value:.0f}" if value >= 10 else f"{value:.2g}"


def _percent(share: float) -> str:
    """Return a share that says 0 and 100 only of none and all."""
    percent = 100 * share
    if 0 < percent < 0.05:
        return "< 0.1 %"
    return "> 99.9 %" if 99.95 <= percent < 100 else f"{percent:.1f} %"


def _waves_between(schedule: Schedule, begin: float, end: float | None) -> str:
    """Name the waves that begin from one moment up to another; earlier ones in the first row."""
    return ", ".join(
        str(mark.number)
        for mark in schedule.marks()
        if (begin <= mark.starts_seconds or begin == 0)
        and (end is None or mark.starts_seconds < end)
    )


def chart(curves: Sequence[Curve]) -> Iterator[str]:
    """Yield the lines of a picture of the updated share, made of letters."""
    columns = [_heights(curve) for curve in curves]
    for height in range(_CHART_ROWS, -1, -1):
        label = f"{height * 100 // _CHART_ROWS} %" if height % 5 == 0 else ""
        cells = (_cell([each[at] for each in columns], height) for at in range(_CHART_COLUMNS))
        yield f"{label:>6} |{''.join(cells)}".rstrip()
    yield f"{'':6} +{'-' * _CHART_COLUMNS}"
    yield f"{'':8}{_time_line(curves[0])}"
    for sign, curve in zip(_SIGNS, curves, strict=False):
        yield f"{'waves':>6}  {_wave_line(curve)}".rstrip()
        yield f"{'':8}{sign}  {curve.schedule.name}, updated"


def _heights(curve: Curve) -> list[int]:
    """Return for each column which row the curve passes through in its middle."""
    steps = curve.axis.steps
    at = (round((column + 0.5) * steps / _CHART_COLUMNS) for column in range(_CHART_COLUMNS))
    return [round(curve.updated[min(step, steps)] * _CHART_ROWS) for step in at]


def _cell(heights: Sequence[int], height: int) -> str:
    signs = [sign for sign, each in zip(_SIGNS, heights, strict=False) if each == height]
    return " " if not signs else signs[0] if len(signs) == 1 else _BOTH


def _time_line(curve: Curve) -> str:
    """Write some moments under the columns where they are."""
    rows = [row.seconds for row in curve.rows(most=6)]
    return _placed(curve, [(seconds, moment(seconds).strip()) for seconds in rows])


def _wave_line(curve: Curve) -> str:
    marks = curve.schedule.marks()
    return _placed(curve, [(max(0.0, mark.starts_seconds), str(mark.number)) for mark in marks])


def _placed(curve: Curve, texts: Sequence[tuple[float, str]]) -> str:
    """Write texts from the columns of their moments on, leaving out what would overlap."""
    line = ""
    for seconds, text in texts:
        column = int(seconds / curve.axis.seconds * _CHART_COLUMNS)
        if (not line or column > len(line)) and column + len(text) <= _CHART_COLUMNS:
            line = line.ljust(column) + text
    return line


def summary(curve: Curve) -> Iterator[tuple[str, str]]:
    """Yield what matters most of a curve, as short labels and texts."""
    reached = ((share, curve.reaches(share)) for share in _MILESTONES)
    yield "Reached", ", ".join(f"{100 * share:g} % {_when(second)}" for share, second in reached)
    at, requests = curve.peak_requests()
    byte_at, amount = curve.peak_bytes()
    busiest = f"{_rate(requests)} requests/s from {moment(at).strip()} on"
    yield "Peaks", f"{busiest}, {size(round(amount))}/s from {moment(byte_at).strip()} on"
    if left := 1 - curve.updated[-1]:
        yield "Left", f"{_percent(left)} of the fleet still without it at the end: mostly offline"
    rush = find_rush(curve.schedule.readiness())
    if rush.share >= WORTH_A_WARNING:
        yield "At once", warning(curve.schedule, rush)


def _when(seconds: int | None) -> str:
    return "later" if seconds is None else f"by {moment(seconds).strip()}"


def warning(schedule: Schedule, rush: Rush) -> str:
    """Say what is let in within one minute, why, and what would spread it."""
    what = (
        f"{_percent(rush.share)} of the fleet is let in within a minute, "
        f"{moment(rush.starts_seconds).strip()} after the start"
    )
    marks = schedule.marks()
    if not marks:
        return f"{what}: it has no waves"
    if rush.starts_seconds == 0 and marks[0].starts_seconds < 0:
        return f"{what}: waves that began before the start have let their hosts in already"
    if rush.starts_seconds == marks[-1].starts_seconds:
        return (
            f"{what}: the last wave has no end, so all its hosts may come at its start. "
            "A wave before it that reaches 99 % would spread them"
        )
    return f"{what}: the waves there are too short to spread their hosts"
