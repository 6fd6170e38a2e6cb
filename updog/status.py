"""What a machine runs, what is staged and what boots next: facts, and the same in words.

Decides how the boot flags, the history and the cached metadata read together, and what the user can
do next. Changes nothing and needs no network.
"""

from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime
from enum import StrEnum
from typing import Any, assert_never

import msgspec
from semver import Version

from signpost.flags import CLEARED, BootFlags
from signpost.sets import SetName
from signpost.state import BootState, next_set
from updog.config import Config
from updog.health import HealthRecord, record_facts, trouble
from updog.history import (
    Event,
    EventKind,
    event_facts,
    known_version,
    last_deed,
    staged_version,
)
from updog.hold import Hold, hold_facts, hold_words
from updog.host import Host
from updog.names import printable
from updog.proof import RoleVersions
from updog.transport import public_url
from updog.units import duration
from updog.waves import SEEDS


class InactiveSet(StrEnum):
    """What the inactive set is good for."""

    ABSENT = "absent"
    CLEARED = "cleared"
    STAGED = "staged"
    PENDING = "pending"
    FAILED = "failed"
    HEALTHY = "healthy"
    UNKNOWN = "unknown"
    """It will not boot, and nothing tells why; or it is not known which set is the inactive one."""
    FALLBACK = "fallback"
    """What runs is on trial, and this is what the next boot returns to."""
    WRITING = "writing"
    CUT_OFF = "cut off"
    """An update was being written when its run was ended."""


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """The facts of one moment. A version is None where nothing tells it."""

    host: Host
    active: SetName | None
    active_flags: BootFlags | None
    next: SetName | None
    inactive: InactiveSet
    inactive_version: Version | None
    inactive_flags: BootFlags | None
    metadata: RoleVersions | None
    may_read_metadata: bool
    writer: int | None
    last_check: Event | None
    trouble: str | None
    """What the trial of the inactive set told of its health, where it failed."""
    health: HealthRecord | None
    """What this boot told of its health."""
    hold: Hold | None


def assess(  # noqa: PLR0913 -- each is read from somewhere else
    host: Host,
    state: BootState,
    events: Sequence[Event],
    metadata: RoleVersions | None,
    *,
    last_check: Event | None = None,
    may_read_metadata: bool = True,
    writer: int | None = None,
    health: HealthRecord | None = None,
    hold: Hold | None = None,
) -> Status:
    """Read the facts together.

    Args:
        host: what runs.
        state: the boot flags.
        events: the history, the outcome of the last boot included.
        metadata: what was last verified, if anything.
        last_check: the last look at the repository, if one is known of.
        may_read_metadata: whether whoever asks can know that.
        writer: the process that holds the lock of all runs, if one does.
        health: what this boot told of its health, if it did.
        hold: what holds updates back, if anything does.
    """
    other = state.active.other if state.active else None
    flags = state.flags.get(other) if other else None
    return Status(
        host=host,
        active=state.active,
        active_flags=state.flags[state.active] if state.active else None,
        next=next_set(state),
        inactive=_judge_inactive(state, events, is_locked=writer is not None),
        inactive_version=_inactive_version(state, events),
        inactive_flags=flags,
        metadata=metadata,
        may_read_metadata=may_read_metadata,
        writer=writer,
        last_check=last_check,
        trouble=_trouble(other, events),
        health=health,
        hold=hold,
    )


def _trouble(name: SetName | None, events: Sequence[Event]) -> str | None:
    """Return what is known of the failed trial that is the last thing known of a set."""
    if name is None or not _was_rolled_back(name, events):
        return None
    rollbacks = (e for e in reversed(events) if e.set is name and e.kind is EventKind.ROLLED_BACK)
    return next(rollbacks).error


def _judge_inactive(state: BootState, events: Sequence[Event], *, is_locked: bool) -> InactiveSet:
    if state.active is None and len(state.flags) > 1:
        return InactiveSet.UNKNOWN
    other = state.active.other if state.active else None
    flags = state.flags.get(other) if other else None
    if other is None or flags is None:
        return InactiveSet.ABSENT
    if _is_being_written(other, events) and is_locked:
        return InactiveSet.WRITING
    if flags == CLEARED:
        is_cut_off = _is_being_written(other, events)
        return InactiveSet.CUT_OFF if is_cut_off else InactiveSet.CLEARED
    if next_set(state) is other:
        return InactiveSet.FALLBACK if _is_on_trial(state) else InactiveSet.PENDING
    return _judge_resting(other, flags, state, events)


