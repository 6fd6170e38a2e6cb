"""A machine's life through the installed commands: updates, a failing one, and ways back."""

import json

from tests.helpers.machine import Machine

HEALTHY = (1, 0, True)
PREFERRED = (2, 0, True)


def update_to_1_1_0(machine: Machine) -> None:
    machine.updog("update", "--now", "--reboot").succeeded()
    assert machine.status()["running"]["version"] == "1.1.0"


def fail_1_2_0(machine: Machine) -> None:
    update_to_1_1_0(machine)
    machine.playground("max-version", "1.2.0").succeeded()
    machine.updog("update", "--now", "--reboot").succeeded()
    machine.reboot()


def test_check_update_prints_variant_and_version(machine: Machine) -> None:
    run = machine.updog("check-update").succeeded()
    assert run.stdout == "playground 1.1.0\n"


def test_check_update_changes_nothing_on_the_disk(machine: Machine) -> None:
    before = machine.disk_digest()
    machine.updog("check-update").succeeded()
    assert machine.disk_digest() == before


def test_whats_is_check_update(machine: Machine) -> None:
    assert machine.updog("whats").succeeded().stdout == "playground 1.1.0\n"


def test_check_update_as_json_is_the_manifest_entry(machine: Machine) -> None:
    found = machine.updog("check-update", "--json").succeeded().json()
    assert (found["variant"], found["version"]) == ("playground", "1.1.0")
    assert set(found["images"]) == {"boot", "root", "hash"}


def test_check_update_all_lists_held_back_updates_too(machine: Machine) -> None:
    run = machine.updog("check-update", "--all").succeeded()
    assert run.stdout == "playground 1.2.0\nplayground 1.1.0\n"


def test_an_update_boots_into_the_other_set_and_is_marked(machine: Machine) -> None:
    before = machine.set_digest("A")
    run = machine.updog("update", "--now", "--reboot").succeeded()
    assert run.stdout == "Applied    playground 1.1.0. Rebooting into it.\n"
    assert machine.flags() == {"A": HEALTHY, "B": PREFERRED}
    assert machine.set_digest("A") == before
    status = machine.status()
    assert status["running"]["version"] == "1.1.0"
    assert status["running"]["set"] == "B"
    assert status["inactive"] == {
        "state": "healthy",
        "version": "1.0.0",
        "set": "A",
        "flags": {"priority": 1, "tries": 0, "successful": True},
        "trouble": None,
    }


def test_an_update_without_reboot_is_pending_and_can_be_reverted(machine: Machine) -> None:
    machine.updog("update", "--now").succeeded()
    assert machine.flags() == {"A": HEALTHY, "B": (2, 1, False)}
    assert machine.status()["inactive"]["state"] == "pending"
    machine.updog("update-revert").succeeded()
    assert machine.flags() == {"A": PREFERRED, "B": (0, 1, False)}
    machine.reboot()
    assert machine.status()["running"]["version"] == "1.0.0"


def test_a_reverted_update_can_be_applied_without_a_network(machine: Machine) -> None:
    machine.updog("update", "--now").succeeded()
    machine.updog("update-revert").succeeded()
    machine.configure("http://127.0.0.1", "http://127.0.0.2")
    machine.updog("update-apply", "--reboot").succeeded()
    assert machine.status()["running"]["version"] == "1.1.0"


def test_the_halves_of_an_update_make_the_whole(machine: Machine) -> None:
    machine.updog("update-image", "--now").succeeded()
    assert machine.flags() == {"A": HEALTHY, "B": (0, 1, False)}
    assert machine.status()["inactive"]["state"] == "staged"
    machine.reboot()
    assert machine.status()["running"]["version"] == "1.0.0"
    machine.updog("update-apply").succeeded()
    machine.reboot()
    assert machine.status()["running"]["version"] == "1.1.0"


def test_prepare_checks_every_image_and_leaves_the_disk_alone(machine: Machine) -> None:
    before = machine.disk_digest()
    run = machine.updog("prepare", "--now", "--json").succeeded()
    assert run.json()["prepared"] == "1.1.0"
    assert machine.disk_digest() == before


def test_a_second_update_finds_nothing_and_says_so(machine: Machine) -> None:
    update_to_1_1_0(machine)
    run = machine.updog("update", "--now").succeeded()
    assert run.stdout.startswith("No update: ")
    check = machine.updog("check-update")
    assert check.code == 3
    assert check.stdout == ""
    assert check.stderr.startswith("No update: ")


