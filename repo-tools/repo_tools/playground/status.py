"""`repo-tools playground status`: machine and publisher at a glance."""

from pathlib import Path
from typing import Any

import click

from repo_tools.jsonoutput import print_json, wants_json
from repo_tools.options import print_line
from repo_tools.playground.facts import describe
from repo_tools.playground.options import optional_directory_argument
from repo_tools.playground.place import find_playground


@click.command("status", epilog="\b\nExample:\n  repo-tools playground status")
@optional_directory_argument
def command(directory: Path) -> None:
    """Show what runs, what is published and whether it is served.

    What the disk holds and boots next is for `signpost status` to say, what the machine may take
    for `updog explain`.
    """
    facts = describe(find_playground(directory))
    if wants_json():
        print_json(facts)
        return
    for label, text in _lines(facts, directory):
        print_line(label, text)


def _lines(facts: dict[str, Any], directory: Path) -> list[tuple[str, str]]:
    return [
        ("Machine", _machine(facts["running"])),
        *(("Published", _update(update, directory)) for update in facts["updates"]),
        ("Limit", f"machines may go up to {facts['max_version']}"),
        ("Server", _server(facts["server"], directory)),
        ("Metadata", f"valid until {facts['timestamp_expires']}; any publishing renews it"),
    ]


def _machine(running: dict[str, str] | None) -> str:
    if running is None:
        return "off: it did not boot"
    return f"runs {running['version']} ({running['variant']}) from set {running['set']}"


def _update(update: dict[str, Any], directory: Path) -> str:
    version = update["version"]
    if update["held_back"]:
        return (
            f"{version}, held back (`repo-tools playground max-version {directory} {version}` "
            "lets it go)"
        )
    waves = f"in {update['waves']} waves" if update["waves"] else "for all at once"
    return f"{version}, {waves}"


def _server(server: dict[str, Any], directory: Path) -> str:
    if server["answers"]:
        return f"{server['url']} answers"
    return f"{server['url']} is silent: `repo-tools playground serve {directory}`"
