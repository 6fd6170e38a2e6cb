"""What a run begins with: what became of the last update, and what the repository offers.

Decides nothing itself: it brings history, trust, manifest and settings together for `updog.choice`.
Loads nothing of what installs, as most runs find no update.
"""

from datetime import datetime

import structlog
from semver import Version

from signpost import disk as boot_disk
from updog.choice import Judgement, Policy, judge
from updog.history import Event, EventKind, quarantined
from updog.hold_files import find_hold
from updog.machine import Machine, unrecorded
from updog.manifest import MANIFEST, MAX_MANIFEST_BYTES, Manifest, parse_manifest
from updog.metadata import Repository
from updog.units import duration

_log = structlog.get_logger()


def remember_boot(machine: Machine, *, now: datetime) -> None:
    """Record what has become of the sets since the last run, as far as it shows."""
    damage = machine.history.damage()
    if damage is not None:
        _log.warning("history", summary=damage)
    state = boot_disk.read(machine.location).state
    for event in unrecorded(machine, state, now=now):
        machine.history.append(event)
        _log.info(
            event.kind,
            summary=f"{event.version} in set {event.set}{_how(event)}",
            version=str(event.version),
            set=event.set,
        )


def _how(event: Event) -> str:
    if event.by_hand:
        return ", by hand"
    if event.kind is EventKind.ROLLED_BACK and event.error is not None:
        return f": {event.error}"
    return ": its flags were changed by hand, it may have been tried" if event.unseen else ""


def consult(
    machine: Machine,
    repository: Repository,
    *,
    forced: Version | None,
    ignore_waves: bool,
    now: datetime,
) -> tuple[Manifest, Judgement]:
    """Refresh trust, read the manifest and judge every update for this machine.

    Raises:
        TrustError: the repository is not to be believed.
        TransportError: it cannot be reached.
        ManifestError: what it signed makes no sense.
    """
    repository.refresh()
    manifest = read_manifest(repository)
    policy = Policy(
        version_lock=machine.config.version_lock,
        ignore_waves=ignore_waves or machine.config.ignore_waves,
        forced=forced,
        quarantined=quarantined(machine.history.events()),
        hold=find_hold(machine.config.paths, now=now),
    )
    return manifest, judge(manifest, machine.host, policy=policy, seed=machine.config.seed, now=now)


def log_trust(repository: Repository, *, now: datetime) -> None:
    """Say which metadata the choice rests on."""
    versions = repository.versions
    left = versions.timestamp_expires - now
    _log.info(
        "trust",
        summary=(
            f"root v{versions.root}, timestamp v{versions.timestamp} (expires in {duration(left)})"
        ),
        root=versions.root,
        timestamp=versions.timestamp,
        expires=versions.timestamp_expires.isoformat(),
    )


def read_manifest(repository: Repository) -> Manifest:
    """Fetch, verify and read the list of updates."""
    target = repository.target(MANIFEST)
    return parse_manifest(repository.read(target, max_length=MAX_MANIFEST_BYTES))
