"""The machine that is updated: its settings, what runs, its disk and its memory."""

from dataclasses import dataclass

from signpost import disk as boot_disk
from signpost.disk import Location
from updog.config import Config
from updog.history import History
from updog.host import Host, read_host


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """The machine that is updated: its settings, what runs, its disk and its memory."""

    config: Config
    host: Host
    location: Location
    history: History


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
    )
