"""`repo-tools playground`: the list of its commands."""

from typing import Final

import click

from repo_tools.jsonoutput import make_options
from signpost.commandline import LazyCommand, SharingGroup


def _lazy(module: str, summary: str) -> LazyCommand:
    return LazyCommand(
        module=f"repo_tools.playground.{module}", attribute="command", summary=summary
    )


_COMMANDS: Final = {
    "create": _lazy("create", "Make a machine, and a publisher with releases for it."),
    "serve": _lazy("serve", "Serve the publisher's repository on loopback."),
    "boot": _lazy("boot", "Reset the machine and let it boot (simulated)."),
    "status": _lazy("status", "Show what runs and what is published."),
    "release": _lazy("release", "Build and publish one more release."),
    "max-version": _lazy("max_version", "Say how far up machines may go."),
}


@click.group(
    cls=SharingGroup,
    make_options=make_options,
    lazy=_COMMANDS,
    epilog="""\b
Examples:
  repo-tools playground create
  repo-tools playground serve &
  updog --config playground/updog.toml update --now --reboot
  repo-tools playground status""",
)
def playground(**_shared: object) -> None:
    """A machine made of files, with a publisher, to try updates on.

    The machine is an OS disk in an image file; updog and signpost work on it as on a real one, and
    neither root nor loop devices are needed. Only its boot is simulated.
    """
