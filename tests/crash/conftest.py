"""Counting the crash states that a run visits, and saying the number at its end."""

import os
from collections.abc import Callable
from typing import Any

import pytest

from tests.crash.explorer import CrashState


@pytest.fixture
def count_states(record_property: Callable[[str, Any], None]) -> Callable[[int], None]:
    """Return a function that counts visited crash states."""

    def count(states: int) -> None:
        record_property("crash_states", states)

    return count


@pytest.fixture
def report(record_property: Callable[[str, Any], None]) -> Callable[[str], None]:
    """Return a function that has a line printed at the end of the run, by whichever worker."""

    def tell(line: str) -> None:
        record_property("crash_report", line)

    return tell


SAMPLE = 16


@pytest.fixture
def sampled() -> Callable[[list[CrashState]], list[CrashState]]:
    """Return what picks crash states for slow work: each (`make explore`), or a sample."""

    def pick(states: list[CrashState]) -> list[CrashState]:
        if os.environ.get("EXPLORE") == "all":
            return states
        return states[:: -max(1, len(states) // SAMPLE)]

    return pick


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Print how many crash states were visited, and what tests reported of them."""
    found = [
        each
        for outcome in ("passed", "failed")
        for report in terminalreporter.stats.get(outcome, [])
        for each in report.user_properties
    ]
    for name, line in found:
        if name == "crash_report":
            terminalreporter.write_line(line)
    total = sum(value for name, value in found if name == "crash_states")
    if total:
        terminalreporter.write_line(f"crash states visited: {total}")
