"""What happened to this machine, as events, and what follows from them.

Decides, from the events, the boot flags and the boot id, whether an activated update was booted,
marked successful, rolled back or left by hand; which versions are quarantined; what each set holds;
and which events must outlive a rotation of the file. Reads no file and no clock: see
`updog.history_file`.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

import msgspec
from msgspec.structs import replace
from semver import Version

from signpost.flags import CLEARED
from signpost.sets import SetName
from signpost.state import BootState, next_set


class EventKind(StrEnum):
    """What can happen to a machine."""

    CHECKED = "checked"
    """The repository was asked, and the answer was another one than the last time."""
    STARTED = "started"
    INSTALLED = "installed"
    ACTIVATED = "activated"
    REVERTED = "reverted"
    BOOTED = "booted"
    """The update was entered, on trial."""
    MARKED = "marked"
    """Its health checks passed: it is marked successful."""
    ROLLED_BACK = "rolled back"
    """The machine returned to the other set."""
    FAILED = "failed"


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that happened: to which version, in which set, and what it took.

    A check happens to what runs: `outcome` says what it found, and of which version `offered`.

    Attributes:
        running: What ran in the other set when an installation was started, or runs there after a
            rollback.
        boot_id: The kernel's name for the boot in which an update was installed, activated or
            reverted.
        by_hand: Somebody wanted it: a rollback from a system that was marked successful, or the
            start of a downgrade that nothing but `--image` asked for.
        unseen: A rollback that is only feared: the flags that would tell were changed by hand.
        error: Why an installation or a check failed; of a rollback, what the trial told of its
            health.
        contents: What was written into a set, by role, where no hash tree tells it.
    """

    time: datetime
    kind: EventKind
    version: Version
    set: SetName
    running: Version | None = None
    offered: Version | None = None
    outcome: str | None = None
    bytes: int | None = None
    seconds: float | None = None
    error: str | None = None
    boot_id: str | None = None
    by_hand: bool = False
    unseen: bool = False
    contents: Mapping[str, "Content"] | None = None


class Content(msgspec.Struct, frozen=True, kw_only=True):
    """What a partition begins with: its length in bytes, and its sha256 in hexadecimal."""

    length: int
    sha256: str


def event_facts(event: Event) -> dict[str, Any]:
    """Return an event as the JSON object of its line."""
    facts: dict[str, Any] = {
        "time": event.time.isoformat(timespec="seconds"),
        "event": event.kind,
        "version": str(event.version),
        "set": event.set,
    }
    extras = {
        "running": str(event.running) if event.running else None,
        "offered": str(event.offered) if event.offered else None,
        "outcome": event.outcome,
        "bytes": event.bytes,
        "seconds": event.seconds,
        "error": event.error,
        "boot_id": event.boot_id,
        "by_hand": event.by_hand or None,
        "unseen": event.unseen or None,
        "contents": _content_facts(event.contents) if event.contents else None,
    }
    return facts | {name: value for name, value in extras.items() if value is not None}


def _content_facts(contents: Mapping[str, Content]) -> dict[str, Any]:
    return {role: {"length": each.length, "sha256": each.sha256} for role, each in contents.items()}


def parse_event(line: bytes) -> Event | None:
    """Read a line; None for a torn one, or for an event of a later version of this program."""
    try:
        fields = json.loads(line)
        return Event(
            time=datetime.fromisoformat(fields["time"]).astimezone(UTC),
            kind=EventKind(fields["event"]),
            version=Version.parse(fields["version"]),
            set=SetName(fields["set"]),
            running=_optional_version(fields, "running"),
            offered=_optional_version(fields, "offered"),
            outcome=_optional(fields, "outcome", str),
            bytes=_optional(fields, "bytes", int),
            seconds=_optional(fields, "seconds", int | float),
            error=_optional(fields, "error", str),
            boot_id=_optional(fields, "boot_id", str),
            by_hand=bool(_optional(fields, "by_hand", bool)),
            unseen=bool(_optional(fields, "unseen", bool)),
            contents=_parse_contents(_optional(fields, "contents", dict)),
        )
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return None


