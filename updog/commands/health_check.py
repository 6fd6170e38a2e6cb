"""`updog health-check`: is the running system healthy?"""

from datetime import UTC, datetime

import click
import structlog
from msgspec.structs import asdict, replace

from signpost import disk as boot_disk
from signpost.errors import SignpostError
from signpost.state import BootState, active_set
from updog.checks import find_checks, run_checks
from updog.commands.output import print_json, print_result, wants_json
from updog.commands.settings import command, read_config
from updog.errors import UpdogError
from updog.guard import require_guarded
from updog.health import (
    Checked,
    Ending,
    HealthRecord,
    Reaction,
    check_words,
    end_of_trial,
    ending_words,
    trouble,
)
from updog.health_file import note_health
from updog.machine import Machine, open_machine
from updog.reboot import reboot

_log = structlog.get_logger()


@command("health-check", example="updog health-check")
@click.option(
    "-r",
    "--reboot",
    "is_rebooting",
    is_flag=True,
    help="If this boot is on trial and fails, end it as health.on_failed_trial says.",
)
def health_check(*, is_rebooting: bool) -> None:
    """Run the health checks of this system, and note what they found.

    Fails if a required check fails. Marks nothing: `signpost mark-successful-boot` does, when all
    has passed.
    """
    machine = open_for_health()
    state = boot_disk.read(machine.location).state
    record = _examine(machine, state)
    if wants_json():
        print_json({"healthy": record.is_healthy, "checks": [asdict(c) for c in record.checks]})
    if record.is_healthy:
        if not wants_json():
            print_result(_passed_words(record))
        return
    why = trouble(record) or "the health checks did not end"
    if not is_rebooting:
        raise UpdogError(why)
    raise UpdogError(end_boot(machine, state, why, reaction=machine.config.health.on_failed_trial))


def open_for_health() -> Machine:
    """Gather what is known of the machine, whatever state the parts for updating are in.

    Raises:
        UpdogError: the settings cannot be read, or others could change what was found.
    """
    config = read_config()
    require_guarded(config.paths.state, what="the state directory")
    return open_machine(config)


def new_record(machine: Machine, state: BootState) -> HealthRecord:
    """Return a record of this boot that tells nothing yet."""
    return HealthRecord(
        time=datetime.now(UTC),
        version=machine.host.version,
        set=active_set(state),
        boot_id=machine.boot_id,
    )


def _examine(machine: Machine, state: BootState) -> HealthRecord:
    """Run the checks, noting what is known after each: this machine may be reset meanwhile."""
    settings, record = machine.config.health, new_record(machine, state)
    try:
        checks = find_checks(machine.config.paths.health)
    except UpdogError as err:
        record = replace(record, error=str(err))
        note_health(machine.config.paths.state, record)
        return record
    if not checks:
        places = ", ".join(map(str, machine.config.paths.health))
        _log.warning("health", summary=f"there are no health checks in {places}")
    for record in run_checks(record, checks, settings.limits):  # noqa: B020 -- it grows
        note_health(machine.config.paths.state, record)
        if record.checks:
            _log_check(record.checks[-1])
    return record


def _log_check(check: Checked) -> None:
    log = _log.info if check.passed else _log.warning
    log(
        "health",
        summary=check_words(check),
        check=check.name,
        required=check.is_required,
        failure=check.failure,
        output=check.output,
        attempts=check.attempts,
        seconds=check.seconds,
    )


def _passed_words(record: HealthRecord) -> str:
    unwanted = [check.name for check in record.checks if not check.passed]
    count = len(record.checks) - len(unwanted)
    failed = f"; {', '.join(unwanted)} failed, not required" if unwanted else ""
    return f"Healthy    {'1 check' if count == 1 else f'{count} checks'} passed{failed}"


def end_boot(machine: Machine, state: BootState, why: str, *, reaction: Reaction) -> str:
    """End a boot that failed, if it is on trial and is to be ended; say why, and what follows.

    Args:
        machine: What runs.
        state: What stood on the disk when the boot was looked at.
        why: What went wrong, in words.
        reaction: What becomes of a trial.

    Raises:
        UpdogError: the machine cannot be restarted.
    """
    state = _state_now(machine, state)
    ending = end_of_trial(state, reaction)
    words = f"{why}; {ending_words(ending, state)}"
    if ending is Ending.REBOOT:
        _log.error("health", summary=words)
        reboot(machine.config.reboot.command)
    return words


def _state_now(machine: Machine, before: BootState) -> BootState:
    """Read the state again: the checks take minutes, and somebody may have marked the set.

    A disk that cannot be read any more is no reason to go on with a trial.
    """
    try:
        return boot_disk.read(machine.location).state
    except SignpostError as err:
        _log.warning("health", summary=f"{err}; going by what was read before")
        return before
