"""Whether the running system is healthy: what its checks found, and what follows from that.

Decides, from results and boot flags, whether a system counts as healthy, how a failure is told, and
whether a boot that failed is to be ended. Runs no check and reads no file: see `updog.checks` and
`updog.health_file`. Never ends a boot that is not on trial, nor one that nothing would follow.
"""

import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any, Final

import msgspec
from semver import Version

from signpost.sets import SetName
from signpost.state import BootState, active_set, next_set
from updog.names import printable
from updog.units import duration

_TOLD_CHARACTERS: Final = 200


class Reaction(StrEnum):
    """What a boot on trial does when a required check has failed."""

    REBOOT = "reboot"
    """It is ended at once."""
    DEADLINE = "deadline"
    """It goes on until its deadline, so that somebody can look."""


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """How long one check may take, how often it is tried again, and after how long a pause."""

    timeout_seconds: float
    retries: int
    retry_after_seconds: float


class Checked(msgspec.Struct, frozen=True, kw_only=True):
    """A health check has ended.

    Attributes:
        failure: Why it failed, in words; None if it passed.
        exit_code: None where it has none: it was not started, or did not end by itself.
        output: The end of what it printed.
    """

    name: str
    is_required: bool
    failure: str | None
    exit_code: int | None
    output: str
    attempts: int
    seconds: float

    @property
    def passed(self) -> bool:
        """Whether it found nothing wrong."""
        return self.failure is None


class HealthRecord(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of the health of one boot of a set; also of one that was cut short.

    Attributes:
        checks: Those that have ended.
        running: The check that was at work when this was written.
        is_done: All checks have ended.
        error: Why the checks could not be made at all.
        gave_up_after_seconds: The boot was ended for not having been marked successful so long
            after it began.
    """

    time: datetime
    version: Version
    set: SetName
    boot_id: str | None
    checks: tuple[Checked, ...] = ()
    running: str | None = None
    is_done: bool = False
    error: str | None = None
    gave_up_after_seconds: float | None = None

    @property
    def is_healthy(self) -> bool:
        """Whether all checks have ended and the required ones have passed."""
        return self.is_done and self.error is None and not failures(self.checks)


def failures(checks: Sequence[Checked]) -> tuple[Checked, ...]:
    """Return the required checks that failed: a wanted one decides nothing."""
    return tuple(check for check in checks if check.is_required and not check.passed)


def check_words(check: Checked) -> str:
    """Say how a check ended: `40-network.sh FAILED, exit 1: no route to 10.0.0.1`."""
    verdict = "passed" if check.passed else f"FAILED, {check.failure}"
    wanted = "" if check.passed or check.is_required else " (wanted, not required)"
    return f"{check.name} {verdict}{wanted}{_told_output(check)}"


def failure_words(checks: Sequence[Checked]) -> str | None:
    """Say in one line which required checks failed, the first with its reason and output."""
    failed = failures(checks)
    if not failed:
        return None
    first, others = failed[0], len(failed) - 1
    more = f" (and {others} more)" if others else ""
    return f"health check {first.name} failed, {first.failure}{_told_output(first)}{more}"


def trouble(record: HealthRecord) -> str | None:
    """Say in one line what was wrong with a boot; None if nothing is known of."""
    failed = failure_words(record.checks)
    if failed is not None:
        return failed
    if record.error is not None:
        return record.error
    at_work = f"health check {record.running} was at work" if record.running else None
    if record.gave_up_after_seconds is not None:
        late = f"not marked successful {_span(record.gave_up_after_seconds)} after it began"
        return f"{late}; {at_work}" if at_work else late
    return f"ended while {at_work}" if at_work else None


def _span(seconds: float) -> str:
    return duration(timedelta(seconds=seconds))


def _told_output(check: Checked) -> str:
    """Return the end of an output on one line, as a terminal may be sent it."""
    lines = [line.strip() for line in check.output.splitlines() if line.strip()]
    text = printable_end("; ".join(lines), _TOLD_CHARACTERS)
    return f": {text}" if text else ""


def printable_end(text: str, characters: int) -> str:
    """Return the end of a text from outside: what it came to stands there."""
    shown = printable(text[-characters:])
    return shown if len(text) <= characters else f"...{shown}"


class Ending(StrEnum):
    """What becomes of a boot that failed."""

    NOT_ON_TRIAL = "not on trial"
    NOTHING_ELSE_BOOTS = "nothing else boots"
    WAIT = "wait"
    REBOOT = "reboot"


def end_of_trial(state: BootState, reaction: Reaction) -> Ending:
    """Decide whether a boot that failed is ended.

    One that is not on trial never is: what follows it would be the same system again, and again.
    Nor is one that no other set can follow: on a machine that has but this one, each restart would
    take a try away, until nothing boots. With another set to fall back to, the next boot may be the
    same set's while it has tries: they are spent by every boot and run out.
    """
    active = active_set(state)
    if state.flags[active].successful:
        return Ending.NOT_ON_TRIAL
    if next_set(state, without=(active,)) is None:
        return Ending.NOTHING_ELSE_BOOTS
    return Ending.REBOOT if reaction is Reaction.REBOOT else Ending.WAIT


def ending_words(ending: Ending, state: BootState) -> str:
    """Say what follows a failure."""
    match ending:
        case Ending.NOT_ON_TRIAL:
            return "this boot is not on trial, so the machine goes on as it is"
        case Ending.NOTHING_ELSE_BOOTS:
            return "no other set boots after this one, so the machine goes on as it is"
        case Ending.WAIT:
            return "this boot is on trial and ends at its deadline"
        case _:
            return f"this boot is on trial: restarting, set {next_set(state)} boots next"


def record_facts(record: HealthRecord) -> dict[str, Any]:
    """Return a record as the JSON object of its file."""
    return {
        "time": record.time.isoformat(timespec="seconds"),
        "version": str(record.version),
        "set": record.set,
        "boot_id": record.boot_id,
        "healthy": record.is_healthy,
        "trouble": trouble(record),
        "checks": [msgspec.structs.asdict(check) for check in record.checks],
        "running": record.running,
        "is_done": record.is_done,
        "error": record.error,
        "gave_up_after_seconds": record.gave_up_after_seconds,
    }


def parse_record(data: bytes) -> HealthRecord | None:
    """Read a record; None where it is torn, or of a later version of this program."""
    try:
        fields = json.loads(data)
        return HealthRecord(
            time=datetime.fromisoformat(fields["time"]).astimezone(UTC),
            version=Version.parse(fields["version"]),
            set=SetName(fields["set"]),
            boot_id=_optional(fields["boot_id"], str),
            checks=tuple(_parse_check(each) for each in fields["checks"]),
            running=_optional(fields["running"], str),
            is_done=bool(fields["is_done"]),
            error=_optional(fields["error"], str),
            gave_up_after_seconds=_optional(fields["gave_up_after_seconds"], int | float),
        )
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return None


def _parse_check(fields: dict[str, Any]) -> Checked:
    return Checked(
        name=str(fields["name"]),
        is_required=bool(fields["is_required"]),
        failure=_optional(fields["failure"], str),
        exit_code=_optional(fields["exit_code"], int),
        output=str(fields["output"]),
        attempts=int(fields["attempts"]),
        seconds=float(fields["seconds"]),
    )


def _optional(value: Any, kind: Any) -> Any:
    if value is not None and not isinstance(value, kind):
        raise TypeError(f"{value!r} is none of {kind}")
    return value
