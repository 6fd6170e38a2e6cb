"""Health decides, and the timer's command keeps to what the settings say, as installed."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from semver import Version

from tests.helpers.http_server import Handler
from tests.helpers.machine import BIN, TEMPLATE_PORT, Machine, a_machine, copy_sparsely
from updog.commands import auto as auto_command
from updog.config import load_config
from updog.machine import open_machine


def settings(machine: Machine, text: str) -> None:
    """Add tables to the configuration of the machine."""
    machine.config.write_text(f"{machine.config.read_text()}\n{text}\n")


def reboot_strategy(machine: Machine, strategy: str) -> None:
    machine.configure("[reboot]\n", f'[reboot]\nstrategy = "{strategy}"\n')


def reboot_marker(machine: Machine) -> Path:
    """Let the reboot command leave a mark only; return its path."""
    marker = machine.directory / "restarted"
    text = machine.config.read_text()
    begin = text.index("command = [")
    end = text.index("]", begin) + 1
    machine.config.write_text(f'{text[:begin]}command = ["/bin/touch", "{marker}"]{text[end:]}')
    return marker


@pytest.fixture(scope="module")
def trial_template(template: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a machine that runs 1.2.0, whose network check fails: it stays on trial."""
    directory = tmp_path_factory.mktemp("trial")
    with a_machine(template, directory) as machine:
        machine.playground("max-version", "1.2.0").succeeded()
        machine.updog("update", "--now", "--image", "1.2.0", "--reboot").succeeded()
        assert machine.status()["running"]["version"] == "1.2.0"
        machine.configure(machine.server.url, f"http://127.0.0.1:{TEMPLATE_PORT}")
        machine.configure(str(machine.directory), str(directory / "template"))
        copy_sparsely(machine.directory, directory / "template")
    return directory / "template"


@pytest.fixture
def on_trial(trial_template: Path, tmp_path: Path) -> Iterator[Machine]:
    with a_machine(trial_template, tmp_path) as copied:
        yield copied


def check_directory(machine: Machine) -> Path:
    return machine.directory / "run/root/etc/signpost/health.d"


def put_check(machine: Machine, name: str, script: str) -> None:
    directory = check_directory(machine)
    directory.mkdir(parents=True, exist_ok=True)
    (directory / name).write_text(f"#!/bin/sh\n{script}\n")
    (directory / name).chmod(0o755)


FAILURE = "health check 40-network.sh failed, exit 1: no route to 10.0.0.1"


