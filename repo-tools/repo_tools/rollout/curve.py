"""What a play gives: shares of the fleet and rates of requests and bytes, step by step.

Decides how fine time is cut. Knows nothing of how the figures came about.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from statistics import fmean
from typing import Final

from repo_tools.rollout.schedule import Schedule

_MINUTE, _HOUR, _DAY = 60, 3600, 86400
_LENGTHS: Final = (
    *(minutes * _MINUTE for minutes in (1, 2, 5, 10, 15, 30)),
    *(hours * _HOUR for hours in (1, 2, 3, 6, 12)),
    *(days * _DAY for days in (1, 2, 7, 14, 28, 56, 182, 364)),
)
"""Seconds that are read easily, each a multiple of some before it."""

_STEPS: Final = 240


@dataclass(frozen=True, slots=True, kw_only=True)
class Axis:
    """Time from 0 on, in `steps` of `step_seconds`."""

    step_seconds: int
    steps: int

    @classmethod
    def covering(cls, seconds: float, *, finest_seconds: float) -> "Axis":
        """Cut a span of time into some hundred steps, and end it at a moment that is read easily.

        No step is longer than a day or, as long as that is a minute, than `finest_seconds`.
        """
        step = _longest_up_to(min(seconds / _STEPS, finest_seconds, _DAY))
        whole = max(step, _longest_up_to(seconds / 16))
        return cls(step_seconds=step, steps=math.ceil(seconds / whole) * whole // step)

    @property
    def seconds(self) -> int:
        """How long it is."""
        return self.step_seconds * self.steps


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """The state at a moment, and the average rates from then to the next row; None in the last."""

    seconds: int
    let_in: float
    updated: float
    requests_per_second: float | None
    bytes_per_second: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """How a fleet followed a schedule.

    Shares are those at the beginning of each step, and at the end of the last one; rates are the
    averages of each step.
    """

    schedule: Schedule
    axis: Axis
    let_in: tuple[float, ...]
    updated: tuple[float, ...]
    requests_per_second: tuple[float, ...]
    bytes_per_second: tuple[float, ...]

    def rows(self, *, most: int) -> Iterator[Row]:
        """Yield at most so many rows and one for the end, at moments that are read easily."""
        stride = self._stride(most)
        for begin in range(0, self.axis.steps, stride):
            steps = slice(begin, min(begin + stride, self.axis.steps))
            yield self._row(begin, steps)
        yield self._row(self.axis.steps, None)

    def _row(self, step: int, steps: slice | None) -> Row:
        return Row(
            seconds=step * self.axis.step_seconds,
            let_in=self.let_in[step],
            updated=self.updated[step],
            requests_per_second=None if steps is None else fmean(self.requests_per_second[steps]),
            bytes_per_second=None if steps is None else fmean(self.bytes_per_second[steps]),
        )

    def peak_requests(self) -> tuple[int, float]:
        """Return when the step with most requests begins, in seconds, and their rate."""
        return self._peak(self.requests_per_second)

    def peak_bytes(self) -> tuple[int, float]:
        """Return when the step with most bytes begins, in seconds, and their rate."""
        return self._peak(self.bytes_per_second)

    def reaches(self, share: float) -> int | None:
        """Return at which second so much of the fleet has the update, None if it does not."""
        for number, updated in enumerate(self.updated):
            if updated >= share:
                return number * self.axis.step_seconds
        return None

    def _peak(self, rates: tuple[float, ...]) -> tuple[int, float]:
        step = max(range(len(rates)), key=rates.__getitem__)
        return step * self.axis.step_seconds, rates[step]

    def _stride(self, most: int) -> int:
        """Return how many steps make a row."""
        for length in _LENGTHS:
            stride, rest = divmod(length, self.axis.step_seconds)
            if not rest and stride and math.ceil(self.axis.steps / stride) <= most:
                return stride
        return math.ceil(self.axis.steps / most)


def _longest_up_to(seconds: float) -> int:
    return max((each for each in _LENGTHS if each <= seconds), default=_LENGTHS[0])
