"""`updog verify` tells at any time whether a set still holds what was installed."""

from typing import Any

import pytest

from tests.helpers.machine import Machine


def damage(machine: Machine, name: str, role: str, *, at: int) -> None:
    """Change one byte of a partition."""
    sets = machine.signpost("status", "--json").succeeded().json()["sets"]
    with machine.disk.open("r+b") as disk:
        disk.seek(sets[name][role]["offset_bytes"] + at)
        old = disk.read(1)
        disk.seek(-1, 1)
        disk.write(bytes([old[0] ^ 1]))


def findings(machine: Machine, *arguments: str, code: int = 0) -> Any:
    run = machine.updog("verify", "--json", *arguments)
    assert run.code == code, run.stderr
    return run.json()


def test_a_machine_as_it_came_is_compared_with_its_hash_tree(machine: Machine) -> None:
    found = findings(machine)
    assert list(found) == ["A"]
    assert found["A"]["root"]["fault"] is None
    assert found["A"]["root"]["proof"].startswith("its hash tree, root digest ")
    assert found["A"]["boot"] == {"fault": None, "proof": None}
    assert "A  boot   unknown" in machine.updog("verify").succeeded().stdout


def test_what_was_installed_is_verified_before_and_after_the_reboot(machine: Machine) -> None:
    machine.updog("update", "--now").succeeded()
    for name in ("A", "B"):
        assert all(each["fault"] is None for each in findings(machine)[name].values())
    machine.reboot()
    found = findings(machine, "--set", "B")
    assert list(found) == ["B"]
    assert all(each["proof"] and each["fault"] is None for each in found["B"].values())


@pytest.mark.parametrize("role", ["hash", "root", "boot"])
def test_a_damaged_partition_of_the_other_set_is_named(machine: Machine, role: str) -> None:
    machine.updog("update", "--now").succeeded()
    damage(machine, "B", role, at=4096 * 3 + 5)
    before = machine.disk_digest()
    found = findings(machine, code=1)
    assert found["B"][role]["fault"] is not None
    assert found["A"]["root"]["fault"] is None
    assert machine.disk_digest() == before
    line = machine.updog("verify").failed()
    assert line.startswith("updog: set B: not what was installed; the set that runs is in order")


def test_the_first_wrong_block_is_named(machine: Machine) -> None:
    machine.updog("update", "--now").succeeded()
    for block in (7, 3, 300):
        damage(machine, "B", "root", at=4096 * block)
    fault = findings(machine, "--set", "B", code=1)["B"]["root"]["fault"]
    assert fault == "block 3 (byte 12288) is not the one that its hash tree vouches for"


def test_damage_to_the_running_set_is_told_with_what_not_to_do(machine: Machine) -> None:
    damage(machine, "A", "root", at=0)
    line = machine.updog("verify").failed()
    assert "The running set is damaged: do not restart the machine before" in line


def test_a_set_that_was_never_written_is_verified_only_on_request(machine: Machine) -> None:
    assert "B" not in findings(machine)
    found = findings(machine, "--set", "B", code=1)
    assert "no dm-verity superblock" in found["B"]["root"]["fault"]


def test_a_cleared_set_is_not_held_to_what_was_noted_of_it(machine: Machine) -> None:
    machine.updog("update", "--now").succeeded()
    machine.signpost("cancel-upgrade").succeeded()
    machine.signpost("clear-inactive").succeeded()
    assert findings(machine, "--set", "B")["B"]["boot"] == {"fault": None, "proof": None}