class TestHealth:
    def test_what_a_failed_boot_told_is_kept_across_the_rollback(self, on_trial: Machine) -> None:
        on_trial.reboot()  # whose own checks pass
        assert on_trial.status()["inactive"]["trouble"] == FAILURE
        assert FAILURE in on_trial.updog("status").succeeded().stdout
        on_trial.updog("check-update")
        last = on_trial.updog("history", "--json").succeeded().json()
        (rolled_back,) = [event for event in last if event["event"] == "rolled back"]
        assert rolled_back["error"] == FAILURE
        assert f"{FAILURE}; 1.0.0 runs again" in on_trial.updog("history").succeeded().stdout
        explained = on_trial.updog("explain", "--now").succeeded().stdout
        assert f"({FAILURE}); `updog update --image 1.2.0` insists" in explained

    def test_an_earlier_trial_says_nothing_of_a_later_one_that_told_nothing(
        self, on_trial: Machine
    ) -> None:
        on_trial.reboot()
        on_trial.updog("update", "--now", "--image", "1.2.0").succeeded()
        on_trial.signpost("select-boot").succeeded()  # a boot that never reaches its checks
        on_trial.reboot()
        last = on_trial.updog("history", "--json").succeeded().json()[-1]
        assert (last["event"], last["version"], "error" in last) == ("rolled back", "1.2.0", False)

    def test_health_check_says_what_passed(self, machine: Machine) -> None:
        run = machine.updog("health-check").succeeded()
        assert run.stdout == "Healthy    3 checks passed\n"
        assert "Health     40-network.sh passed: there is a route to 10.0.0.1" in run.stderr
        assert "Health    3 checks passed" in machine.updog("status").succeeded().stdout

    def test_a_failing_check_restarts_nothing_unless_it_was_asked_to(
        self, on_trial: Machine
    ) -> None:
        marker = reboot_marker(on_trial)
        assert on_trial.updog("health-check").failed() == f"updog: {FAILURE}"
        assert not marker.exists()

    def test_a_trial_that_fails_is_ended(self, on_trial: Machine) -> None:
        marker = reboot_marker(on_trial)
        line = on_trial.updog("health-check", "--reboot").failed()
        assert line == f"updog: {FAILURE}; this boot is on trial: restarting, set A boots next"
        assert marker.exists()

    def test_a_trial_may_go_on_until_its_deadline(self, on_trial: Machine) -> None:
        marker = reboot_marker(on_trial)
        settings(on_trial, '[health]\non_failed_trial = "deadline"')
        assert "ends at its deadline" in on_trial.updog("health-check", "--reboot").failed()
        assert not marker.exists()
        line = on_trial.updog("end-trial").succeeded().stdout
        assert line.startswith(f"On trial     {FAILURE}; this boot is on trial: restarting")
        assert marker.exists()

    def test_a_boot_that_is_not_on_trial_is_never_ended(self, machine: Machine) -> None:
        marker = reboot_marker(machine)
        put_check(machine, "50-broken", "echo broken; exit 1")
        line = machine.updog("health-check", "--reboot").failed()
        assert line == (
            "updog: health check 50-broken failed, exit 1: broken; this boot is not on trial, so "
            "the machine goes on as it is"
        )
        assert machine.updog("end-trial").succeeded().stdout.startswith("Not on trial")
        assert not marker.exists()
        assert machine.status()["health"]["healthy"] is False
        assert "Health    health check 50-broken failed" in machine.updog("status").stdout

    def test_a_set_that_is_marked_while_its_checks_run_is_not_ended(
        self, on_trial: Machine
    ) -> None:
        marker = reboot_marker(on_trial)
        signpost = f"{BIN / 'signpost'} --disk {on_trial.disk} --active B"
        put_check(on_trial, "50-marks", f"{signpost} mark-successful-boot")
        line = on_trial.updog("health-check", "--reboot").failed()
        assert line.endswith("this boot is not on trial, so the machine goes on as it is")
        assert not marker.exists()

    def test_a_disk_that_fails_meanwhile_does_not_save_a_trial(self, on_trial: Machine) -> None:
        marker = reboot_marker(on_trial)
        disk = on_trial.disk
        put_check(on_trial, "50-fails", f"mv {disk} {disk}.gone")
        line = on_trial.updog("health-check", "--reboot").failed()
        assert line.endswith("restarting, set A boots next")
        assert marker.exists()

    def test_a_hanging_check_is_told_as_such(self, machine: Machine) -> None:
        put_check(machine, "50-hangs", "echo waiting for the sun; sleep 60")
        settings(machine, '[health.checks."50-hangs"]\ntimeout_seconds = 0.3\nretries = 1')
        line = machine.updog("health-check").failed()
        assert line == (
            "updog: health check 50-hangs failed, did not end in 0.3 s: waiting for the sun"
        )

    def test_a_deadline_tells_which_check_was_at_work(self, on_trial: Machine) -> None:
        marker = reboot_marker(on_trial)
        record = on_trial.directory / "state/health-B.json"
        facts = json.loads(record.read_text())
        cut = {**facts, "checks": facts["checks"][:2], "running": "40-network.sh", "is_done": False}
        record.write_text(json.dumps(cut))
        line = on_trial.updog("end-trial").succeeded().stdout
        assert "health check 40-network.sh was at work; this boot is on trial" in line
        assert marker.exists()

    def test_as_json_there_is_one_document(self, machine: Machine) -> None:
        found = machine.updog("health-check", "--json").succeeded().json()
        assert found["healthy"] is True
        assert [check["name"] for check in found["checks"]][-1] == "40-network.sh"
        put_check(machine, "50-broken", "exit 1")
        run = machine.updog("health-check", "--json")
        assert (run.code, run.json()["healthy"]) == (1, False)


def auto(machine: Machine) -> tuple[str, str | None]:
    found = machine.updog("auto", "--json").succeeded().json()
    return found["outcome"], found["pending"]


