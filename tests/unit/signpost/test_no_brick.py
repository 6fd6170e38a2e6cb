"""No order of commands, updates and boots leads to a machine that does not boot.

A model of the machine runs random sequences against the real transitions: what each set holds,
which one runs, and whether an update is half written. After every step the boot loader's rule must
lead to a set whose content is whole, now and after any number of resets.
"""

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

RESETS = 20


class Machine(RuleBasedStateMachine):
    """Flags by the real code; contents and the running set by this model."""

    def __init__(self) -> None:
        super().__init__()
        self.whole = {SetName.A: True, SetName.B: False}
        self.state = BootState(flags={}, active=None, ever_succeeded=False)
        self.is_writing = False

    @initialize(factory_tries=st.integers(min_value=0, max_value=3))
    def leave_the_factory(self, factory_tries: int) -> None:
        flags = {
            SetName.A: BootFlags(priority=1, tries=factory_tries, successful=True),
            SetName.B: CLEARED,
        }
        self.state = BootState(flags=flags, active=SetName.A, ever_succeeded=True)

    def attempt(self, transition) -> bool:  # type: ignore[no-untyped-def]
        """Apply a transition as the command does: refused means unchanged."""
        try:
            self.state = transition(self.state)
        except SignpostError:
            return False
        return True

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

    @rule()
    def power_is_cut_and_the_machine_boots(self) -> None:
        self.is_writing = False
        self.state = select_boot(self.state)

    @invariant()
    def whatever_boots_is_whole_for_ever(self) -> None:
        state = self.state
        for _ in range(RESETS if state.flags else 0):
            chosen = next_set(state)
            assert chosen is not None, f"nothing boots: {state.flags}"
            assert self.whole[chosen], f"set {chosen} boots and is not whole: {state.flags}"
            state = select_boot(state)


Machine.TestCase.settings = settings(max_examples=300, stateful_step_count=40, deadline=None)
TestNoOrderOfCommandsBricksTheMachine = Machine.TestCase
