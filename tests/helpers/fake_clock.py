"""A clock of its own for a command, by libfaketime: the environment that gives it one."""

import functools
from pathlib import Path

import pytest


def fast_clock(times: float) -> dict[str, str]:
    """Return the environment of a machine whose time runs some times as fast, timeouts too."""
    return {"LD_PRELOAD": _library(), "FAKETIME": f"+0 x{times}", "NO_FAKE_STAT": "1"}


def clock_set_by(file: Path) -> dict[str, str]:
    """Return the environment of a machine whose clock a test sets by a file, as `run_fast` does."""
    file.write_text("+0 x1")
    return {
        "LD_PRELOAD": _library(),
        "FAKETIME_TIMESTAMP_FILE": str(file),
        "FAKETIME_NO_CACHE": "1",
        "NO_FAKE_STAT": "1",
    }


def run_fast(file: Path, times: float) -> None:
    """Let the time that passes, and has passed since the start, be some times as much."""
    draft = file.with_suffix(".draft")
    draft.write_text(f"+0 x{times}")
    draft.replace(file)


def clock_moved(days: float) -> dict[str, str]:
    """Return the environment of a machine whose clock is some days off."""
    return {
        "LD_PRELOAD": _library(),
        "FAKETIME": f"{days * 86400:+.0f}",
        "NO_FAKE_STAT": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }


def _library() -> str:
    library = _find_library()
    if library is None:
        pytest.skip("libfaketime is not installed: no attack on the clock is tried")
    return library


@functools.cache
def _find_library() -> str | None:
    found = sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))
    return str(found[0]) if found else None
