"""The boot state of a machine and every transition it may take.

Decides what each command changes and when it is forbidden, and which set the boot loader takes
next. Every transition returns a new state or raises; nothing here touches a disk.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace

from signpost.errors import SetError, TransitionError
from signpost.flags import CLEARED, BootFlags
from signpost.sets import SetName

_NEXT_PRIORITY = 2
_FALLBACK_PRIORITY = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class BootState:
    """The flags of each set that exists, which set runs, and whether any boot ever succeeded.

    `active` is None where nobody could tell which set runs, as for the image of another machine.
    """

    flags: Mapping[SetName, BootFlags]
    active: SetName | None
    ever_succeeded: bool

    def with_flags(self, name: SetName, flags: BootFlags) -> "BootState":
        """Return this state with the flags of one set replaced."""
        return replace(self, flags={**self.flags, name: flags})


def next_set(state: BootState, *, without: Collection[SetName] = ()) -> SetName | None:
    """Return the set that the boot loader takes next, or None when the machine would not boot.

    Source: `gptprio.next` of the GRUB that Bottlerocket boots with: of the sets that can boot, the
    one of highest priority, the first on a tie. A loader that saw sets fail leaves them out by
    `without`.
    """
    bootable = [
        name
        for name in SetName
        if name in state.flags and name not in without and state.flags[name].will_boot
    ]
    return max(bootable, key=lambda name: state.flags[name].priority, default=None)


def select_boot(state: BootState, *, without: Collection[SetName] = ()) -> BootState:
    """Apply the boot loader's rule: the chosen set becomes active and loses a try if it has one.

    Raises:
        TransitionError: no set can boot, those in `without` aside.
    """
    chosen = next_set(state, without=without)
    if chosen is None:
        shown = ", ".join(f"{name} {flags}" for name, flags in state.flags.items())
        other = "other " if without else ""
        raise TransitionError(
            f"no {other}set can boot (priority/tries/successful: {shown}); "
            "a set needs a priority above 0 and either tries left or the success mark"
        )
    flags = state.flags[chosen]
    spent = replace(flags, tries=max(0, flags.tries - 1))
    return replace(state.with_flags(chosen, spent), active=chosen)


def mark_successful_boot(state: BootState) -> BootState:
    """Mark the running set as successful, and that some boot of this machine has succeeded."""
    active = active_set(state)
    marked = state.with_flags(active, replace(state.flags[active], successful=True))
    return replace(marked, ever_succeeded=True)


def clear_inactive(state: BootState) -> BootState:
    """Make the inactive set unbootable, as is needed before its partitions are written.

    Raises:
        TransitionError: the running set is on trial or would not boot again, so the inactive one
            is the only way back.
    """
    active, inactive = active_set(state), inactive_set(state)
    if state.flags[inactive] != CLEARED:
        _require_proven_active(state, doing=f"clearing set {inactive}")
        if not state.flags[active].will_boot:
            raise TransitionError(
                f"the running set {active} has priority 0 and would not boot again: without set "
                f"{inactive}, nothing would. Run `signpost cancel-upgrade` first: it lets set "
                f"{active} boot next"
            )
    return state.with_flags(inactive, CLEARED)


def mark_inactive_valid(state: BootState) -> BootState:
    """Give the inactive set one try: its partitions hold a whole system."""
    inactive = inactive_set(state)
    return state.with_flags(inactive, replace(state.flags[inactive], tries=1))


def upgrade_to_inactive(state: BootState) -> BootState:
    """Let the next boot try the freshly written inactive set, with the active one behind it.

    Doing it again changes nothing, so that a cut command can be repeated.

    Raises:
        TransitionError: the inactive set was not cleared and marked valid, or the active set has
            no success mark, so that there would be nothing to fall back to.
    """
    inactive = inactive_set(state)
    flags = state.flags[inactive]
    is_upgraded = flags.priority == _NEXT_PRIORITY
    if (flags.priority > 0 and not is_upgraded) or flags.successful or flags.tries == 0:
        raise TransitionError(
            f"set {inactive} is not freshly written: its priority/tries/successful are {flags}, "
            "an upgrade needs 0/1/0. Install an update first with `updog update-image`, or go back "
            f"to what set {inactive} holds with `signpost rollback-to-inactive`"
        )
    _require_proven_active(state, doing=f"an upgrade to set {inactive}")
    return _prefer_inactive(state)


def cancel_upgrade(state: BootState) -> BootState:
    """Take back a pending upgrade: the next boot stays with the active set.

    Doing it again changes nothing, so that a cut command can be repeated. Also the way out where no
    set boots next, because the active one has lost its priority.

    Raises:
        TransitionError: the active set is what boots next already, or is on trial.
    """
    active, inactive = active_set(state), inactive_set(state)
    if next_set(state) is active:
        if state.flags[inactive].priority == 0:
            return state
        raise TransitionError(f"no upgrade is pending: the next boot takes set {active}")
    _require_proven_active(state, doing="cancelling")
    return state.with_flags(inactive, replace(state.flags[inactive], priority=0)).with_flags(
        active, replace(state.flags[active], priority=_NEXT_PRIORITY)
    )


def rollback_to_inactive(state: BootState) -> BootState:
    """Let the next boot take the system that the inactive set already holds.

    Raises:
        TransitionError: the inactive set never booted successfully and has no try left.
    """
    inactive = inactive_set(state)
    flags = state.flags[inactive]
    if not (flags.successful or flags.will_boot):
        raise TransitionError(
            f"set {inactive} cannot be rolled back to: its priority/tries/successful are {flags}; "
            "it needs the success mark, or a priority and a try"
        )
    return _prefer_inactive(state)


def active_set(state: BootState) -> SetName:
    """Return the running set.

    Raises:
        TransitionError: it is not known.
    """
    if state.active is None:
        raise TransitionError(
            "it is not known which set of this disk is running; say so with --active A or B"
        )
    return state.active


def inactive_set(state: BootState) -> SetName:
    """Return the set that is not running.

    Raises:
        TransitionError: the running set is not known.
        SetError: the disk has one set only.
    """
    other = active_set(state).other
    if other not in state.flags:
        raise SetError("this is a single-set disk (one BOOT partition): there is no inactive set")
    return other


def _require_proven_active(state: BootState, *, doing: str) -> None:
    active = active_set(state)
    if not state.flags[active].successful:
        raise TransitionError(
            f"the running set {active} is not marked successful: after {doing}, a failed boot "
            "would have nothing to return to. Run `signpost mark-successful-boot` once this "
            "system is known to be good"
        )


def _prefer_inactive(state: BootState) -> BootState:
    active, inactive = active_set(state), inactive_set(state)
    return state.with_flags(
        inactive, replace(state.flags[inactive], priority=_NEXT_PRIORITY)
    ).with_flags(active, replace(state.flags[active], priority=_FALLBACK_PRIORITY))