def _judge_resting(
    other: SetName, flags: BootFlags, state: BootState, events: Sequence[Event]
) -> InactiveSet:
    """Judge a set that does not boot next, though it holds something."""
    if flags.successful:
        return InactiveSet.HEALTHY
    if _was_rolled_back(other, events):
        return InactiveSet.FAILED
    is_valid = flags.priority == 0 and flags.tries > 0
    if is_valid and staged_version(events, state, other) is not None:
        return InactiveSet.STAGED
    return InactiveSet.UNKNOWN


def _is_being_written(name: SetName, events: Sequence[Event]) -> bool:
    """Tell whether the last thing that is known is that a run began to write a set."""
    last = last_deed(events)
    return last is not None and last.kind is EventKind.STARTED and last.set is name


def _was_rolled_back(name: SetName, events: Sequence[Event]) -> bool:
    """Tell whether the last thing that is known of a set is that it failed its trial for sure."""
    looks = (EventKind.FAILED, EventKind.CHECKED)
    last = next((e for e in reversed(events) if e.set is name and e.kind not in looks), None)
    if last is None or last.kind is not EventKind.ROLLED_BACK:
        return False
    return not (last.by_hand or last.unseen)


def _is_on_trial(state: BootState) -> bool:
    return state.active is not None and not state.flags[state.active].successful


def _inactive_version(state: BootState, events: Sequence[Event]) -> Version | None:
    other = state.active.other if state.active else None
    if other is None or other not in state.flags:
        return None
    return known_version(events, state, other)


def status_lines(status: Status, config: Config, *, now: datetime) -> list[str]:
    """Return the status in words, one fact a line."""
    rows = [
        ("Running", _running(status), _set(status.active), _mark(status.active_flags)),
        _inactive_row(status),
    ]
    width = max(len(row[1]) for row in rows)
    lines = [
        f"{label:<9} {what:<{width}}  {where:<6} {how}".rstrip() for label, what, where, how in rows
    ]
    return [
        *lines,
        *([f"          {printable(status.trouble)}"] if status.trouble else []),
        *_health_lines(status),
        *_hold_lines(status),
        f"Channel   {_channel(config)}  {_checked(status, now)}{_freshness(status, now)}",
        f"Policy    {_policy(config)}",
        f"Next      {_next_step(status)}",
    ]


def _health_lines(status: Status) -> list[str]:
    """Say what this boot's health checks found, where they were made."""
    record = status.health
    if record is None:
        return []
    if not record.is_healthy:
        return [f"Health    {printable(trouble(record) or 'its checks have not ended')}"]
    wanted = [check.name for check in record.checks if not check.passed]
    count = len(record.checks) - len(wanted)
    passed = "1 check passed" if count == 1 else f"{count} checks passed"
    failed = f"; {', '.join(wanted)} failed, not required" if wanted else ""
    return [f"Health    {printable(passed + failed)}"]


def _hold_lines(status: Status) -> list[str]:
    return [f"On hold   {hold_words(status.hold)}"] if status.hold else []


def _channel(config: Config) -> str:
    return ", ".join(public_url(url) for url in config.metadata_base_url)


def _running(status: Status) -> str:
    return f"{status.host.version} ({status.host.variant}, {status.host.arch})"


def _set(name: SetName | None) -> str:
    return f"set {name}" if name else "set ?"


def _mark(flags: BootFlags | None) -> str:
    if flags is None:
        return "it is not known which set runs"
    return "marked successful" if flags.successful else "on trial, not marked successful"


def _inactive_row(status: Status) -> tuple[str, str, str, str]:
    version = str(status.inactive_version or "unknown version")
    where = _set(status.active.other if status.active else None)
    label, what, how = _inactive_words(status, version)
    return (label, what, "" if status.inactive is InactiveSet.ABSENT else where, how)


def _inactive_words(status: Status, version: str) -> tuple[str, str, str]:  # noqa: C901, PLR0911 -- one a case
    match status.inactive:
        case InactiveSet.ABSENT:
            return ("Other", "none", "this disk has a single set")
        case InactiveSet.CLEARED:
            return ("Other", "nothing", "cleared, will not boot")
        case InactiveSet.STAGED:
            return ("Staged", version, "verified, not activated")
        case InactiveSet.PENDING:
            return ("Staged", version, f"boots next, {_tries(status.inactive_flags)}")
        case InactiveSet.FALLBACK:
            return ("Fallback", version, "boots next, unless what runs is marked successful")
        case InactiveSet.FAILED:
            return ("Failed", version, "was tried, not marked successful, rolled back")
        case InactiveSet.HEALTHY:
            return ("Other", version, "healthy, can be rolled back to")
        case InactiveSet.WRITING:
            return ("Other", version, f"is being written by process {status.writer}")
        case InactiveSet.CUT_OFF:
            return ("Other", version, "its writing was cut off, will not boot")
        case InactiveSet.UNKNOWN if status.active is None:
            return ("Other", "unknown", "depends on which set runs")
        case InactiveSet.UNKNOWN:
            return ("Other", version, "will not boot")
        case _:
            assert_never(status.inactive)


