"""The chain of migrations between two versions."""

import time
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st
from semver import Version

from updog.errors import UpdogError
from updog.manifest import Manifest
from updog.migrations import find_chain

Steps = Mapping[tuple[str, str], tuple[str, ...]]

FOUR_RELEASES: Steps = {
    ("1.0.0", "1.1.0"): ("to-1.1-a.lz4", "to-1.1-b.lz4"),
    ("1.1.0", "1.2.0"): (),
    ("1.2.0", "2.0.0"): ("to-2.lz4",),
}


def chain(steps: Steps, running: str, goal: str) -> tuple[str, ...]:
    manifest = Manifest(
        updates=(),
        migrations={
            (Version.parse(start), Version.parse(end)): names
            for (start, end), names in steps.items()
        },
    )
    return find_chain(manifest, running=Version.parse(running), goal=Version.parse(goal))


def refusal(steps: Steps, running: str, goal: str) -> str:
    with pytest.raises(UpdogError) as caught:
        chain(steps, running, goal)
    return str(caught.value)


@pytest.mark.parametrize(
    ("running", "goal", "names"),
    [
        ("1.0.0", "1.1.0", ("to-1.1-a.lz4", "to-1.1-b.lz4")),
        ("1.1.0", "1.2.0", ()),
        ("1.1.0", "2.0.0", ("to-2.lz4",)),
        ("1.0.0", "2.0.0", ("to-1.1-a.lz4", "to-1.1-b.lz4", "to-2.lz4")),
    ],
)
def test_an_upgrade_takes_the_steps_from_one_version_to_the_next(
    running: str, goal: str, names: tuple[str, ...]
) -> None:
    assert chain(FOUR_RELEASES, running, goal) == names


@pytest.mark.parametrize(
    ("running", "goal", "names"),
    [
        ("1.1.0", "1.0.0", ("to-1.1-b.lz4", "to-1.1-a.lz4")),
        ("1.2.0", "1.1.0", ()),
        ("2.0.0", "1.0.0", ("to-2.lz4", "to-1.1-b.lz4", "to-1.1-a.lz4")),
    ],
)
def test_a_downgrade_takes_the_same_steps_backwards(
    running: str, goal: str, names: tuple[str, ...]
) -> None:
    assert chain(FOUR_RELEASES, running, goal) == names


@pytest.mark.parametrize("version", ["1.0.0", "1.1.0", "9.9.9", "1.0.0-rc.1"])
def test_a_version_needs_no_migrations_to_itself(version: str) -> None:
    assert chain(FOUR_RELEASES, version, version) == ()


@pytest.mark.parametrize(("running", "goal"), [("1.0.0", "2.0.0"), ("2.0.0", "1.0.0")])
def test_a_publisher_without_any_steps_uses_no_migrations(running: str, goal: str) -> None:
    assert chain({}, running, goal) == ()


def test_the_longest_step_that_does_not_go_too_far_is_taken() -> None:
    steps = {
        ("1.0.0", "1.1.0"): ("short.lz4",),
        ("1.0.0", "1.2.0"): ("long.lz4",),
        ("1.0.0", "1.10.0"): ("too-long.lz4",),
        ("1.1.0", "1.2.0"): ("second.lz4",),
        ("1.2.0", "1.3.0"): ("last.lz4",),
    }
    assert chain(steps, "1.0.0", "1.3.0") == ("long.lz4", "last.lz4")
    assert chain(steps, "1.3.0", "1.0.0") == ("last.lz4", "long.lz4")
    assert chain(steps, "1.0.0", "1.1.0") == ("short.lz4",)
    assert chain(steps, "1.0.0", "1.10.0") == ("too-long.lz4",)


def test_versions_are_compared_as_versions_and_not_as_text() -> None:
    steps = {("1.9.0", "1.10.0"): ("up.lz4",), ("1.10.0-rc.1", "1.10.0"): ("released.lz4",)}
    assert chain(steps, "1.9.0", "1.10.0") == ("up.lz4",)
    assert chain(steps, "1.10.0", "1.9.0") == ("up.lz4",)
    assert chain(steps, "1.10.0-rc.1", "1.10.0") == ("released.lz4",)


