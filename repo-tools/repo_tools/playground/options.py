"""The arguments of playground commands."""

from pathlib import Path

import click

directory_argument = click.argument("directory", type=click.Path(path_type=Path))
optional_directory_argument = click.argument(
    "directory", type=click.Path(path_type=Path), default="playground"
)
