"""How far the download of an image is: a bar on a terminal, silence elsewhere."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

import click

from updog.units import SIZES, size

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
        """Draw one bar, with how much there is and how fast it comes."""
        started, arrived = time.monotonic(), 0
        with click.progressbar(
            length=total_bytes,
            label=f"{name:<10}",
            file=sys.stderr,
            width=22,
            item_show_func=lambda words: words,
        ) as bar:

            def advance(count: int) -> None:
                nonlocal arrived
                arrived += count
                seconds = time.monotonic() - started
                bar.update(count, amount_and_speed(arrived, total_bytes, seconds=seconds))

            yield advance


def amount_and_speed(arrived: int, total_bytes: int, *, seconds: float) -> str:
    """Return how far a download is: `168/241 MiB  118 MiB/s`."""
    total, unit = size(total_bytes).split()
    digits = 1 if "." in total else 0
    amount = f"{arrived / SIZES[unit]:.{digits}f}/{total} {unit}"
    return f"{amount}  {size(int(arrived / seconds))}/s" if seconds > 0 else amount


def for_this_terminal() -> Progress:
    """Return a bar if somebody watches."""
    return Bar() if sys.stderr.isatty() else Silent()
