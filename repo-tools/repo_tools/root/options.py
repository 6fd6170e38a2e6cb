"""Options that several `root` commands take."""

import re
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

import click

from repo_tools.durations import parse_duration
from repo_tools.passphrases import PASSPHRASE_VARIABLE
from repo_tools.policy import ROLES

passphrase_option = click.option(
    "--passphrase-file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help=f"Its first line opens encrypted keys.  [or env: {PASSPHRASE_VARIABLE}, or a question]",
)

force_option = click.option("--force", is_flag=True, help="Give up a draft that is there already.")

dry_run_option = click.option(
    "--dry-run", is_flag=True, help="Say what would be done; write nothing."
)

_Command = TypeVar("_Command", bound=Callable[..., Any])

# RFC 3339, section 5.6, in whole seconds.
_MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:Z|[+-]\d\d:\d\d)")


def _parse_role_key(
    _context: click.Context, _parameter: click.Parameter, values: Sequence[str]
) -> list[tuple[str, str]]:
    """Return roles with what was said of them, or end with a usage error."""
    pairs = [tuple(value.partition("=")[::2]) for value in values]
    for role, key in pairs:
        if role not in ROLES or not key:
            raise click.BadParameter(
                f"{f'{role}={key}'!r}: write ROLE=KEY, the role one of {', '.join(ROLES)}"
            )
    return [(role, key) for role, key in pairs]


def _parse_thresholds(
    _context: click.Context, _parameter: click.Parameter, values: Sequence[str]
) -> dict[str, int]:
    """Return the thresholds of roles, or end with a usage error."""
    thresholds = {}
    for value in values:
        role, _, number = value.partition("=")
        if role not in ROLES or not number.isdecimal() or not 1 <= int(number) <= 1000:
            raise click.BadParameter(f"{value!r}: write ROLE=NUMBER, like root=2")
        thresholds[role] = int(number)
    return thresholds


def _parse_expiry(
    _context: click.Context, _parameter: click.Parameter, value: str | None
) -> timedelta | datetime | None:
    """Return how long, or until when, a root is valid, or end with a usage error."""
    if value is None:
        return None
    if span := parse_duration(value):
        return span
    try:
        if _MOMENT.fullmatch(value):
            return datetime.fromisoformat(value).astimezone(UTC)
    except ValueError:  # a 31st of February
        pass
    raise click.BadParameter(
        f'{value!r}: write a time like "365 days", or a date like 2030-01-31T12:00:00Z'
    )


def role_key_option(name: str, *, text: str) -> Callable[[_Command], _Command]:
    """Return an option that pairs a role with a key, and may be repeated."""
    return click.option(
        name, callback=_parse_role_key, multiple=True, metavar="ROLE=KEY", help=text
    )


threshold_option = click.option(
    "--threshold",
    "thresholds",
    callback=_parse_thresholds,
    multiple=True,
    metavar="ROLE=N",
    help="How many keys of a role must sign.",
)

expires_option = click.option(
    "--expires",
    callback=_parse_expiry,
    metavar="WHEN",
    help='Like "365 days", or 2030-01-31T12:00:00Z.  [default: lifetimes.root of publisher.toml]',
)


def expiry(chosen: timedelta | datetime | None, *, lifetime: timedelta, now: datetime) -> datetime:
    """Return when a root expires, in the whole seconds that metadata can express."""
    if isinstance(chosen, datetime):
        return chosen
    return now.replace(microsecond=0) + (chosen or lifetime)
