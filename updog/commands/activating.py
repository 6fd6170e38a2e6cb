"""The part that `update` and `update-apply` share: after the flags have changed, whatever fails."""

from typing import Any

from semver import Version

from signpost import disk as boot_disk
from signpost.state import inactive_set, next_set
from updog.commands.output import print_json, print_result, wants_json
from updog.errors import UpdogError
from updog.history import known_version
from updog.machine import Machine
from updog.reboot import reboot


def what_is_left(machine: Machine, otherwise: str) -> str:
    """Say that the update boots next, if it does, or else what the caller knows.

    Raises:
        UpdogError: the history cannot be read.
        SignpostError: the disk cannot be read.
    """
    state = boot_disk.read(machine.location).state
    name = inactive_set(state)
    if next_set(state) is not name:
        return otherwise
    version = known_version(machine.history.events(), state, name) or "what was installed"
    if not state.flags[name.other].successful:
        return (
            f"what runs is on trial, and the next boot returns to {version} in set {name} unless "
            "its health checks mark this system successful"
        )
    return (
        f"{version} is active in set {name} and boots next; reboot to enter it, or "
        "`updog update-revert`"
    )


def announce_and_reboot(
    machine: Machine, version: Version, facts: dict[str, Any], *, is_rebooting: bool
) -> None:
    """Print that an update is applied, and restart the machine even if that cannot be printed.

    Raises:
        UpdogError: the machine is not restarting, or nobody was told.
    """
    failure = _announce(machine, version, facts, is_rebooting=is_rebooting)
    if is_rebooting:
        reboot(machine.config.reboot.command)
    if failure is not None:
        raise failure


def _announce(
    machine: Machine, version: Version, facts: dict[str, Any], *, is_rebooting: bool
) -> UpdogError | None:
    entered = "Rebooting into it." if is_rebooting else "Reboot to enter it."
    try:
        if wants_json():
            print_json(facts | {"rebooting": is_rebooting})
        else:
            print_result(f"Applied    {machine.host.variant} {version}. {entered}")
    except UpdogError as err:
        return err
    return None
