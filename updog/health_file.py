"""What the last boot of each set told of its health: one small file a set, replaced as a whole.

Decides where it lies: in the state directory, which both sets share, under the name of the set that
was booted. So what a failed boot left is still there when the other set runs, whatever that finds.
It is written while the checks run: a machine that is reset meanwhile leaves what it came to.
"""

import json
from pathlib import Path
from typing import Final

import structlog

from signpost.sets import SetName
from updog.errors import UpdogError
from updog.files import read_small_file, replace_file
from updog.health import HealthRecord, parse_record, record_facts

_MOST_BYTES: Final = 4 << 20

_log = structlog.get_logger()


def health_file(state: Path, name: SetName) -> Path:
    """Say where the health of a set is noted."""
    return state / f"health-{name}.json"


def read_health(state: Path, name: SetName) -> HealthRecord | None:
    """Return what is known of the last boot of a set."""
    try:
        data = read_small_file(health_file(state, name), limit_bytes=_MOST_BYTES)
    except (OSError, ValueError):
        return None
    return parse_record(data)


def write_health(state: Path, record: HealthRecord) -> None:
    """Note the health of a set, in place of what was noted of it before.

    Raises:
        UpdogError: it cannot be written.
    """
    path = health_file(state, record.set)
    try:
        state.mkdir(parents=True, exist_ok=True)
        replace_file(path, json.dumps(record_facts(record)).encode() + b"\n")
    except OSError as err:
        raise UpdogError(f"cannot write {path}: {err.strerror}") from err


def note_health(state: Path, record: HealthRecord) -> None:
    """Note the health of a set if that is possible: a full disk must not decide about a boot."""
    try:
        write_health(state, record)
    except UpdogError as err:
        _log.warning("health", summary=f"{err}; `updog history` will not tell what was found")


def forget_health(state: Path, name: SetName) -> None:
    """Forget what a set told that is about to hold another system.

    Raises:
        UpdogError: it cannot be removed.
    """
    path = health_file(state, name)
    try:
        path.unlink(missing_ok=True)
    except OSError as err:
        raise UpdogError(f"cannot remove {path}: {err.strerror}") from err
