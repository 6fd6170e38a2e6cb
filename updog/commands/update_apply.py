"""`updog update-apply`: the second half of an update; needs no network."""

from contextlib import AbstractContextManager

import click

from updog.commands.activating import announce_and_reboot, what_is_left
from updog.commands.output import NOTHING_CHANGED, leaving
from updog.commands.session import command, locked_machine
from updog.machine import Machine
from updog.update import activate


@command("update-apply", example="updog update-apply --reboot")
@click.option("-r", "--reboot", is_flag=True, help="Restart into the update at once.")
def update_apply(*, reboot: bool) -> None:
    """Let the next boot try what was installed. Needs no network."""
    with locked_machine() as machine, _telling_what_is_left(machine):
        version = activate(machine)
    with _telling_what_is_left(machine):
        announce_and_reboot(machine, version, {"applied": str(version)}, is_rebooting=reboot)


def _telling_what_is_left(machine: Machine) -> AbstractContextManager[None]:
    return leaving(lambda: what_is_left(machine, NOTHING_CHANGED))
