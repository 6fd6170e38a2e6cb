"""Waiting for what another process does, by facts and not by time."""

import subprocess
import time
from pathlib import Path
from typing import Any

PATIENCE_SECONDS = 60.0


def wait_until_open(process: "subprocess.Popen[Any]", path: Path) -> None:
    """Return once a process has a file open; what holds the file's lock then makes it wait."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    wanted = path.resolve()
    while time.monotonic() < deadline:
        assert process.poll() is None, f"it ended with {process.returncode} and never waited"
        links = Path(f"/proc/{process.pid}/fd").iterdir()
        if any(_target(link) == wanted for link in links):
            return
        time.sleep(0.01)
    raise AssertionError(f"the process did not open {path} within {PATIENCE_SECONDS} s")


def _target(link: Path) -> Path | None:
    try:
        return link.readlink()
    except OSError:  # closed in the meantime
        return None


def wait_until_gone(pid: int) -> None:
    """Return once a process has ended, be it that nobody has asked how."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            return
        if state == "Z":
            return
        time.sleep(0.01)
    raise AssertionError(f"process {pid} still runs after {PATIENCE_SECONDS} s")
