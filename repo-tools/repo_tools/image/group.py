"""`repo-tools image`: the list of its commands."""

from typing import Final

import click

from repo_tools.jsonoutput import make_options
from signpost.commandline import LazyCommand, SharingGroup

_COMMANDS: Final = {
    "stage1": LazyCommand(
        module="repo_tools.image.stage1",
        attribute="command",
        summary="Make the boot loader that chooses a set by signpost's rule.",
    ),
}


@click.group(
    cls=SharingGroup,
    make_options=make_options,
    lazy=_COMMANDS,
    epilog="""\b
Example:
  repo-tools image stage1 out --kernel /boot/vmlinuz-6.1 --modules /lib/modules/6.1""",
)
def image(**_shared: object) -> None:
    """Make what machines boot from. Needs no root."""
