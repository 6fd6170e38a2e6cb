"""The events, the boot flags and the boot id say what became of an update."""

from collections.abc import Sequence
from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from semver import Version

from signpost import state as boot
from signpost.flags import BootFlags
from signpost.sets import SetName
from signpost.state import BootState
from tests.helpers.events import NOON, a_state, an_activated_update, an_event, any_event
from updog.history import (
    Event,
    EventKind,
    essence,
    event_facts,
    is_news,
    known_version,
    last_deed,
    quarantined,
    settle,
    staged_version,
)

LATER = NOON + timedelta(days=3)
RUNNING = Version(1, 0, 0)


def test_the_words_for_events_stay_as_they_are_on_disks() -> None:
    assert [kind.value for kind in EventKind] == [
        "checked",
        "started",
        "installed",
        "activated",
        "reverted",
        "booted",
        "marked",
        "rolled back",
        "failed",
    ]


def test_facts_that_an_event_does_not_have_are_left_out() -> None:
    assert set(event_facts(an_event())) == {"time", "event", "version", "set"}


any_flags = st.builds(
    BootFlags,
    priority=st.sampled_from([0, 1, 2, 15]),
    tries=st.sampled_from([0, 1, 15]),
    successful=st.booleans(),
)


def mirrored(state: BootState) -> BootState:
    """Return a state with A and B in each other's place."""
    return BootState(
        flags={name.other: flags for name, flags in state.flags.items()},
        active=state.active.other if state.active else None,
        ever_succeeded=state.ever_succeeded,
    )


each_set = pytest.mark.parametrize("name", SetName)


def noticed(
    told: Sequence[Event], state: BootState, *, boot_id: str | None = None
) -> tuple[Event, ...]:
    return settle(told, state, running=RUNNING, boot_id=boot_id, now=LATER)


def outcome(
    state: BootState, name: SetName, *more: Event, told: str | None = None, now: str | None = None
) -> list[str]:
    """Return what became of an update in set `name`; `state` describes one in set B.

    `told` is the boot id of its activation, `now` that of this boot.
    """
    state = state if name is SetName.B else mirrored(state)
    events = (*an_activated_update(name=name, boot_id=told), *more)
    return [event.kind.value for event in noticed(events, state, boot_id=now)]


