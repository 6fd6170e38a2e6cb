"""The file of events: one JSON line an event, flushed, and rotated before it grows too large.

Decides how events survive cuts: a line that a power cut tore is passed over, never a reason to
stop. At a rotation the file is first copied to `history.jsonl.1`, in place of the one before, and
then replaced by what must not be forgotten of it; so every cut leaves a file that holds that. What
follows from the events is decided in `updog.history`.
"""

import itertools
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from updog.durable import flush, make_directory
from updog.errors import UpdogError
from updog.files import read_small_file, replace_file
from updog.history import Event, essence, event_facts, is_news, parse_event

_MAX_BYTES: Final = 64 << 20
"""What is read at most: a file that a rotation failed to shorten may be larger than planned."""

ROTATION_BYTES: Final = 1 << 20
"""Some seven thousand events."""

_LONGEST_LINE_BYTES: Final = 64 << 10


class History:
    """The file of events of this machine, and beside it the one before and the last check."""

    def __init__(self, path: Path, *, rotation_bytes: int = ROTATION_BYTES) -> None:
        """Name the file, which need not exist yet, and the size at which it is rotated."""
        self._path = path
        self._earlier = path.with_name(f"{path.name}.1")
        self._check = path.with_name("checked.json")
        self._rotation_bytes = rotation_bytes

    def append(self, event: Event) -> None:
        """Add an event and flush it to the medium.

        Raises:
            UpdogError: the file cannot be written.
        """
        try:
            make_directory(self._path.parent)
            if self._is_long():
                self._rotate()
            is_new = not self._path.exists()
            _append_line(self._path, _line(event))
            if is_new:
                flush(self._path.parent)
        except OSError as err:
            raise UpdogError(f"cannot write history {self._path}: {err.strerror}") from err

    def note_check(self, event: Event) -> None:
        """Note that the repository was asked; an event is added only if the answer is news.

        A timer that hears the same every hour must not fill the file. The moment of the last check
        is kept apart, in a file that does not grow.

        Raises:
            UpdogError: a file cannot be written.
        """
        if is_news(event, self.events()):
            self.append(event)
        try:
            replace_file(self._check, _line(event))
        except OSError as err:
            raise UpdogError(f"cannot write {self._check}: {err.strerror}") from err

    def last_check(self) -> Event | None:
        """Return the last look at the repository, if one is known of."""
        try:
            return parse_event(read_small_file(self._check, limit_bytes=_LONGEST_LINE_BYTES))
        except (OSError, ValueError):
            return None

    def events(self) -> tuple[Event, ...]:
        """Return all events that count, the oldest first; none where there is no history yet.

        Raises:
            UpdogError: the file exists but cannot be read.
        """
        return _events(self._lines(self._path))

    def all_events(self) -> tuple[Event, ...]:
        """Return all events that are still on file, those before the last rotation too.

        Raises:
            UpdogError: a file exists but cannot be read.
        """
        earlier = _events(self._lines(self._earlier))
        told = set(earlier)
        # The file begins with what was carried over from the earlier one.
        return (*earlier, *itertools.dropwhile(told.__contains__, self.events()))

    def damage(self) -> str | None:
        """Say which lines cannot be read, if any but the last: that one a power cut may tear."""
        lines = self._lines(self._path)
        bad = [number for number, line in enumerate(lines[:-1], 1) if parse_event(line) is None]
        if not bad:
            return None
        return (
            f"{len(bad)} of {len(lines)} lines of {self._path} cannot be read, the first is "
            f"{bad[0]}: earlier rollbacks may be forgotten"
        )

    def _is_long(self) -> bool:
        try:
            status = self._path.stat()
        except FileNotFoundError:
            return False
        return status.st_size >= self._rotation_bytes

    def _rotate(self) -> None:
        lines = self._lines(self._path)
        replace_file(self._earlier, b"".join(line + b"\n" for line in lines))
        replace_file(self._path, b"".join(map(_line, essence(_events(lines)))))

    def _lines(self, path: Path) -> list[bytes]:
        try:
            data = read_small_file(path, limit_bytes=_MAX_BYTES)
        except FileNotFoundError:
            return []
        except (OSError, ValueError) as err:
            why = err.strerror if isinstance(err, OSError) else err
            raise UpdogError(
                f"cannot read history {path}: {why}; if it cannot be mended, move it away: earlier "
                "rollbacks are forgotten then"
            ) from err
        return [line for line in data.split(b"\n") if line]


def _events(lines: Iterable[bytes]) -> tuple[Event, ...]:
    return tuple(event for event in map(parse_event, lines) if event is not None)


def _line(event: Event) -> bytes:
    return json.dumps(event_facts(event)).encode() + b"\n"


def _append_line(path: Path, line: bytes) -> None:
    flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK
    descriptor = os.open(path, flags, 0o644)
    try:
        _mend_tail(descriptor)
        while line:
            line = line[os.write(descriptor, line) :]
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _mend_tail(descriptor: int) -> None:
    """Remove the piece of a line that a power cut left at the end; end a whole one."""
    length = os.fstat(descriptor).st_size
    begin = max(0, length - _LONGEST_LINE_BYTES)
    tail = os.pread(descriptor, length - begin, begin).rpartition(b"\n")[2]
    if not tail:
        return
    if parse_event(tail) is None:
        os.ftruncate(descriptor, length - len(tail))
    else:
        os.write(descriptor, b"\n")
