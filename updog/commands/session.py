"""What most commands begin with: settings, log, the machine, the lock and the repository."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import click

from signpost.commandline import shared_options
from updog import log
from updog.commands.output import NOTHING_CHANGED, leaving
from updog.config import Config, load_config
from updog.errors import ConfigError
from updog.files import read_small_file
from updog.guard import require_guarded
from updog.lock import only_run
from updog.machine import Machine, open_machine
from updog.metadata import Repository
from updog.transport import Transport
from updog.update import remember_boot

_MOST_ROOT_BYTES: Final = 512 << 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """One run that may change things: it holds the lock and can reach the repository."""

    machine: Machine
    repository: Repository
    now: datetime


def read_config() -> Config:
    """Set up the log and read the configuration that the options name."""
    options = shared_options()
    log.configure(log.LogFormat(options["log_format"]), level=options["log_level"])
    require_guarded(options["config"], what="the configuration")
    return load_config(options["config"])


def read_machine() -> Machine:
    """Read the configuration and gather what is known of the machine."""
    config = read_config()
    _require_guarded_paths(config)
    return open_machine(config)


def _require_guarded_paths(config: Config) -> None:
    """Refuse, as root, whatever decides on updates and could be changed by others."""
    paths = config.paths
    require_guarded(paths.trusted_root, what="the trusted root")
    require_guarded(paths.metadata_cache, what="the metadata cache")
    require_guarded(paths.migrations, what="the migrations")
    require_guarded(paths.state, what="the state directory")
    require_guarded(paths.os_release, what="the description of what runs")
    if config.disk.active_file is not None:
        require_guarded(config.disk.active_file, what="the name of the running set")


@contextmanager
def locked_machine() -> Iterator[Machine]:
    """Keep other runs out, and note what became of the last update."""
    with ExitStack() as stack:
        with leaving(NOTHING_CHANGED):
            machine = read_machine()
            stack.enter_context(only_run(lock_path(machine.config)))
            remember_boot(machine, now=datetime.now(UTC))
        yield machine


def lock_path(config: Config) -> Path:
    """Say where the lock of all runs on this machine is."""
    return config.paths.state / "lock"


@contextmanager
def connected() -> Iterator[Session]:
    """Open a session with the repository."""
    with locked_machine() as machine:
        config = machine.config
        trusted_root = read_trusted_root(config)
        with Transport(https_proxy=config.https_proxy, no_proxy=config.no_proxy) as transport:
            repository = Repository(
                trusted_root=trusted_root,
                cache=config.paths.metadata_cache,
                metadata_base_url=config.metadata_base_url,
                targets_base_url=config.targets_base_url,
                transport=transport,
            )
            yield Session(machine=machine, repository=repository, now=datetime.now(UTC))


def read_trusted_root(config: Config) -> bytes:
    """Return the root metadata that came with the machine.

    Raises:
        ConfigError: it cannot be read.
    """
    path = config.paths.trusted_root
    try:
        return read_small_file(path, limit_bytes=_MOST_ROOT_BYTES)
    except (OSError, ValueError) as err:
        why = err.strerror if isinstance(err, OSError) else err
        raise ConfigError(
            f"cannot read the trusted root {path}: {why}; without it no update can be "
            "verified. Install the publisher's root.json there"
        ) from err


def command(name: str, *, example: str) -> Callable[[Callable[..., Any]], click.Command]:
    """Make a command whose help ends with an example."""
    return click.command(name, epilog=f"\b\nExample:\n  {example}")
