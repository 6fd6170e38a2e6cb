"""The options of `repo-tools simulate`, and how their values are read."""

import math
import re
from collections.abc import Callable
from datetime import datetime, timedelta
from functools import reduce
from pathlib import Path
from typing import Any, Final, TypeVar

import click
from semver import Version

from repo_tools.durations import parse_duration
from repo_tools.options import parse_version_value
from updog.manifest import parse_time
from updog.units import SIZES, duration

_Command = TypeVar("_Command", bound=Callable[..., Any])

_SIZE = re.compile(r"([0-9]{1,15}) ?(B|KiB|MiB|GiB)?")
_FORMS: Final = (".svg", ".png")


class _DurationType(click.ParamType[timedelta]):
    """A span of time, as publishers write it, that is not shorter than `least`."""

    name = "time"

    def __init__(self, *, least: timedelta) -> None:
        self._least = least

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> timedelta:
        if isinstance(value, timedelta):
            return value
        span = parse_duration(str(value))
        if span is None:
            self.fail(f"{value!r} is not a time; write it like '6 hours' or 30m", param, ctx)
        if span < self._least:
            self.fail(f"{value!r} is less than {duration(self._least)}", param, ctx)
        return span


class _ShareType(click.FloatRange):
    """A number of a range, which "not a number" would slip through."""

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        share = super().convert(value, param, ctx)
        if math.isnan(share):
            self.fail(f"{value!r} is no share; write it like 0.1", param, ctx)
        return share


def parse_size(
    _context: click.Context, _parameter: click.Parameter, value: str | None
) -> int | None:
    """Return a size in bytes, or end with a usage error."""
    if value is None:
        return None
    match = _SIZE.fullmatch(value)
    if match is None:
        raise click.BadParameter(f"{value!r} is not a size; write it like 250MiB")
    return int(match[1]) * SIZES[match[2] or "B"]


def parse_start(
    _context: click.Context, _parameter: click.Parameter, value: str | None
) -> datetime | None:
    """Return a moment, or end with a usage error."""
    try:
        return None if value is None else parse_time(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error


def parse_optional_version(
    context: click.Context, parameter: click.Parameter, value: str | None
) -> Version | None:
    """Return a version if there is one, or end with a usage error."""
    return None if value is None else parse_version_value(context, parameter, value)


def parse_out(
    _context: click.Context, _parameter: click.Parameter, value: Path | None
) -> tuple[Path, ...]:
    """Return which pictures to write."""
    if value is None:
        return ()
    if value.suffix in _FORMS:
        return (value,)
    if value.suffix[1:].isalpha():
        raise click.BadParameter(f"{value} must end in .svg or .png, or in neither to get both")
    return tuple(value.with_name(value.name + form) for form in _FORMS)


_FLEET: Final = (
    click.option(
        "--hosts",
        type=click.IntRange(1, 100_000_000),
        default=1_000_000,
        show_default=True,
        help="How many machines.",
    ),
    click.option(
        "--check-interval",
        type=_DurationType(least=timedelta(minutes=1)),
        default="6 hours",
        show_default=True,
        help="From one check of a host to the next, at least.",
    ),
    click.option(
        "--check-delay",
        type=_DurationType(least=timedelta(0)),
        default="1 hour",
        show_default=True,
        help="How much more it may be, at random each time.",
    ),
    click.option(
        "--offline-share",
        type=_ShareType(0, 0.95),
        default=0.1,
        show_default=True,
        help="How much of the fleet has no network at any moment.",
    ),
    click.option(
        "--outage",
        type=_DurationType(least=timedelta(minutes=1)),
        default="12 hours",
        show_default=True,
        help="How long a host then has none, on average.",
    ),
)


def fleet_options(command: _Command) -> _Command:
    """Add the options that describe a fleet, named as the fields of `Fleet`."""
    return reduce(lambda inner, option: option(inner), reversed(_FLEET), command)
