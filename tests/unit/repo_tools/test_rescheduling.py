"""What pausing, resuming and hurrying do to each of the 2048 seeds, by the agent's own rule."""

import os
import random
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from repo_tools.errors import RepoToolsError
from repo_tools.rescheduling import (
    FAR,
    Pause,
    Waves,
    completes_at,
    hurried_waves,
    overtaking_waves,
    pause,
    paused_waves,
    reached,
    resumed_waves,
    takes_back,
)
from repo_tools.wavefile import shipped_wave_file
from tests.helpers.updates import a_manifest, an_update
from updog.manifest import parse_manifest, serialise
from updog.waves import SEEDS, Seed, Wave, ready_at

START = datetime(2026, 3, 1, 8, tzinfo=UTC)
EXAMPLES = 300 if os.environ.get("EXPLORE") == "all" else 25
ROUNDING = timedelta(microseconds=2)
"""A new bound inside a wave is itself rounded down to a microsecond."""

bounds = st.lists(st.integers(0, SEEDS), min_size=1, max_size=7, unique=True).map(sorted)
spans = st.one_of(
    st.integers(0, 10**6),  # so short that rounding matters
    st.integers(0, 30 * 86400 * 10**6),
).map(lambda count: timedelta(microseconds=count))


@st.composite
def rollouts(draw: st.DrawFn) -> Waves:
    found, at, waves = draw(bounds), START, []
    if draw(st.booleans()):
        found = sorted({0, *found})
    for bound in found:
        at += draw(spans)
        waves.append(Wave(bound=bound, starts_at=at))
    return tuple(waves)


@st.composite
def moments(draw: st.DrawFn, waves: Waves) -> datetime:
    """A moment in a rollout, often exactly one of a wave or of a host."""
    end = completes_at(waves) or START
    inside = st.integers(-10, 10**7).map(lambda at: START + (end - START) * at / 10**7)
    exact = st.sampled_from([wave.starts_at for wave in waves])
    host = st.integers(0, SEEDS - 1).map(lambda seed: moment(waves, seed))
    near = st.integers(-1, 1).map(lambda count: timedelta(microseconds=count))
    return draw(st.one_of(inside, exact, host)) + draw(near)


@st.composite
def moments_in_rollouts(draw: st.DrawFn) -> tuple[Waves, datetime]:
    waves = draw(rollouts())
    return waves, draw(moments(waves))


def moment(waves: Waves, seed: int) -> datetime:
    found = ready_at(waves, Seed(seed))
    assert found is not None
    return found


def each_moment(waves: Waves) -> list[datetime]:
    return [moment(waves, seed) for seed in range(SEEDS)]


def assert_well_formed(waves: Waves) -> None:
    """What a manifest may hold, and the same again after it was written and read."""
    manifest = a_manifest(replace(an_update(), waves=waves))
    assert parse_manifest(serialise(manifest)).updates[0].waves == waves


@settings(max_examples=EXAMPLES, deadline=None)
@given(moments_in_rollouts())
def test_the_share_reached_is_what_the_agents_rule_lets_in(
    rollout: tuple[Waves, datetime],
) -> None:
    waves, now = rollout
    let_in = [at <= now for at in each_moment(waves)]
    assert let_in == [seed < reached(waves, now) for seed in range(SEEDS)]


@settings(max_examples=EXAMPLES, deadline=None)
@given(moments_in_rollouts(), spans)
def test_a_pause_lifts_nobody_and_takes_nobody_back(
    rollout: tuple[Waves, datetime], later: timedelta
) -> None:
    waves, now = rollout
    assume(reached(waves, now) < SEEDS)
    paused = paused_waves(pause(waves, now))
    assert_well_formed(paused)
    for before, after in zip(each_moment(waves), each_moment(paused), strict=True):
        if before <= now:
            assert before - ROUNDING <= after <= before
        else:
            assert after == now + FAR
    assert reached(paused, now) == reached(paused, now + later) == reached(waves, now)


@settings(max_examples=EXAMPLES, deadline=None)
@given(moments_in_rollouts(), spans)
def test_a_resumed_rollout_is_as_much_later_as_the_pause_was_long(
    rollout: tuple[Waves, datetime], length: timedelta
) -> None:
    waves, now = rollout
    assume(reached(waves, now) < SEEDS)
    stopped = pause(waves, now)
    resumed = resumed_waves(stopped, now + length)
    assert_well_formed(resumed)
    for before, after in zip(each_moment(waves), each_moment(resumed), strict=True):
        if before <= now:
            assert before - ROUNDING <= after <= before
        else:
            assert before + length - ROUNDING <= after <= before + length
    assert reached(resumed, now + length) == reached(waves, now)


