"""One glance: every state of the inactive set is told in words, in JSON, and with a next step."""

import json
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from semver import Version

from signpost.flags import BootFlags
from signpost.sets import SetName
from signpost.state import BootState
from tests.helpers.events import NOON, a_state, an_activated_update, an_event, flags
from tests.helpers.updates import a_host
from updog.config import Config
from updog.history import Event, EventKind
from updog.metadata import RoleVersions
from updog.status import InactiveSet, Status, assess, status_facts, status_lines
from updog.versions import parse_version_lock
from updog.waves import Seed

BEGUN = (*an_activated_update(), an_event(EventKind.STARTED, "1.2.0"))
ROLLED_BACK = (*an_activated_update(), an_event(EventKind.ROLLED_BACK))


def a_config(*, seed: int = 1311, lock: str = "latest", ignore_waves: bool = False) -> Config:
    return Config(
        metadata_base_url=("https://updates.example/metadata",),
        targets_base_url=("https://updates.example/targets",),
        seed=Seed(seed),
        version_lock=parse_version_lock(lock),
        ignore_waves=ignore_waves,
    )


def some_metadata(*, valid_for: timedelta = timedelta(days=6, hours=23)) -> RoleVersions:
    return RoleVersions(
        root=3, timestamp=812, snapshot=40, targets=39, timestamp_expires=NOON + valid_for
    )


def a_status(
    state: BootState | None = None,
    events: tuple[Event, ...] = (),
    *,
    metadata: RoleVersions | None = None,
    last_check: Event | None = None,
    may_read_metadata: bool = True,
    writer: int | None = None,
) -> Status:
    return assess(
        a_host("1.0.0"),
        state or a_state(),
        events,
        metadata,
        last_check=last_check,
        may_read_metadata=may_read_metadata,
        writer=writer,
    )


def told(status: Status, config: Config | None = None) -> dict[str, str]:
    """Return the lines of a status by their first word."""
    lines = status_lines(status, config or a_config(), now=NOON)
    return {line.split()[0]: line for line in lines}


STORIES: dict[InactiveSet, tuple[BootState, tuple[Event, ...]]] = {
    InactiveSet.ABSENT: (a_state(b=None), ()),
    InactiveSet.CLEARED: (a_state(b="0/0/0"), an_activated_update()),
    InactiveSet.STAGED: (a_state(b="0/1/0"), an_activated_update()),
    InactiveSet.PENDING: (a_state(b="2/1/0"), an_activated_update()),
    InactiveSet.FAILED: (a_state(b="2/0/0"), ROLLED_BACK),
    InactiveSet.HEALTHY: (a_state("2/0/1", "1/0/1"), an_activated_update()),
    InactiveSet.UNKNOWN: (a_state(b="2/0/0"), ()),
    InactiveSet.FALLBACK: (a_state("2/0/0", "1/0/1"), an_activated_update()),
    InactiveSet.WRITING: (a_state(b="0/0/0"), BEGUN),
    InactiveSet.CUT_OFF: (a_state(b="0/0/0"), BEGUN),
}

WRITER = {InactiveSet.WRITING: 4711}

IN_WORDS = {
    InactiveSet.ABSENT: """\
Running   1.0.0 (aws-k8s-1.30, x86_64)  set A  marked successful
Other     none                                 this disk has a single set
Next      boots set A again; `updog check-update` looks for an update""",
    InactiveSet.CLEARED: """\
Running   1.0.0 (aws-k8s-1.30, x86_64)  set A  marked successful
Other     nothing                       set B  cleared, will not boot
Next      boots set A again; `updog check-update` looks for an update""",
    InactiveSet.STAGED: """\
Running   1.0.0 (aws-k8s-1.30, x86_64)  set A  marked successful
Staged    1.1.0                         set B  verified, not activated
Next      `updog update-apply` to activate what is staged""",
    InactiveSet.PENDING: """\
Running   1.0.0 (aws-k8s-1.30, x86_64)  set A  marked successful
Staged    1.1.0                         set B  boots next, 1 try
Next      reboot to enter 1.1.0, or `updog update-revert` to stay""",
    InactiveSet.FAILED: """\
Running   1.0.0 (aws-k8s-1.30, x86_64)  set A  marked successful
Failed    1.1.0                         set B  was tried, not marked successful, rolled back
Next      boots set A again; `updog check-update` looks for an update""",
    InactiveSet.HEALTHY: """\
Running   1.0.0 (aws-k8s-1.30, x86_64)  set A  marked successful
Other     1.1.0                         set B  healthy, can be rolled back to
Next      boots set A again; `updog check-update` looks for an update""",
    InactiveSet.UNKNOWN: """\
Running   1.0.0 (aws-k8s-1.30, x86_64)  set A  marked successful
Other     unknown version               set B  will not boot
Next      boots set A again; `updog check-update` looks for an update""",
    InactiveSet.FALLBACK: """\
Running   1.0.0 (aws-k8s-1.30, x86_64)  set A  on trial, not marked successful
Fallback  1.1.0                         set B  boots next, unless what runs is marked successful
Next      the next boot returns to 1.1.0 unless its health checks mark this system successful""",
    InactiveSet.WRITING: """\
Running   1.0.0 (aws-k8s-1.30, x86_64)  set A  marked successful
Other     1.2.0                         set B  is being written by process 4711
Next      1.2.0 is being written by process 4711""",
    InactiveSet.CUT_OFF: """\
Running   1.0.0 (aws-k8s-1.30, x86_64)  set A  marked successful
Other     1.2.0                         set B  its writing was cut off, will not boot
Next      writing 1.2.0 was cut off; `updog update` starts over""",
}


