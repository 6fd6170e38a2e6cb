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
    return open_machine(read_guarded_config())


def read_guarded_config() -> Config:
    """Read the configuration; as root, refuse it if others could change what it names.

    Raises:
        UpdogError: somebody else could.
    """
    config = read_config()
    for path, what in _deciding(config):
        if path is not None:
            require_guarded(path, what=what)
    return config


def _deciding(config: Config) -> list[tuple[Path | None, str]]:
    """Return whatever decides on updates, and what to call it."""
    paths, disk, network = config.paths, config.disk, config.network
    return [
        (paths.trusted_root, "the trusted root"),
        (paths.metadata_cache, "the metadata cache"),
        (paths.migrations, "the migrations"),
        (paths.state, "the state directory"),
        (paths.os_release, "the description of what runs"),
        (paths.boot_id, "the name of this boot"),
        (disk.path, "the disk"),
        (disk.active_file, "the name of the running set"),
        (network.ca_file, "the CA certificates"),
        (network.client_certificate, "the client certificate"),
        (network.client_key, "the client key"),
    ]


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
