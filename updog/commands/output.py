"""Where results go, and how an error tells what state it leaves.

The only writer of stdout. Decides on the words around a failure; what the state is, the command
that knows it says. Makes stderr forgive whatever becomes of its reader: a step is done whether or
not somebody hears of it.
"""

import io
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

import click

from signpost.commandline import forget_stdout, shared_options
from signpost.errors import SignpostError
from updog.errors import ConfigError, UpdogError

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

NOTHING_CHANGED = "nothing was changed"

_PRINTED = "updog.printed"
"""What the context of a run remembers once its JSON document is printed."""

_TOLD_ALREADY = (NOTHING_CHANGED, "nothing was written", "are untouched")
"""The words by which an error has told already that it leaves everything as it was."""


def wants_json() -> bool:
    """Tell whether the result is for a program."""
    return bool(shared_options()["json"])


def print_json(facts: object) -> None:
    """Print the one JSON document of a command; raises as `print_result` does."""
    click.get_current_context().meta[_PRINTED] = True
    print_result(json.dumps(facts, indent=2))


def print_failure(text: str, code: int) -> None:
    """Print the document of a command that failed, unless it has printed one already."""
    if not click.get_current_context().meta.get(_PRINTED):
        print_json({"error": text, "exit": code})


def print_result(text: str) -> None:
    """Print the result of a command.

    Raises:
        UpdogError: stdout cannot take it; whoever knows what state is left adds it.
    """
    try:
        click.echo(text)
    except OSError as err:
        forget_stdout()
        raise UpdogError(f"cannot print the result: {err.strerror}") from err


class _ForgivingFile(io.FileIO):
    """A file that takes everything, and loses what cannot be written."""

    def write(self, data: "ReadableBuffer") -> int:
        """Write what can be written, and never fail."""
        with suppress(OSError):
            return super().write(data) or 0
        return memoryview(data).nbytes


def forgive_stderr() -> None:
    """Let nothing that is printed on stderr from now on fail: not on a full disk, nor unread."""
    buffer = io.BufferedWriter(_ForgivingFile(2, "w", closefd=False))
    sys.stderr = io.TextIOWrapper(
        buffer, encoding="utf-8", errors="backslashreplace", line_buffering=True
    )


@contextmanager
def leaving(state: str | Callable[[], str]) -> Iterator[None]:
    """Add to an error, or to an interruption, the state that it leaves.

    Args:
        state: The words, or what finds them once it is too late; none if there is nothing to add.

    Raises:
        UpdogError: what went wrong, and what is left.
    """
    try:
        yield
    except ConfigError:  # about a file that was read: it leaves nothing to be told
        raise
    except (UpdogError, SignpostError, OSError, MemoryError, KeyboardInterrupt) as err:
        left = state if isinstance(state, str) else _found(state)
        if not left or _is_told_already(left, str(err)):
            raise
        raise UpdogError(f"{reason(err)}; {left}") from err


def _is_told_already(left: str, text: str) -> bool:
    ways = _TOLD_ALREADY if left == NOTHING_CHANGED else (left,)
    return any(words in text for words in ways)


def _found(state: Callable[[], str]) -> str:
    try:
        return state()
    except (UpdogError, SignpostError, OSError):
        return "`updog status` says what is left"


def reason(err: BaseException) -> str:
    """Say in words what went wrong."""
    match err:
        case KeyboardInterrupt():
            return "interrupted"
        case MemoryError():
            return "there is not enough memory; run the command again once there is more"
        case OSError(filename=None):
            return err.strerror or str(err)
        case OSError():
            return f"{err.filename}: {err.strerror}"
        case _:
            return str(err)
