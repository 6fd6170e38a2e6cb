"""`updog history`: what happened to this machine."""

from collections.abc import Sequence
from datetime import UTC, datetime

import click

from signpost import disk as boot_disk
from signpost.errors import SignpostError
from updog.commands.output import print_json, print_result, wants_json
from updog.commands.settings import command, read_machine
from updog.history import Event, EventKind, event_facts
from updog.machine import Machine, unrecorded
from updog.names import printable
from updog.units import size

_SHOWN_CHARACTERS = 200


@command("history", example="updog history --last 20")
@click.option(
    "-n",
    "--last",
    "count",
    type=click.IntRange(min=1),
    metavar="N",
    help="Only the last N events.",
)
def history(*, count: int | None) -> None:
    """Say what happened to this machine, the newest event last."""
    machine = read_machine()
    events = (*machine.history.all_events(), *_noticed_now(machine))
    shown = events if count is None else events[-count:]
    if wants_json():
        print_json([event_facts(event) for event in shown])
        return
    if not shown:
        click.echo("nothing happened here yet", err=True)
        return
    print_result("\n".join(_lines(shown)))


def _noticed_now(machine: Machine) -> tuple[Event, ...]:
    """Return what the next run will record; nothing where this user may not read the disk."""
    try:
        return unrecorded(machine, boot_disk.read(machine.location).state, now=datetime.now(UTC))
    except SignpostError:
        return ()


def _lines(events: Sequence[Event]) -> list[str]:
    width = max(len(str(event.version)) for event in events)
    return [
        f"{event.time.astimezone():%Y-%m-%d %H:%M}  {event.kind:<11}  "
        f"{event.version!s:<{width}}  set {event.set}  {_detail(event)}".rstrip()
        for event in events
    ]


def _detail(event: Event) -> str:
    """Say what an event took, found or led to."""
    if event.error is not None and event.kind is not EventKind.ROLLED_BACK:
        return _cut(printable(event.error))
    match event.kind:
        case EventKind.CHECKED:
            return _finding(event)
        case EventKind.STARTED if event.running is not None:
            return f"from {event.running}{', by hand' if event.by_hand else ''}"
        case EventKind.ROLLED_BACK:
            left = _leaving(event)
            return f"{left}; {event.running} runs again" if event.running else left
        case _ if event.bytes is not None and event.seconds is not None:
            return f"{size(event.bytes)} in {event.seconds:.1f} s"
        case _:
            return ""


def _leaving(event: Event) -> str:
    if event.error is not None:
        return _cut(printable(event.error))
    if event.by_hand:
        return "by hand"
    return "may have been tried" if event.unseen else "its trial failed"


def _finding(event: Event) -> str:
    about = f" {event.offered}" if event.offered else ""
    if event.outcome == "chosen":
        return f"found{about}"
    return _cut(printable(f"no update:{about} {event.outcome}"))


def _cut(text: str) -> str:
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[: _SHOWN_CHARACTERS - 3]}..."
