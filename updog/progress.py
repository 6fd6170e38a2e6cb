"""How far the download of an image is: a bar on a terminal, silence elsewhere."""

import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

import click

Advance = Callable[[int], None]
"""`advance(count)` says that so many more bytes have arrived."""


class Progress(Protocol):
    """Something that follows the download of one image after the other."""

    def image(self, name: str, total_bytes: int) -> AbstractContextManager[Advance]:
        """Follow one image while the context lasts."""


class Silent:
    """Follows nothing."""

    @contextmanager
    def image(self, name: str, total_bytes: int) -> Iterator[Advance]:  # noqa: ARG002
        """Ignore an image."""
        yield lambda _count: None


class Bar:
    """Draws a bar on stderr."""

    @contextmanager
    def image(self, name: str, total_bytes: int) -> Iterator[Advance]:
        """Draw one bar."""
        with click.progressbar(
            length=total_bytes, label=f"{name:<10}", file=sys.stderr, width=28
        ) as bar:
            yield bar.update


def for_this_terminal() -> Progress:
    """Return a bar if somebody watches."""
    return Bar() if sys.stderr.isatty() else Silent()
