"""Every transition of the boot state, and the boot loader's rule."""

from collections.abc import Callable, Mapping
from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from signpost import state as boot
from signpost.errors import SetError, TransitionError
from signpost.flags import BootFlags
from signpost.sets import SetName
from signpost.state import BootState
from tests.helpers.gpt_builder import Flags
from tests.helpers.gpt_readers import boot_rule, flags_after_boot

A, B = SetName.A, SetName.B
Transition = Callable[[BootState], BootState]


def parse(text: str) -> BootFlags:
    priority, tries, successful = text.split("/")
    return BootFlags(priority=int(priority), tries=int(tries), successful=successful == "1")


def a_state(
    a: str = "1/0/1",
    b: str | None = "0/0/0",
    *,
    active: SetName | None = A,
    ever_succeeded: bool = False,
) -> BootState:
    """Build a state from flags written as priority/tries/successful; `b=None` is a single set."""
    flags = {A: parse(a)} if b is None else {A: parse(a), B: parse(b)}
    return BootState(flags=flags, active=active, ever_succeeded=ever_succeeded)


def shown(state: BootState) -> tuple[str, ...]:
    return tuple(str(state.flags[name]) for name in SetName if name in state.flags)


def independent_flags(state: BootState) -> list[Flags]:
    ordered = (state.flags[name] for name in SetName)
    return [Flags(one.priority, one.tries, int(one.successful)) for one in ordered]


def mirrored(state: BootState) -> BootState:
    """Swap the names of both sets."""
    return BootState(
        flags={A: state.flags[B], B: state.flags[A]},
        active=None if state.active is None else state.active.other,
        ever_succeeded=state.ever_succeeded,
    )


flag_values = st.builds(
    BootFlags,
    priority=st.sampled_from([0, 1, 2, 3, 14, 15]),
    tries=st.sampled_from([0, 1, 2, 15]),
    successful=st.booleans(),
)
states = st.builds(
    BootState,
    flags=st.fixed_dictionaries({A: flag_values, B: flag_values}),
    active=st.sampled_from([A, B]),
    ever_succeeded=st.booleans(),
)


class TestTheBootLoadersRule:
    @pytest.mark.parametrize(
        ("a", "b", "expected"),
        [
            pytest.param("1/0/1", "0/0/0", "A", id="the factory flags"),
            pytest.param("1/0/1", "2/1/0", "B", id="a pending upgrade"),
            pytest.param("1/0/1", "2/0/0", "A", id="an upgrade whose try is spent"),
            pytest.param("1/0/1", "2/0/1", "B", id="an upgrade that was marked successful"),
            pytest.param("2/0/1", "1/0/1", "A", id="the higher priority"),
            pytest.param("1/0/1", "1/0/1", "A", id="a tie takes the first"),
            pytest.param("15/0/1", "15/15/1", "A", id="tries decide no tie"),
            pytest.param("14/1/0", "15/0/1", "B", id="the highest priorities"),
            pytest.param("0/15/1", "1/1/0", "B", id="priority 0 is never booted"),
            pytest.param("0/15/1", "0/0/0", None, id="nobody has a priority"),
            pytest.param("2/0/0", "1/0/0", None, id="nobody has a try or the mark"),
            pytest.param("1/0/1", None, "A", id="a single set"),
            pytest.param("0/0/0", None, None, id="a single set that cannot boot"),
        ],
    )
    def test_the_bootable_set_of_highest_priority_boots_next(
        self, a: str, b: str | None, expected: str | None
    ) -> None:
        assert boot.next_set(a_state(a, b)) == expected

    @settings(deadline=None)
    @given(state=states)
    def test_it_is_the_rule_of_an_independent_reading_of_gptprio(self, state: BootState) -> None:
        flags = independent_flags(state)
        index = boot_rule(flags)
        assert boot.next_set(state) == (None if index is None else [A, B][index])

    @pytest.mark.parametrize("active", [A, B, None])
    def test_which_set_runs_does_not_matter_to_it(self, active: SetName | None) -> None:
        assert boot.next_set(a_state("1/0/1", "1/1/0", active=active)) is A

    def test_it_does_not_depend_on_the_order_in_which_the_flags_are_kept(self) -> None:
        tied = BootState(
            flags={B: parse("3/0/1"), A: parse("3/0/1")}, active=A, ever_succeeded=False
        )
        assert boot.next_set(tied) is A


