"""The floor: what this machine has accepted last, below which no repository is believed any more.

The metadata cache alone cannot say: who loses it, or has it lost by others, would take an older
repository, old roots with withdrawn keys included, for the newest. So the last accepted versions,
the keys that they were accepted by, and the time are kept elsewhere, in one small file.

Decides two questions. *Is what is offered older than what was accepted?* Then it is a stale mirror
or a replay. A floor starts anew where a newer root has withdrawn one of the keys that it was
accepted by, else a stolen key that signed an enormous version would lock the publisher out for ever
(The Update Framework, client workflow 5.3.11, fast-forward attacks):

- timestamp and snapshot, when a key of either was withdrawn, as 5.3.11 has it;
- targets, when a key of targets was, or of snapshot, since it is by new snapshot keys that
  publishers recover from a targets version that is too high;
- root never: no step of the workflow leads from a root to an older one.

A key that was merely added leaves the floor alone: it ends no attack.

*By which time is expiry judged?* By the clock, unless it stands more than a day before the last
acceptance: then by the time of that acceptance, which whoever set the clock back cannot undo. Less
is what a battery, a time server or a time zone does, and is let pass: versions still only rise, the
time of the floor never falls, so that in sum metadata can be believed for at most one day after its
expiry. That a clock once ran ahead, by a lie of a time server, locks nobody out: what was accepted
then had not expired by that clock, and what is signed later lasts longer.

A missing file is a first run. A damaged one is as good as none: the cache, which every refresh
starts from, still forbids what is older; only both together can be lost. Neither a file that was
written before the cache that it stands for, nor one after, does harm: the floor is checked against
what is offered, never against the cache.
"""

import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec
from msgspec.structs import replace

from updog.durable import make_directory, remove, replacing
from updog.errors import UpdogError
from updog.files import read_small_file

CLOCK_TOLERANCE: Final = timedelta(days=1)

ROLES: Final = ("root", "timestamp", "snapshot", "targets")

_MOST_BYTES: Final = 1 << 20


class AcceptedRole(msgspec.Struct, frozen=True, kw_only=True):
    """The version of a role, and the ids of the keys that may have signed it."""

    version: Annotated[int, msgspec.Meta(ge=1)]
    key_ids: frozenset[str]


class Floor(msgspec.Struct, frozen=True, kw_only=True):
    """What was accepted, by role, and when; with a time zone."""

    accepted_at: Annotated[datetime, msgspec.Meta(tz=True)]
    root: AcceptedRole
    timestamp: AcceptedRole
    snapshot: AcceptedRole
    targets: AcceptedRole


class DamagedFloor(Exception):  # noqa: N818 -- not a failure: the refresh goes on
    """Report a floor that is there but cannot be used."""


def find_rollback(floor: Floor, offered: Floor) -> str | None:
    """Say which role of what is offered is older than what was accepted, if one is."""
    anew = _starting_anew(floor, offered)
    for role in ROLES:
        known, new = _role(floor, role).version, _role(offered, role).version
        if role not in anew and new < known:
            return (
                f"it offers version {new} of {role}, but version {known} was accepted on "
                f"{shown(floor.accepted_at)}"
            )
    return None


def is_clock_behind(floor: Floor, now: datetime) -> bool:
    """Tell whether the clock has stepped back too far to judge by it what has expired."""
    return now + CLOCK_TOLERANCE < floor.accepted_at


def raised(floor: Floor | None, offered: Floor) -> Floor:
    """Return the floor after what is offered was accepted; its time never falls."""
    if floor is None or floor.accepted_at <= offered.accepted_at:
        return offered
    return replace(offered, accepted_at=floor.accepted_at)


def shown(time: datetime) -> str:
    """Return a time, given in UTC, as the messages about floors show it."""
    return time.strftime("%Y-%m-%d %H:%M UTC")


def read_floor(path: Path) -> Floor | None:
    """Return the floor that a file holds; None where there is no file.

    Raises:
        DamagedFloor: There is something, but no floor can be read from it; the text says why.
    """
    try:
        floor = msgspec.json.decode(read_small_file(path, limit_bytes=_MOST_BYTES), type=Floor)
        return replace(floor, accepted_at=floor.accepted_at.astimezone(UTC))
    except FileNotFoundError:
        return None
    except OSError as err:
        raise DamagedFloor(err.strerror) from err
    except (ValueError, OverflowError, RecursionError) as err:
        raise DamagedFloor(str(err)) from err


def write_floor(path: Path, floor: Floor) -> None:
    """Replace the file, flushed to the medium; after a cut it holds the old floor or the new.

    Raises:
        UpdogError: It cannot be written.
    """
    try:
        make_directory(path.parent)
        if path.is_dir():
            remove(path)
        with replacing(path) as file:
            file.write(_serialise(floor))
    except OSError as err:
        raise UpdogError(
            f"cannot note in {path} which metadata was accepted: {err.strerror}; nothing is "
            "accepted without, make room there or set paths.state"
        ) from err


def _starting_anew(floor: Floor, offered: Floor) -> frozenset[str]:
    """Return the roles whose floors hold no more, as a newer root has withdrawn keys."""
    if offered.root.version <= floor.root.version:
        return frozenset()
    withdrawn = {
        role for role in ROLES if _role(floor, role).key_ids - _role(offered, role).key_ids
    }
    anew: set[str] = set()
    if withdrawn & {"timestamp", "snapshot"}:
        anew |= {"timestamp", "snapshot"}
    if withdrawn & {"targets", "snapshot"}:
        anew.add("targets")
    return frozenset(anew)


def _role(floor: Floor, role: str) -> AcceptedRole:
    accepted: AcceptedRole = getattr(floor, role)
    return accepted


def _serialise(floor: Floor) -> bytes:
    facts: dict[str, Any] = {"accepted_at": floor.accepted_at.isoformat()}
    facts |= {role: _role_facts(_role(floor, role)) for role in ROLES}
    return json.dumps(facts, indent=2).encode() + b"\n"


def _role_facts(role: AcceptedRole) -> Mapping[str, Any]:
    return {"version": role.version, "key_ids": sorted(role.key_ids)}
