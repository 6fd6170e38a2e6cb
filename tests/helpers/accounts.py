"""Running commands as somebody who may not do everything, also when the tests run as root."""

import os
import shutil
import subprocess

import pytest


def as_somebody_ordinary(command: list[str]) -> list[str]:
    """Return a command line under which the permissions of files hold."""
    if os.geteuid() != 0:
        return command
    return [_program("setpriv"), "--bounding-set=-dac_override,-dac_read_search", *command]


def as_somebody_else(command: list[str]) -> list[str]:
    """Return a command line that runs under another user id."""
    if os.geteuid() != 0:
        pytest.skip("NEEDS ROOT: another user's images were not compared")
    other = [_program("unshare"), "--user", "--map-user=1234"]
    probe = subprocess.run([*other, "true"], check=False, capture_output=True, text=True)
    if probe.returncode != 0:  # in a chroot or a container
        pytest.skip(
            f"NO USER NAMESPACES: another user's images were not compared ({probe.stderr.strip()})"
        )
    return [*other, *command]


def _program(name: str) -> str:
    found = shutil.which(name, path="/usr/bin:/bin:/usr/sbin:/sbin")
    if found is None:
        pytest.skip(f"{name} is not installed (Debian: util-linux)")
    return found
