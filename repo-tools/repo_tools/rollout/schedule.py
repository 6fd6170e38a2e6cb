"""When a rollout lets each seed in, and what an update costs the server.

Decides nothing about waves itself: the agent's own rule is asked, once for each seed.
"""

from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import zip_longest
from pathlib import Path
from typing import Final

from repo_tools.wavefile import load_wave_file
from updog.waves import SEEDS, Seed, Wave, ready_at

MICROSECONDS: Final = 1_000_000
"""In a second. Moments are whole microseconds, as the agent's are."""

_MICROSECOND = timedelta(microseconds=1)
_MINUTE = 60 * MICROSECONDS


@dataclass(frozen=True, slots=True, kw_only=True)
class Traffic:
    """What hosts ask a server for: numbers of requests, and of bytes in its answers.

    A check asks for the next root, the timestamp and the manifest. The first one after publishing
    reads the new snapshot and targets too. An update asks for the beginning of each of its three
    images, to refuse early, and then for the whole of each.
    """

    check_requests: int = 3
    check_bytes: int = 4 << 10
    news_requests: int = 2
    news_bytes: int = 4 << 10
    update_requests: int = 6
    update_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """A wave as a picture shows it: wave `number` begins, and lets in up to `share` of all."""

    number: int
    starts_seconds: float
    share: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Rush:
    """The largest `share` of the fleet that is let in within one minute, and when that begins."""

    share: float
    starts_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """A rollout under a name, with the moment that its times count from."""

    name: str
    start: datetime
    waves: tuple[Wave, ...]
    traffic: Traffic

    def readiness(self) -> tuple[int, ...]:
        """Return for each seed the microseconds after the start from which it may update."""
        moments = (ready_at(self.waves, Seed(seed)) for seed in range(SEEDS))
        return tuple(0 if each is None else (each - self.start) // _MICROSECOND for each in moments)

    def marks(self) -> tuple[Mark, ...]:
        """Return the waves that hold seeds. The share is that at which the next one begins."""
        return tuple(self._marks())

    def _marks(self) -> Iterator[Mark]:
        within = [wave for wave in self.waves if wave.bound < SEEDS]
        for number, (wave, following) in enumerate(zip_longest(within, within[1:]), start=1):
            yield Mark(
                number=number,
                starts_seconds=(wave.starts_at - self.start) / timedelta(seconds=1),
                share=(following.bound if following else SEEDS) / SEEDS,
            )


def find_rush(readiness: Sequence[int]) -> Rush:
    """Find the minute in which most seeds are let in; what lies in the past comes at the start.

    It is told from its most crowded moment on, which has a reason, not from the few seeds before.
    """
    moments = sorted(max(0, each) for each in readiness)

    def seeds_from(first: int) -> int:
        return bisect_right(moments, moments[first] + _MINUTE) - first

    fullest = max(range(len(moments)), key=seeds_from)
    crowds = Counter(moments[fullest : fullest + seeds_from(fullest)])
    first = bisect_left(moments, max(crowds, key=crowds.__getitem__))
    return Rush(
        share=seeds_from(first) / len(moments), starts_seconds=moments[first] / MICROSECONDS
    )


def from_wave_file(path: Path, *, start: datetime, traffic: Traffic) -> Schedule:
    """Read the schedule of a wave file.

    Raises:
        RepoToolsError: the file cannot be read or is not a wave file.
    """
    waves = load_wave_file(path, start=start)
    return Schedule(name=path.stem, start=start, waves=waves, traffic=traffic)