class TestWhatBecameOfAnUpdate:
    @each_set
    @pytest.mark.parametrize("tries", [1, 2, 15])
    @pytest.mark.parametrize("now", ["the same", "another", None])
    def test_it_waits_while_the_next_boot_will_try_it(
        self, name: SetName, tries: int, now: str | None
    ) -> None:
        assert outcome(a_state("1/0/1", f"2/{tries}/0"), name, told="the same", now=now) == []

    @each_set
    def test_it_was_booted_when_it_runs(self, name: SetName) -> None:
        assert outcome(a_state("1/0/1", "2/0/0", active=SetName.B), name) == ["booted"]

    @each_set
    def test_it_was_booted_and_marked_when_it_runs_and_is_successful(self, name: SetName) -> None:
        assert outcome(a_state("1/0/1", "2/0/1", active=SetName.B), name) == ["booted", "marked"]

    @each_set
    def test_the_mark_is_noticed_apart_from_the_boot(self, name: SetName) -> None:
        booted = an_event(EventKind.BOOTED, name=name)
        assert outcome(a_state("1/0/1", "2/0/0", active=SetName.B), name, booted) == []
        assert outcome(a_state("1/0/1", "2/0/1", active=SetName.B), name, booted) == ["marked"]

    @each_set
    @pytest.mark.parametrize("priority", [1, 2, 15])
    def test_it_was_left_by_hand_when_it_is_marked_successful_and_the_other_set_runs(
        self, name: SetName, priority: int
    ) -> None:
        state = a_state("2/0/1", f"{priority}/0/1")
        assert outcome(state, name) == ["booted", "marked", "rolled back"]
        last = noticed(an_activated_update(), state)[-1]
        assert last == an_event(EventKind.ROLLED_BACK, by_hand=True, running="1.0.0", time=LATER)
        assert quarantined(noticed(an_activated_update(), state)) == {Version(1, 1, 0): last}

    @each_set
    @pytest.mark.parametrize("priority", [1, 2, 15])
    @pytest.mark.parametrize("now", ["the same", "another", None])
    def test_it_was_rolled_back_when_its_try_is_spent_and_it_does_not_run(
        self, name: SetName, priority: int, now: str | None
    ) -> None:
        state = a_state("1/0/1", f"{priority}/0/0")
        assert outcome(state, name, told="the same", now=now) == ["rolled back"]

    @each_set
    @pytest.mark.parametrize("gone", ["0/1/0", "0/0/0", "0/15/0"])
    @pytest.mark.parametrize(
        ("told", "now"), [("one", "one"), (None, "one"), ("one", None), (None, None)]
    )
    def test_it_was_reverted_when_it_lost_its_priority_in_the_boot_of_its_activation(
        self, name: SetName, gone: str, told: str | None, now: str | None
    ) -> None:
        assert outcome(a_state("2/0/1", gone), name, told=told, now=now) == ["reverted"]

    @each_set
    def test_it_was_rolled_back_when_its_set_was_cleared_in_a_later_boot(
        self, name: SetName
    ) -> None:
        """`signpost clear-inactive` after a rollback must not make the machine try again."""
        state = a_state("2/0/1", "0/0/0")
        assert outcome(state, name, told="one", now="two") == ["rolled back"]

    @each_set
    @pytest.mark.parametrize("theirs", ["0/1/0", "0/0/0"])
    def test_it_may_have_been_tried_where_flags_were_changed_by_hand_in_a_later_boot(
        self, name: SetName, theirs: str
    ) -> None:
        """`mark-inactive-valid` and `cancel-upgrade` after a failed trial leave 0/1/0."""
        told = an_activated_update(name=name, boot_id="one")
        state = a_state("2/0/1", theirs)
        (found,) = noticed(told, state if name is SetName.B else mirrored(state), boot_id="two")
        assert (found.kind, found.unseen) == (EventKind.ROLLED_BACK, True)
        assert quarantined([found]).keys() == {Version(1, 1, 0)}

    @each_set
    @pytest.mark.parametrize("kind", [EventKind.INSTALLED, EventKind.REVERTED])
    @pytest.mark.parametrize(("now", "expected"), [("one", []), ("two", ["rolled back"])])
    def test_what_was_staged_may_have_been_tried_where_its_set_was_cleared_in_a_later_boot(
        self, name: SetName, kind: EventKind, now: str, expected: list[str]
    ) -> None:
        """`signpost upgrade-to-inactive`, a failed trial, `signpost clear-inactive`."""
        staged = an_event(kind, name=name, boot_id="one")
        assert outcome(a_state("2/0/1", "0/0/0"), name, staged, now=now) == expected
        assert outcome(a_state("2/0/1", "0/1/0"), name, staged, now=now) == []

    @each_set
    def test_what_was_reverted_while_it_had_its_try_is_watched_for_the_boots_to_come(
        self, name: SetName
    ) -> None:
        told = an_activated_update(name=name, boot_id="one")
        state = a_state("2/0/1", "0/1/0")
        state = state if name is SetName.B else mirrored(state)
        (reverted,) = noticed(told, state, boot_id="one")
        assert (reverted.kind, reverted.boot_id) == (EventKind.REVERTED, "one")

    def test_what_was_cleared_before_anybody_could_boot_it_stays_reverted(self) -> None:
        told = an_activated_update(boot_id="one")
        cleared = a_state("2/0/1", "0/0/0")
        reverted = noticed(told, cleared, boot_id="one")
        assert noticed([*told, *reverted], cleared, boot_id="two") == ()

    @each_set
    def test_a_trial_that_failed_is_noticed_though_the_run_was_killed_before_it_said_installed(
        self, name: SetName
    ) -> None:
        begun = an_event(EventKind.STARTED, "1.2.0", name=name, running="1.0.0")
        state = a_state("1/0/1", "2/0/0")
        state = state if name is SetName.B else mirrored(state)
        (found,) = noticed([begun], state)
        assert (found.kind, found.version) == (EventKind.ROLLED_BACK, Version(1, 2, 0))
        assert noticed([begun, found], state) == ()

    @pytest.mark.parametrize("theirs", ["0/0/0", "0/1/0", "2/1/0", "1/0/1"])
    def test_an_installation_that_was_cut_off_was_not_tried(self, theirs: str) -> None:
        begun = an_event(EventKind.STARTED, "1.2.0", running="1.0.0")
        assert noticed([begun], a_state("1/0/1", theirs)) == ()

    def test_the_flags_of_an_earlier_failed_trial_are_not_blamed_on_what_was_to_replace_it(
        self,
    ) -> None:
        """Killed between the note that it begins and the clearing of the set."""
        failed = an_event(EventKind.ROLLED_BACK, "1.2.0", running="1.0.0")
        begun = an_event(EventKind.STARTED, "1.2.1", running="1.0.0")
        assert noticed([failed, begun], a_state("1/0/1", "2/0/0")) == ()

    def test_it_was_reverted_when_the_next_installation_cleared_its_set(self) -> None:
        """Cut off and rebooted: the one that was replaced was never tried."""
        begun = an_event(EventKind.STARTED, "1.2.0", running="1.0.0")
        checked = an_event(EventKind.CHECKED, "1.0.0", name=SetName.A)
        state = a_state("2/0/1", "0/0/0")
        found = outcome(state, SetName.B, begun, checked, told="one", now="two")
        assert found == ["reverted"]

    @each_set
    @pytest.mark.parametrize("theirs", ["0/0/0", "0/1/0", "2/0/0", "1/0/0"])
    def test_what_was_entered_and_left_without_the_mark_was_rolled_back_whatever_the_flags(
        self, name: SetName, theirs: str
    ) -> None:
        booted = an_event(EventKind.BOOTED, name=name)
        state = a_state("2/0/1", theirs)
        assert outcome(state, name, booted, told="one", now="one") == ["rolled back"]

    @each_set
    @pytest.mark.parametrize("theirs", ["2/1/0", "2/0/0", "0/0/0", "2/0/1"])
    def test_nobody_knows_where_it_is_not_known_what_runs(self, name: SetName, theirs: str) -> None:
        assert outcome(a_state("1/0/1", theirs, active=None), name) == []

    def test_nobody_knows_where_its_set_is_gone(self) -> None:
        assert outcome(a_state("1/0/1", None), SetName.B) == []

    @each_set
    def test_the_outcome_tells_when_it_was_noticed_of_what_and_what_runs_now(
        self, name: SetName
    ) -> None:
        state = a_state("1/0/1", "2/0/0")
        state = state if name is SetName.B else mirrored(state)
        found = noticed(an_activated_update("1.2.0-rc.1", name=name), state)
        assert found == (
            an_event(EventKind.ROLLED_BACK, "1.2.0-rc.1", name=name, time=LATER, running="1.0.0"),
        )

    @pytest.mark.parametrize("kind", [EventKind.FAILED, EventKind.CHECKED, EventKind.STARTED])
    def test_an_attempt_since_then_hides_nothing(self, kind: EventKind) -> None:
        attempt = an_event(kind, "1.2.0", error="cannot fetch")
        state = a_state("1/0/1", "2/0/0")
        assert outcome(state, SetName.B, attempt, attempt) == ["rolled back"]

    @pytest.mark.parametrize("kind", [EventKind.INSTALLED, EventKind.REVERTED])
    @pytest.mark.parametrize(
        ("theirs", "expected"),
        [
            ("2/0/0", ["rolled back"]),
            ("2/0/1", ["booted", "marked", "rolled back"]),
            ("2/1/0", []),
            ("0/1/0", []),
            ("0/0/0", []),
        ],
    )
    def test_an_activation_that_is_not_in_the_history_is_noticed_by_the_flags(
        self, kind: EventKind, theirs: str, expected: list[str]
    ) -> None:
        """A power cut kept it from being recorded, or `signpost upgrade-to-inactive` made it."""
        assert outcome(a_state("1/0/1", theirs), SetName.B, an_event(kind)) == expected

    @pytest.mark.parametrize("theirs", ["2/0/0", "2/0/1", "0/1/0", "0/0/0"])
    def test_there_is_nothing_to_notice_after_a_rollback(self, theirs: str) -> None:
        rolled_back = an_event(EventKind.ROLLED_BACK, running="1.0.0")
        assert outcome(a_state("1/0/1", theirs), SetName.B, rolled_back) == []

    @pytest.mark.parametrize("told", [(), (an_event(EventKind.FAILED),)])
    def test_there_is_nothing_to_notice_where_nothing_was_activated(
        self, told: tuple[Event, ...]
    ) -> None:
        assert noticed(told, a_state("1/0/1", "2/0/0")) == ()

    def test_only_the_last_activation_counts(self) -> None:
        told = (*an_activated_update("1.1.0"), *an_activated_update("1.2.0"))
        (found,) = noticed(told, a_state("1/0/1", "2/0/0"))
        assert found.version == Version(1, 2, 0)


