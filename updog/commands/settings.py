"""What every command begins with: the log, the settings, and what they name on this machine.

Imports nothing of the network, so that commands which need none start at once.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import click

from signpost.commandline import shared_options
from updog import log
from updog.config import Config, load_config
from updog.errors import ConfigError
from updog.files import read_small_file
from updog.guard import require_guarded
from updog.machine import Machine, open_machine

_MOST_ROOT_BYTES: Final = 512 << 10


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


def lock_path(config: Config) -> Path:
    """Say where the lock of all runs on this machine is."""
    return config.paths.state / "lock"


def floor_path(config: Config) -> Path:
    """Say where it is noted which metadata was accepted last: not with the cache, by design."""
    return config.paths.state / "metadata-floor.json"


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