class TestSelectBoot:
    @pytest.mark.parametrize(
        ("a", "b", "after", "active"),
        [
            pytest.param("1/0/1", "2/1/0", ("1/0/1", "2/0/0"), B, id="its only try is spent"),
            pytest.param("1/0/1", "2/2/1", ("1/0/1", "2/1/1"), B, id="of a successful set too"),
            pytest.param("1/0/1", "0/0/0", ("1/0/1", "0/0/0"), A, id="no try, nothing spent"),
            pytest.param("1/0/1", "2/15/0", ("1/0/1", "2/14/0"), B, id="one of fifteen"),
            pytest.param("5/3/0", "5/3/0", ("5/2/0", "5/3/0"), A, id="only the chosen one's"),
        ],
    )
    def test_a_try_of_the_chosen_set_is_spent(
        self, a: str, b: str, after: tuple[str, str], active: SetName
    ) -> None:
        selected = boot.select_boot(a_state(a, b))
        assert shown(selected) == after
        assert selected.active is active

    def test_it_needs_no_knowledge_of_what_runs(self) -> None:
        assert boot.select_boot(a_state(active=None)).active is A

    def test_it_works_on_a_single_set_disk(self) -> None:
        assert shown(boot.select_boot(a_state("1/2/0", None))) == ("1/1/0",)

    @settings(deadline=None)
    @given(state=states)
    def test_it_leaves_what_an_independent_gptprio_leaves(self, state: BootState) -> None:
        flags = independent_flags(state)
        if boot_rule(flags) is None:
            with pytest.raises(TransitionError):
                boot.select_boot(state)
            return
        expected = tuple(f"{f.priority}/{f.tries}/{f.successful}" for f in flags_after_boot(flags))
        assert shown(boot.select_boot(state)) == expected

    def test_a_set_that_did_not_load_is_left_out_and_keeps_its_flags(self) -> None:
        selected = boot.select_boot(a_state("1/2/0", "2/1/0"), without={B})
        assert shown(selected) == ("1/1/0", "2/1/0")
        assert selected.active is A

    def test_when_every_set_is_left_out_none_can_boot(self) -> None:
        with pytest.raises(TransitionError, match="no other set can boot"):
            boot.select_boot(a_state("1/2/0", "2/1/0"), without={A, B})

    def test_without_a_bootable_set_it_says_what_stands_there_and_what_is_needed(self) -> None:
        with pytest.raises(TransitionError) as caught:
            boot.select_boot(a_state("0/0/1", "2/0/0"))
        assert str(caught.value) == (
            "no set can boot (priority/tries/successful: A 0/0/1, B 2/0/0); "
            "a set needs a priority above 0 and either tries left or the success mark"
        )


class TestMarkSuccessfulBoot:
    def test_the_running_set_and_the_machine_are_marked(self) -> None:
        marked = boot.mark_successful_boot(a_state("1/0/1", "2/1/0", active=B))
        assert shown(marked) == ("1/0/1", "2/1/1")
        assert marked.ever_succeeded

    def test_priority_and_tries_stay(self) -> None:
        assert shown(boot.mark_successful_boot(a_state("3/7/0", "2/1/0"))) == ("3/7/1", "2/1/0")

    def test_it_works_on_a_single_set_disk(self) -> None:
        assert shown(boot.mark_successful_boot(a_state("1/1/0", None))) == ("1/1/1",)

    def test_a_machine_that_succeeded_once_stays_so(self) -> None:
        state = a_state(ever_succeeded=True)
        assert boot.mark_successful_boot(state) == state


