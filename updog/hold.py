"""What holds updates back: facts, and the same in words.

Decides how a hold is told and how long it lasts. Reads no file: see `updog.hold_files`.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, tzinfo
from typing import Any

from updog.names import printable


@dataclass(frozen=True, slots=True, kw_only=True)
class Hold:
    """Somebody, or some program, holds updates back.

    Attributes:
        path: The file that says so.
        reason: Why, in the words of whoever did it; empty if not told.
        until: When it ends by itself; None if it does not.
        is_own: `updog hold` made it, and `updog release` ends it.
    """

    path: str
    reason: str = ""
    until: datetime | None = None
    is_own: bool = False


def longest(holds: Iterable[Hold], *, now: datetime) -> Hold | None:
    """Return the hold in force that lasts longest; a later one in the row on a tie."""
    in_force = [hold for hold in holds if hold.until is None or hold.until > now]
    endless = [hold for hold in in_force if hold.until is None]
    if endless:
        return endless[-1]
    return max(in_force, key=lambda hold: (hold.until is not None, hold.until), default=None)


def hold_words(hold: Hold, *, zone: tzinfo | None = None) -> str:
    """Say until when, why, and what ends it: `until ...: freeze; `updog release` ends that`."""
    until = (
        f"until {hold.until.astimezone(zone):%a %Y-%m-%d %H:%M %Z}" if hold.until else "for good"
    )
    reason = f": {printable(hold.reason)}" if hold.reason else ""
    if hold.is_own:
        return f"{until}{reason}; `updog release` ends that"
    return f"by {printable(hold.path)}{reason}; it lasts as long as that file is there"


def hold_facts(hold: Hold) -> dict[str, Any]:
    """Return a hold as plain facts, for JSON."""
    return {
        "file": hold.path,
        "reason": hold.reason or None,
        "until": hold.until.isoformat() if hold.until else None,
        "is_own": hold.is_own,
    }
