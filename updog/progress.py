"""How far an update is: for people at a terminal, for programs, and for systemd.

Decides what is counted (each image as it is fetched, each partition as it is read back, and all
images together), how often it is shown and how it reads. Silent unless somebody asked or watches:
what counts is said by the log, a line a step.
"""

import json
import os
import socket
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from enum import StrEnum
from typing import Final, Protocol

import msgspec

from updog.log import is_watched
from updog.units import SIZES, size

Advance = Callable[[int], None]
"""`advance(count)` says that so many more bytes are done."""

_MEMORY_SECONDS: Final = 10.0
"""What a rate is taken over: long enough to be steady, short enough to show a stall."""

_SAMPLES: Final = 64


class Position(msgspec.Struct, frozen=True, kw_only=True):
    """How far an update is.

    Attributes:
        phase: What is being done: `hash`, `root` and `boot` are fetched, then `verify` reads back.
        done: Bytes of this phase.
        length: All bytes of this phase.
        all_done: Bytes fetched in all.
        all_length: Bytes to be fetched in all.
        bytes_per_second: Lately; None before there is anything to tell it from.
        seconds_left: Of what is fetched, or read back, at that rate; None if it is not known.
    """

    phase: str
    done: int
    length: int
    all_done: int
    all_length: int
    bytes_per_second: int | None
    seconds_left: float | None


class Display(Protocol):
    """A place where positions are shown."""

    every_seconds: float
    """How often, at most."""

    def show(self, position: Position) -> None:
        """Show how far it is."""

    def end(self) -> None:
        """Clear what was shown of a phase."""


class Progress:
    """Follows an update through its phases, from one thread.

    Args:
        displays: Where it is shown.
        clock: Seconds that only ever grow.
    """

    def __init__(self, *displays: Display, clock: Callable[[], float] = time.monotonic) -> None:
        self._displays = displays
        self._clock = clock
        self._all_done = self._all_length = 0

    def expect(self, fetched_bytes: int) -> None:
        """Begin to fetch so many bytes in all."""
        self._all_done, self._all_length = 0, fetched_bytes

    @contextmanager
    def fetching(self, name: str, length: int) -> Iterator[Advance]:
        """Follow one image on its way; what came of one that fails is to be fetched once more."""
        before = self._all_done
        with self._phase(name, length, rest=lambda: self._all_length - self._all_done) as advance:

            def fetched(count: int) -> None:
                self._all_done += count
                advance(count)

            try:
                yield fetched
            except BaseException:
                self._all_done = before
                raise

    @contextmanager
    def verifying(self, length: int) -> Iterator[Advance]:
        """Follow the reading back of all images."""
        with self._phase("verify", length, rest=None) as advance:
            yield advance

    @contextmanager
    def _phase(
        self, name: str, length: int, *, rest: Callable[[], int] | None
    ) -> Iterator[Advance]:
        due = dict.fromkeys(self._displays, 0.0)
        rate, done = _Rate(self._clock()), 0

        def position() -> Position:
            speed = rate.bytes_per_second
            left = rest() if rest else length - done
            return Position(
                phase=name,
                done=done,
                length=length,
                all_done=self._all_done,
                all_length=self._all_length,
                bytes_per_second=speed,
                seconds_left=left / speed if speed else None,
            )

        def show(*, is_end: bool = False) -> None:
            now = self._clock()
            for display in self._displays:
                if is_end or now >= due[display]:
                    due[display] = now + display.every_seconds
                    display.show(position())

        def advance(count: int) -> None:
            nonlocal done
            done += count
            rate.add(self._clock(), count)
            show()

        try:
            show()
            yield advance
            show(is_end=True)
        finally:
            for display in self._displays:
                display.end()


class _Rate:
    """Bytes a second over the last few seconds."""

    def __init__(self, now: float) -> None:
        self._samples: deque[tuple[float, int]] = deque([(now, 0)], maxlen=_SAMPLES)

    def add(self, now: float, count: int) -> None:
        """Note that so many more bytes are done; what is close together is one sample."""
        total = self._samples[-1][1]
        if len(self._samples) > 1 and now - self._samples[-2][0] < _MEMORY_SECONDS / _SAMPLES:
            self._samples[-1] = (now, total + count)
        else:
            self._samples.append((now, total + count))
        while len(self._samples) > 2 and now - self._samples[0][0] > _MEMORY_SECONDS:
            self._samples.popleft()

    @property
    def bytes_per_second(self) -> int | None:
        """The rate, once time has passed."""
        (first_time, first), (last_time, last) = self._samples[0], self._samples[-1]
        seconds = last_time - first_time
        return int((last - first) / seconds) if seconds > 0 else None