class TestClearInactive:
    def test_the_inactive_set_loses_all_flags(self) -> None:
        assert shown(boot.clear_inactive(a_state("2/0/1", "15/15/1"))) == ("2/0/1", "0/0/0")

    def test_set_a_is_cleared_while_set_b_runs(self) -> None:
        assert shown(boot.clear_inactive(a_state("1/0/1", "2/0/1", active=B))) == ("0/0/0", "2/0/1")

    def test_a_running_set_on_trial_keeps_its_way_back(self) -> None:
        with pytest.raises(TransitionError) as caught:
            boot.clear_inactive(a_state("1/0/1", "2/0/0", active=B))
        assert str(caught.value) == (
            "the running set B is not marked successful: after clearing set A, a failed boot would "
            "have nothing to return to. Run `signpost mark-successful-boot` once this system is "
            "known to be good"
        )

    def test_clearing_what_is_clear_is_allowed_even_on_trial(self) -> None:
        state = a_state("2/1/0", "0/0/0")
        assert boot.clear_inactive(state) == state

    @pytest.mark.parametrize("b", ["1/0/0", "0/1/0", "0/0/1"])
    def test_any_remaining_flag_counts_as_not_clear(self, b: str) -> None:
        with pytest.raises(TransitionError):
            boot.clear_inactive(a_state("2/1/0", b))


class TestMarkInactiveValid:
    @pytest.mark.parametrize(
        ("b", "after"), [("0/0/0", "0/1/0"), ("3/0/1", "3/1/1"), ("0/15/0", "0/1/0")]
    )
    def test_the_inactive_set_has_one_try_and_keeps_the_rest(self, b: str, after: str) -> None:
        assert shown(boot.mark_inactive_valid(a_state("1/0/1", b))) == ("1/0/1", after)

    def test_a_single_try_does_not_make_a_set_boot(self) -> None:
        assert boot.next_set(boot.mark_inactive_valid(a_state())) is A


class TestUpgradeToInactive:
    def test_the_inactive_set_is_tried_next_and_the_running_one_stands_behind_it(self) -> None:
        upgraded = boot.upgrade_to_inactive(a_state("5/0/1", "0/1/0"))
        assert shown(upgraded) == ("1/0/1", "2/1/0")
        assert boot.next_set(upgraded) is B

    def test_doing_it_again_changes_nothing(self) -> None:
        upgraded = boot.upgrade_to_inactive(a_state("1/0/1", "0/1/0"))
        assert boot.upgrade_to_inactive(upgraded) == upgraded

    def test_any_number_of_tries_will_do(self) -> None:
        assert shown(boot.upgrade_to_inactive(a_state("1/0/1", "0/15/0"))) == ("1/0/1", "2/15/0")

    @pytest.mark.parametrize(
        "b",
        [
            pytest.param("0/0/0", id="not marked valid"),
            pytest.param("1/1/0", id="a priority already"),
            pytest.param("3/1/0", id="a priority that no upgrade gives"),
            pytest.param("2/0/0", id="an upgrade whose try is spent"),
            pytest.param("2/1/1", id="a rollback"),
            pytest.param("0/1/1", id="marked successful"),
        ],
    )
    def test_a_set_that_is_not_freshly_written_is_refused(self, b: str) -> None:
        with pytest.raises(TransitionError) as caught:
            boot.upgrade_to_inactive(a_state("1/0/1", b))
        assert str(caught.value) == (
            f"set B is not freshly written: its priority/tries/successful are {b}, an upgrade "
            "needs 0/1/0. Install an update first with `updog update-image`, or go back to what "
            "set B holds with `signpost rollback-to-inactive`"
        )

    def test_a_running_set_on_trial_could_not_be_fallen_back_to(self) -> None:
        with pytest.raises(TransitionError) as caught:
            boot.upgrade_to_inactive(a_state("1/0/0", "0/1/0"))
        assert str(caught.value).startswith(
            "the running set A is not marked successful: after an upgrade to set B, a failed boot"
        )


