"""What a user reads when something is wrong, and that nothing was written that the text denies."""

import fcntl
import json
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from repo_tools.keys import KeyDirectory
from repo_tools.repository import publishing
from tests.helpers.disk_tools import disk_tool
from tests.helpers.http_server import Handler, cut, status
from tests.helpers.machine import Machine


def target_named(machine: Machine, part: str) -> Path:
    """Return the file of a target of 1.1.0."""
    return next((machine.repository / "targets").glob(f"*1.1.0*{part}*"))


def untouched(machine: Machine, *arguments: str, code: int = 1) -> str:
    """Run updog, check that the disk did not change, and return the error line."""
    before = machine.disk_digest()
    line = machine.updog(*arguments).failed(code=code)
    assert machine.disk_digest() == before
    return line


def test_a_missing_config_is_named_with_the_ways_to_name_another(machine: Machine) -> None:
    line = untouched(machine, "update", "--config", "/nowhere/updog.toml")
    assert line == (
        "updog: cannot read configuration /nowhere/updog.toml: No such file or directory; "
        "give --config or UPDOG_CONFIG"
    )


@pytest.mark.root
@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("updog.toml", "the configuration"),
        ("root.json", "the trusted root"),
        ("metadata", "the metadata cache"),
        ("state/history.jsonl", "the state directory"),
        ("run/active-set", "the name of the running set"),
        (".", "the configuration"),
    ],
)
def test_what_others_could_change_is_refused_as_root(
    machine: Machine, name: str, what: str
) -> None:
    machine.updog("check-update").succeeded()
    (machine.directory / name).chmod(0o777)
    line = untouched(machine, "update", "--now")
    assert line.startswith(f"updog: refused to use {what} ")
    assert "run `chmod go-w " in line
    assert line.endswith("; nothing was changed")


@pytest.mark.root
def test_a_reboot_command_that_others_could_change_is_refused_as_root(machine: Machine) -> None:
    program = machine.directory / "reboot"
    program.write_text("#!/bin/sh\ntouch rebooted\n")
    program.chmod(0o777)
    text = machine.config.read_text()
    machine.config.write_text(f'{text[: text.index("command = ")]}command = ["{program}"]\n')
    line = machine.updog("update", "--now", "--reboot").failed()
    assert line.startswith("updog: refused to use the reboot command ")
    assert "boots next; reboot to enter it" in line
    assert not (machine.directory / "rebooted").exists()


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("seed = ", "Invalid value"),
        ("seed = 5000\n", "metadata_base_url is missing"),
        ('sead = 5\nmetadata_base_url = "x"\n', "unknown setting 'sead'; did you mean seed?"),
    ],
)
def test_a_broken_config_is_named_with_the_setting(machine: Machine, text: str, part: str) -> None:
    machine.config.write_text(text)
    line = untouched(machine, "update")
    assert line.startswith(f"updog: configuration {machine.config}: ")
    assert part in line


def test_a_seed_out_of_range_is_refused(machine: Machine) -> None:
    machine.configure("seed = 1311", "seed = 2048")
    assert "seed is 2048; it must be from 0 to 2047" in untouched(machine, "update")


def test_an_unreachable_server_is_named_with_the_reason(machine: Machine) -> None:
    machine.configure(machine.server.url, "http://127.0.0.1:9")
    line = untouched(machine, "update")
    assert "cannot fetch http://127.0.0.1:9/metadata/" in line
    assert "refused" in line
    assert line.count("nothing was changed") == 1


def test_a_bad_signature_is_refused(machine: Machine) -> None:
    timestamp = machine.repository / "metadata" / "timestamp.json"
    text = timestamp.read_text()
    at = text.index('"sig"') + 10
    flipped = "0" if text[at] != "0" else "1"
    timestamp.write_text(text[:at] + flipped + text[at + 1 :])
    line = untouched(machine, "update")
    assert "cannot trust the metadata" in line
    assert "timestamp" in line


