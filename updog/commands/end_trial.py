"""`updog end-trial`: the deadline of a boot on trial."""

from pathlib import Path

from msgspec.structs import replace

from signpost import disk as boot_disk
from signpost.state import BootState, active_set
from updog.commands.health_check import end_boot, new_record, open_for_health
from updog.commands.output import print_json, print_result, wants_json
from updog.commands.settings import command
from updog.health import HealthRecord, Reaction, trouble
from updog.health_file import note_health, read_health
from updog.machine import Machine

_UPTIME = Path("/proc/uptime")


@command("end-trial", example="updog end-trial")
def end_trial() -> None:
    """End a boot on trial that has not been marked successful: its time is over.

    Restarts the machine, which then takes the other set, and notes why. Restarts nothing on a boot
    that is not on trial, nor where no other set boots. Fails only where it cannot tell.
    """
    machine = open_for_health()
    state = boot_disk.read(machine.location).state
    if state.flags[active_set(state)].successful:
        _say("not on trial", f"set {state.active} is marked successful")
        return
    record = _noted(machine, state)
    note_health(machine.config.paths.state, record)
    words = end_boot(
        machine, state, trouble(record) or "its time is over", reaction=Reaction.REBOOT
    )
    _say("on trial", words)


def _say(outcome: str, words: str) -> None:
    if wants_json():
        print_json({"outcome": outcome, "text": words})
    else:
        print_result(f"{outcome.capitalize():<12} {words}")


def _noted(machine: Machine, state: BootState) -> HealthRecord:
    """Add to what this boot has told of its health that its time is over."""
    known = read_health(machine.config.paths.state, active_set(state))
    is_of_this_boot = known is not None and known.boot_id == machine.boot_id
    record = known if known is not None and is_of_this_boot else new_record(machine, state)
    return replace(record, gave_up_after_seconds=_uptime_seconds())


def _uptime_seconds() -> float:
    return float(_UPTIME.read_text(encoding="ascii").split()[0])
