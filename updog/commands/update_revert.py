"""`updog update-revert`: take an update back; needs no network."""

from signpost import disk as boot_disk
from signpost.state import next_set
from updog.commands.output import leaving, print_json, print_result, wants_json
from updog.commands.session import command, locked_machine
from updog.machine import Machine
from updog.update import revert


@command("update-revert", example="updog update-revert")
def update_revert() -> None:
    """Take an activated update back before it is booted. Needs no network."""
    with locked_machine() as machine, leaving(lambda: _what_is_left(machine)):
        version = revert(machine)
        if wants_json():
            print_json({"reverted": str(version) if version else None})
        else:
            again = " `updog update-apply` activates it again." if version else ""
            print_result(
                f"Reverted   {version or 'the upgrade'} will not be booted; {machine.host.version} "
                f"stays.{again}"
            )


def _what_is_left(machine: Machine) -> str:
    """Say what boots next.

    Raises:
        SignpostError: the disk cannot be read.
    """
    following = next_set(boot_disk.read(machine.location).state)
    return f"the next boot takes {f'set {following}' if following else 'no set'}"
