"""`repo-tools waves set`: a rollout gets a schedule."""

from datetime import datetime

import click
from semver import Version

from repo_tools.changes import SetWaves
from repo_tools.waves.options import read_schedule, selection_options, start_option, tell
from repo_tools.workspace import Target, change_options, make


@click.command(
    "set",
    epilog="""\b
Examples:
  repo-tools waves set slow 1.2.0
  repo-tools waves set our-waves.toml --start 2030-01-31T19:00:00Z --publish""",
)
@click.argument("file")
@selection_options
@start_option
@click.option(
    "--force", is_flag=True, help="Also where machines lose what they were granted already."
)
@change_options
def command(  # noqa: PLR0913 -- one parameter an option
    file: str,
    version: Version | None,
    *,
    variant: str | None,
    arch: str | None,
    start: datetime | None,
    force: bool,
    target: Target,
) -> None:
    """Give the rollout of VERSION the schedule in FILE.

    FILE is a wave file, or one of default, accelerated, emergency, slow. Its times count from the
    publish.
    """
    schedule = read_schedule(file, start=start)
    change = SetWaves(version=version, variant=variant, arch=arch, schedule=schedule, force=force)
    tell(make(target, change))
