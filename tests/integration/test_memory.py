"""What a machine remembers, also when it was cut off while it noted something down."""

import json
import signal
import subprocess
import time

import pytest

from tests.helpers.disk_tools import disk_tool
from tests.helpers.http_server import Handler, drip
from tests.helpers.machine import BIN, Machine


def history(machine: Machine) -> list[str]:
    return [event["event"] for event in machine.updog("history", "--json").succeeded().json()]


def lines(machine: Machine) -> list[str]:
    return (machine.directory / "state" / "history.jsonl").read_text().splitlines(keepends=True)


def write_lines(machine: Machine, kept: list[str]) -> None:
    (machine.directory / "state" / "history.jsonl").write_text("".join(kept))


def test_clearing_the_set_after_a_rollback_does_not_lift_the_quarantine(machine: Machine) -> None:
    try_1_2_0(machine)
    machine.reboot()
    machine.signpost("clear-inactive").succeeded()
    assert refused_1_2_0(machine)
    assert "rolled back" in history(machine)


def test_an_upgrade_that_was_cancelled_and_cleared_in_the_same_boot_is_no_rollback(
    machine: Machine,
) -> None:
    machine.updog("update", "--now").succeeded()
    machine.signpost("cancel-upgrade").succeeded()
    machine.signpost("clear-inactive").succeeded()
    assert machine.updog("check-update").succeeded().stdout == "playground 1.1.0\n"
    assert "reverted" in history(machine)


def test_a_rollback_by_hand_is_noticed_and_a_quarantine(machine: Machine) -> None:
    machine.updog("update", "--now", "--reboot").succeeded()
    machine.signpost("rollback-to-inactive").succeeded()
    machine.reboot()
    table = machine.updog("history").succeeded().stdout.splitlines()
    assert [line[18:31].strip() for line in table[-3:]] == ["booted", "marked", "rolled back"]
    assert table[-1].endswith("rolled back  1.1.0  set B  by hand; 1.0.0 runs again")
    check = machine.updog("check-update")
    assert (check.code, "was left by hand" in check.stderr) == (3, True)
    assert history(machine).count("rolled back") == 1


def test_an_hourly_check_does_not_fill_the_history(machine: Machine) -> None:
    for _ in range(3):
        machine.updog("check-update").succeeded()
    assert history(machine) == ["checked"]
    table = machine.updog("history").succeeded().stdout
    assert table.endswith("checked      1.0.0  set A  found 1.1.0\n")
    assert "  checked " in machine.updog("status").succeeded().stdout


def test_a_check_that_failed_is_told(machine: Machine) -> None:
    (machine.repository / "metadata" / "timestamp.json").unlink()
    machine.updog("check-update").failed()
    assert "last check failed" in machine.updog("status").succeeded().stdout
    (event,) = machine.updog("history", "--json").succeeded().json()
    assert (event["event"], event["outcome"]) == ("checked", "failed")
    assert "timestamp" in event["error"]


def test_only_the_last_events_are_told_on_request(machine: Machine) -> None:
    machine.updog("update", "--now").succeeded()
    (event,) = machine.updog("history", "--last", "1", "--json").succeeded().json()
    assert event["event"] == "activated"


def test_the_history_can_be_read_where_the_disk_cannot(machine: Machine) -> None:
    machine.updog("update", "--now").succeeded()
    machine.disk.write_bytes(b"")
    assert history(machine)[-1] == "activated"


def path_of(machine: Machine, part: str) -> str:
    target = next((machine.repository / "targets").glob(f"*1.1.0*{part}*"))
    return f"/targets/{target.name}"


def try_1_2_0(machine: Machine) -> None:
    machine.playground("max-version", "1.2.0").succeeded()
    machine.updog("update", "--now", "--reboot").succeeded()
    assert machine.status()["running"]["version"] == "1.2.0"


def refused_1_2_0(machine: Machine) -> bool:
    return "1.2.0" not in machine.updog("check-update", "--ignore-waves").stdout


def test_a_command_during_the_trial_does_not_take_it_for_a_success(machine: Machine) -> None:
    """A timer fires in the failing system too: it must not vouch for it."""
    try_1_2_0(machine)
    machine.updog("check-update")
    machine.updog("explain")
    machine.reboot()
    assert refused_1_2_0(machine)
    assert "marked" not in history(machine)
    assert "rolled back" in history(machine)


def test_a_rollback_is_noticed_though_a_cut_swallowed_the_activation(machine: Machine) -> None:
    machine.playground("max-version", "1.2.0").succeeded()
    machine.updog("update", "--now").succeeded()
    assert json.loads(lines(machine)[-1])["event"] == "activated"
    write_lines(machine, lines(machine)[:-1])
    machine.reboot()
    machine.reboot()
    assert refused_1_2_0(machine)