class TestAuto:
    def test_by_default_an_update_is_installed_and_somebody_else_restarts(
        self, machine: Machine
    ) -> None:
        marker = reboot_marker(machine)
        run = machine.updog("auto").succeeded()
        assert run.stdout == (
            "Auto       1.1.0 is active; reboot to enter it (reboot.strategy is manual)\n"
        )
        assert machine.flags()["B"] == (2, 1, False)
        assert not marker.exists()
        before = machine.disk_digest()
        assert auto(machine) == ("manual", "1.1.0")
        assert machine.disk_digest() == before

    def test_strategy_now_restarts_at_once(self, machine: Machine) -> None:
        reboot_strategy(machine, "now")
        assert auto(machine) == ("restarting", "1.1.0")
        assert machine.status()["running"]["version"] == "1.1.0"
        assert auto(machine) == ("held back", None)

    def test_outside_of_its_windows_a_machine_is_not_restarted(self, machine: Machine) -> None:
        marker = reboot_marker(machine)
        reboot_strategy(machine, "window")
        settings(machine, f"[[windows]]\n{never_today()}")
        outcome, pending = auto(machine)
        assert (outcome, pending) == ("outside of the windows", "1.1.0")
        assert not marker.exists()
        settings(machine, '[[windows]]\nbegin = "00:00"\nend = "24:00"')
        assert auto(machine) == ("restarting", "1.1.0")
        assert marker.exists()

    def test_where_nobody_can_tell_who_is_at_work_nothing_is_restarted(
        self, machine: Machine
    ) -> None:
        if Path("/run/dbus/system_bus_socket").exists():
            pytest.skip("LOGIND ANSWERS HERE: this test needs a machine without")
        marker = reboot_marker(machine)
        reboot_strategy(machine, "when-idle")
        line = machine.updog("auto").failed()
        assert "cannot tell whether anybody is at work here: /usr/bin/busctl: " in line
        assert line.endswith("1.1.0 boots next")
        assert not marker.exists()

    def test_a_hold_that_comes_while_an_update_is_fetched_keeps_any_restart_from_entering_it(
        self, machine: Machine
    ) -> None:
        def hold_and_serve(handler: Handler, body: bytes) -> None:
            if not (machine.directory / "hold.d").exists():
                put_hold(machine, "backup runs")
            handler.serve(body)

        machine.server.always("*boot*", hold_and_serve)
        assert auto(machine) == ("on hold", None)
        assert machine.flags()["B"] == (0, 1, False)
        (machine.directory / "hold.d/backup").unlink()
        assert auto(machine) == ("manual", "1.1.0")
        assert machine.flags()["B"] == (2, 1, False)

    def test_a_hold_that_comes_while_logind_is_asked_counts(
        self, machine: Machine, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        reboot_strategy(machine, "when-idle")

        def find_busy() -> tuple[str, ...]:
            put_hold(machine, "backup runs")
            return ()

        monkeypatch.setattr(auto_command, "find_busy", find_busy)
        opened = open_machine(load_config(machine.config))
        outcome = auto_command._restart(opened, (), Version(1, 1, 0))  # noqa: SLF001 -- no logind here
        assert outcome.word == "on hold"

    def test_switched_off_it_does_not_even_ask(self, machine: Machine) -> None:
        settings(machine, "[auto]\nenabled = false")
        machine.server.requests.clear()
        assert auto(machine) == ("disabled", None)
        assert machine.server.requests == []

    def test_on_hold_it_does_not_even_ask(self, machine: Machine) -> None:
        machine.updog("hold", "--reason", "trade fair").succeeded()
        machine.server.requests.clear()
        assert auto(machine) == ("on hold", None)
        assert machine.server.requests == []

    def test_a_pending_update_is_not_entered_while_on_hold(self, machine: Machine) -> None:
        machine.updog("auto").succeeded()
        marker = reboot_marker(machine)
        reboot_strategy(machine, "now")
        put_hold(machine, "backup runs")
        assert auto(machine)[0] == "on hold"
        assert not marker.exists()

    def test_installing_may_be_kept_to_the_windows_too(self, machine: Machine) -> None:
        settings(machine, f"[auto]\ninstall_in_windows = true\n[[windows]]\n{never_today()}")
        machine.server.requests.clear()
        assert auto(machine) == ("outside of the windows", None)
        assert machine.server.requests == []

    def test_a_system_on_trial_is_left_alone(self, on_trial: Machine) -> None:
        assert auto(on_trial) == ("on trial", None)

    def test_what_is_not_offered_any_more_is_not_entered_by_itself(self, machine: Machine) -> None:
        machine.playground("max-version", "1.2.0").succeeded()
        machine.updog("update", "--now", "--image", "1.2.0").succeeded()
        machine.playground("max-version", "1.1.0").succeeded()
        machine.configure("seed = ", 'version_lock = ">=1.2"\nseed = ')
        marker = reboot_marker(machine)
        reboot_strategy(machine, "now")
        assert auto(machine) == ("withdrawn", "1.2.0")
        assert not marker.exists()

    def test_what_somebody_has_taken_by_name_is_entered_too(self, machine: Machine) -> None:
        machine.updog("update", "--now", "--image", "1.1.0").succeeded()
        machine.configure("seed = ", 'version_lock = "1.0.0"\nseed = ')
        reboot_marker(machine)
        reboot_strategy(machine, "now")
        assert auto(machine) == ("restarting", "1.1.0")

    def test_a_newer_update_takes_the_place_of_one_that_waits(self, machine: Machine) -> None:
        machine.updog("auto").succeeded()
        machine.playground("release", "1.3.0").succeeded()
        assert auto(machine) == ("manual", "1.3.0")

    def test_while_the_repository_is_away_a_pending_update_is_entered(
        self, machine: Machine
    ) -> None:
        machine.updog("auto").succeeded()
        marker = reboot_marker(machine)
        reboot_strategy(machine, "now")
        machine.repository.rename(machine.directory / "away")
        assert auto(machine) == ("restarting", "1.1.0")
        assert marker.exists()

    def test_a_zone_that_nobody_knows_stops_it_before_anything(self, machine: Machine) -> None:
        zone = '[[windows]]\nbegin = "02:00"\nend = "04:00"\ntime_zone = "Europe/Nowhere"'
        settings(machine, zone)
        line = machine.updog("auto").failed()
        assert "windows: cannot use time zone 'Europe/Nowhere': it is not in the" in line


def never_today() -> str:
    """Return a window of another day than today and tomorrow, whatever the hour."""
    day = f"{datetime.now(UTC) + timedelta(days=3):%a}".lower()
    return f'days = ["{day}"]\nbegin = "02:00"\nend = "03:00"'


def put_hold(machine: Machine, reason: str) -> None:
    directory = machine.directory / "hold.d"
    directory.mkdir()
    (directory / "backup").write_text(f"{reason}\n")


class TestHold:
    def test_a_hold_is_told_everywhere_and_ends_with_release(self, machine: Machine) -> None:
        machine.updog("hold", "--until", "3 days", "--reason", "trade fair").succeeded()
        check = machine.updog("check-update", "--now", "--json")
        assert (check.code, check.json()["reason"]) == (3, "on hold")
        assert "1.1.0 is there, but updates are on hold, until " in check.json()["text"]
        assert "trade fair" in machine.updog("status").succeeded().stdout
        explained = machine.updog("explain", "--now").succeeded().stdout
        assert "Updates are on hold, until " in explained
        assert machine.status()["hold"]["reason"] == "trade fair"
        done = machine.updog("update", "--now").succeeded().stdout
        assert done.startswith("No update: 1.1.0 is there, but updates are on hold")
        machine.updog("release").succeeded()
        assert machine.updog("check-update", "--now").succeeded().stdout == "playground 1.1.0\n"

    def test_image_insists(self, machine: Machine) -> None:
        machine.updog("hold").succeeded()
        machine.updog("update", "--now", "--image", "1.1.0").succeeded()
        assert machine.flags()["B"] == (2, 1, False)

    def test_what_another_program_holds_release_cannot_let_go(self, machine: Machine) -> None:
        put_hold(machine, "backup runs")
        run = machine.updog("release").succeeded()
        assert "backup runs; it lasts as long as that file is there" in run.stdout

    @pytest.mark.parametrize("moment", ["yesterday", "2020-01-01", "0 days", "3 fortnights"])
    def test_a_moment_that_is_none_or_over_is_a_usage_error(
        self, machine: Machine, moment: str
    ) -> None:
        run = machine.updog("hold", "--until", moment)
        assert run.code == 2
        assert machine.status()["hold"] is None

    def test_a_moment_that_this_clock_cannot_show_is_a_usage_error_too(
        self, machine: Machine
    ) -> None:
        machine.environment["TZ"] = "Asia/Tokyo"
        assert machine.updog("hold", "--until", "9999-12-31T23:59:59Z").code == 2
        assert machine.status()["hold"] is None
