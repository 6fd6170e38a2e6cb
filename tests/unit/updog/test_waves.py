from datetime import timedelta
from fractions import Fraction

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from tests.helpers.updates import START, hours, waves
from updog.waves import SEEDS, Seed, Wave, WavePosition, position, ready_at

# The default rollout of the system that this one is modelled on.
BOUNDS = (0, 20, 102, 307, 819, 1228, 1843)
DEFAULT = waves(dict(zip(BOUNDS, (0, 3, 24, 48, 72, 96, 120), strict=True)))

seeds = st.integers(0, SEEDS - 1).map(Seed)


@st.composite
def rollouts(draw: st.DrawFn) -> tuple[Wave, ...]:
    bounds = sorted(draw(st.sets(st.integers(0, SEEDS), min_size=1, max_size=8)))
    starts = sorted(
        draw(st.lists(st.integers(0, 10**12), min_size=len(bounds), max_size=len(bounds)))
    )
    return tuple(
        Wave(bound=bound, starts_at=START + timedelta(microseconds=start))
        for bound, start in zip(bounds, starts, strict=True)
    )


def place_of(rollout: tuple[Wave, ...], seed: int) -> WavePosition:
    place = position(rollout, Seed(seed))
    assert place is not None
    return place


def test_without_waves_everybody_is_ready_at_once() -> None:
    assert ready_at((), Seed(0)) is None
    assert position((), Seed(2047)) is None


def test_seed_0_is_ready_when_the_first_wave_starts_and_not_before() -> None:
    assert ready_at(DEFAULT, Seed(0)) == hours(0)


def test_the_last_wave_lets_everybody_in_at_its_start() -> None:
    for seed in (1843, 1844, 2046, 2047):
        assert ready_at(DEFAULT, Seed(seed)) == hours(120)


@pytest.mark.parametrize("number", range(1, len(BOUNDS)))
def test_a_bound_is_the_first_seed_of_its_wave(number: int) -> None:
    before, at, after = (place_of(DEFAULT, BOUNDS[number] + step) for step in (-1, 0, 1))
    assert (before.number, at.number, after.number) == (number, number + 1, number + 1)
    assert before.ends_at == at.starts_at == at.ready_at
    assert before.ready_at < at.ready_at <= after.ready_at


def test_a_host_in_the_middle_of_a_wave_comes_in_the_middle_of_its_time() -> None:
    assert ready_at(waves({0: 0, 1000: 10}), Seed(500)) == hours(5)


def test_a_later_wave_is_spread_over_its_own_time() -> None:
    assert ready_at(waves({0: 0, 1000: 10, 2000: 20}), Seed(1250)) == hours(12.5)


def test_a_position_tells_the_wave_its_bounds_and_its_times() -> None:
    assert position(DEFAULT, Seed(1023)) == WavePosition(
        number=5,
        count=7,
        start_bound=819,
        end_bound=1228,
        starts_at=hours(72),
        ends_at=hours(96),
        ready_at=hours(72) + timedelta(hours=24) * 204 // 409,
    )


def test_the_last_wave_has_no_end() -> None:
    place = place_of(DEFAULT, 2047)
    assert (place.number, place.end_bound, place.ends_at) == (7, None, None)


def test_hosts_below_the_first_bound_come_when_the_first_wave_starts() -> None:
    rollout = waves({20: 3, 102: 24})
    assert ready_at(rollout, Seed(0)) == hours(3)
    assert ready_at(rollout, Seed(19)) == hours(3)
    assert ready_at(rollout, Seed(20)) == hours(3)
    assert ready_at(rollout, Seed(61)) == hours(13.5)


def test_a_bound_of_2048_ends_the_last_wave_that_has_hosts() -> None:
    rollout = waves({0: 0, 2048: 2048})
    assert ready_at(rollout, Seed(0)) == hours(0)
    assert ready_at(rollout, Seed(2047)) == hours(2047)


def test_a_wave_without_time_lets_everybody_in_at_once() -> None:
    assert ready_at(waves({0: 5, 1000: 5}), Seed(999)) == hours(5)


def test_a_rollout_over_all_of_history_does_not_overflow() -> None:
    ancient = START.replace(year=1)
    rollout = (
        Wave(bound=0, starts_at=ancient),
        Wave(bound=2048, starts_at=START.replace(year=9999)),
    )
    assert place_of(rollout, 2047).ready_at.year == 9994


@given(rollouts(), seeds)
def test_the_moment_is_that_of_the_closed_form(rollout: tuple[Wave, ...], seed: Seed) -> None:
    """ready = start + (end - start) * (seed - start_bound) / (end_bound - start_bound)."""
    assume(rollout[0].bound <= seed)
    begun = [wave for wave in rollout if wave.bound <= seed]
    ahead = [wave for wave in rollout if wave.bound > seed]
    start, end = begun[-1], ahead[0] if ahead else None
    offset = Fraction(0)
    if end:
        span = (end.starts_at - start.starts_at) // timedelta(microseconds=1)
        offset = Fraction(span * (seed - start.bound), end.bound - start.bound)
    exact = (start.starts_at - START) // timedelta(microseconds=1) + offset
    moment = place_of(rollout, seed).ready_at
    assert 0 <= exact - (moment - START) // timedelta(microseconds=1) < 1


@given(rollouts(), seeds, seeds)
def test_a_higher_seed_never_comes_earlier(
    rollout: tuple[Wave, ...], one: Seed, other: Seed
) -> None:
    first, second = sorted((one, other))
    assert place_of(rollout, first).ready_at <= place_of(rollout, second).ready_at


@given(rollouts(), seeds)
def test_a_host_is_ready_within_its_wave(rollout: tuple[Wave, ...], seed: Seed) -> None:
    place = place_of(rollout, seed)
    assert place.start_bound <= seed
    assert place.starts_at <= place.ready_at
    if place.end_bound is not None and place.ends_at is not None:
        assert seed < place.end_bound
        assert place.ready_at <= place.ends_at


def test_a_bound_beyond_all_seeds_ends_a_wave_and_is_none() -> None:
    place = position(waves({0: 0, 1024: 10, SEEDS: 20}), Seed(1500))
    assert place is not None
    assert (place.number, place.count, place.end_bound) == (2, 2, SEEDS)