class TestARollbackByHand:
    def test_every_turn_is_noticed_and_the_newer_version_waits_while_the_older_runs(self) -> None:
        told = [*an_activated_update(), an_event(EventKind.BOOTED), an_event(EventKind.MARKED)]
        for active, left in [(SetName.A, "1.1.0"), (SetName.B, "1.0.0"), (SetName.A, "1.1.0")]:
            state = a_state("1/0/1", "2/0/1", active=active)
            running = Version(1, 0, 0) if active is SetName.A else Version(1, 1, 0)
            found, *again = settle(told, state, running=running, boot_id=None, now=LATER)
            assert (found.kind, found.by_hand) == (EventKind.ROLLED_BACK, True)
            assert (str(found.version), found.set) == (left, active.other)
            assert found.running == running
            told += [found, *again]
            left_by_hand = {Version(1, 1, 0)} if active is SetName.A else frozenset()
            assert quarantined(told).keys() == left_by_hand

    def test_into_a_version_that_is_not_marked_successful_frees_it_not(self) -> None:
        failed = an_event(EventKind.ROLLED_BACK, "1.1.0", running="1.0.0")
        state = a_state("1/0/1", "2/0/0", active=SetName.B)
        found = settle([failed], state, running=Version(1, 1, 0), boot_id=None, now=LATER)
        assert quarantined([failed, *found]).keys() == {Version(1, 1, 0)}

    @each_set
    def test_a_downgrade_that_was_asked_for_by_name_leaves_the_newer_version_by_hand(
        self, name: SetName
    ) -> None:
        told = [
            an_event(EventKind.STARTED, "1.0.0", name=name, running="1.1.0", by_hand=True),
            an_event(EventKind.INSTALLED, "1.0.0", name=name),
            an_event(EventKind.ACTIVATED, "1.0.0", name=name),
        ]
        trial, proven = (a_state("1/0/1", flags, active=SetName.B) for flags in ("2/0/0", "2/0/1"))
        if name is SetName.A:
            trial, proven = mirrored(trial), mirrored(proven)
        told += noticed(told, trial)
        assert quarantined(told) == {}
        told += noticed(told, proven)
        (left,) = quarantined(told).values()
        assert (left.version, left.set, left.by_hand) == (Version(1, 1, 0), name.other, True)
        assert noticed(told, proven) == ()

    def test_a_downgrade_that_the_machine_took_by_itself_leaves_nothing_by_hand(self) -> None:
        told = [
            an_event(EventKind.STARTED, "1.0.0", running="1.1.0"),
            an_event(EventKind.INSTALLED, "1.0.0"),
            an_event(EventKind.ACTIVATED, "1.0.0"),
        ]
        told += noticed(told, a_state("1/0/1", "2/0/1", active=SetName.B))
        assert told[-1].kind is EventKind.MARKED
        assert quarantined(told) == {}

    def test_it_is_noticed_though_the_set_was_cleared_since(self) -> None:
        told = [*an_activated_update(), an_event(EventKind.BOOTED), an_event(EventKind.MARKED)]
        (found,) = noticed(told, a_state("1/0/1", "0/0/0"))
        assert found.by_hand

    def test_out_of_a_trial_it_is_the_end_of_the_trial(self) -> None:
        """Nothing has proven the update, so it is not tried again by itself."""
        told = [*an_activated_update(), an_event(EventKind.BOOTED)]
        (found,) = noticed(told, a_state("2/0/1", "1/0/0"))
        assert not found.by_hand
        assert quarantined([found]).keys() == {Version(1, 1, 0)}


