"""`repo-tools waves accelerate`: the rest of a rollout comes earlier."""

import click
from semver import Version

from repo_tools.changes import AccelerateWaves
from repo_tools.durations import parse_duration
from repo_tools.waves.options import read_schedule, selection_options, tell
from repo_tools.workspace import Target, change_options, make


def _parse_by(
    _context: click.Context, _parameter: click.Parameter, value: str | None
) -> str | None:
    """Return the text of a time, or end with a usage error."""
    if value is not None and not parse_duration(value):
        raise click.BadParameter(f'{value!r} is no time; write it like "12 hours" or 12h')
    return value


@click.command(
    "accelerate",
    epilog="""\b
Examples:
  repo-tools waves accelerate --by 12h --publish
  repo-tools waves accelerate 1.2.0 --to emergency --publish""",
)
@selection_options
@click.option("--by", callback=_parse_by, metavar="TIME", help="So much earlier, not before now.")
@click.option(
    "--to",
    "file",
    metavar="FILE",
    help="Go on by this wave file from the share that is reached.",
)
@change_options
def command(  # noqa: PLR0913 -- one parameter an option
    version: Version | None,
    *,
    variant: str | None,
    arch: str | None,
    by: str | None,
    file: str | None,
    target: Target,
) -> None:
    """Let the rest of the rollout of VERSION come earlier; nothing comes later for anybody."""
    if (by is None) == (file is None):
        raise click.UsageError("say how: --by TIME or --to FILE")
    change = AccelerateWaves(
        version=version,
        variant=variant,
        arch=arch,
        by=by,
        to=read_schedule(file, start=None) if file else None,
    )
    tell(make(target, change))