def _tries(flags: BootFlags | None) -> str:
    if flags is None or flags.successful:
        return "marked successful before"
    return "1 try" if flags.tries == 1 else f"{flags.tries} tries"


def _checked(status: Status, now: datetime) -> str:
    """Say when the repository was last asked, where that is known."""
    if status.last_check is None:
        return ""
    what = "checked" if status.last_check.error is None else "last check failed"
    return f"{what} {duration(now - status.last_check.time)} ago, "


def _freshness(status: Status, now: datetime) -> str:
    metadata = status.metadata
    if metadata is None:
        return (
            "not checked yet, or not to the end"
            if status.may_read_metadata
            else "metadata: not for this user to read"
        )
    left = metadata.timestamp_expires - now
    if left.total_seconds() < 0:
        return f"metadata expired {duration(left)}"
    return f"metadata valid for {duration(left)}"


def _policy(config: Config) -> str:
    if config.ignore_waves:
        return f"{config.version_lock}, waves ignored"
    share = config.seed * 100 // SEEDS
    return (
        f"{config.version_lock}, waves on (seed {config.seed}: {share} % of the fleet is before "
        "this machine)"
    )


def _next_step(status: Status) -> str:
    if status.next is None:
        return "NO SET CAN BOOT: run `signpost mark-successful-boot` if this system is good"
    if status.active is None:
        return "name the set that runs: disk.active or disk.active_file in the configuration file"
    match status.inactive:
        case InactiveSet.WRITING:
            return f"{status.inactive_version} is being written by process {status.writer}"
        case InactiveSet.FALLBACK:
            target = status.inactive_version or f"set {status.next}"
            return (
                f"the next boot returns to {target} unless its health checks mark this system "
                "successful"
            )
        case _ if status.active_flags is not None and not status.active_flags.successful:
            return (
                f"boots set {status.next} again; its health checks have yet to mark it successful"
            )
        case InactiveSet.CUT_OFF:
            return f"writing {status.inactive_version} was cut off; `updog update` starts over"
        case InactiveSet.PENDING:
            entered = status.inactive_version or f"set {status.next}"
            return f"reboot to enter {entered}, or `updog update-revert` to stay"
        case InactiveSet.STAGED:
            return "`updog update-apply` to activate what is staged"
        case _:
            return f"boots set {status.next} again; `updog check-update` looks for an update"


def status_facts(status: Status, config: Config) -> dict[str, Any]:
    """Return the status as plain facts, for JSON."""
    return {
        "running": {
            "version": str(status.host.version),
            "variant": status.host.variant,
            "arch": status.host.arch,
            "set": status.active,
            "flags": _flag_facts(status.active_flags),
        },
        "inactive": {
            "state": status.inactive,
            "version": str(status.inactive_version) if status.inactive_version else None,
            "set": status.active.other if status.active else None,
            "flags": _flag_facts(status.inactive_flags),
            "trouble": status.trouble,
        },
        "health": record_facts(status.health) if status.health else None,
        "hold": hold_facts(status.hold) if status.hold else None,
        "next": status.next,
        "channel": _channel(config),
        "metadata": _metadata_facts(status.metadata),
        "checked": event_facts(status.last_check) if status.last_check else None,
        "may_read_metadata": status.may_read_metadata,
        "writer": status.writer,
        "policy": {
            "version_lock": str(config.version_lock),
            "ignore_waves": config.ignore_waves,
            "seed": config.seed,
        },
    }


def _flag_facts(flags: BootFlags | None) -> dict[str, Any] | None:
    return asdict(flags) if flags else None


def _metadata_facts(metadata: RoleVersions | None) -> dict[str, Any] | None:
    if metadata is None:
        return None
    return {
        "root": metadata.root,
        "timestamp": metadata.timestamp,
        "snapshot": metadata.snapshot,
        "targets": metadata.targets,
        "expires": metadata.timestamp_expires.isoformat(),
    }
