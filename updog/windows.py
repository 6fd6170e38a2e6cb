"""The maintenance windows of the settings, with their time zones found on this machine.

Decides where a time zone comes from: the system's database, and nothing else. `UTC` needs none. A
zone that is not found is an error, never UTC in its place: the machine would restart at the wrong
hour.
"""

import importlib.util
import zoneinfo
from collections.abc import Sequence
from datetime import UTC, tzinfo
from pathlib import Path

from updog.config import WindowSettings
from updog.errors import ConfigError
from updog.names import quoted
from updog.schedule import Window, parse_clock


def open_windows(settings: Sequence[WindowSettings]) -> tuple[Window, ...]:
    """Return the windows, ready to be asked.

    Raises:
        ConfigError: a time zone is unknown, or this machine has no time zone database.
    """
    return tuple(
        Window(
            days=frozenset(each.days),
            begin=parse_clock(each.begin),
            end=parse_clock(each.end),
            zone=_find_zone(each.time_zone),
        )
        for each in settings
    )


def _find_zone(name: str) -> tzinfo:
    if name == "UTC":
        return UTC
    try:
        return zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError) as err:
        raise ConfigError(f"windows: cannot use time zone {quoted(name)}: {_why()}") from err


def _why() -> str:
    """Tell a name that nobody knows from a machine that knows none."""
    places = [Path(place) for place in zoneinfo.TZPATH]
    if any(place.is_dir() for place in places) or importlib.util.find_spec("tzdata"):
        return "it is not in the time zone database; write a name like Europe/Berlin"
    return "this machine has no time zone database; install tzdata"
