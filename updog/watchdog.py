"""A limit for one wait on a connection, whatever the code that waits is doing.

A socket's own timeout starts anew with every byte, and the code that reads a status line, a header
or the length of a chunk looks at no clock. A server that drips one byte at a time could so hold it
for ever. Decides nothing but when a wait has lasted too long, and then shuts the connection down,
which ends any wait for it. Knows no HTTP; what the end means is for whoever waits to say.
"""

import os
import socket
import threading
import time
from contextlib import suppress


class Watchdog:
    """One watcher for one wait at a time; close it after use."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self.line: socket.socket | None = None
        self._due: float | None = None
        self._wakes_at = 0.0
        self._has_bitten = False
        self._is_closed = False

    def hold(self, connection: socket.socket) -> None:
        """Remember which connection is waited for, in place of any other.

        A duplicate of its descriptor: TLS takes the original away from its socket, and a number may
        stand for another file by the time it is used. A connection is not closed before its
        duplicate is.
        """
        line = socket.socket(fileno=os.dup(connection.fileno()))
        with self._changed:
            self.release(self.line)
            self.line = line
            if self._has_bitten:  # it took too long to stand
                self._bite()

    def release(self, line: socket.socket | None) -> None:
        """Forget a connection, if it is still the one that is held."""
        with self._changed:
            if self.line is line and line is not None:
                line.close()
                self.line = None

    def arm(self, seconds: float) -> None:
        """Shut down the connection that is held, or will be, unless disarmed in time."""
        with self._changed:
            self._has_bitten = False
            self._due = time.monotonic() + seconds
            if self._thread is None:
                thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)
                try:
                    thread.start()
                except RuntimeError as err:
                    raise MemoryError("cannot start a thread") from err
                self._thread = thread  # not one that could not be started: nobody can join it
            elif self._due < self._wakes_at:
                self._changed.notify()

    def disarm(self) -> bool:
        """End the wait; tell whether the connection was shut down meanwhile."""
        with self._changed:
            self._due = None
            return self._has_bitten

    def close(self) -> None:
        """Stop watching."""
        with self._changed:
            self._is_closed = True
            self._changed.notify()
        if self._thread is not None:
            self._thread.join()
        self.release(self.line)

    def _watch(self) -> None:
        with self._changed:
            while not self._is_closed:
                left = self._seconds_left()
                if left <= 0:
                    self._bite()
                else:
                    # Not woken for a later time: a wait for each chunk must cost next to nothing.
                    self._wakes_at = time.monotonic() + left
                    self._changed.wait(min(left, threading.TIMEOUT_MAX))

    def _seconds_left(self) -> float:
        return float("inf") if self._due is None else self._due - time.monotonic()

    def _bite(self) -> None:
        self._due, self._has_bitten = None, True
        if self.line is not None:
            with suppress(OSError):  # it is down already
                self.line.shutdown(socket.SHUT_RDWR)
