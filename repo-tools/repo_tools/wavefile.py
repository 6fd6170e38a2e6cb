"""Wave files: when which share of a fleet may take an update, as a publisher writes it down.

Decides how `start_after` and `fleet_percentage` become the seed bounds and times of a manifest.
Refuses schedules that go back in time or share, or that never reach the whole fleet.
"""

import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

from repo_tools.durations import parse_duration
from repo_tools.errors import RepoToolsError
from updog.waves import SEEDS, Wave

# RFC 3339, section 5.6; what remains is checked by fromisoformat.
_RFC_3339 = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,6})?(?:Z|[+-]\d\d:\d\d)")
_KEYS = frozenset({"start_after", "fleet_percentage"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """One `[[waves]]` table: from `starts_at` on, `fleet_percentage` of the fleet in all."""

    number: int
    starts_at: datetime
    fleet_percentage: int


def load_wave_file(path: Path, *, start: datetime) -> tuple[Wave, ...]:
    """Read a wave file; see `parse_wave_file`.

    Raises:
        RepoToolsError: the file cannot be read or is not a wave file.
    """
    try:
        return parse_wave_file(path.read_text(encoding="utf-8"), start=start)
    except OSError as error:
        raise RepoToolsError(f"cannot read wave file {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise RepoToolsError(f"wave file {path} is not UTF-8 text") from error
    except RepoToolsError as error:
        raise RepoToolsError(f"wave file {path}: {error}") from error


def parse_wave_file(text: str, *, start: datetime) -> tuple[Wave, ...]:
    """Turn a wave file into waves.

    Args:
        text: TOML; each `[[waves]]` has `start_after` ("4 hours", "in 2 days", or an RFC 3339
            time) and `fleet_percentage` (1 to 100, cumulative).
        start: the moment that relative times count from.

    Raises:
        RepoToolsError: the text says what is wrong with which wave.
    """
    stages = tuple(_stages(text, start))
    _refuse_disorder(stages)
    return tuple(_waves(stages))


def _stages(text: str, start: datetime) -> Iterator[Stage]:
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise RepoToolsError(f"not TOML: {error}") from error
    _refuse_unknown_keys("the file", document, frozenset({"waves"}))
    tables = document.get("waves")
    if not isinstance(tables, list) or not tables:
        raise RepoToolsError("holds no [[waves]] table")
    for number, table in enumerate(tables, start=1):
        if not isinstance(table, dict):
            raise RepoToolsError(f"wave {number} is not a table: write [[waves]] above it")
        yield _stage(number, table, start)


def _stage(number: int, table: Mapping[str, object], start: datetime) -> Stage:
    _refuse_unknown_keys(f"wave {number}", table, _KEYS)
    for key in sorted(_KEYS - table.keys()):
        raise RepoToolsError(f"wave {number} lacks {key}")
    percentage = table["fleet_percentage"]
    if type(percentage) is not int or not 1 <= percentage <= 100:
        raise RepoToolsError(
            f"wave {number}: fleet_percentage must be a whole number from 1 to 100, "
            f"not {percentage!r}"
        )
    return Stage(
        number=number,
        starts_at=_starts_at(number, table["start_after"], start),
        fleet_percentage=percentage,
    )


def _refuse_unknown_keys(where: str, table: Mapping[str, object], known: frozenset[str]) -> None:
    for key in sorted(table.keys() - known):
        names = " and ".join(sorted(known))
        raise RepoToolsError(f"{where} has the unknown key {key!r} (known: {names})")


def _starts_at(number: int, value: object, start: datetime) -> datetime:
    if isinstance(value, datetime) and value.tzinfo is not None:
        return value.astimezone(UTC)
    if isinstance(value, str):
        if (delay := parse_duration(value)) is not None:
            return _later(number, start, delay)
        if _RFC_3339.fullmatch(value):
            return _instant(number, value)
    raise RepoToolsError(
        f"wave {number}: start_after must be like '4 hours', 'in 2 days' or "
        f"'2026-01-31T12:00:00Z', not {value!s}"
    )


def _later(number: int, start: datetime, delay: timedelta) -> datetime:
    try:
        return start + delay
    except OverflowError as error:
        raise RepoToolsError(f"wave {number}: start_after lies beyond the year 9999") from error


def _instant(number: int, value: str) -> datetime:
    try:
        return datetime.fromisoformat(value).astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise RepoToolsError(f"wave {number}: there is no such time as {value}") from error


def _refuse_disorder(stages: tuple[Stage, ...]) -> None:
    for before, after in pairwise(stages):
        if after.fleet_percentage <= before.fleet_percentage:
            raise RepoToolsError(
                f"wave {after.number}: fleet_percentage {after.fleet_percentage} must be greater "
                f"than the {before.fleet_percentage} of wave {before.number}: shares add up"
            )
        if after.starts_at < before.starts_at:
            raise RepoToolsError(f"wave {after.number} starts before wave {before.number}")
    if stages[-1].fleet_percentage != 100:
        raise RepoToolsError(
            f"the last wave reaches {stages[-1].fleet_percentage} % of the fleet: it must reach 100"
        )


def _waves(stages: tuple[Stage, ...]) -> Iterator[Wave]:
    """Yield each wave with its first seed, which is where the wave before it ended."""
    reached_percentage = 0
    for stage in stages:
        yield Wave(bound=reached_percentage * SEEDS // 100, starts_at=stage.starts_at)
        reached_percentage = stage.fleet_percentage
