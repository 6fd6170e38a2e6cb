"""`updog auto`: one run of the timer, by the settings: check, install, restart in time."""

from contextlib import AbstractContextManager
from datetime import UTC, datetime

import msgspec
import structlog
from semver import Version

from signpost import disk as boot_disk
from signpost.state import active_set, next_set
from updog.choice import Chosen, NoUpdate, Reason
from updog.commands.activating import what_is_left
from updog.commands.choosing import Choice, make_choice
from updog.commands.installing import install_chosen, words_for_installed
from updog.commands.output import NOTHING_CHANGED, leaving, print_json, print_result, wants_json
from updog.commands.session import Session, command, connected
from updog.commands.settings import read_guarded_config
from updog.config import Config
from updog.errors import UpdogError
from updog.explanation import explain_none
from updog.history import staged_version
from updog.hold import hold_words
from updog.hold_files import find_hold
from updog.idle import find_busy
from updog.machine import Machine
from updog.progress import ProgressMode
from updog.reboot import reboot
from updog.schedule import Answer, Strategy, Window, is_open, may_restart, next_opening
from updog.update import activate
from updog.windows import open_windows

_log = structlog.get_logger()


class _Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What a run came to: in a word, in a sentence, and the version that the next boot enters."""

    word: str
    text: str
    pending: Version | None = None

    @property
    def is_restarting(self) -> bool:
        return self.word == _RESTARTING


_RESTARTING = "restarting"


@command("auto", example="updog auto")
def auto() -> None:
    """Check, install and restart, as far as the settings let it: what updog.timer runs.

    Does nothing if auto.enabled is false or updates are on hold. Installs what there is, in the
    windows only if auto.install_in_windows says so. Restarts into it by reboot.strategy.
    """
    config = read_guarded_config()
    windows = open_windows(config.windows)
    outcome = _refused(config, windows, now=datetime.now(UTC))
    if outcome is None:
        outcome = _update(windows)
    with leaving(NOTHING_CHANGED if outcome.pending is None else f"{outcome.pending} boots next"):
        _print(outcome)
    if outcome.is_restarting:
        reboot(config.reboot.command)


def _print(outcome: _Outcome) -> None:
    if wants_json():
        pending = str(outcome.pending) if outcome.pending else None
        print_json({"outcome": outcome.word, "text": outcome.text, "pending": pending})
    else:
        print_result(f"Auto       {outcome.text}")


def _refused(config: Config, windows: tuple[Window, ...], *, now: datetime) -> _Outcome | None:
    """Return why nothing at all is done, if so: then the repository is not even asked."""
    if not config.auto.enabled:
        return _Outcome(word="disabled", text="auto.enabled is false: nothing is done")
    hold = find_hold(config.paths, now=now)
    if hold is not None:
        return _Outcome(word=Answer.ON_HOLD, text=f"updates are on hold, {hold_words(hold)}")
    if config.auto.install_in_windows and not is_open(windows, now):
        return _Outcome(
            word=Answer.WINDOW_CLOSED, text=f"nothing is done {_until_opening(windows, now)}"
        )
    return None


def _until_opening(windows: tuple[Window, ...], now: datetime) -> str:
    opening = next_opening(windows, now)
    when = f"{opening.astimezone():%a %Y-%m-%d %H:%M %Z}" if opening else "in 15 days or later"
    return f"outside of the windows; the next one opens {when}"


def _update(windows: tuple[Window, ...]) -> _Outcome:
    with connected() as session:
        machine = session.machine
        if _is_on_trial(machine):
            return _Outcome(
                word="on trial", text=f"{machine.host.version}, which runs, is on trial"
            )
        pending = _pending(machine)
        choice = _ask(session, pending)
        match choice.outcome if choice else None:
            case Chosen(update=update) as chosen if choice and update.version != pending:
                pending = _install(session, choice, chosen)
                if pending is None:
                    return _not_activated(machine, update.version)
            case NoUpdate() as none if choice and not _is_still_offered(pending, choice):
                return _nothing(choice, none, pending)
    if pending is None:
        raise AssertionError("neither an update nor a reason for none")
    return _restart(machine, windows, pending)


def _ask(session: Session, pending: Version | None) -> Choice | None:
    """Ask the repository; while an update is pending, go on without it where it is away."""
    try:
        return make_choice(session, image=None, ignore_waves=False)
    except UpdogError as err:
        if pending is None:
            raise
        _log.warning("check", summary=f"{err}; going on with {pending}, which boots next")
        return None


def _is_on_trial(machine: Machine) -> bool:
    state = boot_disk.read(machine.location).state
    return not state.flags[active_set(state)].successful


def _pending(machine: Machine) -> Version | None:
    """Return the update that updog installed and that the next boot enters, if there is one."""
    state = boot_disk.read(machine.location).state
    following = next_set(state)
    if following is None or following is state.active:
        return None
    return staged_version(machine.history.events(), state, following)


def _nothing(choice: Choice, none: NoUpdate, pending: Version | None) -> _Outcome:
    """Say why nothing is installed, nor entered."""
    if pending is None:
        words = explain_none(none, choice.judgement)
        return _Outcome(word=none.reason, text=f"no update: {words}")
    return _Outcome(
        word=Reason.WITHDRAWN,
        text=(
            f"{pending} boots next, but is not offered any more: it is not entered by itself; "
            "`updog update-revert` takes it back"
        ),
        pending=pending,
    )


def _is_still_offered(pending: Version | None, choice: Choice) -> bool:
    """Tell whether the publisher still offers a version; somebody may have taken it by name."""
    gone = (Reason.HELD_BACK, Reason.NOT_LISTED)
    return any(
        verdict.update.version == pending and verdict.reason not in gone
        for verdict in choice.judgement.verdicts
    )


def _install(session: Session, choice: Choice, chosen: Chosen) -> Version | None:
    """Install and activate an update; None where it was put on hold while it was fetched."""
    machine = session.machine
    installed = install_chosen(session, choice, chosen, mode=ProgressMode.AUTO)
    if find_hold(machine.config.paths, now=datetime.now(UTC)) is not None:
        return None
    with _telling_what_is_left(machine, words_for_installed(installed)):
        activate(machine)
    return installed.version


def _not_activated(machine: Machine, version: Version) -> _Outcome:
    hold = find_hold(machine.config.paths, now=datetime.now(UTC))
    why = f"updates are on hold, {hold_words(hold)}" if hold else "updates were on hold"
    return _Outcome(word=Answer.ON_HOLD, text=f"{version} is installed, not activated: {why}")


def _telling_what_is_left(machine: Machine, otherwise: str) -> AbstractContextManager[None]:
    return leaving(lambda: what_is_left(machine, otherwise))


def _restart(machine: Machine, windows: tuple[Window, ...], pending: Version) -> _Outcome:
    """Decide on a restart with what holds now: writing the update may have taken hours."""
    config = machine.config
    with leaving(f"{pending} boots next"):
        busy = _find_busy(config.reboot.strategy, windows, datetime.now(UTC))
    now = datetime.now(UTC)  # logind may have taken its time: the window can be over by now
    hold = find_hold(config.paths, now=now)
    answer = may_restart(
        config.reboot.strategy, windows, busy_with=busy, is_held=hold is not None, now=now
    )
    words: dict[Answer, str] = {
        Answer.YES: "restarting into it",
        Answer.ON_HOLD: f"updates are on hold, {hold_words(hold) if hold else ''}",
        Answer.MANUAL: "reboot to enter it (reboot.strategy is manual)",
        Answer.WINDOW_CLOSED: f"waiting {_until_opening(windows, now)}",
        Answer.BUSY: f"waiting until the machine is idle: {'; '.join(busy)}",
    }
    word = _RESTARTING if answer is Answer.YES else answer.value
    return _Outcome(word=word, text=f"{pending} is active; {words[answer]}", pending=pending)


def _find_busy(strategy: Strategy, windows: tuple[Window, ...], now: datetime) -> tuple[str, ...]:
    is_wanted = strategy is Strategy.WHEN_IDLE and (not windows or is_open(windows, now))
    return find_busy() if is_wanted else ()
