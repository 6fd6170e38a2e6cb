"""Wave files: when which share of a fleet may take an update, as a publisher writes it down.

Decides how `start_after` and `fleet_percentage` become the seed bounds and times of a manifest.
Refuses schedules that go back in time or share, or that never reach the whole fleet.
"""

import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from importlib.resources import files
from itertools import pairwise
from pathlib import Path
from typing import Final

from repo_tools.durations import parse_duration
from repo_tools.errors import RepoToolsError
from updog.manifest import format_time
from updog.waves import SEEDS, Wave

# RFC 3339, section 5.6; what remains is checked by fromisoformat.
_RFC_3339 = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,6})?(?:Z|[+-]\d\d:\d\d)")
SHIPPED: Final = ("default", "accelerated", "emergency", "slow")
"""Names of the wave files that come with repo-tools."""

_SHIPPED_DIRECTORY = Path(str(files("repo_tools") / "waves"))
_KEYS = frozenset({"start_after", "fleet_percentage"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """One `[[waves]]` table: from `starts_at` on, `fleet_percentage` of the fleet in all."""

    number: int
    starts_at: datetime
    fleet_percentage: int


@dataclass(frozen=True, slots=True, kw_only=True)
class WaveFile:
    """The text of a wave file that keeps the rules, and what to call it."""

    name: str
    text: str

    def waves(self, *, start: datetime) -> tuple[Wave, ...]:
        """Return its waves, relative times counted from `start`."""
        try:
            return parse_wave_file(self.text, start=start)
        except RepoToolsError as error:
            raise RepoToolsError(f"wave file {self.name}: {error}") from error


def find_wave_file(name: str) -> WaveFile:
    """Read the wave file of this path, or else the shipped one of this name.

    Raises:
        RepoToolsError: there is neither.
    """
    if name in SHIPPED and not Path(name).exists():
        return shipped_wave_file(name)
    return read_wave_file(Path(name))


def shipped_wave_file(name: str) -> WaveFile:
    """Return one of the wave files that come with repo-tools."""
    return read_wave_file(_SHIPPED_DIRECTORY / f"{name}.toml")


def read_wave_file(path: Path) -> WaveFile:
    """Read a wave file.

    Raises:
        RepoToolsError: the file cannot be read or is not a wave file.
    """
    try:
        return WaveFile(name=str(path), text=path.read_text(encoding="utf-8"))
    except OSError as error:
        shipped = f"; those that come with repo-tools are {', '.join(SHIPPED)}"
        hint = shipped if isinstance(error, FileNotFoundError) else ""
        raise RepoToolsError(f"cannot read wave file {path}: {error.strerror}{hint}") from error
    except UnicodeDecodeError as error:
        raise RepoToolsError(f"wave file {path} is not UTF-8 text") from error


def load_wave_file(path: Path, *, start: datetime) -> tuple[Wave, ...]:
    """Read a wave file; see `parse_wave_file`.

    Raises:
        RepoToolsError: the file cannot be read or is not a wave file.
    """
    return read_wave_file(path).waves(start=start)


def refuse_past(waves: tuple[Wave, ...], *, now: datetime) -> None:
    """Refuse a new schedule that would have begun before anybody could know of it.

    Raises:
        RepoToolsError: it names the wave.
    """
    for number, wave in enumerate(waves, start=1):
        if wave.starts_at < now:
            raise RepoToolsError(
                f"wave {number} begins at {format_time(wave.starts_at)}, which is past: "
                "choose a later time, or one that counts from the publish, like '4 hours'"
            )


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
