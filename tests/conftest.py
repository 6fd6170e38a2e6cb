"""The template of all machines. What cannot run here is skipped, and said at the end of the run."""

import os
import signal
from collections import Counter
from functools import cache
from pathlib import Path

import pytest

from tests.boot.place import why_no_machines
from tests.helpers.fault_device import why_no_fault_devices
from tests.helpers.loop_device import why_no_loop_devices
from tests.helpers.machine import create_template


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make, once a worker, the machine that tests copy."""
    return create_template(tmp_path_factory.mktemp("template") / "playground")


# A shell starts what runs in its background with SIGINT ignored, and that is inherited: Ctrl-C
# would go unnoticed by the commands that are tested. A handler of our own is not inherited.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@cache
def _why_not(marker: str) -> str | None:
    """Say why tests of a marker cannot run here, or None if they can."""
    match marker:
        case "root":
            return None if os.geteuid() == 0 else "NEEDS ROOT: run the tests as root"
        case "loop":
            obstacle = why_no_loop_devices()
            return f"NEEDS LOOP DEVICES: {obstacle}" if obstacle else None
        case "faults":
            obstacle = why_no_fault_devices()
            return f"NEEDS DEVICES THAT FAIL ON DEMAND: {obstacle}" if obstacle else None
        case "qemu":
            if "BOOT_TEST" not in os.environ:
                return "STARTS VIRTUAL MACHINES: run `make boot-test` or `make boot-test-full`"
            obstacle = why_no_machines()
            return f"NEEDS VIRTUAL MACHINES: {obstacle}" if obstacle else None
        case _:
            return None


def pytest_runtest_setup(item: pytest.Item) -> None:
    for marker in item.iter_markers():
        if reason := _why_not(marker.name):
            pytest.skip(reason)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """List each reason for leaving tests out once, with how many tests it cost."""
    skipped = terminalreporter.stats.get("skipped", [])
    reasons = Counter(_reason(report) for report in skipped)
    terminalreporter.section("left out on this machine")
    for reason, count in sorted(reasons.items()):
        terminalreporter.line(f"{count} {'test' if count == 1 else 'tests'}: {reason}")
    if not reasons:
        terminalreporter.line("nothing was left out")


def _reason(report: pytest.TestReport | pytest.CollectReport) -> str:
    match report.longrepr:
        case (_path, _line, str(reason)):
            return reason.removeprefix("Skipped: ")
        case _:
            return str(report.longrepr)
