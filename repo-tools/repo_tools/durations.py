"""Spans of time as publishers write them: `4 hours`, `in 2 days`, `7d`.

Decides the units. Refuses months and years, whose lengths differ, and anything below a second,
which no metadata can express.
"""

import re
from datetime import timedelta
from typing import Final

_UNITS: Final = {
    "second": timedelta(seconds=1),
    "minute": timedelta(minutes=1),
    "hour": timedelta(hours=1),
    "day": timedelta(days=1),
    "week": timedelta(weeks=1),
}
_WORDS = re.compile(r"(?:in )?([0-9]{1,6}) (second|minute|hour|day|week)s?")
_SHORT = re.compile(r"([0-9]{1,6})([smhdw])")
_INITIALS: Final = {name[0]: name for name in _UNITS}


def parse_duration(text: str) -> timedelta | None:
    """Return a span of time, None where the text is not one."""
    if match := _WORDS.fullmatch(text):
        return int(match[1]) * _UNITS[match[2]]
    if match := _SHORT.fullmatch(text):
        return int(match[1]) * _UNITS[_INITIALS[match[2]]]
    return None
