"""Options and arguments that several commands take, and how they print facts."""

from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import click
from semver import Version

from updog.versions import parse_version

Tell: TypeAlias = Callable[[str, str], None]
"""Told what was done, as a short label and a text."""

publisher_option = click.option(
    "--publisher",
    "publisher",
    type=click.Path(path_type=Path),
    envvar="REPO_TOOLS_PUBLISHER",
    default=".",
    metavar="DIR",
    help="Directory of publisher.toml.  [env: REPO_TOOLS_PUBLISHER; default: here]",
)

dry_run_option = click.option(
    "--dry-run", is_flag=True, help="Say what would be done; write nothing."
)


def parse_version_value(
    _context: click.Context, _parameter: click.Parameter, value: str
) -> Version:
    """Return a version, or end with a usage error that says how to write one."""
    try:
        return parse_version(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error


version_argument = click.argument("version", callback=parse_version_value)


def print_line(label: str, text: str) -> None:
    """Print one fact under a short label."""
    click.echo(f"{label:<10} {text}")
