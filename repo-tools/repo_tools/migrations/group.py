"""`repo-tools migrations`: the list of its commands."""

from typing import Final

import click

from repo_tools.jsonoutput import make_options
from signpost.commandline import LazyCommand, SharingGroup

_COMMANDS: Final = {
    "set": LazyCommand(
        module="repo_tools.migrations.set",
        attribute="command",
        summary="Say which migrations lead from one version to another.",
    ),
}


@click.group(
    cls=SharingGroup,
    make_options=make_options,
    lazy=_COMMANDS,
    epilog="\b\nExample:\n  repo-tools migrations set 1.1.0 1.2.0 migrate_v1.2.0_settings",
)
def migrations(**_shared: object) -> None:
    """What runs on a machine between two versions."""
