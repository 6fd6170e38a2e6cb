"""The play of rollouts, against the agent's own rule and against closed forms.

Tolerances. A curve of shares of n independent hosts is off its expectation by more than
sqrt(ln(2/a) / 2n) anywhere with a probability below a (Dvoretzky, Kiefer, Wolfowitz; Massart's
constant). With n = 200 000 and a = 1e-6 that is 0.0061. The seed is fixed, so that a test that
passes once passes always.
"""

import math
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from importlib.resources import files
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from repo_tools.errors import RepoToolsError
from repo_tools.rollout.curve import Axis, Curve
from repo_tools.rollout.fleet import Fleet
from repo_tools.rollout.play import Rollout, Tally, play
from repo_tools.rollout.schedule import (
    MICROSECONDS,
    Rush,
    Schedule,
    Traffic,
    find_rush,
    from_wave_file,
)
from repo_tools.rollout.table import summary
from updog.waves import SEEDS, Seed, Wave, ready_at

START = datetime(2026, 1, 31, 12, tzinfo=UTC)
DEFAULT = Path(str(files("repo_tools") / "waves" / "default.toml"))
TRAFFIC = Traffic(update_bytes=250 << 20)
HOUR, DAY = 3600, 86400

HOSTS = 200_000
TOLERANCE = math.sqrt(math.log(2 / 1e-6) / (2 * HOSTS))
FLEET = Fleet(
    hosts=HOSTS,
    check_interval=timedelta(hours=6),
    check_delay=timedelta(hours=1),
    offline_share=0,
    outage=timedelta(hours=12),
)


def a_schedule(*waves: tuple[int, float]) -> Schedule:
    """Make a schedule of bounds and the hours at which their waves start."""
    return Schedule(
        name="waves",
        start=START,
        waves=tuple(
            Wave(bound=bound, starts_at=START + timedelta(hours=hours)) for bound, hours in waves
        ),
        traffic=TRAFFIC,
    )


def default_schedule() -> Schedule:
    return from_wave_file(DEFAULT, start=START, traffic=TRAFFIC)


def played(fleet: Fleet, schedule: Schedule, *, seed: int = 1) -> Curve:
    (curve,) = play(fleet, [schedule], fleet.axis([schedule]), seed=seed)
    return curve


def moments_of(curve: Curve) -> list[int]:
    return [step * curve.axis.step_seconds for step in range(curve.axis.steps + 1)]


@st.composite
def schedules(draw: st.DrawFn) -> Schedule:
    bounds = sorted(draw(st.sets(st.integers(0, SEEDS), max_size=8)))
    microseconds = sorted(
        draw(st.lists(st.integers(-(10**11), 10**12), min_size=len(bounds), max_size=len(bounds)))
    )
    waves = tuple(
        Wave(bound=bound, starts_at=START + timedelta(microseconds=each))
        for bound, each in zip(bounds, microseconds, strict=True)
    )
    return Schedule(name="drawn", start=START, waves=waves, traffic=TRAFFIC)


@settings(deadline=None, max_examples=40)
@given(schedules())
def test_each_seed_is_let_in_at_the_microsecond_that_the_agent_says(schedule: Schedule) -> None:
    for seed, microseconds in enumerate(schedule.readiness()):
        expected = ready_at(schedule.waves, Seed(seed))
        assert (expected or START) == START + timedelta(microseconds=microseconds)


@settings(deadline=None, max_examples=40)
@given(schedules())
def test_a_host_that_checks_at_its_moment_updates_and_a_microsecond_before_does_not(
    schedule: Schedule,
) -> None:
    axis = Axis(step_seconds=DAY, steps=1)
    tally = Tally(schedule, axis)
    seeds = np.arange(SEEDS)
    readiness = np.array(schedule.readiness())
    steps, online = np.zeros(SEEDS, np.intp), np.ones(SEEDS, np.bool_)

    def updated_by(rollout: Rollout, microseconds: int) -> int:
        rollout.check((readiness + microseconds) / MICROSECONDS, steps, online)
        fleet = replace(FLEET, hosts=SEEDS)
        none = np.zeros(axis.steps + 1, np.int64)
        return round(tally.curve(fleet, none, none).updated[-1] * SEEDS)

    rollout = tally.rollout(seeds)
    assert updated_by(rollout, -1) == 0
    assert updated_by(rollout, 0) == SEEDS
    assert updated_by(rollout, 1) == SEEDS, "nobody updates twice"


