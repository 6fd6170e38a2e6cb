"""The digests of a stream, computed by another thread while the next piece is fetched or made."""

import hashlib
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Final, Self

_WORTH_A_THREAD_BYTES: Final = 64 << 10


class BackgroundDigests:
    """Digests of one stream; to be used as a context.

    At most one piece is behind: whoever makes pieces faster than they are hashed is held up.

    Args:
        algorithms: names that `hashlib.new` knows.
    """

    def __init__(self, algorithms: Iterable[str]) -> None:
        self._hashes = {name: hashlib.new(name) for name in algorithms}
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="digest")
        self._running: Future[None] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.shutdown()

    def update(self, piece: bytes) -> None:
        """Take the next piece in.

        Raises:
            MemoryError: no thread can be started.
        """
        self._wait()
        if len(piece) < _WORTH_A_THREAD_BYTES:
            self._take(piece)
            return
        try:
            self._running = self._thread.submit(self._take, piece)
        except RuntimeError as err:
            raise MemoryError from err

    def hexdigests(self) -> dict[str, str]:
        """Return the digests of all that was taken in, in hexadecimal, by their algorithms."""
        self._wait()
        return {name: each.hexdigest() for name, each in self._hashes.items()}

    def _take(self, piece: bytes) -> None:
        for each in self._hashes.values():
            each.update(piece)

    def _wait(self) -> None:
        if self._running is not None:
            self._running.result()
            self._running = None
