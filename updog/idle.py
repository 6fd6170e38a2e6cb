"""Who is at work on this machine, as logind knows: sessions and inhibitors.

Decides what speaks against a restart: a user's session that is not closing, and a lock that blocks
shutting down. Asks logind over D-Bus with systemd's own `busctl`, by absolute path; what cannot be
asked is an error, never an idle machine.
"""

import json
import subprocess
from pathlib import Path
from typing import Any, Final

from updog.errors import UpdogError
from updog.names import printable

BUSCTL: Final = Path("/usr/bin/busctl")
_LOGIN: Final = "org.freedesktop.login1"
_MANAGER: Final = ("/org/freedesktop/login1", f"{_LOGIN}.Manager")
_PATIENCE_SECONDS: Final = 30
_ENVIRONMENT: Final = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"}


def find_busy(busctl: Path = BUSCTL) -> tuple[str, ...]:
    """Return what speaks against a restart now, in words; none if the machine is idle.

    Raises:
        UpdogError: logind cannot be asked.
    """
    try:
        return (*_sessions(busctl), *_inhibitors(busctl))
    except (ValueError, TypeError, LookupError, AttributeError) as err:
        raise _cannot_tell(busctl, "logind answered otherwise than it should") from err


def _sessions(busctl: Path) -> list[str]:
    """Source: org.freedesktop.login1(5), ListSessions: id, uid, user, seat, object path."""
    sessions = _call(busctl, "ListSessions")
    return [
        f"{printable(user)} is logged in (session {printable(name)})"
        for name, _uid, user, _seat, path in sessions
        if _is_at_work(busctl, path)
    ]


def _is_at_work(busctl: Path, path: str) -> bool:
    """Tell a user's session from a login screen, and from one that has ended."""
    kind, state = _properties(busctl, path, "Class", "State")
    return bool(kind == "user" and state != "closing")


def _inhibitors(busctl: Path) -> list[str]:
    """Source: org.freedesktop.login1(5), ListInhibitors: what, who, why, mode, uid, pid."""
    return [
        f"{printable(who)} inhibits it: {printable(why)}"
        for what, who, why, mode, *_ in _call(busctl, "ListInhibitors")
        if "shutdown" in what.split(":") and mode == "block"
    ]


def _call(busctl: Path, method: str) -> list[list[Any]]:
    (answer,) = _ask(busctl, "call", _LOGIN, *_MANAGER, method)
    (rows,) = answer["data"]
    return list(rows)


def _properties(busctl: Path, path: str, *names: str) -> list[Any]:
    answers = _ask(busctl, "get-property", _LOGIN, path, f"{_LOGIN}.Session", *names)
    return [answer["data"] for answer in answers]


def _ask(busctl: Path, *arguments: str) -> list[dict[str, Any]]:
    """Run busctl; it prints one JSON document a line."""
    try:
        done = subprocess.run(
            [busctl, "--system", "--json=short", *arguments],
            check=True,
            env=_ENVIRONMENT,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_PATIENCE_SECONDS,
        )
        return [json.loads(line) for line in done.stdout.splitlines()]
    except subprocess.CalledProcessError as err:
        why = printable(err.stderr.decode("utf-8", "replace").strip()) or f"exit {err.returncode}"
    except subprocess.TimeoutExpired:
        why = f"no answer in {_PATIENCE_SECONDS} s"
    except OSError as err:
        why = err.strerror or str(err)
    raise _cannot_tell(busctl, why)


def _cannot_tell(busctl: Path, why: str) -> UpdogError:
    return UpdogError(
        f"cannot tell whether anybody is at work here: {busctl}: {why}. The machine is not "
        'restarted; reboot.strategy = "window" asks nobody'
    )
