"""`updog history`: what happened to this machine."""

import click

from updog.commands.output import print_json, print_result, wants_json
from updog.commands.settings import command, read_machine
from updog.history import Event, event_facts
from updog.names import printable
from updog.units import size

_SHOWN_CHARACTERS = 200


@command("history", example="updog history --json")
def history() -> None:
    """Say what happened to this machine, the oldest event first."""
    events = read_machine().history.events()
    if wants_json():
        print_json([event_facts(event) for event in events])
        return
    if not events:
        click.echo("nothing happened here yet", err=True)
        return
    print_result("\n".join(_line(event) for event in events))


def _line(event: Event) -> str:
    when = event.time.astimezone().strftime("%Y-%m-%d %H:%M")
    return (
        f"{when}  {event.kind:<11}  {event.version!s:<8} set {event.set}  {_detail(event)}".rstrip()
    )


def _detail(event: Event) -> str:
    if event.error is not None:
        text = printable(event.error)
        return text if len(text) <= _SHOWN_CHARACTERS else f"{text[: _SHOWN_CHARACTERS - 3]}..."
    if event.bytes is not None and event.seconds is not None:
        return f"{size(event.bytes)} in {event.seconds:.1f} s"
    return ""
