"""The health checks of the running system: which there are, and running one within its limits.

Decides which executables are checks, which of two with the same name counts, and when one that
hangs is ended. A check passes with exit code 0. It gets a small fixed environment and no input, and
whatever it has started is ended with it. Refuses, as root, one that somebody else could change.
What follows from the results is decided in `updog.health`.
"""

import os
import selectors
import signal
import stat
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

import msgspec
from msgspec.structs import replace

from updog.errors import UpdogError
from updog.guard import require_guarded
from updog.health import Checked, HealthRecord, Limits
from updog.units import number

_ENVIRONMENT: Final = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"}

_PLACES: Final = (("", True), ("required.d", True), ("wanted.d", False))
"""Below a directory: where checks are, and whether they decide. The first counts here too."""

_LEFTOVERS: Final = (".rpmsave", ".rpmnew", ".rpmorig", ".bak", ".orig", ".swp", "~")
_KEPT_BYTES: Final = 4096
_MOST_DRAINED_BYTES: Final = 1 << 20
_PATIENCE_SECONDS: Final = 5.0
"""How long a killed check may take to be gone; one that hangs in the kernel never is."""


class Check(msgspec.Struct, frozen=True, kw_only=True):
    """An executable that finds out whether the system is healthy."""

    name: str
    path: Path
    is_required: bool


def find_checks(directories: Sequence[Path]) -> tuple[Check, ...]:
    """Return the checks in the order in which they are run: that of their names.

    A check in an earlier directory takes the place of one with the same name in a later one,
    whether it is required there or wanted. A link to /dev/null, or an empty file, masks the name.

    Raises:
        UpdogError: a directory cannot be read, or others than root could mask a check.
    """
    found: dict[str, Check] = {}
    for directory in directories:
        for place, is_required in _PLACES:
            for path in _entries(directory / place):
                check = Check(name=path.name, path=path, is_required=is_required)
                found.setdefault(path.name, check)
    checks = (found[name] for name in sorted(found))
    return tuple(check for check in checks if not _is_mask(check.path))


def _entries(directory: Path) -> Iterator[Path]:
    try:
        entries = sorted(directory.iterdir())
    except OSError as err:
        if isinstance(err, FileNotFoundError) and not directory.is_symlink():
            return
        raise UpdogError(f"cannot read the health checks in {directory}: {err.strerror}") from err
    yield from (entry for entry in entries if _is_check(entry))


def _is_check(path: Path) -> bool:
    """Leave out directories, hidden files, and what editors and package managers leave behind."""
    name = path.name
    is_leftover = name.startswith(".") or name.endswith(_LEFTOVERS) or ".dpkg-" in name
    return not is_leftover and not path.is_dir()


def _is_mask(path: Path) -> bool:
    try:
        status = path.stat()
    except OSError:  # a link that leads nowhere: running it will tell
        return False
    is_null = stat.S_ISCHR(status.st_mode) and status.st_rdev == os.makedev(1, 3)
    is_mask = is_null or (stat.S_ISREG(status.st_mode) and status.st_size == 0)
    if is_mask:
        require_guarded(path, what="the mask of a health check")
    return is_mask


def run_checks(
    record: HealthRecord,
    checks: Sequence[Check],
    limits: Callable[[str], Limits],
) -> Iterator[HealthRecord]:
    """Run checks one after the other; each is run whatever became of those before it.

    Yields:
        The record as it grows: before each check, and at last one that is done.
    """
    for check in checks:
        record = replace(record, running=check.name)
        yield record
        ended = run_check(check, limits(check.name))
        record = replace(record, checks=(*record.checks, ended))
    yield replace(record, running=None, is_done=True)