@pytest.mark.parametrize("inactive", InactiveSet)
class TestEveryInactiveSet:
    def test_the_flags_and_the_history_tell_which_it_is(self, inactive: InactiveSet) -> None:
        assert a_status(*STORIES[inactive], writer=WRITER.get(inactive)).inactive is inactive

    def test_what_runs_what_is_there_and_what_to_do_is_told_in_words(
        self, inactive: InactiveSet
    ) -> None:
        lines = status_lines(
            a_status(*STORIES[inactive], writer=WRITER.get(inactive)), a_config(), now=NOON
        )
        assert [line.split()[0] for line in lines[2:]] == ["Channel", "Policy", "Next"]
        assert "\n".join([*lines[:2], lines[-1]]) == IN_WORDS[inactive]

    def test_programs_are_told_the_same(self, inactive: InactiveSet) -> None:
        facts = status_facts(a_status(*STORIES[inactive], writer=WRITER.get(inactive)), a_config())
        assert json.loads(json.dumps(facts))["inactive"]["state"] == inactive.value


def test_the_words_for_programs_stay_as_they_are() -> None:
    assert [each.value for each in InactiveSet] == [
        "absent",
        "cleared",
        "staged",
        "pending",
        "failed",
        "healthy",
        "unknown",
        "fallback",
        "writing",
        "cut off",
    ]


class TestJudging:
    @pytest.mark.parametrize(
        ("a", "b", "inactive"),
        [
            ("1/0/1", "0/15/0", InactiveSet.UNKNOWN),
            ("1/0/0", "15/0/1", InactiveSet.FALLBACK),
            ("1/0/1", "15/15/0", InactiveSet.PENDING),
            ("1/0/1", "2/1/1", InactiveSet.PENDING),
            ("1/0/1", "2/0/1", InactiveSet.PENDING),
            ("1/0/1", "0/0/1", InactiveSet.HEALTHY),
            ("1/0/1", "0/1/1", InactiveSet.HEALTHY),
            ("1/0/1", "1/0/0", InactiveSet.UNKNOWN),
            ("2/0/1", "1/15/0", InactiveSet.UNKNOWN),
        ],
    )
    def test_the_flags_decide(self, a: str, b: str, inactive: InactiveSet) -> None:
        assert a_status(a_state(a, b)).inactive is inactive

    def test_set_a_is_judged_alike_where_b_runs(self) -> None:
        state = a_state("2/1/0", "1/0/1", active=SetName.B)
        status = a_status(state, an_activated_update("1.2.0", name=SetName.A))
        assert (status.active, status.next) == (SetName.B, SetName.A)
        assert status.inactive is InactiveSet.PENDING
        assert status.inactive_version == Version(1, 2, 0)
        assert (status.active_flags, status.inactive_flags) == (flags("1/0/1"), flags("2/1/0"))

    def test_a_failure_that_was_followed_by_a_failed_command_is_still_told(self) -> None:
        events = (*ROLLED_BACK, an_event(EventKind.FAILED, "1.2.0"))
        assert a_status(a_state(b="2/0/0"), events).inactive is InactiveSet.FAILED

    def test_a_rollback_out_of_this_set_is_no_failure_of_the_other(self) -> None:
        events = (an_event(EventKind.ROLLED_BACK, name=SetName.A),)
        assert a_status(a_state(b="2/0/0"), events).inactive is InactiveSet.UNKNOWN

    def test_a_version_is_known_from_what_ran_there_before(self) -> None:
        state = a_state("1/0/1", "2/0/1", active=SetName.B)
        status = a_status(state, an_activated_update())
        assert status.inactive_version == Version(1, 0, 0)

    def test_the_version_of_a_set_that_is_not_there_is_not_told(self) -> None:
        assert a_status(a_state(b=None), an_activated_update()).inactive_version is None

    @pytest.mark.parametrize("story", [InactiveSet.CUT_OFF, InactiveSet.FAILED])
    def test_a_look_at_the_repository_since_then_changes_nothing(self, story: InactiveSet) -> None:
        state, events = STORIES[story]
        checked = [an_event(EventKind.CHECKED, "1.0.0", name=name) for name in SetName]
        assert a_status(state, (*events, *checked)).inactive is story
        assert a_status(state, (*events, *checked)).inactive_version is not None

    def test_what_somebody_left_by_hand_has_not_failed(self) -> None:
        events = (an_event(EventKind.ROLLED_BACK, by_hand=True),)
        assert a_status(a_state(b="2/0/0"), events).inactive is InactiveSet.UNKNOWN