class Bar:
    """One line at the bottom of a terminal, on stderr."""

    every_seconds = 0.1

    def show(self, position: Position) -> None:
        """Draw the line anew, in place of the old one."""
        sys.stderr.write(f"\r{bar_line(position)[: self._columns() - 1]}\x1b[K")
        sys.stderr.flush()

    def _columns(self) -> int:
        try:
            return os.get_terminal_size(sys.stderr.fileno()).columns or _COLUMNS
        except OSError:
            return _COLUMNS

    def end(self) -> None:
        """Leave the line to the log."""
        sys.stderr.write("\r\x1b[K")
        sys.stderr.flush()


_COLUMNS: Final = 80
_BAR_WIDTH: Final = 20
_MOST_SECONDS: Final = 99 * 3600


def bar_line(position: Position) -> str:
    """Return how far it is, as a rule in fewer than 80 columns.

    `root   [#############-------] 168/241 MiB  118 MiB/s  0:00:01  total 70 %`
    """
    share = position.done / position.length if position.length else 1.0
    filled = min(_BAR_WIDTH, int(share * _BAR_WIDTH))
    drawn = f"[{'#' * filled:-<{_BAR_WIDTH}}]"
    parts = [f"{position.phase:<6} {drawn} {_amount(position.done, position.length)}"]
    if position.bytes_per_second is not None:
        parts.append(f"{size(position.bytes_per_second)}/s")
    if position.seconds_left is not None:
        parts.append(_time_left(position.seconds_left))
    if position.all_length:
        parts.append(f"total {100 * position.all_done // position.all_length} %")
    return "  ".join(parts)


def _amount(done: int, length: int) -> str:
    """Return how much of something there is: `168/241 MiB`."""
    total, unit = size(length).split()
    digits = 1 if "." in total else 0
    return f"{done / SIZES[unit]:.{digits}f}/{total} {unit}"


def _time_left(seconds: float) -> str:
    return str(timedelta(seconds=int(min(seconds, _MOST_SECONDS))))


class JsonLines:
    """A JSON document a line, on stderr, between those of the log."""

    every_seconds = 0.5

    def show(self, position: Position) -> None:
        """Print one line."""
        facts = {
            "event": "progress",
            "phase": position.phase,
            "bytes": position.done,
            "length_bytes": position.length,
            "total_bytes": position.all_done,
            "total_length_bytes": position.all_length,
            "bytes_per_second": position.bytes_per_second,
            "seconds_left": position.seconds_left and round(position.seconds_left, 1),
        }
        print(json.dumps(facts), file=sys.stderr, flush=True)  # noqa: T201 -- asked for

    def end(self) -> None:
        """Leave what was printed."""


class SystemdStatus:
    """The line that `systemctl status` shows of a service.

    Args:
        address: Of the variable NOTIFY_SOCKET: a path, or a name of the abstract kind after `@`.

    Source: sd_notify(3).
    """

    every_seconds = 2.0

    def __init__(self, address: str) -> None:
        self._address = f"\0{address[1:]}" if address.startswith("@") else address

    def show(self, position: Position) -> None:
        """Tell the service manager; one that does not listen must not hold an update up."""
        verb = "reading back" if position.phase == "verify" else f"fetching {position.phase}"
        words = f"{verb}, {_amount(position.done, position.length)}"
        if position.seconds_left is not None:
            words += f", {_time_left(position.seconds_left)} left"
        self._tell(words)

    def end(self) -> None:
        """Let the status say nothing that has passed."""
        self._tell("")

    def _tell(self, words: str) -> None:
        with (
            suppress(OSError),
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as manager,
        ):
            manager.setblocking(False)
            manager.sendto(f"STATUS={words}".encode(), self._address)


class ProgressMode(StrEnum):
    """What `--progress` may ask for."""

    AUTO = "auto"
    JSON = "json"
    NONE = "none"


def choose_displays(mode: ProgressMode) -> Sequence[Display]:
    """Return where to show how far an update is: for who watches, who asked, and systemd."""
    displays: list[Display] = []
    if mode is ProgressMode.JSON:
        displays.append(JsonLines())
    elif mode is ProgressMode.AUTO and is_watched():
        displays.append(Bar())
    if address := os.environ.get("NOTIFY_SOCKET"):
        displays.append(SystemdStatus(address))
    return displays
