"""What the commands that may change things begin with: the lock and the repository."""

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime

import msgspec

from updog.commands.output import NOTHING_CHANGED, leaving
from updog.commands.settings import (
    command,
    floor_path,
    lock_path,
    read_config,
    read_machine,
    read_trusted_root,
)
from updog.consultation import remember_boot
from updog.lock import only_run
from updog.machine import Machine
from updog.metadata import Repository
from updog.proxies import choose_proxies
from updog.tls import TlsSettings
from updog.transport import Network, Transport

__all__ = [
    "Session",
    "command",
    "connected",
    "lock_path",
    "locked_machine",
    "read_config",
    "read_machine",
    "read_trusted_root",
]


class Session(msgspec.Struct, frozen=True, kw_only=True):
    """One run that may change things: it holds the lock and can reach the repository."""

    machine: Machine
    repository: Repository
    now: datetime


@contextmanager
def locked_machine() -> Iterator[Machine]:
    """Keep other runs out, and note what became of the last update."""
    with ExitStack() as stack:
        with leaving(NOTHING_CHANGED):
            machine = read_machine()
            stack.enter_context(only_run(lock_path(machine.config)))
            remember_boot(machine, now=datetime.now(UTC))
        yield machine


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
                floor=floor_path(config),
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
