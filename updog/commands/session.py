"""What most commands begin with: settings, log, the machine, the lock and the repository."""

import os
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
from updog.lock import only_run
from updog.machine import Machine, open_machine
from updog.metadata import Repository
from updog.proxies import choose_proxies
from updog.tls import TlsSettings
from updog.transport import Network, Transport
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
    return load_config(options["config"])


def read_machine() -> Machine:
    """Read the configuration and gather what is known of the machine."""
    return open_machine(read_config())


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
        with open_transport(machine) as transport:
            repository = Repository(
                trusted_root=trusted_root,
                cache=config.paths.metadata_cache,
                metadata_base_url=config.metadata_base_url,
                targets_base_url=config.targets_base_url,
                transport=transport,
            )
            yield Session(machine=machine, repository=repository, now=datetime.now(UTC))


def open_transport(machine: Machine) -> Transport:
    """Set up what this machine fetches files with; nothing is fetched yet.

    Raises:
        ConfigError: a file that the settings name cannot be used, or a proxy of the environment.
    """
    config, network = machine.config, machine.config.network
    told = {"version": str(machine.host.version), "seed": str(config.seed)}
    settings = Network(
        proxies=choose_proxies(
            https_proxy=config.https_proxy, no_proxy=config.no_proxy, environment=os.environ
        ),
        tls=TlsSettings(
            ca_file=network.ca_file,
            client_certificate=network.client_certificate,
            client_key=network.client_key,
        ),
        max_bytes_per_second=network.max_bytes_per_second,
        query=told if network.report_version_and_seed else {},
    )
    return Transport(network=settings)


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
