"""When a rollout's waves reach a host of a given seed.

Decides by arithmetic alone: the caller brings the waves and the host's seed, and compares the
moment it gets back with the time. Knows no clock and no manifest.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NewType

Seed = NewType("Seed", int)
"""A machine's fixed number from 0 to 2047, its place in every rollout."""

SEEDS = 2048
"""How many seeds there are; as a wave's bound, the end of them."""

_MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wave:
    """From `starts_at` (aware, UTC) on, the hosts of the seeds from `bound` up are let in."""

    bound: int
    starts_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class WavePosition:
    """A host's place in a rollout: wave `number` of `count`, counted from 1, and its moment in it.

    The wave holds the seeds from `start_bound` up to but not including `end_bound`, and lasts from
    `starts_at` to `ends_at`. The last wave has no end: all its hosts are ready at its start.
    """

    number: int
    count: int
    start_bound: int
    end_bound: int | None
    starts_at: datetime
    ends_at: datetime | None
    ready_at: datetime


def ready_at(waves: Sequence[Wave], seed: Seed) -> datetime | None:
    """Return the moment from which a host may update; None without waves: at once."""
    place = position(waves, seed)
    return None if place is None else place.ready_at


def position(waves: Sequence[Wave], seed: Seed) -> WavePosition | None:
    """Find the wave of a host and its moment in it.

    Args:
        waves: Sorted by bound, their times not decreasing.
        seed: The host's, 0 to 2047.

    Returns:
        The place, or None when there are no waves.
    """
    if not waves:
        return None
    all_waves = _from_seed_zero(waves)
    number = sum(1 for wave in all_waves if wave.bound <= seed)
    wave = all_waves[number - 1]
    following = all_waves[number] if number < len(all_waves) else None
    return WavePosition(
        number=number,
        count=sum(1 for each in all_waves if each.bound < SEEDS),  # a bound of 2048 only ends one
        start_bound=wave.bound,
        end_bound=following.bound if following else None,
        starts_at=wave.starts_at,
        ends_at=following.starts_at if following else None,
        ready_at=_moment_within(wave, following, seed),
    )


def _from_seed_zero(waves: Sequence[Wave]) -> Sequence[Wave]:
    """Put a wave before a first one that begins above seed 0, so that no host is left out.

    Its hosts come when the first written wave starts: never later than the hosts after them, and
    never before the publisher's first moment.
    """
    first = waves[0]
    return waves if first.bound == 0 else (Wave(bound=0, starts_at=first.starts_at), *waves)


def _moment_within(wave: Wave, following: Wave | None, seed: Seed) -> datetime:
    """Spread the hosts of a wave evenly over its time, in whole microseconds, rounded down.

    The system that this one is modelled on multiplies by the seed itself instead of its distance
    from the wave's bound, which sends nearly all hosts of later waves at the wave's last instant.
    """
    if following is None:
        return wave.starts_at
    # In integers: a timedelta times a seed overflows on extreme dates.
    span = (following.starts_at - wave.starts_at) // _MICROSECOND
    offset = span * (seed - wave.bound) // (following.bound - wave.bound)
    return wave.starts_at + timedelta(microseconds=offset)
