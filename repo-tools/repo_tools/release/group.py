"""`repo-tools release`: the list of its commands."""

from typing import Final

import click

from repo_tools.jsonoutput import make_options
from signpost.commandline import LazyCommand, SharingGroup


def _lazy(module: str, summary: str) -> LazyCommand:
    return LazyCommand(module=f"repo_tools.release.{module}", attribute="command", summary=summary)


_COMMANDS: Final = {
    "add": _lazy("add", "Add a release: three images that belong together."),
    "withdraw": _lazy("withdraw", "Take a release back; machines that run it move off it."),
    "list": _lazy("list", "Show what is published, and what waits in the draft."),
    "discard": _lazy("discard", "Throw the draft away."),
}


@click.group(
    cls=SharingGroup,
    make_options=make_options,
    lazy=_COMMANDS,
    epilog="""\b
Examples:
  repo-tools release add 1.2.0 --variant shop --arch x86_64 --images build --waves default
  repo-tools publish
  repo-tools release list""",
)
def release(**_shared: object) -> None:
    """What is offered to machines.

    Changes wait in a draft until `repo-tools publish`; --publish makes one public at once.
    """