def run_check(check: Check, limits: Limits) -> Checked:
    """Run a check until it passes or its retries are used up."""
    started = time.monotonic()
    attempts = 0
    while True:
        attempts += 1
        attempt = _attempt(check, limits.timeout_seconds)
        if attempt.failure is None or attempt.is_final or attempts > limits.retries:
            break
        time.sleep(limits.retry_after_seconds)
    return Checked(
        name=check.name,
        is_required=check.is_required,
        failure=attempt.failure,
        exit_code=attempt.exit_code,
        output=attempt.output,
        attempts=attempts,
        seconds=round(time.monotonic() - started, 3),
    )


class _Attempt(msgspec.Struct, frozen=True, kw_only=True):
    """One run; `is_final` if another one cannot end otherwise."""

    failure: str | None
    exit_code: int | None = None
    output: str = ""
    is_final: bool = False


def _attempt(check: Check, timeout_seconds: float) -> _Attempt:
    try:
        require_guarded(check.path, what="the health check")
        process = subprocess.Popen(
            [check.path],
            cwd="/",
            env=_ENVIRONMENT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # a group of its own, to be ended as a whole
        )
    except UpdogError as err:
        return _Attempt(failure=str(err), is_final=True)
    except OSError as err:
        return _Attempt(failure=f"cannot be started: {_why_not_started(err)}", is_final=True)
    return _attend(process, timeout_seconds)


def _why_not_started(err: OSError) -> str:
    if isinstance(err, PermissionError):
        return f"{err.strerror}; `chmod +x` makes it a check, a link to /dev/null masks it"
    return err.strerror or str(err)


def _attend(process: subprocess.Popen[bytes], timeout_seconds: float) -> _Attempt:
    """Wait for a check, and end it, and whatever it has started, when its time is over."""
    watch = _Watch(process)
    try:
        has_ended = watch.wait(timeout_seconds)
    finally:
        # Before it is reaped: until then no other process can have its number.
        os.killpg(process.pid, signal.SIGKILL)
        watch.close()
    output = watch.output.decode("utf-8", errors="replace").strip()
    try:
        code = process.wait(_PATIENCE_SECONDS)
    except subprocess.TimeoutExpired:
        why = f"did not end in {number(timeout_seconds)} s and cannot be killed"
        return _Attempt(failure=why, output=output, is_final=True)
    if not has_ended:
        return _Attempt(failure=f"did not end in {number(timeout_seconds)} s", output=output)
    return _Attempt(failure=_ending(code), exit_code=code if code >= 0 else None, output=output)


def _ending(code: int) -> str | None:
    if code >= 0:
        return f"exit {code}" if code else None
    known = -code in set(signal.Signals)
    return f"ended by {signal.Signals(-code).name if known else f'signal {-code}'}"


class _Watch:
    """Follows a process and its output, of which the end is kept."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        if process.stdout is None:
            raise AssertionError("the output of the process is not a pipe")
        self.output = b""
        self._pipe = process.stdout
        os.set_blocking(self._pipe.fileno(), False)
        self._end = os.pidfd_open(process.pid)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._pipe, selectors.EVENT_READ)
        self._selector.register(self._end, selectors.EVENT_READ)

    def wait(self, timeout_seconds: float) -> bool:
        """Follow the process to its end; return whether it came in time."""
        deadline = time.monotonic() + timeout_seconds
        while (left := deadline - time.monotonic()) > 0:
            ready = {key.fileobj for key, _ in self._selector.select(left)}
            if self._end in ready:
                self._drain()
                return True
            if self._pipe in ready and self._read() == 0:
                self._selector.unregister(self._pipe)
        return False

    def close(self) -> None:
        """Let go of the process."""
        self._selector.close()
        os.close(self._end)
        self._pipe.close()

    def _read(self) -> int:
        """Take what is there; return its length, 0 at the end."""
        data = os.read(self._pipe.fileno(), 1 << 16)
        self.output = (self.output + data)[-_KEPT_BYTES:]
        return len(data)

    def _drain(self) -> None:
        """Take what the process left in the pipe; what it started may still be writing."""
        taken = 0
        while taken < _MOST_DRAINED_BYTES:
            try:
                count = self._read()
            except BlockingIOError:
                return
            if count == 0:
                return
            taken += count