def _parse_contents(facts: dict[str, Any] | None) -> Mapping[str, Content] | None:
    if facts is None:
        return None
    return {
        role: Content(length=int(each["length"]), sha256=str(each["sha256"]))
        for role, each in facts.items()
    }


def _optional_version(fields: dict[str, Any], name: str) -> Version | None:
    return Version.parse(fields[name]) if name in fields else None


def _optional(fields: dict[str, Any], name: str, kind: Any) -> Any:
    value = fields.get(name)
    if value is not None and not isinstance(value, kind):
        raise TypeError(f"{name} is {value!r}")
    return value


def settle(
    events: Sequence[Event],
    state: BootState,
    *,
    running: Version,
    boot_id: str | None,
    now: datetime,
) -> tuple[Event, ...]:
    """Return what has happened since the last event and is not recorded yet, the oldest first.

    The boot loader spends a try before it boots a set. So a set that has a priority, no try left,
    no success mark and does not run was tried and left again, whether or not its installation or
    its activation was recorded before a power cut. Flags that somebody has changed since tell
    nothing: an update that was not left like that in this very boot may have been tried.

    Args:
        events: The history.
        state: The boot flags, and which set runs.
        running: The version that runs.
        boot_id: The kernel's name for this boot, where known.
        now: The time to put on the events: that of noticing.
    """
    found: list[Event] = []
    while (event := _unrecorded([*events, *found], state, running, boot_id)) is not None:
        found.append(replace(event, time=now, running=_who_runs(event, state, running)))
    return tuple(found)


def _who_runs(event: Event, state: BootState, running: Version) -> Version | None:
    """Say what runs in the other set, of an event after which that runs."""
    is_left = event.kind is EventKind.ROLLED_BACK and state.active is event.set.other
    return running if is_left else None


def _unrecorded(
    events: Sequence[Event], state: BootState, running: Version, boot_id: str | None
) -> Event | None:
    """Return the next thing that must have happened after the events."""
    if state.active is None:
        return None
    pending = _pending(events)
    if pending is not None and pending.set in state.flags:
        is_given_up = _is_given_up(pending, events, boot_id)
        outcome = _outcome(pending, state, boot_id, is_given_up=is_given_up)
        if outcome is not None:
            return outcome
    return (
        _tried_unrecorded(events, state)
        or _left_by_hand(events, state.active)
        or _left_for_older(events, state.active)
        or (_proven_again(events, state, running) if pending is None else None)
    )


def _bare(event: Event) -> Event:
    return Event(time=event.time, kind=event.kind, version=event.version, set=event.set)


_OPEN = (EventKind.INSTALLED, EventKind.ACTIVATED, EventKind.REVERTED, EventKind.BOOTED)
_ATTEMPTS = (EventKind.STARTED, EventKind.FAILED, EventKind.CHECKED)


def _pending(events: Sequence[Event]) -> Event | None:
    """Return the last update whose fate is open; attempts at a next one do not close it."""
    last = _last_settled(events)
    return last if last is not None and last.kind in _OPEN else None


def _last_settled(events: Sequence[Event]) -> Event | None:
    """Return the last event that was more than an attempt."""
    return next((event for event in reversed(events) if event.kind not in _ATTEMPTS), None)


def _is_given_up(pending: Event, events: Sequence[Event], boot_id: str | None) -> bool:
    """Tell whether an update whose set lost its priority was never tried.

    It was not in the boot that installed or activated it, nor where a next installation has begun
    to replace it: before one begins, what became of the last update is noted.
    """
    after = events[next(i for i in reversed(range(len(events))) if events[i] is pending) :]
    is_replaced = any(e.kind is EventKind.STARTED and e.set is pending.set for e in after)
    is_same_boot = boot_id is None or pending.boot_id is None or pending.boot_id == boot_id
    return is_same_boot or is_replaced