def test_no_update_as_json_says_why_and_until_when(machine: Machine) -> None:
    update_to_1_1_0(machine)
    check = machine.updog("check-update", "--json")
    assert check.code == 3
    found = json.loads(check.stdout)
    assert (found["update"], found["reason"], found["ready_at"]) == (None, "held back", None)
    assert check.stderr.strip().endswith(f"No update: {found['text']}")


def test_an_unhealthy_update_is_left_by_the_next_boot(machine: Machine) -> None:
    update_to_1_1_0(machine)
    machine.playground("max-version", "1.2.0").succeeded()
    run = machine.updog("update", "--now", "--reboot").succeeded()
    assert "no route to 10.0.0.1" in run.stderr
    assert machine.flags() == {"A": (2, 0, False), "B": (1, 0, True)}
    assert machine.status()["running"]["version"] == "1.2.0"
    machine.reboot()
    assert machine.status()["running"]["version"] == "1.1.0"


def test_an_update_is_refused_while_the_running_system_is_on_trial(machine: Machine) -> None:
    update_to_1_1_0(machine)
    machine.playground("max-version", "1.2.0").succeeded()
    machine.updog("update", "--now", "--reboot").succeeded()
    before = machine.disk_digest()
    line = machine.updog("update", "--now", "--image", "1.1.0").failed()
    assert "is not marked successful" in line
    assert machine.disk_digest() == before


def test_a_rolled_back_version_is_quarantined_and_says_why(machine: Machine) -> None:
    fail_1_2_0(machine)
    check = machine.updog("check-update", "--ignore-waves")
    assert check.code == 3
    assert "1.2.0" in check.stderr
    assert "rolled back" in check.stderr
    assert "--image 1.2.0" in check.stderr


def test_status_shows_the_failed_set(machine: Machine) -> None:
    fail_1_2_0(machine)
    inactive = machine.status()["inactive"]
    assert (inactive["state"], inactive["version"]) == ("failed", "1.2.0")
    assert "rolled back" in machine.updog("status").succeeded().stdout


def test_the_user_may_insist_on_a_quarantined_version(machine: Machine) -> None:
    fail_1_2_0(machine)
    run = machine.updog("update", "--image", "1.2.0", "--now").succeeded()
    assert "Applied    playground 1.2.0" in run.stdout
    assert "you insist" in run.stderr


def test_a_newer_release_ends_the_quarantine(machine: Machine) -> None:
    fail_1_2_0(machine)
    machine.playground("release", "1.2.1").succeeded()
    machine.updog("update", "--now", "--reboot").succeeded()
    assert machine.status()["running"]["version"] == "1.2.1"


def test_history_tells_the_whole_story(machine: Machine) -> None:
    fail_1_2_0(machine)
    machine.updog("check-update")
    events = machine.updog("history", "--json").succeeded().json()
    assert [(event["event"], event["version"]) for event in events] == [
        ("checked", "1.0.0"),
        ("started", "1.1.0"),
        ("installed", "1.1.0"),
        ("activated", "1.1.0"),
        ("booted", "1.1.0"),
        ("marked", "1.1.0"),
        ("checked", "1.1.0"),
        ("started", "1.2.0"),
        ("installed", "1.2.0"),
        ("activated", "1.2.0"),
        ("rolled back", "1.2.0"),
        ("checked", "1.1.0"),
    ]


def test_rollback_by_hand_goes_to_the_other_set_and_back(machine: Machine) -> None:
    update_to_1_1_0(machine)
    machine.signpost("rollback-to-inactive").succeeded()
    machine.reboot()
    assert machine.status()["running"]["version"] == "1.0.0"
    machine.signpost("rollback-to-inactive").succeeded()
    machine.reboot()
    assert machine.status()["running"]["version"] == "1.1.0"


def test_a_version_left_by_hand_does_not_come_back_by_itself(machine: Machine) -> None:
    update_to_1_1_0(machine)
    machine.signpost("rollback-to-inactive").succeeded()
    machine.reboot()
    check = machine.updog("check-update")
    assert check.code == 3
    assert "1.1.0 was left by hand on " in check.stderr
    before = machine.disk_digest()
    assert "--image 1.1.0` insists" in machine.updog("update", "--now").succeeded().stdout
    assert machine.disk_digest() == before


