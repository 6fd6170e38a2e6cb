"""Restarting the machine, by the command in the configuration and nothing else.

Runs an absolute path with a clean environment and without a shell, so that nothing inherited from
whoever started the update can change what happens.
"""

import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from updog.errors import UpdogError
from updog.guard import require_guarded

_ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"}


def reboot(command: Sequence[str]) -> None:
    """Run the reboot command and wait for it.

    Its output goes to stderr: stdout carries results only.

    Raises:
        UpdogError: others than root could change it, it cannot be started, or it failed.
    """
    shown = " ".join(command)
    require_guarded(Path(command[0]), what="the reboot command")
    try:
        subprocess.run(
            command,
            check=True,
            env=_ENVIRONMENT,
            stdin=subprocess.DEVNULL,
            stdout=sys.stderr,
            # With SIGPIPE as it is here, ignored: a log that nobody reads must not end a reboot.
            restore_signals=False,
        )
    except OSError as err:
        raise UpdogError(f"cannot run the reboot command {shown}: {err.strerror}") from err
    except subprocess.CalledProcessError as err:
        raise UpdogError(f"the reboot command {shown} {_ending(err.returncode)}") from err


def _ending(code: int) -> str:
    if code >= 0:
        return f"failed: exit {code}"
    number = -code
    known = number in set(signal.Signals)
    return f"was ended by {signal.Signals(number).name if known else f'signal {number}'}"