@given(
    told=st.lists(any_event, max_size=8),
    flags=st.fixed_dictionaries({SetName.A: any_flags}, optional={SetName.B: any_flags}),
    active=st.sampled_from([*SetName, None]),
    boot_id=st.sampled_from([None, "", "another"]),
)
def test_whatever_was_told_what_is_noticed_is_noticed_once(
    told: list[Event], flags: dict[SetName, BootFlags], active: SetName | None, boot_id: str | None
) -> None:
    state = BootState(flags=flags, active=active, ever_succeeded=True)
    found = noticed(told, state, boot_id=boot_id)
    assert noticed([*told, *found], state, boot_id=boot_id) == ()


class TestWholeStories:
    """The boot loader's rule and signpost's transitions, played in memory."""

    def _upgraded(self, name: SetName) -> BootState:
        factory = a_state("1/0/1", "0/0/0")
        state = factory if name is SetName.B else mirrored(factory)
        for step in (boot.clear_inactive, boot.mark_inactive_valid, boot.upgrade_to_inactive):
            state = step(state)
        return state

    def _outcome(self, state: BootState, name: SetName, *, boots: int = 0) -> list[str]:
        told = an_activated_update(name=name, boot_id="boot 0")
        return [each.kind.value for each in noticed(told, state, boot_id=f"boot {boots}")]

    @each_set
    def test_an_update_waits_until_the_reboot(self, name: SetName) -> None:
        assert self._outcome(self._upgraded(name), name) == []

    @each_set
    def test_an_update_that_passes_its_health_check_was_booted_and_marked(
        self, name: SetName
    ) -> None:
        state = boot.mark_successful_boot(boot.select_boot(self._upgraded(name)))
        assert state.active is name
        assert self._outcome(state, name, boots=1) == ["booted", "marked"]
        assert self._outcome(boot.select_boot(state), name, boots=2) == ["booted", "marked"]

    @each_set
    def test_an_update_that_never_marks_itself_was_rolled_back(self, name: SetName) -> None:
        state = boot.select_boot(boot.select_boot(self._upgraded(name)))
        assert state.active is name.other
        assert self._outcome(state, name, boots=2) == ["rolled back"]
        assert self._outcome(boot.clear_inactive(state), name, boots=2) == ["rolled back"]

    @each_set
    def test_an_upgrade_that_signpost_cancelled_was_reverted_unless_a_boot_came_between(
        self, name: SetName
    ) -> None:
        state = boot.cancel_upgrade(self._upgraded(name))
        assert self._outcome(state, name) == ["reverted"]
        assert self._outcome(boot.select_boot(state), name, boots=1) == ["rolled back"]

    @each_set
    def test_an_update_that_somebody_left_is_no_failure(self, name: SetName) -> None:
        state = boot.mark_successful_boot(boot.select_boot(self._upgraded(name)))
        state = boot.select_boot(boot.rollback_to_inactive(state))
        assert state.active is name.other
        assert self._outcome(state, name, boots=2) == ["booted", "marked", "rolled back"]


