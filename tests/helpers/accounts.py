"""Running commands as somebody who may not do everything, also when the tests run as root."""

import os
import shutil

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
    return [_program("unshare"), "--user", "--map-user=1234", *command]


def _program(name: str) -> str:
    found = shutil.which(name, path="/usr/bin:/bin:/usr/sbin:/sbin")
    if found is None:
        pytest.skip(f"{name} is not installed (Debian: util-linux)")
    return found
