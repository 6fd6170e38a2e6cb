"""How a rollout that has begun is paused, resumed and hurried. Pure.

Decides by the agent's own rule (`updog.waves`) whom a rollout has let in at a moment, and draws new
waves that let the same hosts in, to the microsecond: a pause lifts nobody early, and no change here
takes back what a host was already granted. Every schedule made here is an ordinary one of bounds
and times, for clients that know nothing of pauses.

A paused rollout keeps its waves up to the last host that it let in; all others wait for one wave
that lies ten years ahead. Not at the end of time: the cloned system multiplies the length of a wave
by the seed and must not leave the calendar. It also lets a wave's hosts in later than this agent
does, at the wave's end; a pause makes the part of a wave that this agent's hosts have reached a
wave of its own, so that hosts of the cloned system are let in up to the same share.
"""

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final, cast

from repo_tools.errors import RepoToolsError
from updog.waves import SEEDS, Seed, Wave, ready_at

Waves = tuple[Wave, ...]

FAR: Final = timedelta(days=3652)
"""From a pause to the wave that nobody is meant to see begin."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pause:
    """A rollout that stands still since `at`, and the waves that it had until then."""

    at: datetime
    waves: Waves


def reached(waves: Sequence[Wave], now: datetime) -> int:
    """Return how many seeds may update by now: always those from 0 up to but not including it."""
    if not waves:
        return SEEDS
    return bisect_right(range(SEEDS), now, key=lambda seed: _moment(waves, seed))


def completes_at(waves: Sequence[Wave]) -> datetime | None:
    """Return the moment at which the last host is let in, None without waves: at once."""
    return ready_at(waves, Seed(SEEDS - 1))


def pause(waves: Waves, now: datetime) -> Pause:
    """Stop a rollout where it is.

    Raises:
        RepoToolsError: it has reached everybody, so there is nobody to hold back.
    """
    if reached(waves, now) == SEEDS:
        raise RepoToolsError(
            "the whole fleet may take it already, so a pause would hold nobody back; "
            "`release withdraw` brings machines back"
        )
    return Pause(at=now, waves=waves)


def paused_waves(stopped: Pause) -> Waves:
    """Return the waves of a rollout that stands still."""
    count = reached(stopped.waves, stopped.at)
    far = Wave(bound=count, starts_at=_later(stopped.at, FAR))
    return (*_let_in(stopped.waves, count), far)


def resumed_waves(stopped: Pause, now: datetime) -> Waves:
    """Return the waves that go on where the pause began, as much later as it lasted."""
    count, delay = reached(stopped.waves, stopped.at), now - stopped.at
    first = Wave(bound=count, starts_at=_later(_moment(stopped.waves, count), delay))
    rest = (
        replace(wave, starts_at=_later(wave.starts_at, delay))
        for wave in stopped.waves
        if wave.bound > count
    )
    return (*_let_in(stopped.waves, count), first, *rest)


def hurried_waves(waves: Waves, now: datetime, by: timedelta) -> Waves:
    """Return waves whose remaining part comes earlier, but not before now.

    Raises:
        RepoToolsError: it has reached everybody.
    """
    _refuse_finished(waves, now)
    return tuple(
        replace(wave, starts_at=max(now, wave.starts_at - by)) if wave.starts_at > now else wave
        for wave in waves
    )


def overtaking_waves(waves: Waves, faster: Waves, now: datetime) -> Waves:
    """Return waves that go on by another schedule from the share that is reached.

    Args:
        waves: the present ones.
        faster: the other schedule; counted from where it has reached the same share.
        now: the moment of the change.

    Returns:
        Waves that let each host in at the earlier of its two moments; the next one, at once.

    Raises:
        RepoToolsError: it has reached everybody.
    """
    _refuse_finished(waves, now)
    count = reached(waves, now)
    shift = now - _moment(faster, count)
    old = _moments(waves)
    best = old[:count] + [
        min(moment, _later(other, shift))
        for moment, other in zip(old[count:], _moments(faster)[count:], strict=True)
    ]
    bends = {0, count, max(0, count - 1)}
    bends.update(wave.bound for wave in (*waves, *faster))
    bends.update(_crossings(best, old))
    return tuple(Wave(bound=bend, starts_at=best[bend]) for bend in sorted(bends))


def takes_back(before: Sequence[Wave], after: Sequence[Wave], now: datetime) -> int:
    """Return how many seeds may update under the one schedule and not yet under the other."""
    return max(0, reached(before, now) - reached(after, now))


def _let_in(waves: Waves, count: int) -> Iterator[Wave]:
    """Yield waves of the first `count` seeds that let each in when it was let in."""
    if not count:
        return
    yield from (wave for wave in waves if wave.bound < count - 1)
    yield Wave(bound=count - 1, starts_at=_moment(waves, count - 1))


def _moments(waves: Waves) -> list[datetime]:
    """Return when each seed is let in, and last when the one behind the last would be."""
    return [*(_moment(waves, seed) for seed in range(SEEDS)), waves[-1].starts_at]


def _crossings(best: Sequence[datetime], old: Sequence[datetime]) -> Iterator[int]:
    """Yield the seeds on both sides of where the earlier of two schedules is another one."""
    for seed in range(1, len(best)):
        if (best[seed] == old[seed]) != (best[seed - 1] == old[seed - 1]):
            yield from (seed - 1, seed)


def _refuse_finished(waves: Waves, now: datetime) -> None:
    if reached(waves, now) == SEEDS:
        raise RepoToolsError("the whole fleet may take it already: there is nothing to hurry")


def _moment(waves: Sequence[Wave], seed: int) -> datetime:
    return cast("datetime", ready_at(waves, Seed(seed)))


def _later(moment: datetime, span: timedelta) -> datetime:
    try:
        return moment + span
    except OverflowError as error:
        raise RepoToolsError(f"{moment} and {span} lead beyond the year 9999") from error
