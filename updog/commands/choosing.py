"""Options that steer the choice of an update, and the choice itself."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import click
import msgspec
import structlog
from semver import Version

from signpost import disk as boot_disk
from signpost.errors import SignpostError
from signpost.state import active_set
from updog.choice import Chosen, Judgement, NoUpdate, Reason, choose
from updog.commands.output import NOTHING_CHANGED, leaving, print_json, print_result, wants_json
from updog.commands.session import Session
from updog.consultation import consult
from updog.errors import UpdogError
from updog.explanation import explain_none, explain_withdrawal
from updog.history import Event, EventKind
from updog.manifest import Manifest
from updog.versions import parse_version

_log = structlog.get_logger()


class VersionType(click.ParamType[Version]):
    """A semantic version on the command line."""

    name = "version"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> Version:
        """Read a version, or fail with a usage error."""
        if isinstance(value, Version):
            return value
        try:
            return parse_version(value)
        except ValueError as err:
            self.fail(str(err), param, ctx)


class Choice(msgspec.Struct, frozen=True, kw_only=True):
    """The manifest, the verdicts on its updates, and what follows from them."""

    manifest: Manifest
    judgement: Judgement
    outcome: Chosen | NoUpdate


def image_option(command: Callable[..., None]) -> Callable[..., None]:
    """Add --image."""
    return click.option(
        "-i",
        "--image",
        type=VersionType(),
        metavar="VERSION",
        help="Take exactly this version: a downgrade, or one that was rolled back here, too.",
    )(command)


def now_option(command: Callable[..., None]) -> Callable[..., None]:
    """Add --now and its long name."""
    return click.option(
        "-n",
        "--now",
        "--ignore-waves",
        "ignore_waves",
        is_flag=True,
        help="Do not wait for this machine's wave.",
    )(command)


def make_choice(session: Session, *, image: Version | None, ignore_waves: bool) -> Choice:
    """Ask the repository and choose; note what was found, log what is unusual about the choice."""
    with leaving(NOTHING_CHANGED):
        with _noting_failure(session):
            manifest, judgement = consult(
                session.machine,
                session.repository,
                forced=image,
                ignore_waves=ignore_waves,
                now=session.now,
            )
        outcome = choose(judgement)
        if image is None:  # else it says nothing about what this machine would take by itself
            _note_check(session, outcome)
        if isinstance(outcome, Chosen):
            _warn(outcome, judgement)
    return Choice(manifest=manifest, judgement=judgement, outcome=outcome)


@contextmanager
def _noting_failure(session: Session) -> Iterator[None]:
    try:
        yield
    except UpdogError as err:
        _note(session, outcome="failed", error=str(err))
        raise


def _note_check(session: Session, outcome: Chosen | NoUpdate) -> None:
    match outcome:
        case Chosen(update=update):
            _note(session, outcome=Reason.CHOSEN, offered=update.version)
        case NoUpdate(reason=reason, verdict=verdict):
            offered = verdict.update.version if verdict else None
            _note(session, outcome=reason, offered=offered)


def _note(session: Session, **facts: Any) -> None:
    """Note a check; a full disk is no reason not to say what was found."""
    machine = session.machine
    try:
        event = Event(
            time=session.now,
            kind=EventKind.CHECKED,
            version=machine.host.version,
            set=active_set(boot_disk.read(machine.location).state),
            **facts,
        )
        machine.history.note_check(event)
    except (UpdogError, SignpostError) as err:
        _log.warning("history", summary=str(err))


def _warn(chosen: Chosen, judgement: Judgement) -> None:
    version = chosen.update.version
    if chosen.is_downgrade:
        running = explain_withdrawal(judgement) or f"{judgement.host.version}, which runs"
        _log.warning(
            "downgrade",
            summary=f"{version} is older than {running}{_stay(chosen, judgement)}",
            version=str(version),
            running=str(judgement.host.version),
        )
    if chosen.was_quarantined:
        _log.warning(
            "quarantine",
            summary=f"{version} was rolled back here before, and is taken because you insist",
            version=str(version),
        )


def _stay(chosen: Chosen, judgement: Judgement) -> str:
    """Say that a downgrade that only the user wanted lasts."""
    if not chosen.is_by_hand:
        return ""
    left = judgement.host.version
    return (
        f"; once it is marked successful, {left} is not taken again unless `--image {left}` insists"
    )


def report_none(choice: Choice, none: NoUpdate, *, undone: str) -> None:
    """Print that there is nothing to do, and why.

    Args:
        choice: What led to it.
        none: The outcome.
        undone: The key under which the JSON document of the command names what it did.

    Raises:
        UpdogError: another version than what runs was asked for by name: this is a failure.
    """
    words, forced = explain_none(none, choice.judgement), choice.judgement.policy.forced
    is_failure = forced is not None and none.reason is not Reason.RUNNING
    failure = f"cannot take {forced}: {words}"
    with leaving(NOTHING_CHANGED):
        if wants_json():
            told = {"error": failure, "exit": 1} if is_failure else {}
            print_json({undone: None, "reason": none.reason, "text": words, **told})
        elif not is_failure:
            print_result(f"No update: {words}")
        if is_failure:
            raise UpdogError(failure)
