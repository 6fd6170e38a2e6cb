"""Programs of other people that change or read partition tables, where they are installed."""

import shutil
import subprocess

import pytest

PATH = "/usr/sbin:/sbin:/usr/bin:/bin"


def disk_tool(*command: str, script: str = "") -> str:
    """Run a program to its success and return what it prints; skip the test if it is not here."""
    if shutil.which(command[0], path=PATH) is None:
        pytest.skip(f"{command[0]} is not installed: nothing was compared with it")
    done = subprocess.run(
        command,
        input=script,
        capture_output=True,
        text=True,
        env={"PATH": PATH, "LC_ALL": "C"},
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done.stdout
