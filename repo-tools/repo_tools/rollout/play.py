"""A rollout played over a fleet, check by check: who takes an update when, and what is asked for.

The model, of each host independently:

- Its seed is one of the 2048, all equally likely.
- Its timer fires after `check_interval` and a delay between 0 and `check_delay`, every length of
  it equally likely, drawn anew each time, as a systemd timer's `RandomizedDelaySec=` does. The
  fleet has run for long when the play begins, so first checks are spread as later ones are.
- It is without network for `offline_share` of its time. Outages, and the times between them, have
  exponentially distributed lengths, those of outages `outage` on average. A check in an outage is
  missed; nothing makes up for it before the next one.
- The first check that is neither missed nor before the seed's moment takes the update, at once.

Whatever is asked for counts at the moment of the check: the curve of bytes is what servers must
deliver to keep up with, not what slow lines let them deliver. Refuses to know of failing updates.

Hosts are played in groups that fit a processor's cache, so memory does not grow with the fleet.
Of one fleet, all schedules see the same checks and outages: what differs is due to them alone.
"""

from collections.abc import Sequence
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from repo_tools.rollout.curve import Axis, Curve
from repo_tools.rollout.fleet import Fleet
from repo_tools.rollout.schedule import MICROSECONDS, Schedule
from updog.waves import SEEDS

Moments: TypeAlias = NDArray[np.float64]
"""Seconds after the start, one a host or seed."""

Counts: TypeAlias = NDArray[np.int64]
Choice: TypeAlias = NDArray[np.bool_]

_GROUP: Final = 1 << 15
"""Hosts that are played together. The drawn numbers depend on it: another size, another play."""


def play(
    fleet: Fleet, schedules: Sequence[Schedule], axis: Axis, *, seed: int
) -> tuple[Curve, ...]:
    """Let a fleet follow each of some schedules; the same `seed` gives the same curves."""
    random = np.random.default_rng(seed)
    tallies = [Tally(schedule, axis) for schedule in schedules]
    checks, news = (np.zeros(axis.steps + 1, np.int64) for _ in range(2))
    for first in range(0, fleet.hosts, _GROUP):
        group = Group(fleet, min(_GROUP, fleet.hosts - first), random)
        rollouts = [tally.rollout(group.seeds) for tally in tallies]
        while (within := group.moments < axis.seconds).any():
            online = within & ~group.offline
            steps = (group.moments / axis.step_seconds).astype(np.intp)
            checks += _count(steps, online, axis)
            news += _count(steps, online & ~group.informed, axis)
            group.informed |= online
            for rollout in rollouts:
                rollout.check(group.moments, steps, online)
            group.advance()
    return tuple(tally.curve(fleet, checks, news) for tally in tallies)


def _count(steps: NDArray[np.intp], chosen: Choice, axis: Axis) -> Counts:
    """Count the chosen hosts by step. One step more than there are: a quotient may round up."""
    return np.bincount(steps[chosen], minlength=axis.steps + 1)


class Group:
    """Some hosts, each at its next check."""

    def __init__(self, fleet: Fleet, count: int, random: np.random.Generator) -> None:
        self._fleet = fleet
        self._random = random
        self._interval = fleet.check_interval.total_seconds()
        self._delay = fleet.check_delay.total_seconds()
        self.seeds = random.integers(SEEDS, size=count)
        self.moments = self._first_checks(count)
        self.offline: Choice = random.random(count) < fleet.offline_share
        self.informed: Choice = np.zeros(count, np.bool_)
        """Who has read the metadata that was published at the start."""

    def advance(self) -> None:
        """Go on to the next check of each host."""
        gaps = self._interval + self._delay * self._random.random(len(self.moments))
        self.moments += gaps
        if self._fleet.offline_share > 0:
            self.offline = self._random.random(len(gaps)) < self._offline_after(gaps)

    def _first_checks(self, count: int) -> Moments:
        """Draw when each timer fires first, seen from a moment that has nothing to do with it.

        That moment lies in a gap of length g with a probability proportional to g, and anywhere
        in it (renewal theory's inspection paradox).
        """
        shortest, longest = self._interval, self._interval + self._delay
        chances = self._random.random(count)
        gaps: Moments = np.sqrt(shortest**2 + chances * (longest**2 - shortest**2))
        return gaps * self._random.random(count)

    def _offline_after(self, gaps: Moments) -> Moments:
        """Return how likely each host is in an outage after a gap.

        Of a process that is now in one of two states, for times with an exponential distribution,
        this is exact: the share, and of the distance from it what decays at the sum of both rates.
        """
        share = self._fleet.offline_share
        decay = 1 / (self._fleet.outage.total_seconds() * (1 - share))
        likely: Moments = share + (self.offline.astype(np.float64) - share) * np.exp(-decay * gaps)
        return likely


class Rollout:
    """A group of hosts on its way through one schedule."""

    def __init__(self, ready: Moments, updates: Counts, axis: Axis) -> None:
        self._ready = ready
        self._updates = updates
        self._axis = axis
        self._waiting: Choice = np.ones(len(ready), np.bool_)

    def check(self, moments: Moments, steps: NDArray[np.intp], online: Choice) -> None:
        """Update the waiting hosts that ask and are let in."""
        takes = online & self._waiting & (moments >= self._ready)
        self._updates += _count(steps, takes, self._axis)
        self._waiting &= ~takes


class Tally:
    """What is counted of one schedule."""

    def __init__(self, schedule: Schedule, axis: Axis) -> None:
        self._schedule = schedule
        self._axis = axis
        self._ready: Moments = np.array(schedule.readiness(), np.float64) / MICROSECONDS
        self._updates: Counts = np.zeros(axis.steps + 1, np.int64)
        self._hosts_by_seed: Counts = np.zeros(SEEDS, np.int64)

    def rollout(self, seeds: NDArray[np.int64]) -> Rollout:
        """Send hosts of these seeds on their way."""
        self._hosts_by_seed += np.bincount(seeds, minlength=SEEDS)
        return Rollout(self._ready[seeds], self._updates, self._axis)

    def curve(self, fleet: Fleet, checks: Counts, news: Counts) -> Curve:
        """Turn counts into shares and rates."""
        traffic, seconds = self._schedule.traffic, self._axis.step_seconds
        updates = self._updates
        requests = (
            checks * traffic.check_requests
            + news * traffic.news_requests
            + updates * traffic.update_requests
        )
        amounts = (
            checks * float(traffic.check_bytes)
            + news * float(traffic.news_bytes)
            + updates * float(traffic.update_bytes)
        )
        updated = np.concatenate(([0], np.cumsum(updates[:-1])))
        return Curve(
            schedule=self._schedule,
            axis=self._axis,
            let_in=tuple((self._let_in() / fleet.hosts).tolist()),
            updated=tuple((updated / fleet.hosts).tolist()),
            requests_per_second=tuple((requests[:-1] / seconds).tolist()),
            bytes_per_second=tuple((amounts[:-1] / seconds).tolist()),
        )

    def _let_in(self) -> Counts:
        """Count the hosts whose moment has come, at the beginning of every step and the end."""
        order = np.argsort(self._ready, kind="stable")
        reached = np.concatenate(([0], np.cumsum(self._hosts_by_seed[order])))
        ends = np.arange(self._axis.steps + 1) * float(self._axis.step_seconds)
        passed = np.searchsorted(self._ready[order], ends, side="right")
        counts: Counts = reached[passed]
        return counts
