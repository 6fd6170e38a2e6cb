"""`repo-tools waves`: the list of its commands."""

from typing import Final

import click

from repo_tools.jsonoutput import make_options
from signpost.commandline import LazyCommand, SharingGroup


def _lazy(module: str, summary: str) -> LazyCommand:
    return LazyCommand(module=f"repo_tools.waves.{module}", attribute="command", summary=summary)


_COMMANDS: Final = {
    "set": _lazy("set", "Give a rollout a schedule."),
    "show": _lazy("show", "Show when a rollout reaches whom, and how far it is."),
    "pause": _lazy("pause", "Stop a rollout where it is."),
    "resume": _lazy("resume", "Let a paused rollout go on."),
    "accelerate": _lazy("accelerate", "Let the rest of a rollout come earlier."),
}


@click.group(
    cls=SharingGroup,
    make_options=make_options,
    lazy=_COMMANDS,
    epilog="""\b
Examples:
  repo-tools waves show
  repo-tools waves pause --publish
  repo-tools waves accelerate --to emergency --publish""",
)
def waves(**_shared: object) -> None:
    """When a release reaches which part of the fleet.

    Without a version they mean the newest release, for every variant and architecture that has it.
    """
