"""`updog update`: the whole sequence."""

from contextlib import AbstractContextManager, ExitStack

import click
from semver import Version

from updog.commands.activating import announce_and_reboot, what_is_left
from updog.commands.choosing import image_option, now_option
from updog.commands.installing import choose_and_install, progress_option, words_for_installed
from updog.commands.output import leaving
from updog.commands.session import command, connected
from updog.machine import Machine
from updog.progress import ProgressMode
from updog.update import Installed, activate


@command("update", example="updog update --reboot --now")
@image_option
@now_option
@progress_option
@click.option("-r", "--reboot", is_flag=True, help="Restart into the update at once.")
def update(*, image: Version | None, ignore_waves: bool, mode: ProgressMode, reboot: bool) -> None:
    """Fetch, install, prove and activate an update.

    The running set is never touched. The next boot tries the update once; if that boot is not
    marked successful, the one after it returns to the running system.
    """
    with ExitStack() as until_the_end:
        with connected() as session:
            machine = session.machine
            installed = choose_and_install(
                session, image=image, ignore_waves=ignore_waves, mode=mode, undone="applied"
            )
            if installed is None:
                return
            until_the_end.enter_context(_telling_what_is_left(machine, installed))
            activate(machine)
        facts = {"applied": str(installed.version), "set": installed.set}
        announce_and_reboot(machine, installed.version, facts, is_rebooting=reboot)


def _telling_what_is_left(machine: Machine, installed: Installed) -> AbstractContextManager[None]:
    return leaving(lambda: what_is_left(machine, words_for_installed(installed)))
