"""Which set is entered, and which one after it where that fails.

Decides the order by `signpost.state` alone, on what stands on the disk: a set's try is spent, and
the table is written, before anything of the set is loaded. A set that did not load is left out for
the rest of this boot. Where the disk takes no write, a set on trial is not entered, since its try
could not be spent; one that was marked successful is: it needs none. Loads nothing itself.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from signpost import disk, state
from signpost.errors import SignpostError, TransitionError
from signpost.sets import SetName

Tell = Callable[[str], None]


class Selected(NamedTuple):
    """A set that may be entered now: its try, if it had one, is spent on the disk."""

    name: SetName
    disk: disk.BootDisk


Enter = Callable[[Selected], None]
"""Load a set's kernel and jump into it. Returns only by an error."""


def enter_in_turn(location: disk.Location, enter: Enter, tell: Tell) -> None:
    """Enter one set after the other, until one takes over; return when none does.

    Args:
        location: the OS disk.
        enter: raises when a set does not load; whatever it is, another set has its turn.
        tell: what goes to the console.
    """
    failed: frozenset[SetName] = frozenset()
    while True:
        try:
            selected = select(location, failed, tell)
        except SignpostError as err:
            tell(str(err))
            return
        tell(_words(selected))
        try:
            enter(selected)
        except SignpostError as err:
            tell(f"set {selected.name} does not load: {err}")
        except OSError as err:
            tell(f"set {selected.name} does not load: {err.strerror or err}")
        except Exception as err:  # noqa: BLE001 -- else a marked set would be tried for ever
            tell(f"set {selected.name} does not load: {type(err).__name__}: {err}")
        failed |= {selected.name}


def select(location: disk.Location, failed: frozenset[SetName], tell: Tell) -> Selected:
    """Spend the try of the set that boots next, leaving out those that did not load.

    Raises:
        SignpostError: no set is left that may be entered.
    """
    try:
        changed = disk.change(location, partial(state.select_boot, without=failed))
    except TransitionError:
        raise
    except SignpostError as err:
        tell(f"the partition table cannot be written: {err}")
        return _select_without_writing(location, failed)
    for fault in changed.repaired:
        tell(f"repaired the partition table: {fault}")
    chosen = state.next_set(changed.before.state, without=failed)
    if chosen is None:
        raise AssertionError("select_boot returned without a set")
    return Selected(name=chosen, disk=changed.after)


def _select_without_writing(location: disk.Location, failed: frozenset[SetName]) -> Selected:
    found = disk.read(location)
    on_trial = {name for name, flags in found.state.flags.items() if not flags.successful}
    chosen = state.active_set(state.select_boot(found.state, without=failed | on_trial))
    return Selected(name=chosen, disk=found)


def _words(selected: Selected) -> str:
    flags = selected.disk.state.flags[selected.name]
    proven = "marked successful" if flags.successful else "on trial"
    return f"set {selected.name}, {proven}, {flags.tries} more tries"
