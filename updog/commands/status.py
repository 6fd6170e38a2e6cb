"""`updog status`: one glance at the machine."""

import os
from datetime import UTC, datetime
from pathlib import Path

from signpost import disk as boot_disk
from signpost.state import BootState
from updog.commands.output import print_json, print_result, wants_json
from updog.commands.settings import command, lock_path, read_machine, read_trusted_root
from updog.health import HealthRecord
from updog.health_file import read_health
from updog.hold_files import find_hold
from updog.lock import find_holder
from updog.machine import Machine, unrecorded
from updog.proof import read_versions
from updog.status import assess, status_facts, status_lines


@command("status", example="updog status --json")
def status() -> None:
    """Say what runs, what is staged and what boots next. Needs no network."""
    machine = read_machine()
    now = datetime.now(UTC)
    state = boot_disk.read(machine.location).state
    events = (*machine.history.events(), *unrecorded(machine, state, now=now))
    metadata = read_versions(read_trusted_root(machine.config), machine.config.paths.metadata_cache)
    found = assess(
        machine.host,
        state,
        events,
        metadata,
        last_check=machine.history.last_check(),
        may_read_metadata=_may_read(machine.config.paths.metadata_cache),
        writer=find_holder(lock_path(machine.config)),
        health=_health(machine, state),
        hold=find_hold(machine.config.paths, now=now),
    )
    if wants_json():
        print_json(status_facts(found, machine.config))
    else:
        print_result("\n".join(status_lines(found, machine.config, now=now)))


def _health(machine: Machine, state: BootState) -> HealthRecord | None:
    """Return what this boot told of its health: an earlier one says nothing of what runs now."""
    if state.active is None:
        return None
    record = read_health(machine.config.paths.state, state.active)
    is_of_this_boot = record is not None and record.boot_id == machine.boot_id
    return record if is_of_this_boot else None


def _may_read(cache: Path) -> bool:
    """Tell whether this user can see what is in the cache, or that there is nothing."""
    try:
        files = [cache, *cache.iterdir()]
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return all(os.access(each, os.R_OK) for each in files)
