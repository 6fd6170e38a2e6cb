"""The machine that is updated: its settings, what runs, its disk and its memory."""

from datetime import datetime
from pathlib import Path

import msgspec
from msgspec.structs import replace

from signpost import disk as boot_disk
from signpost.disk import Location
from signpost.state import BootState
from updog.config import Config
from updog.files import read_small_text
from updog.health import trouble
from updog.health_file import read_health
from updog.history import Event, EventKind, settle
from updog.history_file import History
from updog.host import Host, read_host

_LONGEST_BOOT_ID = 100


class Machine(msgspec.Struct, frozen=True, kw_only=True):
    """The machine that is updated: its settings, what runs, its disk and its memory."""

    config: Config
    host: Host
    location: Location
    history: History
    boot_id: str | None


def open_machine(config: Config) -> Machine:
    """Gather what is known of the machine.

    Raises:
        ConfigError: what runs cannot be read.
        DiskError: the OS disk cannot be found.
    """
    settings = config.disk
    return Machine(
        config=config,
        host=read_host(config.paths.os_release),
        location=boot_disk.find_location(settings.path, settings.active, settings.active_file),
        history=History(config.paths.state / "history.jsonl"),
        boot_id=_read_boot_id(config.paths.boot_id),
    )


def unrecorded(machine: Machine, state: BootState, *, now: datetime) -> tuple[Event, ...]:
    """Return what has become of the sets and is not in the history yet, as `settle` finds it."""
    events = settle(
        machine.history.events(),
        state,
        running=machine.host.version,
        boot_id=machine.boot_id,
        now=now,
    )
    return tuple(_explained(machine, event) for event in events)


def _explained(machine: Machine, event: Event) -> Event:
    """Add to a rollback what the boot that failed has told of its health, if it could."""
    if event.kind is not EventKind.ROLLED_BACK or event.by_hand:
        return event
    record = read_health(machine.config.paths.state, event.set)
    if record is None or record.version != event.version:
        return event
    return replace(event, error=trouble(record))


def _read_boot_id(path: Path) -> str | None:
    """Return the kernel's name for this boot; None where it has none: the flags must do then."""
    try:
        return read_small_text(path, limit_bytes=_LONGEST_BOOT_ID).strip() or None
    except (OSError, ValueError):
        return None
