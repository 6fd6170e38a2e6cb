"""The shipped units: systemd takes them, they run commands that exist, and see no more than needed.

The order in which they start is checked by `scripts/deb-test`, in a system that has all of them.
"""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.helpers.machine import BIN

UNITS = Path(__file__).parents[2] / "systemd"
NAMES = sorted(path.name for path in UNITS.glob("*.*") if path.is_file())
MARK = UNITS / "signpost-mark-successful-boot.service"
DEADLINE = UNITS / "updog-trial-deadline.service"

needs_systemd = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="NEEDS SYSTEMD-ANALYZE: install systemd"
)


def commands(unit: str) -> list[list[str]]:
    text = (UNITS / unit).read_text()
    found = re.findall(r"^ExecStart=/usr/bin/(\S+.*)$", text, re.MULTILINE)
    return [line.split() for line in found]


def shell_line(unit: Path, setting: str) -> str:
    """Return the one shell command of a unit as systemd would hand it to the shell."""
    (line,) = re.findall(rf"^{setting}=-?/bin/sh -c '(.*)'$", unit.read_text(), re.MULTILINE)
    assert isinstance(line, str)
    return line


@pytest.mark.parametrize("unit", [name for name in NAMES if name.endswith(".service")])
def test_a_unit_runs_a_command_that_is_installed(unit: str) -> None:
    for program, *arguments in commands(unit):
        done = subprocess.run([BIN / program, *arguments, "--help"], check=False)
        assert done.returncode == 0
    assert commands(unit)


@needs_systemd
@pytest.mark.parametrize("unit", NAMES)
def test_systemd_takes_a_unit_as_it_is(unit: str) -> None:
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", UNITS / unit],
        check=False,
        capture_output=True,
        text=True,
    )
    own = [line for line in done.stderr.splitlines() if "updog" in line or "signpost" in line]
    assert [line for line in own if not line.endswith("No such file or directory")] == []


@needs_systemd
@pytest.mark.parametrize(
    ("unit", "most"),
    [
        ("signpost-mark-successful-boot.service", 1.2),
        ("updog.service", 2.3),
        ("updog-trial-deadline.service", 3.0),
    ],
)
def test_a_unit_is_not_exposed_more_than_it_was(unit: str, most: float) -> None:
    done = subprocess.run(
        ["systemd-analyze", "security", "--no-pager", "--offline=true", UNITS / unit],
        check=False,
        capture_output=True,
        text=True,
    )
    score = re.search(r"Overall exposure level for \S+: ([\d.]+)", done.stdout)
    assert score is not None, done.stderr
    assert float(score[1]) <= most


@pytest.fixture
def systems(tmp_path: Path) -> Path:
    """Make a place with the os-release of a system, and a systemctl that leaves a mark."""
    for directory in ("etc", "state", "bin"):
        (tmp_path / directory).mkdir()
    (tmp_path / "etc/os-release").write_text("VERSION_ID=1.1.0\n")
    (tmp_path / "bin/systemctl").write_text(f'#!/bin/sh\necho "$*" > {tmp_path}/restarted\n')
    (tmp_path / "bin/systemctl").chmod(0o755)
    return tmp_path


def mark(systems: Path) -> None:
    line = shell_line(MARK, "ExecStart").replace("/etc/", f"{systems}/etc/")
    environment = {"STATE_DIRECTORY": str(systems / "state"), "PATH": "/usr/bin:/bin"}
    subprocess.run(["/bin/sh", "-c", line], check=True, env=environment)


def is_restarted_after(systems: Path, result: str) -> bool:
    (systems / "restarted").unlink(missing_ok=True)
    line = shell_line(DEADLINE, "ExecStopPost")
    line = line.replace("/etc/", f"{systems}/etc/").replace("/var/lib/updog", f"{systems}/state")
    environment = {"SERVICE_RESULT": result, "PATH": f"{systems}/bin:/usr/bin:/bin"}
    subprocess.run(["/bin/sh", "-c", line], check=True, env=environment)
    return (systems / "restarted").exists()


class TestWhereUpdogDoesNotStart:
    def test_a_system_that_was_never_marked_is_left_after_one_that_was(self, systems: Path) -> None:
        mark(systems)
        (systems / "etc/os-release").write_text("VERSION_ID=1.2.0\n")
        assert is_restarted_after(systems, "exit-code")
        assert (systems / "restarted").read_text() == "reboot\n"

    def test_a_system_that_was_marked_goes_on(self, systems: Path) -> None:
        mark(systems)
        assert not is_restarted_after(systems, "exit-code")

    def test_a_machine_on_which_nothing_was_ever_marked_goes_on(self, systems: Path) -> None:
        assert not is_restarted_after(systems, "exit-code")

    def test_what_updog_has_decided_counts(self, systems: Path) -> None:
        mark(systems)
        (systems / "etc/os-release").write_text("VERSION_ID=1.2.0\n")
        assert not is_restarted_after(systems, "success")

    def test_it_is_ended_once_for_it_may_be_no_trial_but_the_only_system(
        self, systems: Path
    ) -> None:
        mark(systems)
        (systems / "etc/os-release").write_text("VERSION_ID=1.0.0\n")
        assert is_restarted_after(systems, "exit-code")
        assert not is_restarted_after(systems, "exit-code")
        mark(systems)
        (systems / "etc/os-release").write_text("VERSION_ID=1.2.0\n")
        assert is_restarted_after(systems, "exit-code")

    def test_after_another_system_was_marked_it_is_ended_anew(self, systems: Path) -> None:
        mark(systems)
        (systems / "etc/os-release").write_text("VERSION_ID=1.2.0\n")
        assert is_restarted_after(systems, "exit-code")
        (systems / "etc/os-release").write_text("VERSION_ID=1.1.0\n")
        mark(systems)
        (systems / "etc/os-release").write_text("VERSION_ID=1.2.0\n")
        assert is_restarted_after(systems, "exit-code")

    def test_where_it_cannot_be_noted_nothing_is_ended_again_and_again(self, systems: Path) -> None:
        mark(systems)
        (systems / "etc/os-release").write_text("VERSION_ID=1.2.0\n")
        (systems / "state/ended-os-release").mkdir()
        assert not is_restarted_after(systems, "exit-code")


def test_a_reboot_command_that_asks_the_kernel_itself_may_do_so() -> None:
    """As `/sbin/reboot -f` does; both of these run the command of the settings."""
    for unit in (DEADLINE, UNITS / "updog.service"):
        lines = unit.read_text().splitlines()
        assert "CapabilityBoundingSet=CAP_SYS_BOOT" in lines
        filters = [line for line in lines if line.startswith("SystemCallFilter=")]
        assert filters[-1] == "SystemCallFilter=@reboot"


def test_nothing_is_marked_before_all_services_were_started_even_without_health_checks() -> None:
    """Where the unit of the checks is not enabled, boot-complete.target is reached at once."""
    (after,) = re.findall(r"^After=(.*)$", MARK.read_text(), re.MULTILINE)
    assert {"boot-complete.target", "multi-user.target"} <= set(after.split())