class TestWords:
    @pytest.mark.parametrize(
        ("error", "words"),
        [
            (None, "  checked 4 min ago, metadata valid for 6 d 23 h"),
            ("cannot fetch", "  last check failed 4 min ago, metadata valid for 6 d 23 h"),
        ],
    )
    def test_the_last_look_at_the_repository_is_told(self, error: str | None, words: str) -> None:
        checked = an_event(
            EventKind.CHECKED, "1.0.0", time=NOON - timedelta(minutes=4), error=error
        )
        status = a_status(metadata=some_metadata(), last_check=checked)
        assert status_lines(status, a_config(), now=NOON)[2].endswith(words)
        facts = status_facts(status, a_config())["checked"]
        assert (facts["event"], facts.get("error")) == ("checked", error)

    def test_the_whole_status(self) -> None:
        status = a_status(*STORIES[InactiveSet.PENDING], metadata=some_metadata())
        assert "\n".join(status_lines(status, a_config(), now=NOON)) == (
            """\
Running   1.0.0 (aws-k8s-1.30, x86_64)  set A  marked successful
Staged    1.1.0                         set B  boots next, 1 try
Channel   https://updates.example/metadata  metadata valid for 6 d 23 h
Policy    latest, waves on (seed 1311: 64 % of the fleet is before this machine)
Next      reboot to enter 1.1.0, or `updog update-revert` to stay"""
        )

    def test_a_set_that_is_longer_than_what_runs_keeps_the_columns_aligned(self) -> None:
        update = an_activated_update("1.2.0-rc.1.build.of.some.branch.with.a.name")
        running, staged, *_ = status_lines(
            a_status(a_state(b="0/1/0"), update), a_config(), now=NOON
        )
        assert running.index("set A") == staged.index("set B")
        assert len(staged) <= 100

    @pytest.mark.parametrize(
        ("b", "words"),
        [
            ("2/1/0", "boots next, 1 try"),
            ("2/3/0", "boots next, 3 tries"),
            ("2/1/1", "boots next, marked successful before"),
        ],
    )
    def test_the_tries_that_are_left_are_told(self, b: str, words: str) -> None:
        assert told(a_status(a_state(b=b), an_activated_update()))["Staged"].endswith(words)

    def test_a_running_set_on_trial_is_told(self) -> None:
        status = a_status(a_state("1/0/1", "2/0/0", active=SetName.B))
        assert told(status)["Running"].endswith("set B  on trial, not marked successful")
        assert told(status)["Next"] == (
            "Next      the next boot returns to set A unless its health checks mark this system "
            "successful"
        )

    def test_a_trial_with_tries_left_goes_on(self) -> None:
        status = a_status(a_state("1/0/1", "2/1/0", active=SetName.B))
        assert told(status)["Next"] == (
            "Next      boots set B again; its health checks have yet to mark it successful"
        )

    def test_what_updog_did_not_install_is_not_said_to_be_verified_nor_to_be_applied(self) -> None:
        lines = told(a_status(a_state(b="0/1/0")))
        assert "verified" not in lines["Other"]
        assert "update-apply" not in lines["Next"]

    def test_a_run_that_writes_nothing_is_not_spoken_of(self) -> None:
        status = a_status(a_state(b="0/1/0"), an_activated_update(), writer=4711)
        assert status.inactive is InactiveSet.STAGED

    def test_a_pending_set_of_unknown_version_is_named_by_its_letter(self) -> None:
        assert "reboot to enter set B," in told(a_status(a_state(b="2/1/0")))["Next"]

    def test_a_machine_that_would_not_boot_again_says_so_first_of_all(self) -> None:
        status = a_status(a_state("1/0/0", "0/0/0"))
        assert status.next is None
        assert told(status)["Next"].startswith("Next      NO SET CAN BOOT: run `signpost mark-succ")

    def test_what_runs_may_be_unknown(self) -> None:
        status = a_status(a_state(active=None))
        assert (status.active, status.active_flags) == (None, None)
        lines = told(status)
        assert lines["Running"].endswith("set ?  it is not known which set runs")
        assert lines["Other"].endswith("set ?  depends on which set runs")
        assert "disk.active or disk.active_file in the configuration file" in lines["Next"]

    @pytest.mark.parametrize(
        ("metadata", "words"),
        [
            (None, "not checked yet, or not to the end"),
            (some_metadata(valid_for=timedelta(minutes=4)), "metadata valid for 4 min"),
            (some_metadata(valid_for=timedelta(0)), "metadata valid for 0.0 s"),
            (some_metadata(valid_for=timedelta(hours=-30)), "metadata expired 1 d 6 h ago"),
        ],
    )
    def test_the_age_of_the_metadata_is_told(
        self, metadata: RoleVersions | None, words: str
    ) -> None:
        channel = told(a_status(metadata=metadata))["Channel"]
        assert channel == f"Channel   https://updates.example/metadata  {words}"

    def test_metadata_that_this_user_may_not_read_is_not_said_to_be_missing(self) -> None:
        channel = told(a_status(may_read_metadata=False))["Channel"]
        assert channel.endswith("metadata: not for this user to read")

    @pytest.mark.parametrize(
        ("config", "words"),
        [
            (
                a_config(seed=0),
                "latest, waves on (seed 0: 0 % of the fleet is before this machine)",
            ),
            (
                a_config(seed=2047, lock="1.2.0"),
                "1.2.0, waves on (seed 2047: 99 % of the fleet is before this machine)",
            ),
            (a_config(ignore_waves=True), "latest, waves ignored"),
        ],
    )
    def test_the_policy_is_told(self, config: Config, words: str) -> None:
        assert told(a_status(), config)["Policy"] == f"Policy    {words}"