@settings(max_examples=EXAMPLES, deadline=None)
@given(moments_in_rollouts(), spans)
def test_hurrying_lets_nobody_in_later_and_shifts_only_what_is_to_come(
    rollout: tuple[Waves, datetime], by: timedelta
) -> None:
    waves, now = rollout
    assume(reached(waves, now) < SEEDS)
    hurried = hurried_waves(waves, now, by)
    assert_well_formed(hurried)
    for before, after in zip(each_moment(waves), each_moment(hurried), strict=True):
        assert before - by <= after <= before
    assert takes_back(waves, hurried, now) == 0


@settings(max_examples=EXAMPLES, deadline=None)
@given(moments_in_rollouts(), rollouts())
def test_overtaking_lets_each_host_in_at_the_earlier_of_its_two_moments(
    rollout: tuple[Waves, datetime], other: Waves
) -> None:
    waves, now = rollout
    assume(reached(waves, now) < SEEDS)
    count = reached(waves, now)
    shift = now - moment(other, count)
    moments_of_other = [moment(other, seed) + shift for seed in range(count, SEEDS)]
    wanted = each_moment(waves)
    wanted[count:] = map(min, wanted[count:], moments_of_other)
    overtaking = overtaking_waves(waves, other, now)
    assert_well_formed(overtaking)
    for moment_wanted, after in zip(wanted, each_moment(overtaking), strict=True):
        assert moment_wanted - 3 * ROUNDING <= after <= moment_wanted


@settings(max_examples=EXAMPLES // 4, deadline=None)
@given(rollouts(), st.randoms(use_true_random=False))
def test_no_sequence_of_changes_takes_back_what_a_host_was_granted(
    waves: Waves, chance: random.Random
) -> None:
    end, now, stopped = completes_at(waves) or START, START, None
    for _ in range(8):
        now += (end - START) * chance.random() / 8
        before = reached(waves, now)
        try:
            waves, stopped = chance.choice(CHANGES)(waves, stopped, now)
        except RepoToolsError:
            continue
        assert_well_formed(waves)
        assert reached(waves, now) >= before


Change = Callable[[Waves, Pause | None, datetime], tuple[Waves, Pause | None]]


def a_pause(waves: Waves, stopped: Pause | None, now: datetime) -> tuple[Waves, Pause | None]:
    stopped = stopped or pause(waves, now)
    return paused_waves(stopped), stopped


def a_resumption(waves: Waves, stopped: Pause | None, now: datetime) -> tuple[Waves, Pause | None]:
    return (resumed_waves(stopped, now) if stopped else waves), None


def a_hurry(waves: Waves, stopped: Pause | None, now: datetime) -> tuple[Waves, Pause | None]:
    return (waves if stopped else hurried_waves(waves, now, timedelta(hours=7))), stopped


CHANGES: tuple[Change, ...] = (a_pause, a_resumption, a_hurry)


def test_an_update_without_waves_is_open_to_all() -> None:
    assert reached((), START) == SEEDS
    assert completes_at(()) is None
    with pytest.raises(RepoToolsError, match="would hold nobody back"):
        pause((), START)


def test_a_rollout_that_is_complete_cannot_be_hurried() -> None:
    waves = (Wave(bound=0, starts_at=START),)
    with pytest.raises(RepoToolsError, match="nothing to hurry"):
        hurried_waves(waves, START, timedelta(hours=1))
    with pytest.raises(RepoToolsError, match="nothing to hurry"):
        overtaking_waves(waves, waves, START)


def test_a_pause_before_the_first_wave_holds_everybody() -> None:
    waves = (Wave(bound=0, starts_at=START), Wave(bound=20, starts_at=START))
    before = START - timedelta(hours=1)
    assert paused_waves(pause(waves, before)) == (Wave(bound=0, starts_at=before + FAR),)


def test_a_pause_at_the_end_of_the_calendar_is_refused() -> None:
    end = datetime(9999, 1, 1, tzinfo=UTC)
    waves = (Wave(bound=0, starts_at=end),)
    with pytest.raises(RepoToolsError, match="beyond the year 9999"):
        paused_waves(pause(waves, end - timedelta(days=1)))


def test_an_ordinary_rollout_goes_on_like_an_emergency() -> None:
    ordinary = shipped_wave_file("default").waves(start=START)
    faster = shipped_wave_file("emergency").waves(start=START)
    now = START + timedelta(days=2)
    overtaking = overtaking_waves(ordinary, faster, now)
    assert reached(overtaking, now) == reached(ordinary, now) + 1  # the next one, at once
    assert completes_at(overtaking) < now + timedelta(days=1)  # type: ignore[operator]
