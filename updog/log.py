"""How completed steps are reported on stderr: for people, or as JSON lines.

Configured by the command line only. A step is a structlog event whose `summary` is the sentence for
people; everything else it carries is for programs.
"""

import sys
from collections.abc import MutableMapping
from enum import StrEnum
from typing import Any

import structlog


class LogFormat(StrEnum):
    """Who reads the log."""

    HUMAN = "human"
    JSON = "json"


_LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40}


def configure(log_format: LogFormat, *, level: str = "info") -> None:
    """Send log events of a level and above to stderr."""
    render: structlog.typing.Processor = (
        _render_for_people if log_format is LogFormat.HUMAN else structlog.processors.JSONRenderer()
    )
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
            render,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(_LEVELS[level]),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=False,
    )


def _render_for_people(_logger: object, _method: str, event: MutableMapping[str, Any]) -> str:
    name = str(event["event"])
    summary = event.get("summary")
    if summary is None:
        known = ("event", "level", "time")
        summary = " ".join(f"{key}={value}" for key, value in event.items() if key not in known)
    return f"{name.capitalize():<10} {summary}".rstrip()
