"""The part that `update`, `update-image` and `auto` share: choose, plan, install."""

from collections.abc import Callable

import click
from semver import Version

from updog.choice import Chosen, NoUpdate
from updog.commands.choosing import Choice, make_choice, report_none
from updog.commands.output import NOTHING_CHANGED, leaving
from updog.commands.session import Session
from updog.consultation import log_trust
from updog.machine import Machine
from updog.plan import plan
from updog.progress import Progress, ProgressMode, choose_displays
from updog.update import Installed, install


def progress_option(command: Callable[..., None]) -> Callable[..., None]:
    """Add --progress."""
    return click.option(
        "--progress",
        "mode",
        type=click.Choice([mode.value for mode in ProgressMode]),
        callback=lambda _context, _option, value: ProgressMode(value),
        default=ProgressMode.AUTO.value,
        show_default=True,
        help="How far it is: a bar if a terminal watches, JSON lines on stderr, or nothing.",
    )(command)


def choose_and_install(
    session: Session,
    *,
    image: Version | None,
    ignore_waves: bool,
    mode: ProgressMode,
    undone: str,
) -> Installed | None:
    """Install the update for this machine, or print why there is none, as `report_none` does."""
    choice = make_choice(session, image=image, ignore_waves=ignore_waves)
    if isinstance(choice.outcome, NoUpdate):
        report_none(choice, choice.outcome, undone=undone)
        return None
    return install_chosen(session, choice, choice.outcome, mode=mode)


def install_chosen(
    session: Session, choice: Choice, chosen: Chosen, *, mode: ProgressMode
) -> Installed:
    """Install the update that was chosen."""
    machine, repository = session.machine, session.repository
    with leaving(NOTHING_CHANGED):
        log_trust(repository, now=session.now)
        planned = plan(machine, repository, choice.manifest, chosen.update)
    with leaving(_unless_begun(machine)):
        return install(
            machine,
            repository,
            planned,
            Progress(*choose_displays(mode)),
            by_hand=chosen.is_by_hand,
        )


def _unless_begun(machine: Machine) -> Callable[[], str]:
    """Say that nothing was changed as long as the history does not say that it was begun."""
    before = machine.history.events()
    return lambda: NOTHING_CHANGED if machine.history.events() == before else ""


def words_for_installed(installed: Installed) -> str:
    """Say what an update that is not activated leaves."""
    return (
        f"{installed.version} is in set {installed.set}, not activated; "
        "`updog update-apply` activates it"
    )
