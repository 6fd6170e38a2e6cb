"""How the image commands print facts."""

import click


def print_line(label: str, text: str) -> None:
    """Print one fact under a short label."""
    click.echo(f"{label:<8} {text}")
