"""The `--json` that every command takes, before or after its name, and how JSON is printed."""

import json

import click


def make_options() -> list[click.Option]:
    """Return the options that a group shares with its commands."""
    return [
        click.Option(
            ["--json"],
            is_flag=True,
            expose_value=False,
            callback=_note,
            help="Print one JSON document.",
        )
    ]


def _note(context: click.Context, _parameter: click.Parameter, value: bool) -> None:
    if value:
        context.find_root().params["json"] = True


def wants_json() -> bool:
    """Whether the running command was told to print JSON."""
    return bool(click.get_current_context().find_root().params.get("json"))


def print_json(facts: object) -> None:
    """Print one JSON document."""
    click.echo(json.dumps(facts, indent=2))
