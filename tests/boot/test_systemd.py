"""Machines that run systemd and the units that are shipped."""

import pytest

from tests.boot.conftest import UNITS, Lab, boots
from tests.boot.releases import Behaviour

pytestmark = [pytest.mark.qemu, pytest.mark.slow]

needs_health_units = pytest.mark.skipif(
    not (UNITS / "updog-health-check.service").exists(),
    reason="NEEDS THE UNIT THAT RUNS HEALTH CHECKS, which is not shipped yet",
)


def test_an_update_restarts_the_machine_and_a_unit_marks_success(systemd_lab: Lab) -> None:
    release = systemd_lab.workshop.release("1.1.0")
    systemd_lab.offer(release)

    said = systemd_lab.boot("update", timeout_seconds=300)

    assert boots(said) == ["A 1.0.0", "B 1.1.0"]
    assert systemd_lab.judge.flags() == {"A": "1/0/1", "B": "2/0/1"}
    assert systemd_lab.judge.holds("B", release)


@needs_health_units
def test_a_failing_check_ends_the_trial_and_its_output_is_remembered(systemd_lab: Lab) -> None:
    systemd_lab.install(systemd_lab.workshop.release("1.1.0", Behaviour.HEALTH_FAILS))

    said = systemd_lab.boot("stay", timeout_seconds=300)

    assert boots(said) == ["B 1.1.0", "A 1.0.0"]
    assert systemd_lab.judge.flags() == {"A": "1/0/1", "B": "2/0/0"}
    remembered = [line for line in said.text.splitlines() if "rolled back  1.1.0  set B" in line]
    assert "20-special.sh" in remembered[0]
    assert "no route to 192.0.2.1" in remembered[0]


@needs_health_units
def test_a_check_that_hangs_is_ended_by_the_deadline_of_the_trial(systemd_lab: Lab) -> None:
    systemd_lab.install(systemd_lab.workshop.release("1.1.0", Behaviour.HEALTH_HANGS))

    said = systemd_lab.boot("stay", timeout_seconds=300)

    assert boots(said) == ["B 1.1.0", "A 1.0.0"]
    assert systemd_lab.judge.flags() == {"A": "1/0/1", "B": "2/0/0"}
