"""`repo-tools max-version`: the list of its commands."""

from typing import Final

import click

from repo_tools.jsonoutput import make_options
from signpost.commandline import LazyCommand, SharingGroup

_COMMANDS: Final = {
    "set": LazyCommand(
        module="repo_tools.max_version.set",
        attribute="command",
        summary="Let machines go up to a version and no further.",
    ),
}


@click.group(
    cls=SharingGroup,
    make_options=make_options,
    lazy=_COMMANDS,
    epilog="\b\nExample:\n  repo-tools max-version set 1.2.0 --publish",
)
def max_version(**_shared: object) -> None:
    """How far up machines may go."""
