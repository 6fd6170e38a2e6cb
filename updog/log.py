"""How completed steps are reported on stderr: for people, as JSON lines, or to systemd's journal.

Configured by the command line only. A step is a structlog event whose `summary` is the sentence for
people; everything else it carries is for programs. Decides who reads the log where nobody says so.
Lets no control character through, whoever put it into a name or an error.
"""

import json
import os
import sys
from collections.abc import MutableMapping
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

import structlog

from updog import journal
from updog.names import escaped


class LogFormat(StrEnum):
    """Who reads the log."""

    AUTO = "auto"
    """The journal under systemd, else people at a terminal, else programs."""
    HUMAN = "human"
    JSON = "json"
    JOURNAL = "journal"


_LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40}
_PRIORITIES = {"debug": 7, "info": 6, "warning": 4, "error": 3}
"""The levels in syslog's terms."""

_IN_EVERY_LINE = ("event", "level", "time")


def configure(
    log_format: LogFormat, *, level: str = "info", journal_socket: Path = journal.SOCKET
) -> None:
    """Send log events of a level and above to stderr, or to the journal."""
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
            _renderer(resolve(log_format), journal_socket),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(_LEVELS[level]),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=False,
    )


def resolve(log_format: LogFormat) -> LogFormat:
    """Say who reads the log, finding it out where that is not said."""
    if log_format is not LogFormat.AUTO:
        return log_format
    if journal.stderr_is_journal(os.environ.get("JOURNAL_STREAM")):
        return LogFormat.JOURNAL
    return LogFormat.HUMAN if sys.stderr.isatty() else LogFormat.JSON


def log_failure(text: str, log_format: LogFormat, *, journal_socket: Path = journal.SOCKET) -> bool:
    """Log the end of a run that failed, for programs: to people the command line says it.

    Returns:
        Whether it is told herewith; else the command line has to.
    """
    match resolve(log_format):
        case LogFormat.JOURNAL:
            return _tell_journal(text, journal_socket)
        case LogFormat.JSON:
            configure(log_format)  # the run may have failed before its log was set up
            structlog.get_logger().error("failed", summary=text)
            return True
        case _:
            return False


def _tell_journal(text: str, journal_socket: Path) -> bool:
    event: dict[str, Any] = {"event": "failed", "level": "error", "summary": text}
    try:
        journal.send(_journal_fields(event, _render_for_people(None, "", event)), journal_socket)
    except OSError:
        return False
    return True


def _renderer(log_format: LogFormat, journal_socket: Path) -> structlog.typing.Processor:
    match log_format:
        case LogFormat.JSON:
            return _render_for_programs
        case LogFormat.JOURNAL:
            return _Journal(journal_socket)
        case _:
            return _render_over_bar if is_watched() else _render_for_people


def is_watched() -> bool:
    """Tell whether somebody watches at a terminal on which a line can be drawn anew."""
    return sys.stderr.isatty() and os.environ.get("TERM") != "dumb"


_CLEAR_LINE: Final = "\r\x1b[K"


def _render_over_bar(logger: object, method: str, event: MutableMapping[str, Any]) -> str:
    """Take the line of a progress bar that may stand there; it is drawn anew below."""
    return _CLEAR_LINE + _render_for_people(logger, method, event)


def _render_for_people(_logger: object, _method: str, event: MutableMapping[str, Any]) -> str:
    name = str(event["event"])
    summary = event.get("summary")
    if summary is None:
        facts = ((key, value) for key, value in event.items() if key not in _IN_EVERY_LINE)
        summary = " ".join(f"{key}={value}" for key, value in facts)
    return escaped(f"{name.capitalize():<10} {summary}".rstrip())


def _render_for_programs(_logger: object, _method: str, event: MutableMapping[str, Any]) -> str:
    # JSON allows the control character DEL as it is.
    return json.dumps(event, default=str).replace("\x7f", "\\u007f")


class _Journal:
    """Sends events to the journal, or lets them through as lines for people if it is away."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __call__(self, logger: object, method: str, event: MutableMapping[str, Any]) -> str:
        message = _render_for_people(logger, method, event)
        try:
            journal.send(_journal_fields(event, message), self._path)
        except OSError:
            return message
        raise structlog.DropEvent


def _journal_fields(event: MutableMapping[str, Any], message: str) -> dict[str, str]:
    own = {
        f"UPDOG_{key.upper()}": escaped(value if isinstance(value, str) else json.dumps(value))
        for key, value in event.items()
        if key not in ("level", "time")
    }
    return {
        "MESSAGE": message,
        "PRIORITY": str(_PRIORITIES[event["level"]]),
        "SYSLOG_IDENTIFIER": "updog",
        **own,
    }