def test_an_expired_timestamp_is_refused(machine: Machine) -> None:
    past = datetime.now(UTC) - timedelta(days=30)
    keys = KeyDirectory(path=machine.directory / "keys")
    with publishing(machine.repository, keys, now=past) as publication:
        publication.add_bytes("note.txt", b"an old publish")
    line = untouched(machine, "update")
    assert "expired" in line
    assert "timestamp" in line


def test_an_image_that_does_not_fit_is_refused_before_anything_is_cleared(
    machine: Machine,
) -> None:
    shrink_root_b(machine)
    line = untouched(machine, "update", "--now")
    assert "cannot write the root image" in line
    assert "the partition holds 10485760 bytes, the image needs" in line
    assert "both sets are untouched" in line


def shrink_root_b(machine: Machine) -> None:
    root = machine.signpost("status", "--json").json()["sets"]["B"]["root"]
    first = root["offset_bytes"] // 512
    disk_tool(
        "sgdisk",
        *("-d", "9", "-a", "1", "-n", f"9:{first}:{first + 20479}"),
        *("-t", "9:5526016a-1a97-4ea4-b39a-b7c8c6ca4502", str(machine.disk)),
    )


def test_a_disk_without_the_expected_partitions_is_refused(machine: Machine) -> None:
    disk_tool("sgdisk", "-d", "10", str(machine.disk))
    line = untouched(machine, "update")
    assert "set B has no HASH partition" in line
    assert "its BOOT is partition 8" in line


def test_a_file_that_is_no_gpt_is_refused(machine: Machine) -> None:
    machine.disk.write_bytes(bytes(1 << 20))
    line = untouched(machine, "update")
    assert str(machine.disk) in line
    assert "no valid GUID partition table" in line
    assert "no header at LBA 1" in line


def test_a_missing_disk_is_refused(machine: Machine) -> None:
    machine.disk.unlink()
    line = machine.updog("update").failed()
    assert line == (
        f"updog: cannot open disk {machine.disk}: No such file or directory; nothing was changed"
    )
    assert not machine.disk.exists()