def test_the_share_that_is_let_in_follows_the_lines_of_the_wave_file() -> None:
    curve = played(FLEET, default_schedule())
    hours = [1, 4, 24, 48, 72, 96, 144]
    reached = [0.0, 0.01, 0.05, 0.15, 0.4, 0.6, 0.9]
    # Bounds are cut to whole seeds and hosts of a seed come together: two seeds at most.
    tolerance = TOLERANCE + 2 / SEEDS
    for moment, share in zip(moments_of(curve), curve.let_in, strict=True):
        line = float(np.interp(moment / HOUR, hours, reached)) if moment < 144 * HOUR else 1.0
        assert abs(share - line) < tolerance, moment


def waited(seconds: float, fleet: Fleet) -> float:
    """How likely a timer that has run for long fires within some time from any moment on.

    The integral of the chance that a gap is longer, over the mean gap (renewal theory).
    """
    shortest, delay = fleet.check_interval.total_seconds(), fleet.check_delay.total_seconds()
    mean = shortest + delay / 2
    if seconds <= shortest:
        return max(0.0, seconds) / mean
    beyond = min(seconds - shortest, delay)
    return (shortest + beyond - (beyond**2 / (2 * delay) if delay else 0)) / mean


@pytest.mark.parametrize("delay", [timedelta(0), timedelta(hours=1), timedelta(hours=20)], ids=str)
@pytest.mark.parametrize(
    "schedule", [default_schedule(), a_schedule()], ids=["default", "all at once"]
)
def test_hosts_follow_their_moment_by_the_time_that_a_timer_takes(
    schedule: Schedule, delay: timedelta
) -> None:
    fleet = replace(FLEET, check_delay=delay)
    curve = played(fleet, schedule)
    readiness = [each / MICROSECONDS for each in schedule.readiness()]
    for moment, share in list(zip(moments_of(curve), curve.updated, strict=True))[::7]:
        expected = sum(waited(moment - each, fleet) for each in readiness) / SEEDS
        assert abs(share - expected) < TOLERANCE, moment
    assert curve.updated[-1] == 1


def test_hosts_in_an_outage_miss_checks_until_it_ends() -> None:
    """Every 6 hours, all hosts have made one more check; who missed all has a closed form."""
    fleet = replace(FLEET, check_delay=timedelta(0), offline_share=0.3)
    curve = played(fleet, a_schedule())
    online_again = 1 / (12 * HOUR) / 0.7  # the sum of both rates
    still_offline = 0.3 + 0.7 * math.exp(-online_again * 6 * HOUR)
    for checks in (1, 2, 3, 5):
        step = checks * 6 * HOUR // curve.axis.step_seconds
        missed_all = 0.3 * still_offline ** (checks - 1)
        assert abs(1 - curve.updated[step] - missed_all) < TOLERANCE


def test_the_share_that_is_offline_asks_for_nothing_at_any_time() -> None:
    quiet = replace(TRAFFIC, news_requests=0, update_requests=0)
    fleet = replace(FLEET, offline_share=0.25)
    curve = played(fleet, replace(default_schedule(), traffic=quiet))
    expected = HOSTS * 0.75 * 3 / (6.5 * HOUR)
    for rate in curve.requests_per_second:
        # Checks in a step are fewer than hosts: six deviations of a Poisson count.
        checks = expected / 3 * curve.axis.step_seconds
        assert abs(rate / expected - 1) < 6 / math.sqrt(checks)


def test_each_host_reads_what_is_new_once_and_fetches_its_images_once() -> None:
    fleet = replace(FLEET, offline_share=0.3)

    def asked_for(*, news: int, update: int) -> float:
        traffic = Traffic(
            check_requests=0, news_requests=news, update_requests=update, update_bytes=0
        )
        curve = played(fleet, replace(default_schedule(), traffic=traffic))
        return sum(curve.requests_per_second) * curve.axis.step_seconds

    updated = played(fleet, default_schedule()).updated[-1] * HOSTS
    assert 0.99 * HOSTS < updated < HOSTS
    assert asked_for(news=0, update=1) == pytest.approx(updated)
    assert updated < asked_for(news=1, update=0) <= HOSTS + 0.5
    assert asked_for(news=2, update=6) == pytest.approx(
        2 * asked_for(news=1, update=0) + 6 * updated
    )


def test_all_bytes_of_all_images_are_counted() -> None:
    curve = played(
        FLEET,
        replace(
            default_schedule(), traffic=Traffic(check_bytes=0, news_bytes=0, update_bytes=250 << 20)
        ),
    )
    amount = sum(curve.bytes_per_second) * curve.axis.step_seconds
    assert amount == pytest.approx(HOSTS * (250 << 20))


