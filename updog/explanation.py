"""Verdicts in words: why an update is or is not taken, and what can be done, in one line.

Decides on wording alone; what is taken is decided in `updog.choice`. Every word that comes from a
manifest was checked when that was read.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from updog.choice import Judgement, NoUpdate, Reason, Verdict, is_held, withdrawn_above
from updog.hold import hold_words
from updog.names import printable
from updog.versions import LATEST

if TYPE_CHECKING:
    from datetime import datetime, tzinfo

    from updog.history import Event
    from updog.waves import WavePosition

_VERDICTS = {
    Reason.CHOSEN: "the newest that is ready",
    Reason.SUPERSEDED: "a newer one is chosen",
    Reason.RUNNING: "runs here",
    Reason.OLDER: "older than {running}, which runs",
    Reason.NOT_REQUESTED: "--image asks for {forced}",
    Reason.HELD_BACK: "is held back: the publisher allows up to {max_version} for now",
    Reason.LOCKED: "is not admitted by version_lock {lock}",
    Reason.QUARANTINED: "{left} on {day}{found}; `updog update --image {version}` insists",
    Reason.WAVE_NOT_STARTED: (
        "reaches this machine {moment}, {wave}; `updog update {image}--now` does not wait"
    ),
}

_MOST_LISTED = 5
"""How many versions are named where none of them will do."""


def explain_verdict(verdict: Verdict, judgement: Judgement, *, zone: tzinfo | None = None) -> str:
    """Say why one update has its verdict.

    Args:
        verdict: One of the judgement's.
        judgement: What the verdict rests on.
        zone: The time zone of moments; None means the user's.
    """
    if verdict.reason is Reason.CHOSEN:
        return _explain_chosen(verdict, judgement, zone)
    limit = withdrawn_above(judgement)
    if verdict.reason is Reason.RUNNING and limit is not None:
        return f"runs here, but was withdrawn: the publisher allows up to {limit}"
    place, forced = verdict.place, judgement.policy.forced
    rolled_back = judgement.policy.quarantined.get(verdict.update.version)
    return _VERDICTS[verdict.reason].format(
        version=verdict.update.version,
        max_version=verdict.update.max_version,
        running=judgement.host.version,
        forced=forced,
        image=f"--image {forced} " if forced else "",
        lock=judgement.policy.version_lock,
        left=_left(rolled_back) if rolled_back else "",
        day=_day(rolled_back.time, zone) if rolled_back else "",
        found=_found(rolled_back) if rolled_back else "",
        moment=_moment(place.ready_at, zone) if place else "at once",
        wave=_wave(place, judgement) if place else "no waves",
    )


def explain_none(none: NoUpdate, judgement: Judgement, *, zone: tzinfo | None = None) -> str:
    """Say why there is no update, in the same terms."""
    withdrawal = explain_withdrawal(judgement)
    why = _explain_none(none, judgement, zone=zone)
    return f"{withdrawal}; {why}" if withdrawal and judgement.policy.forced is None else why


def explain_withdrawal(judgement: Judgement) -> str | None:
    """Say that what runs here was withdrawn, if it was."""
    limit = withdrawn_above(judgement)
    if limit is None:
        return None
    return (
        f"{judgement.host.version}, which runs, was withdrawn: the publisher allows up to {limit}"
    )


def explain_hold(judgement: Judgement, *, zone: tzinfo | None = None) -> str | None:
    """Say that updates are on hold, if they are."""
    hold = judgement.policy.hold
    if hold is None or not is_held(judgement.policy):
        return None
    return f"updates are on hold, {hold_words(hold, zone=zone)}"


def _explain_none(none: NoUpdate, judgement: Judgement, *, zone: tzinfo | None) -> str:
    host, lock = judgement.host, judgement.policy.version_lock
    kept = f"{host.version} runs, as version_lock {lock} wants"
    match none.reason, none.verdict:
        case Reason.ON_HOLD, Verdict(update=update):
            return f"{update.version} is there, but {explain_hold(judgement, zone=zone)}"
        case Reason.LOCKED, Verdict(update=update):
            return f"{kept}; {update.version} is newer and not admitted"
        case _, Verdict(update=update) as verdict:
            asked = "" if lock == LATEST or judgement.policy.forced else f"version_lock {lock}: "
            return f"{asked}{update.version} {explain_verdict(verdict, judgement, zone=zone)}"
        case ((Reason.NOT_LISTED | Reason.WITHDRAWN), _):
            return _explain_unlisted(none, judgement)
        case _ if lock != LATEST:
            return f"{kept}, and nothing newer that it admits is listed for {_machine(judgement)}"
        case _:
            return f"{host.version} runs, and nothing newer is listed for {_machine(judgement)}"


def _explain_unlisted(none: NoUpdate, judgement: Judgement) -> str:
    """Name what is not there, and what is."""
    policy = judgement.policy
    if policy.forced is not None:
        wanted = f"no {policy.forced} is"
    elif policy.version_lock != LATEST and judgement.verdicts:
        runs = "else " if policy.version_lock.admits(judgement.host.version) else ""
        wanted = f"nothing {runs}that version_lock {policy.version_lock} admits is"
    elif none.reason is Reason.WITHDRAWN:
        wanted = "nothing that may replace it is"
    else:
        wanted = "no update is"
    return f"{wanted} listed for {_machine(judgement)}{_others(judgement)}"


def _others(judgement: Judgement) -> str:
    """Name the versions that are listed, the newest first: `, only 1.2.0 and 1.1.0 are`."""
    names = [str(each.update.version) for each in judgement.verdicts]
    if not names:
        return ""
    if len(names) > _MOST_LISTED:
        names = [*names[:_MOST_LISTED], f"{len(names) - _MOST_LISTED} more"]
    *first, last = names
    return f", only {', '.join(first)} and {last} are" if first else f", only {last} is"


def _machine(judgement: Judgement) -> str:
    return f"{judgement.host.variant} on {judgement.host.arch}"


def _explain_chosen(verdict: Verdict, judgement: Judgement, zone: tzinfo | None) -> str:
    why, place = _why_chosen(verdict, judgement), verdict.place
    if place is None:
        return why
    return f"{why}; its turn here: {_moment(place.ready_at, zone)}, {_wave(place, judgement)}"


def _why_chosen(verdict: Verdict, judgement: Judgement) -> str:
    running = judgement.host.version
    if judgement.policy.forced is not None:
        return "asked for by --image"
    if verdict.update.version > running:
        return _VERDICTS[Reason.CHOSEN]
    if running > verdict.update.max_version:
        return f"a downgrade: {running}, which runs, was withdrawn"
    return f"a downgrade: version_lock {judgement.policy.version_lock} does not admit {running}"


def _moment(time: datetime, zone: tzinfo | None) -> str:
    return f"{time.astimezone(zone):%a %Y-%m-%d %H:%M %Z}"


def _day(time: datetime, zone: tzinfo | None) -> str:
    return f"{time.astimezone(zone):%Y-%m-%d}"


def _found(rolled_back: Event) -> str:
    """Say what the trial told of its health, if it could."""
    return f" ({printable(rolled_back.error)})" if rolled_back.error else ""


def _left(rolled_back: Event) -> str:
    if rolled_back.by_hand:
        return "was left by hand"
    if rolled_back.unseen:
        return (
            "may have been tried: its flags were changed by hand before updog could look, noticed"
        )
    return "was tried here and rolled back"


def _wave(place: WavePosition, judgement: Judgement) -> str:
    return f"in wave {place.number} of {place.count} (seed {judgement.seed})"
