"""Files and directories that decide what root does: only root may be able to change them.

Decides who could change a path: the owner of the file, of any link on the way to it, or of any
directory on that way, and everybody whom the mode, or an access list, of one of these lets write.
What passes cannot be exchanged between the look and the use, by anybody who is not trusted. Refuses
nothing where the program does not run as root: then it can do no more than its user.

Whoever can change this program itself is trusted: to them, no refusal here could be an obstacle. On
a machine that is root alone; in a working copy run as root, its owner too. So is the group that may
write to a disk: it can change the whole system anyway.
"""

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec

from updog.errors import UpdogError

_OWN_CODE = Path(__file__)

_JUDGED_BY_OWNER: Final = (stat.S_IFLNK, stat.S_IFBLK, stat.S_IFCHR)
"""The mode of a link means nothing, the group of a disk is trusted, /dev/null keeps nothing."""

_MOST_LINKS: Final = 40
"""The kernel follows no more on the way to one file."""


class _Step(msgspec.Struct, frozen=True, kw_only=True):
    """Something on the way to a path, or the path itself; `is_above` what leads on from here."""

    path: Path
    is_above: bool


class _Trust(msgspec.Struct, frozen=True, kw_only=True):
    """The users and groups that may be able to change a path, and the paths that need no look."""

    users: frozenset[int]
    groups: frozenset[int]
    paths: frozenset[Path]


def require_guarded(path: Path, *, what: str, own_code: Path = _OWN_CODE) -> None:
    """Make sure that nobody but root can change a path, nor what is below it; it need not exist.

    Args:
        path: The file or directory.
        what: What to call it in the error.
        own_code: A file of this program.

    Raises:
        UpdogError: Somebody else can; the text says who, and what to run.
    """
    if os.geteuid() != 0:
        return
    trust = _trust(own_code)
    for step in _deciding(path):
        if step.path in trust.paths:
            continue
        danger = _danger(step, trust)
        if danger is not None:
            raise UpdogError(f"refused to use {what} {path} as root: {danger}")


def _trust(own_code: Path) -> _Trust:
    paths = [step.path for step in _way(own_code)]
    found = [path.lstat() for path in paths]
    return _Trust(
        users=frozenset({0, *(each.st_uid for each in found)}),
        groups=frozenset({0, *(each.st_gid for each in found if _is_shared(each))}),
        paths=frozenset(paths),
    )


def _is_shared(status: os.stat_result) -> bool:
    """Tell whether a group may write; the mode of a link means nothing."""
    return not stat.S_ISLNK(status.st_mode) and bool(status.st_mode & stat.S_IWGRP)


def _deciding(path: Path) -> Iterator[_Step]:
    """Go through all that decides what a path, and what is below it, holds."""
    yield from _way(path)
    for inner in _inside(path):
        yield from _way(inner) if inner.is_symlink() else [_Step(path=inner, is_above=False)]


def _way(path: Path) -> Iterator[_Step]:
    """Walk to a path as the kernel does: over every directory and every link, to what it means."""
    place, to_go, links = Path("/"), [*reversed(path.absolute().parts)], 0
    while to_go:
        name = to_go.pop()
        here = place.parent if name == ".." else place / name
        target = _link_target(here)
        if target is None:
            place = here
            yield _Step(path=here, is_above=bool(to_go))
            continue
        links += 1
        if links > _MOST_LINKS:
            raise UpdogError(f"{path} leads through more than {_MOST_LINKS} links; nothing is read")
        yield _Step(path=here, is_above=True)
        to_go += reversed(target.parts)


def _link_target(path: Path) -> Path | None:
    try:
        return path.readlink()
    except OSError:  # it is no link, or not there
        return None


def _inside(directory: Path) -> Iterator[Path]:
    """Go through all that is below a directory, as far as it does not vanish meanwhile."""
    for place, directories, files in os.walk(directory):
        yield from (Path(place, name) for name in (*directories, *files))


def _danger(step: _Step, trust: _Trust) -> str | None:
    """Say who could change a step of the way, and what prevents it; None if nobody could."""
    path = step.path
    try:
        status = path.lstat()
    except OSError:  # what is not there cannot be changed; its directory is looked at too
        return None
    if status.st_uid not in trust.users:
        return _owned_by_another(path, status)
    mode = stat.S_IMODE(status.st_mode)
    if stat.S_IFMT(status.st_mode) in _JUDGED_BY_OWNER:
        return None
    if step.is_above and mode & stat.S_ISVTX:
        return None  # others can add to a sticky directory like /tmp, not replace what is there
    who = _writers(path, status, trust)
    if who is None:
        return None
    return f"{path} has mode {mode:04o}, so that {who} can change it; run `chmod go-w {path}`"


def _owned_by_another(path: Path, status: os.stat_result) -> str:
    command = "chown -h" if stat.S_ISLNK(status.st_mode) else "chown"
    owner = status.st_uid
    return f"{path} belongs to user {owner}, who can change it; run `{command} root {path}`"


def _writers(path: Path, status: os.stat_result, trust: _Trust) -> str | None:
    """Say whom, apart from the owner, the mode lets write."""
    if status.st_mode & stat.S_IWOTH:
        return "everybody"
    if not status.st_mode & stat.S_IWGRP:
        return None
    if _has_access_list(path):  # then this bit stands for whomever the list names
        return "whoever is named in its access list (getfacl)"
    return None if status.st_gid in trust.groups else f"group {status.st_gid}"


def _has_access_list(path: Path) -> bool:
    try:
        return bool(os.getxattr(path, "system.posix_acl_access"))
    except OSError:  # it has none, or its file system knows none
        return False