def _outcome(
    pending: Event, state: BootState, boot_id: str | None, *, is_given_up: bool
) -> Event | None:
    flags, was_entered = state.flags[pending.set], pending.kind is EventKind.BOOTED
    now = _bare(pending)
    if flags.successful:
        return replace(now, kind=EventKind.MARKED if was_entered else EventKind.BOOTED)
    if state.active is pending.set:
        return None if was_entered else replace(now, kind=EventKind.BOOTED)
    if next_set(state) is pending.set:
        return None
    if was_entered or flags.priority > 0:
        return replace(now, kind=EventKind.ROLLED_BACK)
    is_activated = pending.kind is EventKind.ACTIVATED
    if not is_given_up and (is_activated or flags.tries == 0):
        # A try that is still there proves nothing: `mark-inactive-valid` gives a spent one back.
        return replace(now, kind=EventKind.ROLLED_BACK, unseen=True)
    # What was reverted may still be activated, by hand too, as long as it has its try.
    told = boot_id if flags.tries > 0 else None
    return replace(now, kind=EventKind.REVERTED, boot_id=told) if is_activated else None


def _tried_unrecorded(events: Sequence[Event], state: BootState) -> Event | None:
    """Return the failed trial of an update whose run was killed before it could say "installed".

    Not where the flags may be those of an earlier failed trial in the same set, which a run that
    was killed even before it cleared the set has left as they were.
    """
    begun, before = last_deed(events), _last_settled(events)
    if begun is None or begun.kind is not EventKind.STARTED or begun.set is state.active:
        return None
    flags = state.flags.get(begun.set, CLEARED)
    if flags.priority == 0 or flags.tries > 0 or flags.successful:
        return None
    if before is not None and before.set is begun.set and _has_spent_a_try(before):
        return None
    return replace(_bare(begun), kind=EventKind.ROLLED_BACK)


def _has_spent_a_try(event: Event) -> bool:
    """Tell whether an event is a failed trial that left its traces in the flags."""
    return event.kind is EventKind.ROLLED_BACK and not (event.by_hand or event.unseen)


def _left_by_hand(events: Sequence[Event], active: SetName) -> Event | None:
    """Return the rollback that nothing but a command can have made, if there was one.

    What was on trial is dealt with before; a set that is marked successful the boot loader does not
    leave by itself.
    """
    last = _last_to_run(events)
    if last is None or last.set is active:
        return None
    return replace(last, kind=EventKind.ROLLED_BACK, by_hand=True)


def _last_to_run(events: Sequence[Event]) -> Event | None:
    """Return the set that was last known to run and its version, in the form of an event."""
    for event in reversed(events):
        if event.kind in (EventKind.BOOTED, EventKind.MARKED):
            return _bare(event)
        if event.kind in (EventKind.STARTED, EventKind.ROLLED_BACK):
            if event.running is None:
                return None
            return replace(_bare(event), set=event.set.other, version=event.running)
    return None


def _left_for_older(events: Sequence[Event], active: SetName) -> Event | None:
    """Return the leaving of a version for an older one that somebody asked for by name.

    Only once the older one is marked successful: until then the newer one may come back.
    """
    marked = _last_settled(events)
    if marked is None or marked.kind is not EventKind.MARKED or marked.set is not active:
        return None
    begun = _last_started(events, active)
    if begun is None or not begun.by_hand or begun.running is None:
        return None
    if begun.version != marked.version or begun.running <= begun.version:
        return None
    return replace(
        _bare(begun),
        kind=EventKind.ROLLED_BACK,
        version=begun.running,
        set=active.other,
        by_hand=True,
    )


def _last_started(events: Sequence[Event], name: SetName) -> Event | None:
    started = (e for e in reversed(events) if e.kind is EventKind.STARTED and e.set is name)
    return next(started, None)


