"""Arguments and options of the commands that read a repository, and how far they have come."""

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import click

from repo_tools.durations import parse_duration
from repo_tools.source import Source, parse_source
from updog.log import LogFormat, configure

_Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]


def _parse_source(_context: click.Context, _parameter: click.Parameter, value: str) -> Source:
    # What the transport has to tell, of a server that fails for instance, is not a result.
    configure(LogFormat.HUMAN)
    return parse_source(value)


source_argument = click.argument("source", callback=_parse_source)

root_option = click.option(
    "--root",
    "root",
    type=click.Path(path_type=Path),
    required=True,
    metavar="ROOT.json",
    help="The root of trust: the root.json that machines come with, or an older one.",
)


def _parse_duration(_context: click.Context, _parameter: click.Parameter, value: str) -> timedelta:
    found = parse_duration(value)
    if found is None:
        raise click.BadParameter(f"{value!r} is no span of time; write it like '2 days' or 12h")
    return found


def duration_option(name: str, *, default: str, help: str) -> _Decorator:  # noqa: A002 -- click's
    """Make an option that takes a span of time."""
    return click.option(
        name, callback=_parse_duration, default=default, show_default=True, help=help
    )


@contextmanager
def progress(doing: str, total_bytes: int) -> Iterator[Callable[[int], None]]:
    """Show on a terminal how many bytes were dealt with; give out what counts them."""
    stderr = sys.stderr
    if not stderr.isatty() or not total_bytes:
        yield lambda _length: None
        return
    lock = threading.Lock()
    with click.progressbar(range(total_bytes), label=doing, file=stderr) as bar:

        def count(length: int) -> None:
            with lock:
                bar.update(length)

        yield count
