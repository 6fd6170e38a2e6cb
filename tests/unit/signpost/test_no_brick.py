"""No order of commands, updates and boots leads to a machine that does not boot.

A model of the machine runs random sequences against the real transitions: what each set holds,
which one runs, and whether an update is half written. One machine leaves the factory as it should,
and boots for ever. Another one has whatever flags some other tool has left it, its first success
mark still to come or not: what boots there is always whole, and no command takes away what boots.
"""

from collections.abc import Callable

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from signpost.errors import SignpostError
from signpost.flags import CLEARED, BootFlags
from signpost.sets import SetName
from signpost.state import (
    BootState,
    cancel_upgrade,
    clear_inactive,
    inactive_set,
    mark_inactive_valid,
    mark_successful_boot,
    next_set,
    rollback_to_inactive,
    select_boot,
    upgrade_to_inactive,
)

Transition = Callable[[BootState], BootState]

RESETS = 8
"""More than the tries that a set can have: what still boots then boots for ever."""


class Machine(RuleBasedStateMachine):
    """Flags by the real code; contents and the running set by this model."""

    def __init__(self) -> None:
        super().__init__()
        self.whole: dict[SetName, bool] = {}
        self.state = BootState(flags={}, active=None, ever_succeeded=False)
        self.is_writing = False

    def begin(self, a: BootFlags, b: BootFlags, active: SetName) -> None:
        """Set up a machine: the running set is whole, and so is each that has any flag."""
        self.state = BootState(
            flags={SetName.A: a, SetName.B: b}, active=active, ever_succeeded=False
        )
        self.whole = {
            name: flags != CLEARED or name is active for name, flags in self.state.flags.items()
        }

    def attempt(self, transition: Transition) -> bool:
        """Apply a transition as the command does: refused means unchanged."""
        before = self.boots_left()
        try:
            self.state = transition(self.state)
        except SignpostError:
            return False
        after = self.boots_left()
        assert after > 0 or before == 0, f"the last set that boots was taken: {self.state.flags}"
        assert after == RESETS or before < RESETS, f"it boots no more for ever: {self.state.flags}"
        return True

    def boots_left(self) -> int:
        """Return how many resets in a row lead to a whole system, up to RESETS."""
        state = self.state
        for count in range(RESETS):
            chosen = next_set(state)
            if chosen is None:
                return count
            assert self.whole[chosen], f"set {chosen} boots and is not whole: {state.flags}"
            state = select_boot(state)
        return RESETS

    @rule()
    def user_marks_success(self) -> None:
        self.attempt(mark_successful_boot)

    @rule()
    def user_clears_inactive(self) -> None:
        self.attempt(clear_inactive)

    @rule()
    def user_upgrades(self) -> None:
        self.attempt(upgrade_to_inactive)

    @rule()
    def user_cancels(self) -> None:
        self.attempt(cancel_upgrade)

    @rule()
    def user_rolls_back(self) -> None:
        self.attempt(rollback_to_inactive)

    @precondition(lambda self: self.whole[inactive_set(self.state)])
    @rule()
    def user_marks_a_whole_inactive_set_valid(self) -> None:
        self.attempt(mark_inactive_valid)

    @rule()
    def update_clears_and_begins_to_write(self) -> None:
        if self.attempt(clear_inactive):
            self.is_writing = True
            self.whole[inactive_set(self.state)] = False

    @precondition(lambda self: self.is_writing)
    @rule(activate=st.booleans())
    def update_finishes(self, activate: bool) -> None:
        self.whole[inactive_set(self.state)] = True
        self.is_writing = False
        assert self.attempt(mark_inactive_valid)
        if activate:
            self.attempt(upgrade_to_inactive)

    @precondition(lambda self: next_set(self.state) is not None)
    @rule()
    def power_is_cut_and_the_machine_boots(self) -> None:
        self.is_writing = False
        self.state = select_boot(self.state)

    @invariant()
    def whatever_boots_is_whole(self) -> None:
        if self.state.flags:
            self.boots_left()


class FactoryMachine(Machine):
    """A machine as it leaves the factory."""

    @initialize(factory_tries=st.integers(min_value=0, max_value=3))
    def leave_the_factory(self, factory_tries: int) -> None:
        a = BootFlags(priority=1, tries=factory_tries, successful=True)
        self.begin(a, CLEARED, SetName.A)

    @invariant()
    def it_boots_for_ever(self) -> None:
        assert not self.state.flags or self.boots_left() == RESETS


ANY_FLAGS = st.builds(
    BootFlags,
    priority=st.sampled_from((0, 1, 2, 3, 15)),
    tries=st.integers(min_value=0, max_value=3),
    successful=st.booleans(),
)


class StrangeMachine(Machine):
    """A machine with any flags at all, before or after its first success."""

    @initialize(a=ANY_FLAGS, b=ANY_FLAGS, active=st.sampled_from(SetName))
    def be_found(self, a: BootFlags, b: BootFlags, active: SetName) -> None:
        self.begin(a, b, active)


MANY = settings(max_examples=300, stateful_step_count=40, deadline=None)
FactoryMachine.TestCase.settings = MANY
StrangeMachine.TestCase.settings = MANY
TestNoOrderOfCommandsBricksAMachineFromTheFactory = FactoryMachine.TestCase
TestNoOrderOfCommandsTakesFromAnyMachineWhatBoots = StrangeMachine.TestCase
