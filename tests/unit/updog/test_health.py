"""What follows from health checks: a trial is ended, anything else never is, and it is told."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from semver import Version

from signpost.sets import SetName
from tests.helpers.events import NOON, a_state
from updog.health import (
    Checked,
    Ending,
    HealthRecord,
    Reaction,
    check_words,
    end_of_trial,
    ending_words,
    parse_record,
    record_facts,
    trouble,
)


def a_check(
    name: str = "40-network.sh",
    *,
    failure: str | None = None,
    output: str = "",
    is_required: bool = True,
) -> Checked:
    return Checked(
        name=name,
        is_required=is_required,
        failure=failure,
        exit_code=0 if failure is None else 1,
        output=output,
        attempts=1,
        seconds=0.1,
    )


FAILED = a_check(failure="exit 1", output="no route to 10.0.0.1\n")


def a_record(
    *checks: Checked,
    running: str | None = None,
    is_done: bool = True,
    error: str | None = None,
    gave_up_after_seconds: float | None = None,
) -> HealthRecord:
    return HealthRecord(
        time=NOON,
        version=Version.parse("1.1.0"),
        set=SetName.B,
        boot_id="a",
        checks=checks,
        running=running,
        is_done=is_done,
        error=error,
        gave_up_after_seconds=gave_up_after_seconds,
    )


ON_TRIAL = a_state("1/0/1", "2/0/0", active=SetName.B)


@pytest.mark.parametrize(
    ("state", "reaction", "ending"),
    [
        (ON_TRIAL, Reaction.REBOOT, Ending.REBOOT),
        (ON_TRIAL, Reaction.DEADLINE, Ending.WAIT),
        (a_state("1/0/1", "2/1/0", active=SetName.B), Reaction.REBOOT, Ending.REBOOT),
        (a_state("1/0/1", "2/0/1", active=SetName.B), Reaction.REBOOT, Ending.NOT_ON_TRIAL),
        (a_state("1/0/1", "2/0/0", active=SetName.A), Reaction.REBOOT, Ending.NOT_ON_TRIAL),
        (a_state("0/0/0", "2/0/0", active=SetName.B), Reaction.REBOOT, Ending.NOTHING_ELSE_BOOTS),
        (a_state("0/0/1", "2/0/0", active=SetName.B), Reaction.REBOOT, Ending.NOTHING_ELSE_BOOTS),
        (a_state("1/0/0", b=None), Reaction.REBOOT, Ending.NOTHING_ELSE_BOOTS),
        # Each restart would take a try away, and after the last one nothing would boot at all.
        (a_state("1/15/0", b=None), Reaction.REBOOT, Ending.NOTHING_ELSE_BOOTS),
        (a_state("0/0/0", "2/1/0", active=SetName.B), Reaction.REBOOT, Ending.NOTHING_ELSE_BOOTS),
    ],
)
def test_only_a_trial_that_something_follows_is_ended(
    state: object, reaction: Reaction, ending: Ending
) -> None:
    assert end_of_trial(state, reaction) is ending  # type: ignore[arg-type]


def test_the_words_name_the_set_that_follows() -> None:
    assert ending_words(Ending.REBOOT, ON_TRIAL).endswith("restarting, set A boots next")


def test_a_system_is_healthy_when_all_required_checks_have_passed() -> None:
    assert a_record(a_check()).is_healthy
    assert a_record().is_healthy
    assert a_record(a_check(failure="exit 1", is_required=False)).is_healthy
    assert not a_record(a_check(), FAILED).is_healthy
    assert not a_record(a_check(), is_done=False, running="b").is_healthy
    assert not a_record(error="cannot read").is_healthy


def test_what_was_wrong_is_told_in_one_line() -> None:
    told = "health check 40-network.sh failed, exit 1: no route to 10.0.0.1"
    assert trouble(a_record(FAILED)) == told
    assert trouble(a_record(a_check(), FAILED, a_check("50", failure="exit 2"))) == (
        f"{told} (and 1 more)"
    )
    # The failure that ended it says more than that its time was over.
    assert trouble(a_record(FAILED, gave_up_after_seconds=900)) == told
    assert trouble(a_record()) is None


def test_a_boot_that_was_cut_short_tells_how_far_it_came() -> None:
    cut = a_record(a_check(), running="50-app", is_done=False)
    assert trouble(cut) == "ended while health check 50-app was at work"
    late = a_record(is_done=False, gave_up_after_seconds=900)
    assert trouble(late) == "not marked successful 15 min after it began"
    late = a_record(running="50-app", is_done=False, gave_up_after_seconds=900)
    assert trouble(late) == (
        "not marked successful 15 min after it began; health check 50-app was at work"
    )


def test_nothing_that_a_check_prints_reaches_a_terminal_as_it_is() -> None:
    evil = a_check(failure="exit 1", output="\x1b[2J\u202ered\n\nnext\x07")
    assert trouble(a_record(evil)) == (
        r"health check 40-network.sh failed, exit 1: \x1b[2J\u202ered; next\x07"
    )


def test_of_a_long_output_the_end_is_told() -> None:
    words = check_words(a_check(failure="exit 1", output="x" * 5000 + " no route"))
    assert len(words) < 300
    assert words.endswith("x no route")


def test_a_wanted_check_that_failed_is_told_as_such() -> None:
    words = check_words(a_check(failure="exit 1", output="slow", is_required=False))
    assert words == "40-network.sh FAILED, exit 1 (wanted, not required): slow"


any_check = st.builds(
    Checked,
    name=st.text(max_size=20),
    is_required=st.booleans(),
    failure=st.none() | st.text(max_size=20),
    exit_code=st.none() | st.integers(0, 255),
    output=st.text(max_size=20),
    attempts=st.integers(1, 100),
    seconds=st.floats(0, 1e6),
)
any_record = st.builds(
    HealthRecord,
    time=st.just(NOON),
    version=st.sampled_from([Version(1, 2, 3), Version(1, 2, 3, "rc.1", "5")]),
    set=st.sampled_from(SetName),
    boot_id=st.none() | st.text(max_size=20),
    checks=st.lists(any_check, max_size=3).map(tuple),
    running=st.none() | st.text(max_size=20),
    is_done=st.booleans(),
    error=st.none() | st.text(max_size=20),
    gave_up_after_seconds=st.none() | st.floats(0, 1e6),
)


@given(record=any_record)
def test_a_record_is_read_as_it_was_written(record: HealthRecord) -> None:
    line = json.dumps(record_facts(record)).encode()
    assert parse_record(line) == record
    assert parse_record(line[:-1]) is None


@given(data=st.binary(max_size=50) | st.just(b"[]") | st.just(b"{}"))
def test_whatever_stands_in_its_place_is_no_record(data: bytes) -> None:
    assert parse_record(data) is None