def test_the_same_seed_gives_the_same_curve_and_another_one_does_not() -> None:
    fleet = replace(FLEET, hosts=40_000, offline_share=0.1)
    one, again, other = (played(fleet, default_schedule(), seed=seed) for seed in (1, 1, 2))
    assert one == again
    assert one.updated != other.updated


def test_two_schedules_meet_the_same_hosts() -> None:
    fleet = replace(FLEET, hosts=40_000, offline_share=0.1)
    pair = [default_schedule(), default_schedule()]
    one, two = play(fleet, pair, fleet.axis(pair), seed=1)
    assert one == two
    pair = [default_schedule(), a_schedule((0, 1))]
    slow, fast = play(fleet, pair, fleet.axis(pair), seed=1)
    assert slow.updated == one.updated
    assert all(late <= early for late, early in zip(slow.updated, fast.updated, strict=True))


def test_the_last_wave_of_the_shipped_rollout_is_pointed_out() -> None:
    schedule = default_schedule()
    assert find_rush(schedule.readiness()) == Rush(share=205 / SEEDS, starts_seconds=6 * DAY)
    told = dict(summary(played(replace(FLEET, hosts=1000), schedule)))
    assert told["At once"] == (
        "10.0 % of the fleet is let in within a minute, 6 d 00:00 after the start: the last wave "
        "has no end, so all its hosts may come at its start. A wave before it that reaches 99 % "
        "would spread them"
    )


@pytest.mark.parametrize(
    ("schedule", "share", "why"),
    [
        (a_schedule(), "100.0 %", "it has no waves"),
        (
            a_schedule((0, -30), (1000, -20), (1900, 5)),
            "84.0 %",
            "waves that began before the start have let their hosts in already",
        ),
        (
            a_schedule((0, 0), (1000, 0.01), (1500, 25), (2040, 50)),
            "48.9 %",
            "the waves there are too short to spread their hosts",
        ),
    ],
    ids=["none", "past", "short"],
)
def test_a_share_that_comes_at_once_is_pointed_out(
    schedule: Schedule, share: str, why: str
) -> None:
    told = dict(summary(played(replace(FLEET, hosts=1000), schedule)))
    assert told["At once"] == (
        f"{share} of the fleet is let in within a minute, 0 d 00:00 after the start: {why}"
    )


def test_the_seeds_just_before_a_crowd_do_not_hide_its_reason() -> None:
    told = dict(summary(played(replace(FLEET, hosts=1000), a_schedule((0, 0), (204, 1)))))
    assert told["At once"].startswith(
        "90.0 % of the fleet is let in within a minute, 0 d 01:00 after the start: the last wave "
    )


@pytest.mark.parametrize(
    "schedule", [a_schedule((0, 1), (1000, 20), (2040, 40)), a_schedule((0, 1), (2048, 20))]
)
def test_a_rollout_that_is_spread_needs_no_warning(schedule: Schedule) -> None:
    assert "At once" not in dict(summary(played(replace(FLEET, hosts=1000), schedule)))


@settings(deadline=None, max_examples=40)
@given(st.floats(60, 1e8), st.floats(60, 1e6), st.integers(1, 40))
def test_time_is_cut_into_readable_pieces_that_cover_it(
    seconds: float, finest: float, most: int
) -> None:
    axis = Axis.covering(seconds, finest_seconds=finest)
    assert seconds <= axis.seconds < 1.25 * seconds + axis.step_seconds
    assert axis.step_seconds <= max(60, finest)
    zeros = (0.0,) * axis.steps
    curve = Curve(
        schedule=a_schedule(),
        axis=axis,
        let_in=(*zeros, 0.0),
        updated=(*zeros, 0.0),
        requests_per_second=zeros,
        bytes_per_second=zeros,
    )
    rows = [row.seconds for row in curve.rows(most=most)]
    assert len(rows) <= most + 1
    assert (rows[0], rows[-1]) == (0, axis.seconds)
    assert all(one < other for one, other in pairwise(rows))


@pytest.mark.parametrize(
    "change",
    [
        lambda fleet: replace(fleet, hosts=100_000_000, check_interval=timedelta(minutes=1)),
        lambda fleet: replace(fleet, outage=timedelta(weeks=999_999), offline_share=0.1),
    ],
    ids=["checks", "ages"],
)
def test_a_play_that_nobody_would_wait_for_is_refused(change: Callable[[Fleet], Fleet]) -> None:
    with pytest.raises(RepoToolsError, match="take fewer --hosts or a longer --check-interval"):
        change(FLEET).axis([default_schedule()])
