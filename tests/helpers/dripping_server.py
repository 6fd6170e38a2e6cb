"""A server that answers at once with a beginning and then goes on in small drops, for ever.

    with dripping(b"HTTP/1.1 200 OK\\r\\nX: ", b"a") as server:
        ...ask server.url, which must give up by itself...
        assert server.was_left.wait(LONG)

For ever is a minute, so that a client that does not give up fails its test and does not hang it.
"""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

LONG = 30
"""Seconds: more than anything here takes on a machine that works at all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Dripping:
    """A running server: its port, and whether a client has closed its connection."""

    port: int
    was_left: threading.Event = field(default_factory=threading.Event)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


@contextmanager
def dripping(beginning: bytes, drop: bytes, *, pause_seconds: float = 0.02) -> Iterator[Dripping]:
    """Serve every connection so; without a drop only the beginning is sent."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = Dripping(port=listener.getsockname()[1])
        threads: list[threading.Thread] = []

        def serve(connection: socket.socket) -> None:
            with connection:
                _drip(connection, beginning, drop, pause_seconds)
                server.was_left.set()

        def accept() -> None:
            with suppress(OSError):  # the listener was shut down
                while True:
                    connection, _ = listener.accept()
                    threads.append(threading.Thread(target=serve, args=[connection]))
                    threads[-1].start()

        accepting = threading.Thread(target=accept)
        accepting.start()
        try:
            yield server
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            accepting.join()
            for thread in threads:
                thread.join()


def _drip(connection: socket.socket, beginning: bytes, drop: bytes, pause_seconds: float) -> None:
    end = time.monotonic() + 2 * LONG
    connection.settimeout(2 * LONG)
    with suppress(OSError):  # that is how a client leaves that has not read all
        connection.recv(65536)
        connection.sendall(beginning)
        while drop and time.monotonic() < end:
            connection.sendall(drop)
            time.sleep(pause_seconds)
        while connection.recv(65536):
            pass
