"""Options that several `waves` commands take, and how a rollout is told."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, TypeVar

import click

from repo_tools.changes import Schedule
from repo_tools.jsonoutput import print_json, wants_json
from repo_tools.options import parse_version_value, print_line
from repo_tools.release.telling import state_of
from repo_tools.wavefile import find_wave_file
from repo_tools.workspace import Outcome
from updog.manifest import parse_time

_Command = TypeVar("_Command", bound=Callable[..., Any])


def _parse_start(
    _context: click.Context, _parameter: click.Parameter, value: str | None
) -> datetime | None:
    """Return a moment, or end with a usage error."""
    try:
        return None if value is None else parse_time(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error


start_option = click.option(
    "--start",
    callback=_parse_start,
    metavar="TIME",
    help="Moment that its times count from, like 2030-01-31T19:00:00Z.  [default: the publish]",
)


def selection_options(command: _Command) -> _Command:
    """Give a command the argument and options that say which rollout is meant."""
    for option in (
        click.option("--arch", help="Only for this architecture."),
        click.option("--variant", help="Only of this variant."),
        click.argument("version", required=False, callback=_parse_version),
    ):
        command = option(command)
    return command


def _parse_version(
    context: click.Context, parameter: click.Parameter, value: str | None
) -> object | None:
    return None if value is None else parse_version_value(context, parameter, value)


def read_schedule(name: str, *, start: datetime | None) -> Schedule:
    """Read a wave file by its path or the name of a shipped one.

    Raises:
        RepoToolsError: there is none, it breaks a rule, or it begins in the past.
    """
    found = find_wave_file(name)
    schedule = Schedule(name=name, text=found.text, start=start)
    schedule.waves(datetime.now(UTC))
    return schedule


def tell(outcome: Outcome) -> None:
    """Say what became of the rollouts that were changed."""
    if wants_json():
        print_json(outcome.document())
        return
    for change in outcome.changes:
        print_line("Waves", f"{change}: {outcome.words}")
    for update in outcome.selected:
        where = f"{update.version} {update.variant} {update.arch}"
        print_line("Rollout", f"{where}: {state_of(outcome.after, update, outcome.now)}")
