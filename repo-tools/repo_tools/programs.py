"""The programs of other packages that repo-tools calls, and this project's own commands.

Decides where a program is looked for and what a failing one is reported as. Programs get a fixed
small environment, never the caller's: their output must not depend on who runs them.
"""

import os
import subprocess
import sys
import sysconfig
from collections.abc import Mapping, Sequence
from pathlib import Path

from repo_tools.errors import RepoToolsError

# Debian keeps file system tools out of an ordinary user's PATH.
_SYSTEM_DIRECTORIES = (
    "/usr/local/sbin",
    "/usr/sbin",
    "/sbin",
    "/usr/local/bin",
    "/usr/bin",
    "/bin",
)
_DEBIAN_PACKAGES = {"mke2fs": "e2fsprogs", "debugfs": "e2fsprogs", "mkfs.erofs": "erofs-utils"}
_ENVIRONMENT = {"LC_ALL": "C.UTF-8", "PATH": ":".join(_SYSTEM_DIRECTORIES), "TZ": "UTC"}


def find_program(name: str, *, directories: Sequence[str] | None = None) -> Path:
    """Return the path of a program, also where PATH does not lead to it.

    Args:
        name: the program.
        directories: where to look; PATH and the usual places if not given.

    Raises:
        RepoToolsError: it is not installed; the text names the package to install.
    """
    if directories is None:
        directories = (*os.environ.get("PATH", "").split(":"), *_SYSTEM_DIRECTORIES)
    for directory in directories:
        candidate = Path(directory, name)
        if directory and os.access(candidate, os.X_OK):
            return candidate
    package = _DEBIAN_PACKAGES[name]
    raise RepoToolsError(f"cannot find {name}: install it (Debian: apt-get install {package})")


def find_own_command(name: str) -> Path:
    """Return the path of a command of this project, as installed beside the running Python."""
    for directory in (Path(sys.executable).parent, Path(sysconfig.get_path("scripts"))):
        if os.access(directory / name, os.X_OK):
            return directory / name
    raise RepoToolsError(
        f"cannot find the command {name} beside {sys.executable}: install the project there"
    )


def run_program(
    program: Path,
    *arguments: str | Path,
    cwd: Path | None = None,
    environment: Mapping[str, str] | None = None,
    timeout_seconds: float = 300,
) -> subprocess.CompletedProcess[str]:
    """Run a program to its end with its output captured, whatever its exit code.

    Raises:
        RepoToolsError: it cannot be started or does not end in time.
    """
    command = [str(program), *map(str, arguments)]
    try:
        return subprocess.run(  # noqa: PLW1510 - the caller judges the exit code
            command,
            cwd=cwd,
            env={**_ENVIRONMENT, **(environment or {})},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=timeout_seconds,
        )
    except subprocess.TimeoutExpired as error:
        raise RepoToolsError(f"{program.name} did not end in {timeout_seconds:g} s") from error
    except OSError as error:
        raise RepoToolsError(f"cannot run {program}: {error.strerror}") from error
