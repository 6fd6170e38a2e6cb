"""One run at a time: an advisory lock on a file that also names who holds it."""

import errno
import fcntl
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from updog.durable import make_directory
from updog.errors import Locked, UpdogError

_FORBIDDEN = (errno.EACCES, errno.EPERM)
_LOCKS = Path("/proc/locks")


@contextmanager
def only_run(path: Path) -> Iterator[None]:
    """Hold the agent's lock; the kernel releases it however this process ends.

    Raises:
        Locked: another run holds it.
        UpdogError: the lock file cannot be made.
    """
    descriptor = _open(path)
    try:
        _take(descriptor, path)
        yield
    finally:
        os.close(descriptor)


def find_holder(path: Path) -> int | None:
    """Return the process that holds the lock, if one does, without touching the lock.

    Trying the lock would for a moment be a run of its own, and send another one away.
    """
    try:
        status = path.stat()
        locks = _LOCKS.read_text(encoding="ascii").splitlines()
        written = _number(path.read_bytes()[:32]) if stat.S_ISREG(status.st_mode) else None
    except (OSError, ValueError):
        return None
    device = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}"
    for fields in map(str.split, locks):
        if len(fields) < 6 or fields[1] != "FLOCK":
            continue
        holder, (where, _, inode) = _number(fields[4].encode()), fields[5].rpartition(":")
        # On layered file systems the kernel names another device than stat does.
        if inode == str(status.st_ino) and (where == device or holder == written):
            return holder or written
    return None


def _open(path: Path) -> int:
    try:
        make_directory(path.parent)
        # O_NONBLOCK: else the wrong kind of file could hold the run up.
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK
        descriptor = os.open(path, flags, 0o644)
    except OSError as err:
        hint = "; run as root" if err.errno in _FORBIDDEN else ""
        raise UpdogError(f"cannot open the lock {path}: {err.strerror}{hint}") from err
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise UpdogError(f"cannot use {path} as the lock: it is no regular file; remove it")
    return descriptor


def _take(descriptor: int, path: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as err:
        pid = _number(os.pread(descriptor, 32, 0))
        who = f"process {pid}" if pid else "another process"
        raise Locked(f"{who} is at work already; nothing was changed", pid=pid) from err
    except OSError as err:
        raise UpdogError(f"cannot take the lock {path}: {err.strerror}") from err
    with suppress(OSError):  # a courtesy to other runs, which a full disk may forbid
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)


def _number(text: bytes) -> int | None:
    digits = text.strip()
    return int(digits) if digits.isdigit() else None