class TestJson:
    def test_the_whole_status(self) -> None:
        status = a_status(*STORIES[InactiveSet.PENDING], metadata=some_metadata())
        assert json.loads(json.dumps(status_facts(status, a_config(lock=">=1.0.0,<2.0.0")))) == {
            "running": {
                "version": "1.0.0",
                "variant": "aws-k8s-1.30",
                "arch": "x86_64",
                "set": "A",
                "flags": {"priority": 1, "tries": 0, "successful": True},
            },
            "inactive": {
                "state": "pending",
                "version": "1.1.0",
                "set": "B",
                "flags": {"priority": 2, "tries": 1, "successful": False},
                "trouble": None,
            },
            "health": None,
            "hold": None,
            "next": "B",
            "channel": "https://updates.example/metadata",
            "metadata": {
                "root": 3,
                "timestamp": 812,
                "snapshot": 40,
                "targets": 39,
                "expires": "2030-01-08T11:00:00+00:00",
            },
            "checked": None,
            "may_read_metadata": True,
            "writer": None,
            "policy": {"version_lock": ">=1.0.0,<2.0.0", "ignore_waves": False, "seed": 1311},
        }

    def test_what_is_not_known_is_null(self) -> None:
        facts = status_facts(a_status(a_state("0/0/0", "0/0/0", active=None)), a_config())
        assert facts["running"]["set"] is None
        assert facts["running"]["flags"] is None
        assert facts["inactive"]["version"] is None
        assert facts["next"] is None
        assert facts["metadata"] is None


any_flags = st.builds(
    BootFlags,
    priority=st.sampled_from([0, 1, 2, 15]),
    tries=st.sampled_from([0, 1, 15]),
    successful=st.booleans(),
)


@given(
    a=any_flags,
    b=st.none() | any_flags,
    active=st.sampled_from([SetName.A, None]),
    events=st.lists(
        st.builds(
            an_event,
            st.sampled_from(EventKind),
            name=st.sampled_from(SetName),
            running=st.just("1.0.0"),
        ),
        max_size=3,
    ),
    valid_for=st.timedeltas(timedelta(days=-3000), timedelta(days=3000)),
    seed=st.integers(0, 2047),
)
def test_any_machine_gets_five_lines_of_a_hundred_columns_at_most_and_a_json_document(
    *,
    a: BootFlags,
    b: BootFlags | None,
    active: SetName | None,
    events: list[Event],
    valid_for: timedelta,
    seed: int,
) -> None:
    both = {SetName.A: a} | ({SetName.B: b} if b else {})
    state = BootState(flags=both, active=active, ever_succeeded=False)
    status = a_status(state, tuple(events), metadata=some_metadata(valid_for=valid_for))
    lines = status_lines(status, a_config(seed=seed), now=NOON)
    assert len(lines) == 5
    assert max(map(len, lines)) <= 100
    assert all(line == line.rstrip() and line.isprintable() for line in lines)
    assert json.loads(json.dumps(status_facts(status, a_config(seed=seed))))
