"""`updog check-update`: is there an update for this machine?"""

import sys

import click

from signpost import disk as boot_disk
from signpost.state import active_set
from updog.choice import Chosen, NoUpdate
from updog.commands.choosing import Choice, make_choice, now_option
from updog.commands.output import NOTHING_CHANGED, leaving, print_json, print_result, wants_json
from updog.commands.session import command, connected
from updog.explanation import explain_none
from updog.machine import Machine
from updog.manifest import Update, update_document

_EXIT_NO_UPDATE = 3


@command("check-update", example="updog check-update || echo none")
@click.option(
    "-a",
    "--all",
    "show_all",
    is_flag=True,
    help="List every update for this variant, newest first.",
)
@now_option
def check_update(*, show_all: bool, ignore_waves: bool) -> None:
    """Say whether there is an update for this machine.

    Prints its variant and version, or with --json all of it. Without one, says why on stderr and
    exits with 3.
    """
    with connected() as session:
        choice = make_choice(session, image=None, ignore_waves=ignore_waves)
    with leaving(NOTHING_CHANGED):
        if show_all:
            _print_all(choice)
        else:
            _print_outcome(choice, is_on_trial=_is_on_trial(session.machine))


def _is_on_trial(machine: Machine) -> bool:
    """Tell whether what runs has yet to prove itself: until then `update` takes nothing."""
    state = boot_disk.read(machine.location).state
    return not state.flags[active_set(state)].successful


def _print_outcome(choice: Choice, *, is_on_trial: bool) -> None:
    match choice.outcome:
        case Chosen(update=update) if is_on_trial:
            text = (
                f"{choice.judgement.host.version}, which runs, is on trial; {update.version} waits "
                "until its health checks mark it successful"
            )
            _print_none({"update": None, "reason": "on trial", "text": text, "ready_at": None})
        case Chosen(update=update):
            _print_update(update)
        case NoUpdate() as none:
            _print_none(_none_facts(choice, none))


def _print_none(facts: dict[str, object]) -> None:
    if wants_json():
        print_json(facts)
    click.echo(f"No update: {facts['text']}", err=True)
    sys.exit(_EXIT_NO_UPDATE)


def _none_facts(choice: Choice, none: NoUpdate) -> dict[str, object]:
    ready_at = none.ready_at
    return {
        "update": None,
        "reason": none.reason,
        "text": explain_none(none, choice.judgement),
        "ready_at": ready_at.isoformat() if ready_at else None,
    }


def _print_all(choice: Choice) -> None:
    updates = [verdict.update for verdict in choice.judgement.verdicts]
    if wants_json():
        print_json([update_document(update) for update in updates])
        return
    if updates:
        print_result("\n".join(f"{update.variant} {update.version}" for update in updates))


def _print_update(update: Update) -> None:
    if wants_json():
        print_json(update_document(update))
    else:
        print_result(f"{update.variant} {update.version}")
