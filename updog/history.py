"""What happened to this machine: one JSON line an event, and what follows from the lines.

Decides, from the events and the boot flags, whether an activated update was booted or rolled back,
and which versions are quarantined. Appends whole lines and flushes them; a line that a power cut
tore is passed over, never a reason to stop.
"""

import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

from semver import Version

from signpost.flags import CLEARED
from signpost.sets import SetName
from signpost.state import BootState, next_set
from updog.errors import UpdogError
from updog.files import read_small_file

_MAX_BYTES: Final = 64 << 20
"""Half a million events: a machine that has more has another problem."""

_LONGEST_LINE_BYTES: Final = 64 << 10


class EventKind(StrEnum):
    """What can happen to a machine."""

    STARTED = "started"
    INSTALLED = "installed"
    ACTIVATED = "activated"
    REVERTED = "reverted"
    BOOTED = "booted"
    ROLLED_BACK = "rolled back"
    FAILED = "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One thing that happened: to which version, in which set, and what it took.

    `running` is what ran in the other set when an installation was started.
    """

    time: datetime
    kind: EventKind
    version: Version
    set: SetName
    running: Version | None = None
    bytes: int | None = None
    seconds: float | None = None
    error: str | None = None


class History:
    """The file of events of this machine."""

    def __init__(self, path: Path) -> None:
        """Name the file; it need not exist yet."""
        self._path = path

    def append(self, event: Event) -> None:
        """Add an event and flush it to the medium.

        Raises:
            UpdogError: the file cannot be written.
        """
        line = json.dumps(event_facts(event)).encode() + b"\n"
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK
            descriptor = os.open(self._path, flags, 0o644)
            try:
                _mend_tail(descriptor)
                while line:
                    line = line[os.write(descriptor, line) :]
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        except OSError as err:
            raise UpdogError(f"cannot write history {self._path}: {err.strerror}") from err

    def events(self) -> tuple[Event, ...]:
        """Return all events, the oldest first; none where there is no history yet.

        Raises:
            UpdogError: the file exists but cannot be read.
        """
        return tuple(event for _, event in self._numbered_events() if event is not None)

    def damage(self) -> str | None:
        """Say which lines cannot be read, if any but the last: that one a power cut may tear."""
        bad = [number for number, event in self._numbered_events() if event is None]
        last = len(self._lines())
        bad = [number for number in bad if number != last]
        if not bad:
            return None
        return (
            f"{len(bad)} of {last} lines of {self._path} cannot be read, the first is {bad[0]}: "
            "earlier rollbacks may be forgotten"
        )

    def _numbered_events(self) -> list[tuple[int, Event | None]]:
        return [(number, _parse(line)) for number, line in enumerate(self._lines(), 1)]

    def _lines(self) -> list[bytes]:
        try:
            data = read_small_file(self._path, limit_bytes=_MAX_BYTES)
        except FileNotFoundError:
            return []
        except (OSError, ValueError) as err:
            why = err.strerror if isinstance(err, OSError) else err
            raise UpdogError(f"cannot read history {self._path}: {why}") from err
        return [line for line in data.split(b"\n") if line]


def _mend_tail(descriptor: int) -> None:
    """Remove the piece of a line that a power cut left at the end; end a whole one."""
    length = os.fstat(descriptor).st_size
    begin = max(0, length - _LONGEST_LINE_BYTES)
    tail = os.pread(descriptor, length - begin, begin).rpartition(b"\n")[2]
    if not tail:
        return
    if _parse(tail) is None:
        os.ftruncate(descriptor, length - len(tail))
    else:
        os.write(descriptor, b"\n")


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
        "bytes": event.bytes,
        "seconds": event.seconds,
        "error": event.error,
    }
    return facts | {name: value for name, value in extras.items() if value is not None}


def _parse(line: bytes) -> Event | None:
    """Read a line; None for a torn one, or for an event of a later version of this program."""
    try:
        fields = json.loads(line)
        return Event(
            time=datetime.fromisoformat(fields["time"]).astimezone(UTC),
            kind=EventKind(fields["event"]),
            version=Version.parse(fields["version"]),
            set=SetName(fields["set"]),
            running=Version.parse(fields["running"]) if "running" in fields else None,
            bytes=_optional(fields, "bytes", int),
            seconds=_optional(fields, "seconds", int | float),
            error=_optional(fields, "error", str),
        )
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return None


def _optional(fields: dict[str, Any], name: str, kind: Any) -> Any:
    value = fields.get(name)
    if value is not None and not isinstance(value, kind):
        raise TypeError(f"{name} is {value!r}")
    return value


def settle(events: Sequence[Event], state: BootState, *, now: datetime) -> Event | None:
    """Return what became of the last update, if that shows in the flags and is not yet recorded.

    The boot loader spends a try before it boots a set. So a set that has a priority, no try left,
    no success mark and does not run was tried and left again, whether or not its activation was
    recorded before a power cut. A set that runs without the success mark is still on trial.
    """
    pending = _pending(events)
    if pending is None or state.active is None or pending.set not in state.flags:
        return None
    kind = _outcome(pending, state)
    if kind is None:
        return None
    return Event(time=now, kind=kind, version=pending.version, set=pending.set)


def _pending(events: Sequence[Event]) -> Event | None:
    """Return the last update whose fate is open; attempts at a next one do not close it."""
    attempts = (EventKind.STARTED, EventKind.FAILED)
    last = next((event for event in reversed(events) if event.kind not in attempts), None)
    is_open = last is not None and last.kind in (EventKind.INSTALLED, EventKind.ACTIVATED)
    return last if is_open else None


def _outcome(pending: Event, state: BootState) -> EventKind | None:
    flags = state.flags[pending.set]
    was_activated = pending.kind is EventKind.ACTIVATED
    if flags.successful:
        return EventKind.BOOTED
    if state.active is pending.set or next_set(state) is pending.set:
        return None
    if flags.priority > 0:
        return EventKind.ROLLED_BACK
    return EventKind.REVERTED if was_activated else None


def quarantined(events: Iterable[Event]) -> frozenset[Version]:
    """Return the versions that were tried on this machine and rolled back."""
    return frozenset(e.version for e in events if e.kind is EventKind.ROLLED_BACK)


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


def known_version(events: Sequence[Event], name: SetName) -> Version | None:
    """Return the version that a set was last known to hold, installed by updog or not."""
    for event in reversed(events):
        if event.kind is EventKind.INSTALLED and event.set is name:
            return event.version
        if event.running is not None and event.set is name.other:
            return event.running
    return None