class TestWhatMustNotBeForgotten:
    @given(
        told=st.lists(any_event, max_size=25),
        flags=st.fixed_dictionaries({SetName.A: any_flags}, optional={SetName.B: any_flags}),
        active=st.sampled_from([*SetName, None]),
        boot_id=st.sampled_from([None, "", "another"]),
        more=st.lists(any_event, max_size=3),
    )
    @settings(max_examples=200)
    def test_every_question_has_the_same_answer_without_the_rest(
        self,
        *,
        told: list[Event],
        flags: dict[SetName, BootFlags],
        active: SetName | None,
        boot_id: str | None,
        more: list[Event],
    ) -> None:
        state = BootState(flags=flags, active=active, ever_succeeded=True)
        whole, short = [*told, *more], [*essence(told), *more]
        assert noticed(short, state, boot_id=boot_id) == noticed(whole, state, boot_id=boot_id)
        assert quarantined(short) == quarantined(whole)
        assert last_deed(short) == last_deed(whole)
        for name in SetName:
            assert staged_version(short, state, name) == staged_version(whole, state, name)
            assert known_version(short, state, name) == known_version(whole, state, name)
        for event in told:
            assert is_news(event, short) == is_news(event, whole)

    @given(told=st.lists(any_event, max_size=25))
    def test_it_is_part_of_what_was_told_in_its_order(self, told: list[Event]) -> None:
        kept = essence(told)
        rest = iter(told)
        assert all(any(event is each for each in rest) for event in kept)
        assert essence(kept) == kept

    def test_it_does_not_grow_with_time(self) -> None:
        year = [*an_activated_update(), an_event(EventKind.BOOTED), an_event(EventKind.MARKED)]
        assert len(essence(year * 100)) == len(year)

    def test_every_version_that_is_in_quarantine_is_kept(self) -> None:
        told = [an_event(EventKind.ROLLED_BACK, f"1.{minor}.0") for minor in range(50)]
        assert len(essence(told)) == 50


