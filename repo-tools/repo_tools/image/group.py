"""`repo-tools image`: the list of its commands."""

from typing import Final

import click

from repo_tools.jsonoutput import make_options
from signpost.commandline import LazyCommand, SharingGroup


def _lazy(module: str, summary: str) -> LazyCommand:
    return LazyCommand(module=f"repo_tools.image.{module}", attribute="command", summary=summary)


_COMMANDS: Final = {
    "build": _lazy("build", "Make root, hash and boot image from directory trees."),
    "disk": _lazy("disk", "Lay out a whole disk, and fill set A."),
    "inspect": _lazy("inspect", "Show what is in an image or a disk."),
}


@click.group(
    cls=SharingGroup,
    make_options=make_options,
    lazy=_COMMANDS,
    epilog="""\b
Examples:
  repo-tools image build root-tree --kernel vmlinuz --initrd initrd.img images
  repo-tools image disk disk.img --size-mib 2048 --set-a images
  repo-tools image inspect disk.img""",
)
def image(**_shared: object) -> None:
    """Images of a system, and whole disks: made and read without root or loop devices."""
