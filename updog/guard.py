"""Files and directories that decide what root does: only root may be able to change them.

Decides who could change a path: the owner of the file, of a link to it, or of a directory above it,
and everybody whom the mode of one of these lets write. What passes cannot be exchanged between the
look and the use, by anybody who is not trusted. Refuses nothing where the program does not
run as root: then it can do no more than its user.

Whoever can change this program itself is trusted: to them, no refusal here could be an obstacle. On
a machine that is root alone; in a working copy run as root, its owner too.
"""

import itertools
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from updog.errors import UpdogError

_OWN_CODE = Path(__file__)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Trust:
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
    held = _deciding(path)
    for each in itertools.chain(held, _inside(path)):
        if each in trust.paths:
            continue
        danger = _danger(each, trust, is_above=each in held[2:])
        if danger is not None:
            raise UpdogError(f"refused to use {what} {path} as root: {danger}")


def _trust(own_code: Path) -> _Trust:
    paths = _deciding(own_code)
    found = [path.stat() for path in paths]
    return _Trust(
        users=frozenset({0, *(each.st_uid for each in found)}),
        groups=frozenset({0, *(each.st_gid for each in found if each.st_mode & stat.S_IWGRP)}),
        paths=frozenset(paths),
    )


def _deciding(path: Path) -> list[Path]:
    """Return the path, what it means if it is a link, and all directories above both."""
    named, meant = path.absolute(), Path(os.path.realpath(path))
    return [named, meant, *named.parents, *meant.parents]


def _inside(directory: Path) -> Iterator[Path]:
    """Go through all that is below a directory, as far as it does not vanish meanwhile."""
    for place, directories, files in os.walk(directory):
        yield from (Path(place, name) for name in (*directories, *files))


def _danger(path: Path, trust: _Trust, *, is_above: bool) -> str | None:
    """Say who could change a path, and what prevents it; None if nobody could."""
    try:
        status = path.lstat()
    except OSError:  # what is not there cannot be changed; its directory is looked at too
        return None
    if status.st_uid not in trust.users:
        return f"{path} belongs to user {status.st_uid}, who can change it; run `chown root {path}`"
    mode = stat.S_IMODE(status.st_mode)
    if stat.S_ISLNK(status.st_mode) or (is_above and mode & stat.S_ISVTX):
        return None  # others can add to a sticky directory like /tmp, not replace what is there
    by_group = mode & stat.S_IWGRP and status.st_gid not in trust.groups
    if by_group or mode & stat.S_IWOTH:
        who = "everybody" if mode & stat.S_IWOTH else f"group {status.st_gid}"
        return f"{path} has mode {mode:04o}, so that {who} can change it; run `chmod go-w {path}`"
    return None