class TestCancelUpgrade:
    @pytest.mark.parametrize(
        ("before", "after"),
        [
            pytest.param(("1/0/1", "2/1/0"), ("2/0/1", "0/1/0"), id="an upgrade"),
            pytest.param(("1/0/1", "2/0/1"), ("2/0/1", "0/0/1"), id="a rollback"),
            pytest.param(("0/0/1", "1/1/0"), ("2/0/1", "0/1/0"), id="unusual priorities"),
        ],
    )
    def test_the_next_boot_stays_with_the_running_set(
        self, before: tuple[str, str], after: tuple[str, str]
    ) -> None:
        cancelled = boot.cancel_upgrade(a_state(*before))
        assert shown(cancelled) == after
        assert boot.next_set(cancelled) is A

    @pytest.mark.parametrize(
        ("a", "b", "following"),
        [
            pytest.param("1/0/1", "2/0/0", "set A", id="the try is already spent"),
            pytest.param("1/0/1", "1/1/0", "set A", id="a tie goes to A"),
            pytest.param("1/0/1", "1/0/0", "set A", id="a priority without a try"),
        ],
    )
    def test_without_a_pending_upgrade_there_is_nothing_to_cancel(
        self, a: str, b: str, following: str
    ) -> None:
        with pytest.raises(TransitionError) as caught:
            boot.cancel_upgrade(a_state(a, b))
        assert str(caught.value) == f"no upgrade is pending: the next boot takes {following}"

    @pytest.mark.parametrize("b", ["0/0/0", "0/1/0", "0/15/1", "15/0/0"])
    def test_where_nothing_boots_next_it_lets_a_proven_running_set_boot(self, b: str) -> None:
        left = boot.cancel_upgrade(a_state("0/0/1", b))
        assert shown(left) == ("2/0/1", f"0{b[b.index('/') :]}")
        assert boot.next_set(left) is A

    def test_where_nothing_boots_next_a_running_set_on_trial_must_be_marked_first(self) -> None:
        lost = a_state("1/0/0", "0/0/0")
        with pytest.raises(TransitionError, match=r"Run `signpost mark-successful-boot` once"):
            boot.cancel_upgrade(lost)

    def test_from_any_flags_success_and_cancelling_let_the_running_set_boot_for_ever(self) -> None:
        """What every message advises must lead out, whatever another tool has left."""
        values = (0, 1, 2, 15)
        every = [f"{p}/{t}/{s}" for p in values for t in values for s in (0, 1)]
        for a, b, active in product(every, every, (A, B)):
            marked = boot.mark_successful_boot(a_state(a, b, active=active))
            if boot.next_set(marked) is not active:
                marked = boot.cancel_upgrade(marked)
            for _ in range(16):
                assert boot.next_set(marked) is active, (a, b, active)
                marked = boot.select_boot(marked)

    def test_a_running_set_on_trial_keeps_its_way_back(self) -> None:
        with pytest.raises(TransitionError, match=r"^the running set B .* after cancelling, a "):
            boot.cancel_upgrade(a_state("2/0/1", "1/0/0", active=B))

    @pytest.mark.parametrize(
        ("a", "b"), [("2/0/1", "0/1/0"), ("1/0/1", "0/0/0"), ("1/1/0", "0/0/1")]
    )
    def test_doing_it_again_changes_nothing(self, a: str, b: str) -> None:
        assert boot.cancel_upgrade(a_state(a, b)) == a_state(a, b)

    def test_an_upgrade_can_be_cancelled_and_begun_again(self) -> None:
        upgraded = boot.upgrade_to_inactive(a_state("1/0/1", "0/1/0"))
        assert boot.upgrade_to_inactive(boot.cancel_upgrade(upgraded)) == upgraded