def test_an_activation_by_signpost_is_noticed_too(machine: Machine) -> None:
    machine.playground("max-version", "1.2.0").succeeded()
    machine.updog("update-image", "--now").succeeded()
    machine.signpost("upgrade-to-inactive").succeeded()
    machine.reboot()
    machine.reboot()
    assert refused_1_2_0(machine)


def kill_during_root(machine: Machine) -> None:
    """Kill an update in the middle of its root image."""
    path = path_of(machine, "root.ext4")
    asked = len(machine.server.asked_for(path))
    # The first request is the one that makes sure that the image is there.
    machine.server.misbehave(path, Handler.serve, drip(pause_seconds=0.05))
    with subprocess.Popen(
        [str(BIN / "updog"), "update", "--now"],
        env=machine.full_environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        deadline = time.monotonic() + 20
        while len(machine.server.asked_for(path)) < asked + 2:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)


def test_a_half_written_set_is_never_activated_by_updog(machine: Machine) -> None:
    machine.updog("update-image", "--now").succeeded()
    machine.signpost("clear-inactive").succeeded()
    kill_during_root(machine)
    machine.signpost("mark-inactive-valid").succeeded()
    assert "holds no update that updog has installed" in machine.updog("update-apply").failed()
    assert machine.flags()["B"] == (0, 1, False)


def test_an_update_after_a_kill_converges(machine: Machine) -> None:
    kill_during_root(machine)
    assert machine.flags() == {"A": (1, 0, True), "B": (0, 0, False)}
    machine.updog("update", "--now", "--reboot").succeeded()
    assert machine.status()["running"]["version"] == "1.1.0"


@pytest.mark.parametrize("command", ["update", "update-image"])
def test_what_is_staged_already_is_not_fetched_again(machine: Machine, command: str) -> None:
    machine.updog(command, "--now").succeeded()
    before = machine.disk_digest()
    asked = len(machine.server.asked_for(path_of(machine, "root.ext4")))
    machine.updog(command, "--now").succeeded()
    assert len(machine.server.asked_for(path_of(machine, "root.ext4"))) == asked
    assert machine.disk_digest() == before
    assert history(machine).count("installed") == 1


def test_a_staged_set_that_has_changed_is_written_again(machine: Machine) -> None:
    machine.updog("update-image", "--now").succeeded()
    boot = machine.signpost("status", "--json").json()["sets"]["B"]["boot"]
    with machine.disk.open("r+b") as disk:
        disk.seek(boot["offset_bytes"] + 4096)
        disk.write(b"bad")
    machine.updog("update", "--now", "--reboot").succeeded()
    assert history(machine).count("installed") == 2
    assert machine.status()["running"]["version"] == "1.1.0"


def test_lines_of_the_history_that_cannot_be_read_are_told(machine: Machine) -> None:
    machine.updog("update-image", "--now").succeeded()
    write_lines(machine, ["garbage\n", "[" * 100_000 + "\n", *lines(machine)])
    told = machine.updog("check-update").succeeded().stderr
    assert "2 of 5 lines" in told
    assert "the first is 1: earlier rollbacks may be forgotten" in told


def test_a_torn_last_line_is_no_reason_to_worry(machine: Machine) -> None:
    machine.updog("update-image", "--now").succeeded()
    write_lines(machine, [*lines(machine), '{"time": "20'])
    assert "forgotten" not in machine.updog("check-update").succeeded().stderr


def test_a_missing_image_is_found_before_the_other_set_is_cleared(machine: Machine) -> None:
    machine.updog("update", "--now", "--reboot").succeeded()
    machine.playground("release", "1.3.0").succeeded()
    next((machine.repository / "targets").glob("*1.3.0*boot*")).unlink()
    before = machine.disk_digest()
    line = machine.updog("update", "--now").failed()
    assert "404" in line
    assert machine.disk_digest() == before


def test_partitions_that_move_during_an_update_are_noticed(machine: Machine) -> None:
    """Another program repartitions between the look at the table and the first write."""

    hash_b = machine.signpost("status", "--json").json()["sets"]["B"]["hash"]
    first = hash_b["offset_bytes"] // 512
    last = first + hash_b["length_bytes"] // 512 - 1

    def repartition(handler: Handler, body: bytes) -> None:
        disk_tool(
            *("sgdisk", "-d", "10", "-a", "1", "-n", f"10:{first + 8}:{last}"),
            *("-t", "10:598f10af-c955-4456-6a99-7720068a6cea", str(machine.disk)),
        )
        handler.serve(body)

    before = machine.disk.read_bytes()
    machine.server.misbehave(path_of(machine, "root.ext4"), repartition)
    line = machine.updog("update", "--now").failed()
    assert "partition 10" in line
    assert "is not where it was a moment ago" in line
    after = machine.disk.read_bytes()
    assert after[1 << 20 : -(1 << 20)] == before[1 << 20 : -(1 << 20)]
