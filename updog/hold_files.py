"""The files that hold updates back: the agent's own, and those of other programs.

Decides what counts as a hold: `hold.json` in the state directory, which `updog hold` writes, and
any file in the directories that the settings name, whatever it holds; its first line is told as the
reason. A hold that cannot be read holds all the same.
"""

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from updog.config import Paths
from updog.errors import UpdogError
from updog.files import read_small_file, replace_file
from updog.hold import Hold, longest

_MOST_BYTES: Final = 64 << 10
_UNREADABLE: Final = "its reason cannot be read"


def hold_path(state: Path) -> Path:
    """Say where the agent's own hold is."""
    return state / "hold.json"


def find_hold(paths: Paths, *, now: datetime) -> Hold | None:
    """Return what holds updates back, if anything does: of several what lasts longest."""
    own = read_own_hold(paths.state)
    return longest([*_others(paths.holds), *([own] if own else [])], now=now)


def read_own_hold(state: Path) -> Hold | None:
    """Return the agent's own hold, also one that is over."""
    path = hold_path(state)
    try:
        fields = json.loads(read_small_file(path, limit_bytes=_MOST_BYTES))
        until = fields["until"]
        return Hold(
            path=str(path),
            reason=str(fields["reason"]),
            until=datetime.fromisoformat(until).astimezone(UTC) if until is not None else None,
            is_own=True,
        )
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return Hold(path=str(path), reason=_UNREADABLE, is_own=True)


def _others(directories: tuple[Path, ...]) -> Iterator[Hold]:
    for directory in directories:
        try:
            files = sorted(each for each in directory.iterdir() if not each.name.startswith("."))
        except FileNotFoundError:
            continue
        except OSError:  # also where somebody has put a file in its place: that was meant to hold
            yield Hold(path=str(directory), reason="it cannot be looked into")
            continue
        yield from (Hold(path=str(path), reason=_reason(path)) for path in files)


def _reason(path: Path) -> str:
    try:
        data = read_small_file(path, limit_bytes=_MOST_BYTES)
    except (OSError, ValueError):
        return _UNREADABLE
    return data.decode("utf-8", errors="replace").strip().partition("\n")[0]


def hold_updates(state: Path, *, until: datetime | None, reason: str) -> Hold:
    """Hold updates back, in place of an earlier hold of the agent's own.

    Raises:
        UpdogError: it cannot be noted; updates are held as before, or not.
    """
    path = hold_path(state)
    facts = {"until": until.isoformat() if until else None, "reason": reason}
    try:
        state.mkdir(parents=True, exist_ok=True)
        replace_file(path, json.dumps(facts).encode() + b"\n")
    except OSError as err:
        raise UpdogError(f"cannot write {path}: {err.strerror}; nothing was changed") from err
    return Hold(path=str(path), reason=reason, until=until, is_own=True)


def release_updates(state: Path) -> Hold | None:
    """End the agent's own hold; return it, if there was one.

    Raises:
        UpdogError: it cannot be removed.
    """
    path, held = hold_path(state), read_own_hold(state)
    try:
        path.unlink(missing_ok=True)
    except OSError as err:
        raise UpdogError(
            f"cannot remove {path}: {err.strerror}; updates are still on hold"
        ) from err
    return held