def test_what_a_version_was_built_from_does_not_matter() -> None:
    assert chain(FOUR_RELEASES, "1.1.0+abcdef", "2.0.0+fedcba") == ("to-2.lz4",)


def test_a_migration_that_several_steps_name_runs_in_each() -> None:
    steps = {("1.0.0", "1.1.0"): ("a.lz4", "b.lz4"), ("1.1.0", "1.2.0"): ("b.lz4",)}
    assert chain(steps, "1.0.0", "1.2.0") == ("a.lz4", "b.lz4", "b.lz4")


@pytest.mark.parametrize(
    ("running", "goal", "stuck_at"),
    [
        ("0.9.0", "1.1.0", "0.9.0"),
        ("1.1.0", "0.9.0", "0.9.0"),
        ("1.0.0", "1.1.5", "1.1.0"),
        ("1.1.5", "1.0.0", "1.1.0"),
        ("1.0.0", "3.0.0", "2.0.0"),
        ("2.0.0", "2.0.1", "2.0.0"),
    ],
)
def test_a_gap_is_refused_and_the_place_and_the_way_are_named(
    running: str, goal: str, stuck_at: str
) -> None:
    assert refusal(FOUR_RELEASES, running, goal) == (
        f"the manifest has no migrations from {stuck_at} on the way from {running} to {goal}; "
        "nothing was written, the publisher must add that step"
    )


def test_a_step_that_leads_beyond_the_goal_fills_no_gap() -> None:
    assert "no migrations from 1.0.0" in refusal({("1.0.0", "1.2.0"): ()}, "1.0.0", "1.1.0")


def test_a_chain_of_as_many_steps_as_a_manifest_may_hold_is_found_at_once() -> None:
    steps = {(Version(0, 0, one), Version(0, 0, one + 1)): ("m.lz4",) for one in range(20_000)}
    manifest = Manifest(updates=(), migrations=steps)
    started = time.process_time()
    names = find_chain(manifest, running=Version(0, 0, 0), goal=Version(0, 0, 20_000))
    assert len(names) == 20_000
    # A walk through all steps at each step takes minutes.
    assert time.process_time() - started < 2


minors = st.integers(0, 8)


def a_release(minor: int) -> str:
    return f"1.{minor}.0"


@st.composite
def step_tables(draw: st.DrawFn, *, complete: bool) -> Steps:
    """Draw steps between the releases; a complete table leads from each to the next."""
    steps = draw(st.sets(st.tuples(minors, minors).filter(lambda step: step[0] < step[1])))
    if complete:
        steps |= {(minor, minor + 1) for minor in range(8)}
    return {
        (a_release(start), a_release(end)): (f"{start}-{end}-a", f"{start}-{end}-b")
        for start, end in sorted(steps)
    }


@given(steps=step_tables(complete=False), running=minors, goal=minors)
def test_there_and_back_again_are_each_others_reverse(
    steps: Steps, running: int, goal: int
) -> None:
    try:
        there = chain(steps, a_release(running), a_release(goal))
    except UpdogError:
        assert "no migrations from" in refusal(steps, a_release(goal), a_release(running))
    else:
        assert chain(steps, a_release(goal), a_release(running)) == there[::-1]


@given(steps=step_tables(complete=True), lower=minors, higher=minors)
def test_a_chain_leads_from_the_lower_to_the_higher_version_without_a_gap(
    steps: Steps, lower: int, higher: int
) -> None:
    lower, higher = sorted((lower, higher))
    names = chain(steps, a_release(lower), a_release(higher))
    taken = [name.removesuffix("-a").split("-") for name in names if name.endswith("-a")]
    at = lower
    for start, end in taken:
        assert int(start) == at
        at = int(end)
    assert at == higher
