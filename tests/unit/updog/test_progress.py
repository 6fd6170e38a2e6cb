"""How far an update is: on a terminal, as JSON lines, for systemd; nothing ever on stdout."""

import io
import json
import os
import pty
import select
import socket
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from pathlib import Path
from typing import Any, TextIO

import pytest

from updog.progress import (
    Bar,
    Display,
    JsonLines,
    Position,
    Progress,
    ProgressMode,
    SystemdStatus,
    bar_line,
    choose_displays,
)

MIB = 1 << 20


@pytest.fixture(autouse=True)
def no_service_manager(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    monkeypatch.setenv("TERM", "xterm")


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


class FakeClock:
    """Seconds that grow when told to."""

    def __init__(self) -> None:
        self._now = 1000.0

    def __call__(self) -> float:
        return self._now

    def sleep(self, seconds: float) -> None:
        self._now += seconds


class Remembering:
    """A display that keeps what it is shown."""

    def __init__(self, every_seconds: float = 0.0) -> None:
        self.every_seconds = every_seconds
        self.shown: list[Position] = []
        self.ends = 0

    def show(self, position: Position) -> None:
        self.shown.append(position)

    def end(self) -> None:
        self.ends += 1


def fetch(progress: Progress, clock: FakeClock, *steps: int, name: str = "root") -> None:
    """Fetch an image in steps of a second each."""
    with progress.fetching(name, sum(steps)) as advance:
        for step in steps:
            clock.sleep(1)
            advance(step)


def a_position(**facts: Any) -> Position:
    known: dict[str, Any] = {
        "phase": "root",
        "done": 168 * MIB,
        "length": 241 * MIB,
        "all_done": 175 * MIB,
        "all_length": 252 * MIB,
        "bytes_per_second": 118 * MIB,
        "seconds_left": 1.4,
    }
    return Position(**{**known, **facts})


class TestCounting:
    def test_an_image_counts_for_itself_and_for_all(self) -> None:
        display, clock = Remembering(), FakeClock()
        progress = Progress(display, clock=clock)
        progress.expect(300)
        fetch(progress, clock, 50, 50, name="hash")
        fetch(progress, clock, 200)
        last = display.shown[-1]
        assert (last.phase, last.done, last.length) == ("root", 200, 200)
        assert (last.all_done, last.all_length) == (300, 300)
        assert display.ends == 2

    def test_the_time_left_is_that_of_all_images(self) -> None:
        display, clock = Remembering(), FakeClock()
        progress = Progress(display, clock=clock)
        progress.expect(1000)
        fetch(progress, clock, 100, 100)
        assert display.shown[-1].bytes_per_second == 100
        assert display.shown[-1].seconds_left == 8

    def test_before_anything_has_come_no_rate_is_told(self) -> None:
        display, clock = Remembering(), FakeClock()
        fetch(Progress(display, clock=clock), clock, 100)
        assert (display.shown[0].bytes_per_second, display.shown[0].seconds_left) == (None, None)

    def test_a_stall_shows_in_the_rate_after_seconds_not_at_the_end(self) -> None:
        display, clock = Remembering(), FakeClock()
        fetch(Progress(display, clock=clock), clock, *[1000] * 60, *[1] * 30)
        assert display.shown[-1].bytes_per_second == 1

    def test_reading_back_is_a_phase_of_its_own_length(self) -> None:
        display, clock = Remembering(), FakeClock()
        progress = Progress(display, clock=clock)
        progress.expect(100)
        fetch(progress, clock, 100)
        with progress.verifying(4000) as advance:
            clock.sleep(1)
            advance(1000)
            clock.sleep(1)
            advance(1000)
        last = display.shown[-1]
        assert (last.phase, last.done, last.length, last.all_done) == ("verify", 2000, 4000, 100)
        assert last.seconds_left == 2

    def test_a_display_is_shown_no_more_often_than_it_wants_but_always_the_end(self) -> None:
        display, clock = Remembering(every_seconds=10), FakeClock()
        fetch(Progress(display, clock=clock), clock, *[1] * 25)
        assert [position.done for position in display.shown] == [0, 10, 20, 25]

    def test_a_download_that_fails_never_looks_complete(self) -> None:
        display, clock = Remembering(), FakeClock()
        progress = Progress(display, clock=clock)

        def break_off() -> None:
            with progress.fetching("root", 100) as advance:
                advance(50)
                raise OSError("gone")

        with pytest.raises(OSError, match="gone"):
            break_off()
        assert max(position.done for position in display.shown) == 50
        assert display.ends == 1
        progress.expect(100)
        with pytest.raises(OSError, match="gone"):
            break_off()
        fetch(progress, clock, 100)
        assert display.shown[-1].all_done == 100


class TestTheBar:
    def test_it_reads_as_a_line(self) -> None:
        assert bar_line(a_position()) == (
            "root   [#############-------] 168/241 MiB  118 MiB/s  0:00:01  total 69 %"
        )

    @pytest.mark.parametrize(
        ("facts", "words"),
        [
            ({"bytes_per_second": None, "seconds_left": None}, "168/241 MiB  total 69 %"),
            ({"done": 0, "length": 0}, "[####################] 0/0 B"),
            ({"done": 300, "length": 200}, "[####################] 300/200 B"),
            ({"done": 1 << 19, "length": 6 * MIB}, "0.5/6.0 MiB"),
            ({"all_length": 0}, "0:00:01"),
            ({"seconds_left": 1e18}, "4 days, 3:00:00"),
        ],
    )
    def test_it_bears_what_is_unknown_empty_or_too_much(
        self, facts: dict[str, Any], words: str
    ) -> None:
        assert words in bar_line(a_position(**facts))

    def test_it_fits_eighty_columns(self) -> None:
        longest = a_position(
            phase="verify",
            done=1023 * MIB,
            length=1023 * MIB,
            all_done=1023 * MIB,
            all_length=1023 * MIB,
            bytes_per_second=1023 * MIB,
            seconds_left=9 * 3600,
        )
        assert len(bar_line(longest)) < 80

    def test_it_leaves_its_line_to_the_log_and_stdout_alone(
        self, capsys: pytest.CaptureFixture[str]
    ) -> None:
        with a_terminal() as (terminal, shows), redirect_stderr(terminal):
            clock = FakeClock()
            fetch(Progress(Bar(), clock=clock), clock, 50, 50)
            terminal.flush()
            shown = b""
            while select.select([shows], [], [], 0.3)[0]:
                shown += os.read(shows, 65536)
        assert b"root   [##########----------] 50/100 B" in shown
        assert shown.endswith(b"\r\x1b[K")
        assert capsys.readouterr().out == ""


class TestJsonLines:
    def test_each_line_is_a_document(self) -> None:
        with redirect_stderr(io.StringIO()) as file:
            JsonLines().show(a_position())
            JsonLines().show(a_position(bytes_per_second=None, seconds_left=None))
        first, second = map(json.loads, file.getvalue().splitlines())
        assert first == {
            "event": "progress",
            "phase": "root",
            "bytes": 168 * MIB,
            "length_bytes": 241 * MIB,
            "total_bytes": 175 * MIB,
            "total_length_bytes": 252 * MIB,
            "bytes_per_second": 118 * MIB,
            "seconds_left": 1.4,
        }
        assert second["seconds_left"] is None


class TestSystemd:
    @pytest.mark.parametrize("kind", ["path", "abstract"])
    def test_its_status_names_the_phase(self, tmp_path: Path, kind: str) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
            name = str(tmp_path / "notify") if kind == "path" else f"@updog-test-{os.getpid()}"
            manager.bind(name if kind == "path" else f"\0{name[1:]}")
            SystemdStatus(name).show(a_position())
            SystemdStatus(name).show(a_position(phase="verify", seconds_left=None))
            SystemdStatus(name).end()
            told = [manager.recv(1000).decode() for _ in range(3)]
        assert told == [
            "STATUS=fetching root, 168/241 MiB, 0:00:01 left",
            "STATUS=reading back, 168/241 MiB",
            "STATUS=",
        ]

    def test_a_manager_that_does_not_listen_holds_nothing_up(self, tmp_path: Path) -> None:
        SystemdStatus(str(tmp_path / "nobody")).show(a_position())


def kinds(displays: "list[Display] | tuple[Display, ...]") -> list[type]:
    return [type(display) for display in displays]


class TestChoosing:
    def test_somebody_at_a_terminal_gets_a_bar(self) -> None:
        with a_terminal() as (terminal, _shows), redirect_stderr(terminal):
            assert kinds([*choose_displays(ProgressMode.AUTO)]) == [Bar]
            assert kinds([*choose_displays(ProgressMode.NONE)]) == []
            assert kinds([*choose_displays(ProgressMode.JSON)]) == [JsonLines]

    def test_a_terminal_that_cannot_draw_a_line_anew_gets_none(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("TERM", "dumb")
        with a_terminal() as (terminal, _shows), redirect_stderr(terminal):
            assert kinds([*choose_displays(ProgressMode.AUTO)]) == []

    def test_a_file_gets_silence_unless_lines_are_asked_for(self) -> None:
        with redirect_stderr(io.StringIO()):
            assert kinds([*choose_displays(ProgressMode.AUTO)]) == []
            assert kinds([*choose_displays(ProgressMode.JSON)]) == [JsonLines]

    def test_a_service_tells_its_manager_whatever_was_asked_for(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("NOTIFY_SOCKET", "/run/notify")
        with redirect_stderr(io.StringIO()):
            for mode in (ProgressMode.AUTO, ProgressMode.NONE):
                assert kinds([*choose_displays(mode)]) == [SystemdStatus]
