"""A bar for whoever watches a terminal, silence elsewhere, nothing ever on stdout."""

import io
import os
import pty
import re
import select
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from typing import TextIO

import pytest

from updog.progress import Bar, Progress, Silent, amount_and_speed, for_this_terminal


@contextmanager
def a_terminal() -> Iterator[tuple[TextIO, int]]:
    """Yield a terminal to write to, and the descriptor from which to read what it shows."""
    try:
        shows, terminal = pty.openpty()
    except OSError as err:
        pytest.skip(f"no pseudo-terminals here ({err.strerror}): the progress bar was not watched")
    try:
        with os.fdopen(terminal, "w", encoding="utf-8", buffering=1) as file:
            yield file, shows
    finally:
        os.close(shows)


def followed(progress: Progress, *steps: int, total_bytes: int = 100) -> None:
    with progress.image("root", total_bytes) as advance:
        for step in steps:
            advance(step)


def shown_by_bar(*steps: int, total_bytes: int = 100) -> str:
    """Return all that a bar writes to a terminal."""
    with a_terminal() as (terminal, shows), redirect_stderr(terminal):
        followed(Bar(), *steps, total_bytes=total_bytes)
        terminal.flush()
        shown = b""
        # The kernel hands a terminal's output over piece by piece, a moment after it was written.
        while select.select([shows], [], [], 0.3)[0]:
            shown += os.read(shows, 65536)
        return shown.decode()


def test_somebody_at_a_terminal_gets_a_bar() -> None:
    with a_terminal() as (terminal, _shows), redirect_stderr(terminal):
        assert isinstance(for_this_terminal(), Bar)


def test_a_file_gets_silence() -> None:
    with redirect_stderr(io.StringIO()) as file:
        progress = for_this_terminal()
        assert isinstance(progress, Silent)
        followed(progress, 40, 60)
        assert file.getvalue() == ""


def test_silence_is_silent_on_a_terminal_too(capsys: pytest.CaptureFixture[str]) -> None:
    followed(Silent(), 40, 60)
    assert capsys.readouterr() == ("", "")


def test_a_bar_names_the_image_and_grows_to_its_end() -> None:
    shown = shown_by_bar(50, 50)
    assert "root        [" in shown
    assert "50%" in shown
    assert "100%" in shown.splitlines()[-1]


def test_a_bar_tells_how_much_there_is_and_how_fast_it_comes() -> None:
    shown = shown_by_bar(120 << 20, 121 << 20, total_bytes=241 << 20)
    assert "120/241 MiB  " in shown
    assert re.search(r"241/241 MiB  \d[\d.]* [KMG]iB/s", shown)


@pytest.mark.parametrize(
    ("arrived", "total_bytes", "seconds", "words"),
    [
        (168 << 20, 241 << 20, 1.5, "168/241 MiB  112 MiB/s"),
        (0, 241 << 20, 0.0, "0/241 MiB"),
        (1 << 19, 6 << 20, 0.1, "0.5/6.0 MiB  5.0 MiB/s"),
        (100, 881, 1.0, "100/881 B  100 B/s"),
        (0, 0, 1.0, "0/0 B  0 B/s"),
    ],
)
def test_amounts_are_told_in_the_unit_of_the_whole(
    arrived: int, total_bytes: int, seconds: float, words: str
) -> None:
    assert amount_and_speed(arrived, total_bytes, seconds=seconds) == words


def test_a_download_that_stops_half_way_does_not_look_complete() -> None:
    assert "100%" not in shown_by_bar(50)


@pytest.mark.parametrize(("steps", "total_bytes"), [((), 0), ((), 100), ((60, 60), 100)])
def test_a_bar_bears_empty_images_and_more_bytes_than_expected(
    steps: tuple[int, ...], total_bytes: int
) -> None:
    assert "root" in shown_by_bar(*steps, total_bytes=total_bytes)


def test_a_bar_fits_a_line_of_eighty_columns() -> None:
    shown = shown_by_bar(1 << 20, (1 << 30) - (1 << 20), total_bytes=1 << 30)
    drawn = re.sub(r"\x1b\[\?25[lh]", "", shown)
    assert max(len(line.strip("\n")) for line in drawn.split("\r")) <= 80


def test_a_bar_leaves_stdout_alone(capsys: pytest.CaptureFixture[str]) -> None:
    with a_terminal() as (terminal, _shows), redirect_stderr(terminal):
        followed(Bar(), 100)
    assert capsys.readouterr().out == ""