class TestRollbackToInactive:
    @pytest.mark.parametrize(
        ("b", "after"),
        [
            pytest.param("0/0/1", "2/0/1", id="a set that was successful"),
            pytest.param("1/0/1", "2/0/1", id="a set that was successful and has a priority"),
            pytest.param("1/1/0", "2/1/0", id="a set with a priority and a try"),
            pytest.param("15/15/0", "2/15/0", id="a set with the highest priority"),
        ],
    )
    def test_the_next_boot_takes_what_the_inactive_set_holds(self, b: str, after: str) -> None:
        rolled_back = boot.rollback_to_inactive(a_state("3/0/1", b))
        assert shown(rolled_back) == ("1/0/1", after)
        assert boot.next_set(rolled_back) is B

    @pytest.mark.parametrize("b", ["0/0/0", "0/15/0", "15/0/0"])
    def test_a_set_that_would_not_boot_is_refused(self, b: str) -> None:
        with pytest.raises(TransitionError) as caught:
            boot.rollback_to_inactive(a_state("1/0/1", b))
        assert str(caught.value) == (
            f"set B cannot be rolled back to: its priority/tries/successful are {b}; "
            "it needs the success mark, or a priority and a try"
        )

    def test_a_running_set_on_trial_may_be_left(self) -> None:
        rolled_back = boot.rollback_to_inactive(a_state("1/0/1", "2/0/0", active=B))
        assert shown(rolled_back) == ("2/0/1", "1/0/0")


INACTIVE_TRANSITIONS = [
    boot.clear_inactive,
    boot.mark_inactive_valid,
    boot.upgrade_to_inactive,
    boot.cancel_upgrade,
    boot.rollback_to_inactive,
]
RUNNING_TRANSITIONS = [boot.mark_successful_boot, *INACTIVE_TRANSITIONS]


class TestWhatTransitionsHaveInCommon:
    @pytest.mark.parametrize("transition", RUNNING_TRANSITIONS)
    def test_without_knowing_what_runs_nothing_is_changed(self, transition: Transition) -> None:
        with pytest.raises(TransitionError) as caught:
            transition(a_state("1/0/1", "2/1/1", active=None))
        assert str(caught.value) == (
            "it is not known which set of this disk is running; say so with --active A or B"
        )

    @pytest.mark.parametrize("transition", INACTIVE_TRANSITIONS)
    def test_a_single_set_disk_has_no_inactive_set(self, transition: Transition) -> None:
        with pytest.raises(SetError) as caught:
            transition(a_state("1/0/1", None))
        assert str(caught.value) == (
            "this is a single-set disk (one BOOT partition): there is no inactive set"
        )

    @pytest.mark.parametrize("transition", RUNNING_TRANSITIONS)
    @settings(deadline=None, max_examples=40)
    @given(state=states)
    def test_both_sets_are_treated_alike(self, transition: Transition, state: BootState) -> None:
        # Where priorities tie the boot loader prefers A: the one difference between the sets.
        if state.flags[A].priority == state.flags[B].priority:
            return
        assert outcome(transition, mirrored(state)) == mirrored_outcome(transition, state)

    @pytest.mark.parametrize("transition", RUNNING_TRANSITIONS)
    @settings(deadline=None, max_examples=40)
    @given(state=states)
    def test_the_state_that_was_given_is_left_alone(
        self, transition: Transition, state: BootState
    ) -> None:
        before: Mapping[SetName, BootFlags] = dict(state.flags)
        outcome(transition, state)
        assert state.flags == before

    @pytest.mark.parametrize("transition", INACTIVE_TRANSITIONS)
    @settings(deadline=None, max_examples=40)
    @given(state=states)
    def test_none_but_the_success_mark_says_that_a_boot_succeeded(
        self, transition: Transition, state: BootState
    ) -> None:
        after = outcome(transition, state)
        assert after is None or after.ever_succeeded == state.ever_succeeded

    @pytest.mark.parametrize("transition", RUNNING_TRANSITIONS)
    @settings(deadline=None, max_examples=40)
    @given(state=states)
    def test_where_the_running_set_would_boot_again_some_set_still_boots_after(
        self, transition: Transition, state: BootState
    ) -> None:
        assert state.active is not None
        after = outcome(transition, state)
        if after is not None and state.flags[state.active].will_boot:
            assert boot.next_set(after) is not None


def outcome(transition: Transition, state: BootState) -> BootState | None:
    try:
        return transition(state)
    except TransitionError:
        return None


def mirrored_outcome(transition: Transition, state: BootState) -> BootState | None:
    after = outcome(transition, state)
    return None if after is None else mirrored(after)
