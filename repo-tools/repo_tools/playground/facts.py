"""What stands in a playground, as plain facts for people and for JSON. Changes nothing."""

import socket
from typing import Any

from repo_tools.draft import read_catalogue
from repo_tools.playground.place import Playground
from repo_tools.releases import limit
from repo_tools.repository import PublishedRepository
from repo_tools.server import LOOPBACK
from updog.errors import ConfigError
from updog.host import read_host
from updog.manifest import Manifest, Update

_CONNECT_TIMEOUT_SECONDS = 1


def describe(playground: Playground) -> dict[str, Any]:
    """Return what runs, what is published and whether it is served."""
    repository = PublishedRepository(playground.repository)
    manifest = read_catalogue(repository).manifest
    most = limit(manifest.updates)
    return {
        "directory": str(playground.directory),
        "disk": str(playground.disk),
        "config": str(playground.config),
        "running": _running(playground),
        "server": {
            "url": f"http://{LOOPBACK}:{playground.port}",
            "answers": _answers(playground.port),
        },
        "max_version": str(most) if most else None,
        "updates": [_update(update) for update in _by_version(manifest)],
        "timestamp_expires": repository.timestamp_expires.isoformat(),
    }


def _running(playground: Playground) -> dict[str, str] | None:
    """Return the running system, None while the machine is off."""
    try:
        host = read_host(playground.os_release)
        active = playground.active_set.read_text().strip()
    except (ConfigError, OSError):
        return None
    return {"set": active, "variant": host.variant, "version": str(host.version)}


def _by_version(manifest: Manifest) -> list[Update]:
    return sorted(manifest.updates, key=lambda update: update.version)


def _update(update: Update) -> dict[str, Any]:
    return {
        "version": str(update.version),
        "held_back": update.version > update.max_version,
        "waves": len(update.waves),
    }


def _answers(port: int) -> bool:
    """Whether anything listens where the machine looks for its publisher."""
    try:
        with socket.create_connection((LOOPBACK, port), timeout=_CONNECT_TIMEOUT_SECONDS):
            return True
    except OSError:
        return False
