"""How the commands behave towards whoever runs them: closed ends, signals, and plain last words."""

import json
import os
import signal
import subprocess
import tomllib
from pathlib import Path

import pytest

from tests.helpers.machine import BIN, Machine

ACTIVE = "1.1.0 is active in set B and boots next; reboot to enter it, or `updog update-revert`"


def shell(machine: Machine, command: str) -> "subprocess.CompletedProcess[str]":
    """Run a command line of bash, in which `updog` is the installed one."""
    return subprocess.run(
        ["bash", "-o", "pipefail", "-c", command],
        env=machine.full_environment() | {"PATH": f"{BIN}:{os.environ['PATH']}"},
        cwd=machine.directory,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def reboot_by(machine: Machine, script: str) -> Path:
    """Configure a reboot command that leaves a trace, and return the trace."""
    trace, command = machine.directory / "rebooted", machine.directory / "reboot.sh"
    command.write_text(f"#!/bin/sh\ntouch {trace}\n{script}\n")
    command.chmod(0o755)
    text = machine.config.read_text()
    machine.config.write_text(f'{text[: text.index("command = ")]}command = ["{command}"]\n')
    return trace


@pytest.mark.parametrize("stderr", ["2>&-", "2>/dev/full", "2> >(true)", "0<&- 1>&- 2>&-"])
def test_a_log_that_cannot_be_written_does_not_stop_an_update(
    machine: Machine, stderr: str
) -> None:
    before = machine.set_digest("A")
    assert shell(machine, f"updog update --now {stderr}").returncode == 0
    assert machine.flags()["B"] == (2, 1, False)
    assert machine.set_digest("A") == before


def test_a_result_that_cannot_be_printed_is_told_with_the_state(machine: Machine) -> None:
    run = shell(machine, "updog update --now >/dev/full")
    assert run.returncode == 1
    last = run.stderr.splitlines()[-1]
    assert last == f"updog: cannot print the result: No space left on device; {ACTIVE}"
    assert "Traceback" not in run.stderr


def test_the_reboot_happens_although_nothing_can_be_printed(machine: Machine) -> None:
    trace = reboot_by(machine, "exit 0")
    run = shell(machine, "updog update --now --reboot --json >/dev/full")
    assert (run.returncode, trace.exists()) == (1, True)


@pytest.mark.parametrize("command", ["status", "config", "check-update", "--help"])
def test_a_full_disk_under_stdout_is_one_line(machine: Machine, command: str) -> None:
    run = shell(machine, f"updog {command} >/dev/full")
    assert run.returncode == 1
    (line,) = run.stderr.splitlines()
    assert "No space left on device" in line


def test_a_reboot_command_that_is_killed_is_told_with_the_state(machine: Machine) -> None:
    reboot_by(machine, "kill -9 $$")
    line = machine.updog("update", "--now", "--reboot").failed()
    assert "was ended by SIGKILL" in line
    assert line.endswith(ACTIVE)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_interruption_during_the_reboot_tells_what_boots_next(
    machine: Machine, number: int
) -> None:
    trace = reboot_by(machine, "exec sleep 5")
    code, stderr = interrupted(machine, number, when=trace, arguments=("--now", "--reboot"))
    assert code == 1
    assert stderr.splitlines()[-1] == f"updog: interrupted; {ACTIVE}"
    assert "Aborted" not in stderr


def test_an_impatient_user_is_told_what_is_left_all_the_same(machine: Machine) -> None:
    trace = reboot_by(machine, "exec sleep 5")
    code, stderr = interrupted(
        machine,
        *(signal.SIGINT, signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGINT),
        when=trace,
        arguments=("--now", "--reboot"),
    )
    assert code == 1
    assert stderr.splitlines()[-1] == f"updog: interrupted; {ACTIVE}"
    assert "Aborted" not in stderr
    assert "Traceback" not in stderr
    assert "ignored" not in stderr


def interrupted(
    machine: Machine, *numbers: int, when: Path, arguments: tuple[str, ...]
) -> tuple[int, str]:
    """Send signals to an update once a file is there; return its code and its words."""
    words = machine.directory / "stderr"
    # A file, not a pipe: a reboot command that outlives updog would keep a pipe open.
    with (
        words.open("w") as stderr,
        subprocess.Popen(
            [str(BIN / "updog"), "update", *arguments],
            env=machine.full_environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=stderr,
        ) as process,
    ):
        try:
            while not when.exists():
                assert process.poll() is None
            for number in numbers:
                process.send_signal(number)
            process.wait(timeout=60)
        finally:
            process.kill()
    return process.returncode, words.read_text()


def test_without_a_terminal_a_failure_is_one_json_line_and_no_other(machine: Machine) -> None:
    machine.environment["UPDOG_LOG_FORMAT"] = "auto"
    (machine.repository / "metadata" / "timestamp.json").unlink()
    run = machine.updog("update", "--now")
    assert run.code == 1
    log = [json.loads(line) for line in run.stderr.splitlines()]
    assert [each["event"] for each in log].count("failed") == 1
    assert "timestamp" in log[-1]["summary"]


@pytest.mark.parametrize("command", ["update-revert", "update-apply", "update", "status"])
def test_with_json_a_failure_is_one_document_on_stdout_too(machine: Machine, command: str) -> None:
    machine.configure(machine.server.url, "http://127.0.0.1:9")
    if command == "status":
        machine.disk.unlink()
    run = machine.updog(command, "--json")
    assert run.json() == {"error": run.failed().removeprefix("updog: "), "exit": 1}


def test_a_command_that_fails_after_its_document_prints_no_second_one(machine: Machine) -> None:
    reboot_by(machine, "exit 1")
    run = machine.updog("update", "--now", "--reboot", "--json")
    assert (run.code, run.json()["applied"]) == (1, "1.1.0")


def test_what_a_stranger_put_into_a_path_does_not_reach_the_terminal(machine: Machine) -> None:
    for log_format in ("human", "journal"):
        machine.environment["UPDOG_LOG_FORMAT"] = log_format
        run = machine.updog("status", "--config", "/no\x1b[2J\nupdog: all is well")
        assert run.code == 1
        assert run.stderr.replace("\n", "").isprintable()
        assert run.stderr.splitlines()[-1].startswith(
            "updog: cannot read configuration /no\\x1b[2J"
        )
        assert not any(line.startswith("updog: all") for line in run.stderr.splitlines())


def test_debug_shows_the_traceback_and_then_the_line(machine: Machine) -> None:
    machine.disk.unlink()
    run = machine.updog("status", "--log-level", "debug")
    assert run.code == 1
    assert "Traceback (most recent call last)" in run.stderr
    assert run.stderr.splitlines()[-1].startswith("updog: cannot open disk")


@pytest.mark.parametrize("command", ["update", "update-image", "prepare"])
def test_a_version_asked_for_by_name_that_cannot_be_had_is_a_failure(
    machine: Machine, command: str
) -> None:
    before = machine.disk_digest()
    line = machine.updog(command, "--image", "7.7.7").failed()
    assert line == (
        "updog: cannot take 7.7.7: no 7.7.7 is listed for playground on x86_64, only 1.2.0 and "
        "1.1.0 are; nothing was changed"
    )
    held = machine.updog(command, "--image", "1.2.0", "--json")
    assert held.code == 1
    assert held.json()["reason"] == "held back"
    assert machine.disk_digest() == before


def test_no_update_has_a_reason_for_programs_and_a_sentence(machine: Machine) -> None:
    text = machine.config.read_text()
    machine.config.write_text('version_lock = "1.0.0"\n' + text)
    facts = machine.updog("update", "--json").succeeded().json()
    assert facts["applied"] is None
    assert facts["reason"] == "locked"
    assert facts["text"].startswith("1.0.0 runs, as version_lock 1.0.0 wants")


def test_the_printed_config_can_be_read_again(machine: Machine) -> None:
    text = machine.updog("config").succeeded().stdout
    assert text.startswith(f"# read from {machine.config}\n")
    assert tomllib.loads(text)["disk"]["path"] == str(machine.disk)
    machine.config.write_text(text)
    assert machine.updog("config").succeeded().stdout == text


def test_an_empty_history_says_so_on_stderr(machine: Machine) -> None:
    run = machine.updog("history").succeeded()
    assert (run.stdout, run.stderr) == ("", "nothing happened here yet\n")


@pytest.mark.parametrize("name", ["paths.os_release", "paths.trusted_root"])
def test_a_pipe_in_place_of_a_file_does_not_hold_a_run_up(machine: Machine, name: str) -> None:
    pipe = machine.directory / "pipe"
    os.mkfifo(pipe)
    settings = tomllib.loads(machine.updog("config").succeeded().stdout)
    old = settings["paths"][name.removeprefix("paths.")]
    text = machine.updog("config").succeeded().stdout
    machine.config.write_text(text.replace(f'"{old}"', f'"{pipe}"'))
    assert "it is no regular file" in machine.updog("status").failed()


def test_explain_ends_with_the_migrations_of_the_chosen_update(machine: Machine) -> None:
    last = machine.updog("explain", "--now").succeeded().stdout.splitlines()[-1]
    assert last.startswith("Migrations 1.0.0 -> 1.1.0: ")
