"""One writer at a time: a lock on a directory, which ends with the process that holds it.

Decides that whoever comes second is turned away at once instead of waiting: what it was about to
change has changed by then, and somebody should look at it again.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from repo_tools.errors import RepoToolsError


@contextmanager
def holding(directory: Path, *, taken: str) -> Iterator[None]:
    """Hold a directory against other writers.

    Args:
        directory: must exist.
        taken: what to say when somebody else holds it.

    Raises:
        RepoToolsError: somebody does.
        OSError: the directory cannot be opened.
    """
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        _lock(descriptor, taken)
        yield
    finally:
        os.close(descriptor)


def _lock(descriptor: int, taken: str) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise RepoToolsError(f"{taken}: try again when it is done; nothing was changed") from error
