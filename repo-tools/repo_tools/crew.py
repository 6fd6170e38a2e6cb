"""Several files at a time: a few threads, each with its own transport, that share out the work.

Decides that a failure, or Ctrl-C, stops all of them at the next piece of what they read. Does not
know what the work is.
"""

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Final, TypeVar

from repo_tools.source import open_transport
from updog.transport import Transport

_Job = TypeVar("_Job")

WORKERS: Final = 2
_STOP_SECONDS: Final = 2.0


class Stopped(Exception):  # noqa: N818 -- an outcome, not a defect
    """The work was broken off because something else had failed."""


class Crew:
    """Threads that work through jobs; made anew for each list of them."""

    def __init__(self, workers: int = WORKERS) -> None:
        self._workers = workers
        self._stop = threading.Event()
        self._failures: list[BaseException] = []

    def unless_stopped(self, chunks: Iterable[bytes]) -> Iterator[bytes]:
        """Pass pieces on for as long as nothing has failed.

        Raises:
            Stopped: something has.
        """
        for chunk in chunks:
            if self._stop.is_set():
                raise Stopped
            yield chunk

    def run(self, jobs: Iterable[_Job], work: Callable[[_Job, Transport], None]) -> None:
        """Do all jobs; a job raises only what is to stop everything.

        Raises:
            Exception: what a job has raised.
        """
        waiting = deque(jobs)
        threads = [
            # Daemons: a server that is silent must not hold up the end of the program.
            threading.Thread(target=self._work_off, args=(waiting, work), daemon=True)
            for _ in range(min(self._workers, len(waiting)))
        ]
        try:
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        except BaseException:
            self._stop.set()
            for thread in threads:
                thread.join(_STOP_SECONDS)
            raise
        if self._failures:
            raise self._failures[0]

    def _work_off(self, waiting: deque[_Job], work: Callable[[_Job, Transport], None]) -> None:
        try:
            with open_transport() as transport:
                while not self._stop.is_set() and (job := _next(waiting)):
                    work(job[0], transport)
        except Stopped:
            return
        except BaseException as error:  # noqa: BLE001 -- carried over to the thread that waits
            self._failures.append(error)
            self._stop.set()


def _next(waiting: deque[_Job]) -> tuple[_Job] | None:
    """Take a job; other threads do the same."""
    try:
        return (waiting.popleft(),)
    except IndexError:
        return None