def _proven_again(events: Sequence[Event], state: BootState, running: Version) -> Event | None:
    """Return the success of a quarantined version that was entered again, in whatever way."""
    if state.active is None or not state.flags.get(state.active, CLEARED).successful:
        return None
    rolled_back = quarantined(events).get(running)
    if rolled_back is None:
        return None
    return replace(_bare(rolled_back), kind=EventKind.MARKED, version=running, set=state.active)


def last_deed(events: Sequence[Event]) -> Event | None:
    """Return the last event that was more than a look at the repository."""
    return next((e for e in reversed(events) if e.kind is not EventKind.CHECKED), None)


def is_news(checked: Event, events: Sequence[Event]) -> bool:
    """Tell whether a check found something else than the one before it.

    Errors are told apart by nobody but people: two checks that failed found the same.
    """
    last = next((e for e in reversed(events) if e.kind is EventKind.CHECKED), None)
    return last is None or _finding(last) != _finding(checked)


def _finding(checked: Event) -> tuple[object, ...]:
    return (checked.version, checked.set, checked.outcome, checked.offered)


def essence(events: Sequence[Event]) -> tuple[Event, ...]:
    """Return the events that must not be forgotten, in their order.

    Every question that this module answers looks for the last event of some kinds, in some set,
    with or without a version that ran beside it; only a quarantine is for ever. So the last event
    of each sort and the last verdict on each version answer as all events do.
    """
    last: dict[tuple[object, ...], int] = {}
    for index, event in enumerate(events):
        last[event.kind, event.set, event.running is None, event.by_hand] = index
        if _is_verdict(event):
            last["verdict", event.version] = index
    return tuple(events[index] for index in sorted(set(last.values())))


def _is_verdict(event: Event) -> bool:
    """Tell whether an event puts a version into quarantine, or frees it.

    Whoever goes back to a newer version by hand has nothing against the older one.
    """
    if event.kind is not EventKind.ROLLED_BACK:
        return event.kind is EventKind.MARKED
    is_upward = event.running is not None and event.version < event.running
    return not (event.by_hand and is_upward)


def quarantined(events: Iterable[Event]) -> dict[Version, Event]:
    """Return the versions that are not taken again by themselves, each with its rollback.

    They failed here, may have, or were left by hand for an older one. One that was entered again,
    because the user insisted, and proved itself is free again. Builds of a version (`1.2.0+5`)
    are one version here, as they are in precedence: none of them is newer than another.
    """
    verdicts = {event.version: event for event in events if _is_verdict(event)}
    return {
        version: event for version, event in verdicts.items() if event.kind is EventKind.ROLLED_BACK
    }


def staged_version(events: Sequence[Event], state: BootState, name: SetName) -> Version | None:
    """Return the version that updog installed into a set and that still stands there whole."""
    if state.flags.get(name, CLEARED) == CLEARED:
        return None
    for event in reversed(events):
        if event.set is name and event.kind is EventKind.STARTED:
            return None  # a later installation began and did not end
        if event.set is name and event.kind is EventKind.INSTALLED:
            return event.version
    return None


def known_contents(
    events: Sequence[Event], state: BootState, name: SetName
) -> Mapping[str, Content]:
    """Return what updog wrote into a set that still stands there whole, by role, where it knows."""
    if staged_version(events, state, name) is None:
        return {}
    installed = (e for e in reversed(events) if e.set is name and e.kind is EventKind.INSTALLED)
    return next(installed).contents or {}


def known_version(events: Sequence[Event], state: BootState, name: SetName) -> Version | None:
    """Return the version that a set was last known to hold, whole or not, by updog or not.

    An installation that began has cleared the set before it wrote: a set that is still marked
    successful holds what it held before.
    """
    is_uncleared = state.flags.get(name, CLEARED).successful
    for event in reversed(events):
        if event.kind is EventKind.INSTALLED and event.set is name:
            return event.version
        if event.kind is EventKind.STARTED and event.set is name and not is_uncleared:
            return event.version
        if event.running is not None and event.set is name.other:
            return event.running
    return None
