"""A group of commands, each in the module of its name, loaded when it runs."""

from collections.abc import Callable, Mapping
from typing import Any

import click

from repo_tools.jsonoutput import make_options
from signpost.commandline import LazyCommand, SharingGroup


def group_of(
    package: str, commands: Mapping[str, str], *, epilog: str
) -> Callable[[Callable[..., Any]], click.Group]:
    """Return what makes a group of the function that describes it.

    Args:
        package: where the modules are; `command` in each is the command.
        commands: the names of the commands, and their lines in the group's help.
        epilog: the end of that help.
    """
    lazy = {
        name: LazyCommand(
            module=f"{package}.{name.replace('-', '_')}", attribute="command", summary=summary
        )
        for name, summary in commands.items()
    }
    return click.group(cls=SharingGroup, make_options=make_options, lazy=lazy, epilog=epilog)
