"""Which update a machine takes, and why not the others.

Decides from facts alone: the manifest, what runs here, the operator's policy, the seed and the
time. Every update made for this machine gets one verdict, so that "no" always has a reason. Fetches
nothing, reads no clock and changes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

from updog.versions import LATEST, VersionLock, names
from updog.waves import Seed, WavePosition, position

if TYPE_CHECKING:  # manifest brings a JSON library, which deciding does not need
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from semver import Version

    from updog.history import Event
    from updog.hold import Hold
    from updog.host import Host
    from updog.manifest import Manifest, Update


class Reason(StrEnum):
    """Why an update is, or is not, the one to take."""

    CHOSEN = "chosen"
    SUPERSEDED = "superseded"
    """It would do, but a higher one is chosen."""
    RUNNING = "running"
    OLDER = "older"
    NOT_REQUESTED = "not requested"
    """The user asked for another version by name."""
    HELD_BACK = "held back"
    """It is above its own max_version: published, but not, or no longer, for everyone."""
    WITHDRAWN = "withdrawn"
    """What runs is above the max_version: never a verdict on an update, only the reason for none
    although the machine should move."""
    LOCKED = "locked"
    QUARANTINED = "quarantined"
    WAVE_NOT_STARTED = "not yet"
    ON_HOLD = "on hold"
    """The operator holds all updates back: never a verdict on one, only the reason for none."""
    NOT_LISTED = "not listed"
    """There was nothing to judge: never a verdict on an update, only the reason for none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """What the operator wants.

    Attributes:
        version_lock: The versions that may run here. A machine that runs another one moves to the
            highest that may, downwards too.
        ignore_waves: Do not wait for this machine's turn.
        forced: Exactly this version, whatever runs, is locked or is quarantined; waves still count.
        quarantined: Versions that failed here or were left by hand, each with its rollback.
        hold: What holds updates back, if anything does; `forced` goes before it.
    """

    version_lock: VersionLock = LATEST
    ignore_waves: bool = False
    forced: Version | None = None
    quarantined: Mapping[Version, Event] = field(default_factory=dict)
    hold: Hold | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """One update, why it is or is not taken, and where in its waves this machine is, if any."""

    update: Update
    reason: Reason
    place: WavePosition | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """The verdicts on all updates for this machine, highest first, and what they rest on."""

    host: Host
    policy: Policy
    seed: Seed
    verdicts: tuple[Verdict, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """Take this update.

    Attributes:
        update: The one.
        is_downgrade: It is lower than what runs.
        is_by_hand: It is lower, and is taken only because the user asks for it by name.
        was_quarantined: It was rolled back here before, and is taken only because the user insists.
    """

    update: Update
    is_downgrade: bool
    is_by_hand: bool
    was_quarantined: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class NoUpdate:
    """Take none.

    Attributes:
        reason: Why, in the words of the verdict that weighs most.
        verdict: That verdict; None when there is none to speak of.
    """

    reason: Reason
    verdict: Verdict | None

    @property
    def ready_at(self) -> datetime | None:
        """The moment this machine's turn comes, when waiting for it is the reason."""
        waits = self.reason is Reason.WAVE_NOT_STARTED
        return (
            self.verdict.place.ready_at if waits and self.verdict and self.verdict.place else None
        )


def judge(
    manifest: Manifest, host: Host, *, policy: Policy, seed: Seed, now: datetime
) -> Judgement:
    """Judge every update of this machine's variant and architecture.

    Args:
        manifest: What the repository offers.
        host: What runs here.
        policy: What the operator wants.
        seed: This machine's place in rollouts.
        now: The time, aware.
    """
    verdicts: list[Verdict] = []
    free = Reason.CHOSEN
    for update in _fitting(manifest, host):
        place = position(update.waves, seed)
        obstacle = _obstacle(update, host, policy=policy) or _wait(place, policy, now=now)
        verdicts.append(Verdict(update=update, reason=obstacle or free, place=place))
        free = free if obstacle else Reason.SUPERSEDED
    return Judgement(host=host, policy=policy, seed=seed, verdicts=tuple(verdicts))


def choose(judgement: Judgement) -> Chosen | NoUpdate:
    """Draw the conclusion from the verdicts."""
    for verdict in judgement.verdicts:
        if verdict.reason is Reason.CHOSEN and is_held(judgement.policy):
            return NoUpdate(reason=Reason.ON_HOLD, verdict=verdict)
        if verdict.reason is Reason.CHOSEN:
            return _chosen(verdict.update, judgement)
    return _no_update(judgement)


def is_held(policy: Policy) -> bool:
    """Tell whether updates are on hold, and nobody insists on one."""
    return policy.hold is not None and policy.forced is None


def withdrawn_above(judgement: Judgement) -> Version | None:
    """Return the highest version that the publisher allows, where what runs here is above it.

    What runs has a limit of its own where it is listed; else that of the others counts.
    """
    running = judgement.host.version
    updates = [verdict.update for verdict in judgement.verdicts]
    own = [update.max_version for update in updates if update.version == running]
    limit = max(own or [update.max_version for update in updates], default=running)
    return limit if running > limit else None


def leads_on(update: Update, host: Host, lock: VersionLock) -> bool:
    """Tell whether a machine would move to this version if nothing else stood in the way.

    It does to a higher one; to any when what it runs was withdrawn, or is not what the lock admits.
    """
    running = host.version
    return (
        running < update.version
        or (running > update.max_version and running != update.version)
        or not lock.admits(running)
    )


def _fitting(manifest: Manifest, host: Host) -> list[Update]:
    """Pick the updates made for this machine, highest version first."""
    fitting = (
        each for each in manifest.updates if each.variant == host.variant and each.arch == host.arch
    )
    return sorted(fitting, key=lambda update: update.version, reverse=True)


def _obstacle(update: Update, host: Host, *, policy: Policy) -> Reason | None:
    """Find what keeps an update from this machine for good, whatever the time."""
    if policy.forced is not None and not names(policy.forced, update.version):
        return Reason.NOT_REQUESTED
    if update.version == host.version:
        return Reason.RUNNING
    if policy.forced is not None:
        return Reason.HELD_BACK if _is_held_back(update) else None
    if _is_held_back(update):
        return Reason.HELD_BACK
    if not policy.version_lock.admits(update.version):
        return Reason.LOCKED
    if not leads_on(update, host, policy.version_lock):
        return Reason.OLDER
    return Reason.QUARANTINED if update.version in policy.quarantined else None


def _is_held_back(update: Update) -> bool:
    return update.version > update.max_version


def _wait(place: WavePosition | None, policy: Policy, *, now: datetime) -> Reason | None:
    """Find whether this machine's turn is still to come."""
    if place is None or policy.ignore_waves or place.ready_at <= now:
        return None
    return Reason.WAVE_NOT_STARTED


def _chosen(update: Update, judgement: Judgement) -> Chosen:
    is_downgrade = update.version < judgement.host.version
    is_driven = leads_on(update, judgement.host, judgement.policy.version_lock)
    return Chosen(
        update=update,
        is_downgrade=is_downgrade,
        is_by_hand=is_downgrade and not is_driven,
        was_quarantined=update.version in judgement.policy.quarantined,
    )


_WEIGHT = (Reason.WAVE_NOT_STARTED, Reason.QUARANTINED, Reason.HELD_BACK)
"""What people want to be told when there is no update, most wanted first."""


def _no_update(judgement: Judgement) -> NoUpdate:
    """Pick the verdict that best answers "why none?"."""
    if judgement.policy.forced is not None:
        return _no_forced_update(judgement)
    lock = judgement.policy.version_lock
    missed = [each for each in judgement.verdicts if leads_on(each.update, judgement.host, lock)]
    for reason in _WEIGHT:
        for verdict in missed:
            if verdict.reason is reason and lock.admits(verdict.update.version):
                return NoUpdate(reason=reason, verdict=verdict)
    return _no_candidate(judgement, missed)


def _no_candidate(judgement: Judgement, missed: Sequence[Verdict]) -> NoUpdate:
    """Say why there is not even an update to wait for."""
    if not judgement.verdicts:
        return NoUpdate(reason=Reason.NOT_LISTED, verdict=None)
    if withdrawn_above(judgement) is not None:
        return NoUpdate(reason=Reason.WITHDRAWN, verdict=None)
    if not judgement.policy.version_lock.admits(judgement.host.version):
        return NoUpdate(reason=Reason.NOT_LISTED, verdict=None)
    for verdict in missed:
        if verdict.reason is Reason.LOCKED:
            return NoUpdate(reason=Reason.LOCKED, verdict=verdict)
    return NoUpdate(reason=Reason.RUNNING, verdict=None)


def _no_forced_update(judgement: Judgement) -> NoUpdate:
    for verdict in judgement.verdicts:
        if verdict.reason is not Reason.NOT_REQUESTED:
            return NoUpdate(reason=verdict.reason, verdict=verdict)
    return NoUpdate(reason=Reason.NOT_LISTED, verdict=None)
