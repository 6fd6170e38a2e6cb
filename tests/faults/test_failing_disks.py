"""A disk that fails in the middle of an update: what is told is true, and the next run mends it."""

from typing import Any

import pytest

from tests.helpers.fault_device import FaultDevice
from tests.helpers.machine import Machine

pytestmark = [pytest.mark.faults]

ROLES = ("hash", "root", "boot")
NEVER_BOOTS = (0, 0, False)
FACTORY = (1, 0, True)


def fault_in(machine: Machine, role: str, op: str, **what: Any) -> dict[str, Any]:
    """Return a fault that concerns one partition of the inactive set."""
    sets = machine.signpost("status", "--json").succeeded().json()["sets"]
    partition = sets["B"][role]
    first = partition["offset_bytes"]
    return {"op": op, "first": first, "end": first + partition["length_bytes"], **what}


def stops_and_recovers(machine: Machine, device: FaultDevice, *faults: dict[str, Any]) -> str:
    """Let an update fail, check what it leaves, and let the next one succeed."""
    running = machine.set_digest("A")
    device.set_faults(*faults)
    line = machine.updog("update", "--now").failed()
    device.set_faults()
    assert machine.flags() == {"A": FACTORY, "B": NEVER_BOOTS}
    assert machine.set_digest("A") == running
    machine.updog("update", "--now", "--reboot").succeeded()
    assert machine.status()["running"]["version"] == "1.1.0"
    assert machine.set_digest("A") == running
    return line


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("error", ["EIO", "ENOSPC"])
def test_a_partition_that_cannot_be_written(
    machine: Machine, device: FaultDevice, role: str, error: str
) -> None:
    line = stops_and_recovers(machine, device, fault_in(machine, role, "pwrite", errno=error))
    assert "update to 1.1.0 stopped: cannot " in line
    assert "Set B is cleared and will not boot; set A is untouched" in line


@pytest.mark.parametrize("role", ROLES)
def test_a_partition_that_cannot_be_read_back(
    machine: Machine, device: FaultDevice, role: str
) -> None:
    line = stops_and_recovers(machine, device, fault_in(machine, role, "pread", errno="EIO"))
    assert "update to 1.1.0 stopped: cannot read " in line


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("at", [0, 4096 * 5 + 77])
def test_a_partition_that_gives_back_other_bytes(
    machine: Machine, device: FaultDevice, role: str, at: int
) -> None:
    fault = fault_in(machine, role, "pread", flip=True)
    fault["first"] += at
    fault["end"] = fault["first"] + 1
    line = stops_and_recovers(machine, device, fault)
    assert "the medium may be failing" in line
    if role == "root":
        assert f"block {at // 4096} of the root partition" in line


def test_a_table_that_cannot_be_written_stops_before_anything_is_fetched(
    machine: Machine, device: FaultDevice
) -> None:
    table = {"op": "pwrite", "first": 0, "end": 1 << 20, "errno": "EIO"}
    backup = {"op": "pwrite", "first": (256 - 1) << 20, "errno": "EIO"}
    line = stops_and_recovers(machine, device, table, backup)
    assert "Input/output error" in line


def test_a_disk_that_vanishes_under_an_update(machine: Machine, device: FaultDevice) -> None:
    running = machine.set_digest("A")
    path = f"/targets/{next(machine.repository.glob('targets/*1.1.0*root.ext4*')).name}"

    def serve_then_vanish(handler: Any, body: bytes) -> None:
        device.vanish()
        handler.serve(body)

    machine.server.misbehave(path, lambda handler, body: handler.serve(body), serve_then_vanish)
    line = machine.updog("update", "--now").failed()
    assert "update to 1.1.0 stopped: cannot " in line
    machine.disk.unlink()
    (machine.directory / "content.img").rename(machine.disk)
    assert machine.flags() == {"A": FACTORY, "B": NEVER_BOOTS}
    assert machine.set_digest("A") == running
    machine.updog("update", "--now", "--reboot").succeeded()
    assert machine.status()["running"]["version"] == "1.1.0"
