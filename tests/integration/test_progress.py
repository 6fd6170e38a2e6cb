"""How far an update is, as programs, terminals and systemd see it."""

import json
import os
import pty
import socket
import subprocess
import threading
from pathlib import Path

import pytest

from tests.helpers.machine import BIN, Machine


@pytest.mark.parametrize("command", ["update", "update-image", "prepare"])
def test_programs_get_json_lines_that_end_at_the_whole(machine: Machine, command: str) -> None:
    machine.environment["UPDOG_LOG_FORMAT"] = "json"
    run = machine.updog(command, "--now", "--progress", "json", "--json").succeeded()
    run.json()  # stdout holds the result alone
    lines = [json.loads(line) for line in run.stderr.splitlines()]
    steps = [line for line in lines if line["event"] == "progress"]
    phases = list(dict.fromkeys(step["phase"] for step in steps))
    assert phases == ["hash", "root", "boot"] + ["verify"] * (command != "prepare")
    ends = {step["phase"]: step for step in steps}
    assert all(end["bytes"] == end["length_bytes"] > 0 for end in ends.values())
    assert ends["boot"]["total_bytes"] == ends["boot"]["total_length_bytes"]
    fetched = sum(ends[role]["length_bytes"] for role in ("hash", "root", "boot"))
    assert fetched == ends["boot"]["total_length_bytes"]


def test_nobody_who_did_not_ask_is_told(machine: Machine) -> None:
    machine.environment["UPDOG_LOG_FORMAT"] = "json"
    run = machine.updog("update", "--now").succeeded()
    assert "progress" not in {json.loads(line)["event"] for line in run.stderr.splitlines()}


def test_a_terminal_gets_a_bar_that_leaves_the_log_readable(machine: Machine) -> None:
    shows, terminal = pty.openpty()
    with subprocess.Popen(
        [BIN / "updog", "update", "--now"],
        env=machine.full_environment(),
        stdout=subprocess.DEVNULL,
        stderr=terminal,
    ) as process:
        os.close(terminal)
        shown = b""
        try:
            while piece := os.read(shows, 65536):
                shown += piece
        except OSError:  # EIO: the other end is closed
            pass
        finally:
            os.close(shows)
    assert process.returncode == 0
    last = [line.rsplit("\r", 1)[-1] for line in shown.decode().split("\r\n")]
    assert [line.removeprefix("\x1b[K").split()[0] for line in last if line.strip("\x1b[K")] == [
        *("Trust", "Update", "Hash", "Root", "Boot", "Verify", "Flags")
    ]
    assert b"root   [####################]" in shown
    assert b"verify [####################]" in shown


def test_systemd_is_told_the_phase(machine: Machine, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        machine.environment["NOTIFY_SOCKET"] = str(tmp_path / "notify")
        told: list[str] = []

        def listen() -> None:
            while words := manager.recv(1000):
                told.append(words.decode())

        listener = threading.Thread(target=listen)
        listener.start()
        machine.updog("update", "--now").succeeded()
        manager.shutdown(socket.SHUT_RD)
        listener.join()
    assert any(words.startswith("STATUS=fetching root") for words in told)
    assert any(words.startswith("STATUS=reading back") for words in told)
    assert told[-1] == "STATUS="