class TestNews:
    def test_the_first_look_at_the_repository_is_news(self) -> None:
        assert is_news(an_event(EventKind.CHECKED, outcome="running"), [an_event()])

    def test_the_same_answer_is_none(self) -> None:
        told = [an_event(EventKind.CHECKED, outcome="running"), an_event()]
        assert not is_news(an_event(EventKind.CHECKED, outcome="running", time=LATER), told)

    def test_a_failure_for_another_reason_is_none(self) -> None:
        told = [an_event(EventKind.CHECKED, outcome="failed", error="after 30.1 s")]
        assert not is_news(an_event(EventKind.CHECKED, outcome="failed", error="after 30 s"), told)

    @pytest.mark.parametrize(
        "other",
        [
            an_event(EventKind.CHECKED, outcome="failed", error="no"),
            an_event(EventKind.CHECKED, outcome="chosen", offered="1.2.0"),
            an_event(EventKind.CHECKED, "1.1.1", outcome="running"),
        ],
    )
    def test_another_answer_is_news_and_so_is_the_first_one_again(self, other: Event) -> None:
        same = an_event(EventKind.CHECKED, outcome="running")
        assert is_news(other, [same])
        assert is_news(same, [same, other])


class TestVersions:
    def test_quarantined_is_what_was_rolled_back_and_nothing_else(self) -> None:
        told = [an_event(kind, f"1.{number}.0") for number, kind in enumerate(EventKind)]
        told.append(an_event(EventKind.ROLLED_BACK, "2.0.0", by_hand=True, running="1.0.0"))
        told.append(an_event(EventKind.ROLLED_BACK, "0.9.0", by_hand=True, running="1.0.0"))
        expected = list(EventKind).index(EventKind.ROLLED_BACK)
        assert quarantined(told).keys() == {Version(1, expected, 0), Version(2, 0, 0)}

    def test_quarantine_lasts_and_several_versions_can_be_in_it(self) -> None:
        rolled_back = [an_event(EventKind.ROLLED_BACK, v) for v in ("1.1.0", "1.2.0", "1.1.0")]
        told = [*rolled_back, *an_activated_update("1.3.0"), an_event(EventKind.MARKED, "1.3.0")]
        assert quarantined(told).keys() == {Version(1, 1, 0), Version(1, 2, 0)}

    def test_a_version_that_proved_itself_when_the_user_insisted_is_free_again(self) -> None:
        told = [an_event(EventKind.ROLLED_BACK), *an_activated_update(), an_event(EventKind.BOOTED)]
        assert quarantined(told).keys() == {Version(1, 1, 0)}
        marked = [*told, an_event(EventKind.MARKED)]
        assert quarantined(marked).keys() == frozenset()
        assert quarantined([*marked, an_event(EventKind.ROLLED_BACK)]).keys() == {Version(1, 1, 0)}

    def test_nothing_is_quarantined_at_first(self) -> None:
        assert quarantined([]).keys() == frozenset()

    @pytest.mark.parametrize("theirs", ["0/1/0", "2/1/0", "2/0/0", "1/0/1"])
    def test_the_last_version_that_was_installed_into_a_set_is_staged(self, theirs: str) -> None:
        told = [an_event(version="1.1.0"), an_event(version="1.2.0")]
        assert staged_version(told, a_state(b=theirs), SetName.B) == Version(1, 2, 0)

    def test_what_was_installed_into_the_other_set_is_not_staged_in_this_one(self) -> None:
        told = [
            an_event(version="1.1.0", name=SetName.B),
            an_event(version="1.2.0", name=SetName.A),
        ]
        assert staged_version(told, a_state(b="0/1/0"), SetName.B) == Version(1, 1, 0)

    def test_an_installation_into_the_same_set_that_did_not_end_leaves_nothing_staged(
        self,
    ) -> None:
        begun = an_event(EventKind.STARTED, "1.2.0")
        assert staged_version([an_event(), begun], a_state(b="0/1/0"), SetName.B) is None

    def test_an_installation_into_the_other_set_changes_nothing_here(self) -> None:
        begun = an_event(EventKind.STARTED, "1.2.0", name=SetName.A)
        staged = staged_version([an_event(), begun], a_state(b="0/1/0"), SetName.B)
        assert staged == Version(1, 1, 0)

    def test_a_cleared_set_stages_nothing(self) -> None:
        assert staged_version([an_event()], a_state(b="0/0/0"), SetName.B) is None

    def test_a_set_that_does_not_exist_stages_nothing(self) -> None:
        assert staged_version([an_event()], a_state(b=None), SetName.B) is None

    @pytest.mark.parametrize(
        "kind", [kind for kind in EventKind if kind is not EventKind.INSTALLED]
    )
    def test_what_was_not_installed_to_the_end_is_not_staged(self, kind: EventKind) -> None:
        assert staged_version([an_event(kind)], a_state(b="0/1/0"), SetName.B) is None

    def test_a_set_holds_what_was_last_installed_into_it(self) -> None:
        told = [*an_activated_update("1.1.0"), *an_activated_update("1.2.0")]
        assert known_version(told, a_state(), SetName.B) == Version(1, 2, 0)

    def test_a_set_holds_what_was_begun_to_be_written_unless_it_was_not_even_cleared(self) -> None:
        told = [*an_activated_update(), an_event(EventKind.STARTED, "1.2.0")]
        for theirs, expected in [("0/0/0", 2), ("0/1/0", 2), ("1/0/1", 1)]:
            state = a_state("2/0/1", theirs)
            assert known_version(told, state, SetName.B) == Version(1, expected, 0)

    def test_a_set_that_ran_during_an_installation_into_the_other_holds_what_ran(self) -> None:
        assert known_version(an_activated_update(), a_state(), SetName.A) == Version(1, 0, 0)

    def test_the_newest_knowledge_about_a_set_counts(self) -> None:
        into_b = an_event(EventKind.STARTED, "1.3.0", running="1.2.9")
        told = [an_event(version="1.2.0", name=SetName.A), into_b]
        assert known_version(told, a_state(), SetName.A) == Version(1, 2, 9)
        assert known_version(told[::-1], a_state(), SetName.A) == Version(1, 2, 0)

    @each_set
    def test_of_a_set_that_never_appeared_nothing_is_known(self, name: SetName) -> None:
        assert known_version([], a_state(), name) is None
        assert known_version([an_event(EventKind.FAILED, name=name)], a_state(), name) is None
