"""Sizes and durations as people read them."""

from datetime import timedelta

SIZES = {"B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}


def size(count: int) -> str:
    """Return a number of bytes in words: `0 B`, `7.6 MiB`, `252 MiB`."""
    value = float(count)
    for unit in SIZES:
        if value < 1024 or unit == "GiB":
            break
        value /= 1024
    digits = 1 if unit != "B" and value < 10 else 0
    return f"{value:.{digits}f} {unit}"


def duration(span: timedelta) -> str:
    """Return a duration in its two largest units: `6 d 23 h`, `4 min`, `3.1 s`."""
    seconds = span.total_seconds()
    if seconds < 0:
        return f"{duration(-span)} ago"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes = int(seconds // 60)
    if minutes < 60:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 24:
        return f"{hours} h {minutes} min"
    days, hours = divmod(hours, 24)
    return f"{days} d {hours} h"


def number(value: float) -> str:
    """Return a number without needless digits: `30`, `0.5`."""
    return f"{value:g}"
