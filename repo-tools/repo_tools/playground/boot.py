"""`repo-tools playground boot`: one reset of the machine, told as it happens."""

from collections.abc import Iterator
from pathlib import Path
from typing import assert_never

import click
import msgspec

from repo_tools.jsonoutput import print_json, wants_json
from repo_tools.options import print_line
from repo_tools.playground.machine import (
    Event,
    LeftUnmarked,
    Marked,
    Panicked,
    Selected,
    Started,
    Verified,
    reset,
)
from repo_tools.playground.options import optional_directory_argument
from repo_tools.playground.place import Playground, find_playground
from repo_tools.telling import telling
from updog.health import Checked, check_words


@click.command("boot", epilog="\b\nExample:\n  repo-tools playground boot")
@optional_directory_argument
def command(directory: Path) -> None:
    """Reset the playground's machine and let it boot (simulated).

    The boot loader's rule picks a set and spends a try, the set's root is checked against its
    dm-verity tree, its own health checks run, and if they pass the set is marked successful. If
    they fail it is not, which is no error of this command: the next reset takes the other set.

    Fails when no set boots.
    """
    playground = find_playground(directory)
    left = "the machine is off and its disk whole; a try may be spent; run it again"
    with telling("boot the machine in", directory, left=left):
        _boot(playground)


def _boot(playground: Playground) -> None:
    if wants_json():
        print_json(
            [
                {"event": type(event).__name__, **msgspec.to_builtins(event)}
                for event in reset(playground)
            ]
        )
        return
    click.echo(f"Reset of {playground.directory.name} (simulated)")
    for event in reset(playground):
        for label, text in _lines(event):
            print_line(f"  {label}", text)


def _lines(event: Event) -> Iterator[tuple[str, str]]:
    match event:
        case Selected(set=name, tries_left=tries):
            yield "select", f"set {name} by the boot loader's rule, {_tries(tries)} left"
        case Panicked(set=name, reason=reason):
            yield "PANIC", f"set {name} does not start: {reason}"
            yield "reset", "once more"
        case Verified(blocks=blocks, root_digest=digest):
            yield "verify", f"root: {blocks} blocks match root digest {digest[:16]}..."
        case Started(set=name, variant=variant, version=version):
            yield "start", f"{variant} {version} from set {name}"
        case Checked():
            yield "health", check_words(event)
        case Marked(set=name):
            yield "mark", f"set {name} is successful (signpost mark-successful-boot)"
        case LeftUnmarked(set=name, next=following):
            yield "no mark", f"set {name} is not marked successful"
            yield "next", f"set {following} boots next" if following else "no set boots next"
        case _:
            assert_never(event)


def _tries(count: int) -> str:
    return "1 try" if count == 1 else f"{count} tries"
