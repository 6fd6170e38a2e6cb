"""The story of every update in a real machine: what `make boot-test` runs each time."""

import pytest

from tests.boot.conftest import Lab, boots, chosen
from tests.boot.disks import corrupt_file
from tests.boot.releases import Behaviour

pytestmark = [pytest.mark.qemu, pytest.mark.slow]


def test_an_update_over_the_network_boots_passes_its_checks_and_is_marked(lab: Lab) -> None:
    release = lab.workshop.release("1.1.0")
    lab.offer(release)

    said = lab.boot("update")

    assert boots(said) == ["A 1.0.0", "B 1.1.0"]
    assert len(said.lines("MARK successful")) == 2
    assert lab.judge.flags() == {"A": "1/0/1", "B": "2/0/1"}
    assert lab.judge.holds("B", release)


def test_a_root_that_was_corrupted_panics_and_the_machine_comes_back_and_remembers(
    lab: Lab,
) -> None:
    lab.install(lab.workshop.release("1.1.0"))
    assert lab.judge.flags() == {"A": "1/0/1", "B": "2/1/0"}
    corrupt_file(lab.disk, lab.judge.partitions("B")[1], "/usr/bin/busybox")

    said = lab.boot("update")

    assert "dm-verity device corrupted" in said.text
    assert chosen(said) == ["B", "A"]
    assert boots(said) == ["A 1.0.0"]
    assert lab.judge.flags() == {"A": "1/0/1", "B": "2/0/0"}
    assert "rolled back  1.1.0  set B" in said.text
    assert "No update: 1.1.0 was tried here and rolled back" in said.text


def test_a_failing_health_check_brings_the_old_system_back(lab: Lab) -> None:
    lab.install(lab.workshop.release("1.1.0", Behaviour.HEALTH_FAILS))

    said = lab.boot("stay")

    assert boots(said) == ["B 1.1.0", "A 1.0.0"]
    assert "MARK health 20-special.sh failed" in said.text
    assert lab.judge.flags() == {"A": "1/0/1", "B": "2/0/0"}
    assert "rolled back  1.1.0  set B" in said.text


def test_a_power_cut_while_stage_1_spends_the_try_leaves_a_machine_that_boots(lab: Lab) -> None:
    lab.install(lab.workshop.release("1.1.0"))

    with lab.machine("stay") as machine:
        lab.cut_when_written(machine, lab.judge.backup_entries())

    # The try may be spent or not by then; either way a whole system is next.
    assert lab.judge.next() in {"A", "B"}
    assert boots(lab.boot("stay")) in (["B 1.1.0"], ["A 1.0.0"])
    lab.judge.table()