def test_a_version_that_was_left_by_hand_is_free_once_it_was_entered_by_hand_again(
    machine: Machine,
) -> None:
    update_to_1_1_0(machine)
    for _ in range(2):
        machine.signpost("rollback-to-inactive").succeeded()
        machine.reboot()
        machine.updog("check-update")
    explained = machine.updog("history").succeeded().stdout.splitlines()
    assert "marked       1.1.0  set B" in explained[-2]


def test_a_downgrade_by_hand_lasts_and_says_so(machine: Machine) -> None:
    update_to_1_1_0(machine)
    machine.playground("max-version", "1.2.0").succeeded()
    machine.playground("release", "1.2.1").succeeded()
    machine.updog("update", "--now", "--reboot").succeeded()
    run = machine.updog("update", "--image", "1.1.0", "--now", "--reboot").succeeded()
    assert "1.2.1 is not taken again unless `--image 1.2.1` insists" in run.stderr
    assert machine.status()["running"]["version"] == "1.1.0"
    explained = machine.updog("explain").succeeded().stdout
    assert "1.2.1  quarantined   was left by hand on " in explained


def test_the_version_that_runs_is_not_installed_over_the_other_one(machine: Machine) -> None:
    update_to_1_1_0(machine)
    before = machine.disk_digest()
    run = machine.updog("update", "--image", "1.1.0", "--now").succeeded()
    assert "1.1.0 runs here" in run.stdout
    assert machine.disk_digest() == before


def test_a_failed_trial_that_signpost_began_and_cleared_is_not_repeated(machine: Machine) -> None:
    update_to_1_1_0(machine)
    machine.playground("max-version", "1.2.0").succeeded()
    machine.updog("update-image", "--now").succeeded()
    machine.signpost("upgrade-to-inactive").succeeded()
    machine.reboot()
    machine.reboot()
    machine.signpost("clear-inactive").succeeded()
    check = machine.updog("check-update", "--ignore-waves")
    assert check.code == 3
    assert "1.2.0 may have been tried" in check.stderr


def test_a_failed_trial_whose_try_was_given_back_is_not_repeated(machine: Machine) -> None:
    fail_1_2_0(machine)
    machine.signpost("mark-inactive-valid").succeeded()
    machine.signpost("cancel-upgrade").succeeded()
    check = machine.updog("check-update", "--ignore-waves")
    assert check.code == 3
    assert "1.2.0 may have been tried" in check.stderr


def test_a_corrupted_root_never_starts_and_the_old_set_takes_over(machine: Machine) -> None:
    machine.updog("update", "--now").succeeded()
    root = machine.signpost("status", "--json").json()["sets"]["B"]["root"]
    with machine.disk.open("r+b") as disk:
        disk.seek(root["offset_bytes"] + 5 * 4096)
        disk.write(b"bad" * 100)
    assert "PANIC" in machine.reboot().stdout
    assert machine.status()["running"]["version"] == "1.0.0"
    check = machine.updog("check-update", "--ignore-waves")
    assert check.code == 3
    assert "rolled back" in check.stderr


def test_explain_gives_every_update_a_verdict(machine: Machine) -> None:
    facts = machine.updog("explain", "--json").succeeded().json()
    verdicts = {update["version"]: update["reason"] for update in facts["updates"]}
    assert verdicts == {"1.2.0": "held back", "1.1.0": "chosen"}
    lines = machine.updog("explain").succeeded().stdout.splitlines()
    assert lines[1].split()[0] == "1.2.0"
    assert lines[1] == "  1.2.0  held back     the publisher allows up to 1.1.0 for now"
    assert lines[2].split()[:2] == ["1.1.0", "CHOSEN"]
    assert lines[3] == "  1.0.0  running       runs here, and is not listed"
    assert facts["running_is_listed"] is False


def test_config_prints_every_setting_in_force(machine: Machine) -> None:
    text = machine.updog("config").succeeded().stdout
    assert "seed = 1311" in text
    assert f'[disk]\npath = "{machine.disk}"' in text


def test_stdout_of_update_with_json_is_one_document_even_when_it_reboots(machine: Machine) -> None:
    run = machine.updog("update", "--now", "--reboot", "--json").succeeded()
    assert run.json() == {"applied": "1.1.0", "set": "B", "rebooting": True}


def test_the_log_can_be_json_lines(machine: Machine) -> None:
    run = machine.updog("update", "--now", "--log-format", "json").succeeded()
    events = [json.loads(line)["event"] for line in run.stderr.splitlines()]
    assert events == ["trust", "update", "hash", "root", "boot", "verify", "flags"]