def test_a_tampered_image_leaves_the_inactive_set_cleared_and_says_so(machine: Machine) -> None:
    target = target_named(machine, "root.ext4")
    content = bytearray(target.read_bytes())
    content[len(content) // 2] ^= 1
    target.write_bytes(content)
    before = machine.set_digest("A")
    line = machine.updog("update", "--now").failed()
    assert "update to 1.1.0 stopped" in line
    assert "Set B is cleared and will not boot; set A is untouched" in line
    assert machine.flags() == {"A": (1, 0, True), "B": (0, 0, False)}
    assert machine.set_digest("A") == before


def test_a_failed_update_succeeds_when_it_is_run_again(machine: Machine) -> None:
    target = target_named(machine, "boot")
    content = target.read_bytes()
    target.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    machine.updog("update", "--now").failed()
    target.write_bytes(content)
    machine.updog("update", "--now", "--reboot").succeeded()
    assert machine.status()["running"]["version"] == "1.1.0"


def test_a_download_that_breaks_is_continued(machine: Machine) -> None:
    path = f"/targets/{target_named(machine, 'root.ext4').name}"
    machine.server.misbehave(path, cut(after_bytes=1 << 20), status(503), cut(after_bytes=1 << 20))
    machine.updog("update", "--now").succeeded()
    ranges = [request.headers.get("Range") for request in machine.server.asked_for(path)]
    assert ranges[0] is None
    assert ranges[-1] is not None


def test_a_second_run_exits_at_once_and_names_the_first(machine: Machine) -> None:
    lock = machine.directory / "state" / "lock"
    lock.parent.mkdir(exist_ok=True)
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.write("4711\n")
        file.flush()
        line = untouched(machine, "update", code=4)
    assert line == "updog: process 4711 is at work already; nothing was changed"


def test_a_wrong_flag_is_a_usage_error(machine: Machine) -> None:
    run = machine.updog("update", "--rebot")
    assert run.code == 2
    assert "No such option '--rebot'" in run.stderr
    assert "--reboot" in run.stderr


def test_apply_without_anything_installed_says_what_to_do(machine: Machine) -> None:
    line = untouched(machine, "update-apply")
    assert "holds no update that updog has installed" in line
    assert "updog update-image" in line


def test_revert_without_a_pending_update_says_so(machine: Machine) -> None:
    assert "no update is pending: the next boot takes set A" in untouched(machine, "update-revert")


def test_an_unwritable_state_directory_is_named(machine: Machine) -> None:
    shutil.rmtree(machine.directory / "state")
    (machine.directory / "state").write_text("in the way")
    line = untouched(machine, "update")
    assert str(machine.directory / "state") in line


def test_a_failing_reboot_command_is_said_after_the_update_is_applied(machine: Machine) -> None:
    text = machine.config.read_text()
    at = text.index("command = ")
    machine.config.write_text(text[:at] + 'command = ["/bin/false"]\n')
    line = machine.updog("update", "--now", "--reboot").failed()
    assert line == (
        "updog: the reboot command /bin/false failed: exit 1; 1.1.0 is active in set B and boots "
        "next; reboot to enter it, or `updog update-revert`"
    )
    assert machine.flags()["B"] == (2, 1, False)


def test_a_history_that_cannot_take_the_installation_loses_none_of_the_work(
    machine: Machine,
) -> None:
    history = machine.directory / "state" / "history.jsonl"
    kept = history.with_name("kept")

    def fill_the_disk(handler: Handler, body: bytes) -> None:
        history.rename(kept)
        history.symlink_to("/dev/full")
        handler.serve(body)

    boot = f"/targets/{target_named(machine, 'boot').name}"
    # Its beginning is asked for before anything is cleared, all of it as the last image.
    machine.server.misbehave(boot, Handler.serve, fill_the_disk)
    line = machine.updog("update", "--now").failed()
    assert "No space left on device. 1.1.0 stands in set B, marked valid but not activated" in line
    assert "run the command again to go on" in line
    history.unlink()
    kept.rename(history)
    machine.server.requests.clear()
    run = machine.updog("update", "--now").succeeded()
    assert "stands in set B already" in run.stderr
    assert machine.server.asked_for(boot) == []
    assert machine.status()["inactive"]["state"] == "pending"
    machine.updog("verify").succeeded()


def test_an_other_set_that_a_killed_run_had_not_cleared_yet_keeps_its_name(
    machine: Machine,
) -> None:
    machine.updog("update", "--now", "--reboot").succeeded()
    machine.updog("check-update")
    with (machine.directory / "state" / "history.jsonl").open("a") as history:
        event = {"time": "2026-11-21T12:00:00+00:00", "event": "started", "version": "1.2.0"}
        history.write(json.dumps(event | {"set": "A", "running": "1.1.0"}) + "\n")
    inactive = machine.status()["inactive"]
    assert (inactive["state"], inactive["version"]) == ("healthy", "1.0.0")


def test_an_update_waits_for_the_trial_of_what_runs_to_end(machine: Machine) -> None:
    machine.updog("update", "--now", "--reboot").succeeded()
    machine.playground("max-version", "1.2.0").succeeded()
    machine.updog("update", "--now", "--reboot").succeeded()
    machine.playground("release", "1.2.1").succeeded()
    check = machine.updog("check-update", "--json", "--ignore-waves")
    assert check.code == 3
    assert check.json()["reason"] == "on trial"
    assert "1.2.0, which runs, is on trial; 1.2.1 waits" in check.stderr


def test_a_fallback_is_told_from_an_update_that_boots_next(machine: Machine) -> None:
    machine.updog("update", "--now", "--reboot").succeeded()
    machine.playground("max-version", "1.2.0").succeeded()
    machine.updog("update", "--now", "--reboot").succeeded()
    line = machine.updog("update-apply").failed()
    assert "what runs is on trial, and the next boot returns to 1.1.0 in set B" in line
    assert "update-revert" not in line
