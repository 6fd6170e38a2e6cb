"""A real HTTP server on loopback that serves a directory, and misbehaves when told to.

    with serving(directory) as server:
        server.misbehave("/image", cut(after_bytes=100), status(503))
        ...fetch server.url + "/image"...
        assert server.requests[1].headers["Range"] == "bytes=100-"

Each misbehaviour spoils one request for its path, in order; after them the path is served as it is,
or by the habit that `server.always("/metadata/*", status(503))` gave it.
"""

import hashlib
import re
import ssl
import sys
import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from email.message import Message
from fnmatch import fnmatch
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import cast
from urllib.parse import unquote, urlsplit

Misbehaviour = Callable[["Handler", bytes], None]


@dataclass(frozen=True, slots=True)
class Request:
    """What a client asked for, and from which of its ports."""

    target: str
    headers: Message
    port: int


@dataclass(slots=True, kw_only=True)
class Server:
    """A running server: its address, what it was asked, and how it is to misbehave.

    `close()` ends it early: from then on nobody listens, though what was begun is ended.
    """

    directory: Path
    url: str = ""
    requests: list[Request] = field(default_factory=list)
    plans: dict[str, deque[Misbehaviour]] = field(default_factory=lambda: defaultdict(deque))
    habits: dict[str, Misbehaviour] = field(default_factory=dict)
    close: Callable[[], None] = lambda: None

    def misbehave(self, path: str, *misbehaviours: Misbehaviour) -> None:
        """Spoil the next requests for a path."""
        self.plans[path].extend(misbehaviours)

    def always(self, pattern: str, misbehaviour: Misbehaviour) -> None:
        """Spoil every request for the paths of a shell pattern."""
        self.habits[pattern] = misbehaviour

    def behave(self) -> None:
        """Serve everything as it is from now on."""
        self.plans.clear()
        self.habits.clear()

    def next_misbehaviour(self, path: str) -> Misbehaviour | None:
        """Return how the next request for a path is to be spoilt, if at all."""
        if plan := self.plans[path]:
            return plan.popleft()
        return next((each for pattern, each in self.habits.items() if fnmatch(path, pattern)), None)

    def asked_for(self, path: str) -> list[Request]:
        """Return the requests for a path."""
        return [each for each in self.requests if urlsplit(each.target).path == path]


class Handler(BaseHTTPRequestHandler):
    """Answers one request from the directory, or by the next misbehaviour."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # else each answer waits 40 ms for an acknowledgement

    @property
    def played(self) -> Server:
        return cast("_HttpServer", self.server).played

    def do_GET(self) -> None:
        self.played.requests.append(Request(self.path, self.headers, self.client_address[1]))
        path = self._path()
        misbehave = self.played.next_misbehaviour(path)
        body = self._body(path)
        with suppress(ConnectionError):
            if misbehave:
                misbehave(self, body or b"")
            elif body is None:
                self.answer(404, b"")
            else:
                self.serve(body)

    def _path(self) -> str:
        """Return the path; what a proxy is asked for stays a whole address."""
        whole = self.path.startswith("http")
        return self.path if whole else unquote(urlsplit(self.path).path)

    def _body(self, path: str) -> bytes | None:
        file = self.played.directory / path.lstrip("/")
        return file.read_bytes() if file.is_file() else None

    def serve(self, body: bytes) -> None:
        """Answer as a good server does, ranges included."""
        offset = self.wanted_offset(body)
        if offset is None:
            self.answer(200, body, etag=etag(body))
        else:
            self.answer(206, body[offset:], etag=etag(body), content_range=rest(offset, body))

    def wanted_offset(self, body: bytes) -> int | None:
        """Return where the asked range starts; None asks for the whole."""
        match = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        condition = self.headers.get("If-Range", etag(body))
        return int(match[1]) if match and condition == etag(body) else None

    def answer(self, code: int, body: bytes, **headers: str) -> None:
        """Send a whole answer; a header's name is written with underscores."""
        self.head(code, {"Content-Length": str(len(body))} | _named(headers))
        self.wfile.write(body)

    def head(self, code: int, headers: Mapping[str, str]) -> None:
        """Send status and header fields."""
        self.send_response(code)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()

    def hang_up(self) -> None:
        """Close the connection after what was sent."""
        self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Keep quiet."""


class _HttpServer(ThreadingHTTPServer):
    daemon_threads = True
    played: Server

    def handle_error(self, request: object, client_address: object) -> None:
        """Keep quiet when a client hangs up: many are meant to."""
        if not isinstance(sys.exception(), ConnectionError | ssl.SSLError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]


@contextmanager
def serving(directory: Path, *, tls: ssl.SSLContext | None = None) -> Iterator[Server]:
    """Serve a directory on a free port of loopback, by HTTPS where a context is given."""
    http = _HttpServer(("127.0.0.1", 0), Handler)
    if tls is not None:
        http.socket = tls.wrap_socket(http.socket, server_side=True, do_handshake_on_connect=False)
    scheme = "http" if tls is None else "https"
    http.played = Server(directory=directory, url=f"{scheme}://127.0.0.1:{http.server_port}")
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})

    def close() -> None:
        http.shutdown()
        http.server_close()

    http.played.close = close
    thread.start()
    try:
        yield http.played
    finally:
        close()
        thread.join()


def etag(body: bytes) -> str:
    """Return the entity tag that the server gives a body."""
    return f'"{hashlib.sha256(body).hexdigest()[:16]}"'


def rest(offset: int, body: bytes) -> str:
    """Return the Content-Range of a body from an offset on."""
    return f"bytes {offset}-{len(body) - 1}/{len(body)}"


def status(code: int, **headers: str) -> Misbehaviour:
    """Answer with a status and no body."""
    return lambda handler, _body: handler.answer(code, b"", **headers)


def instead(content: bytes, **headers: str) -> Misbehaviour:
    """Serve other content than what is there."""
    return lambda handler, _body: handler.answer(200, content, **headers)


def cut(*, after_bytes: int) -> Misbehaviour:
    """Announce the whole, or the rest that was asked for, and hang up after some bytes of it."""

    def behave(handler: Handler, body: bytes) -> None:
        offset = handler.wanted_offset(body)
        sent = body if offset is None else body[offset:]
        ranged = {} if offset is None else {"Content-Range": rest(offset, body)}
        length = {"Content-Length": str(len(sent)), "ETag": etag(body)}
        handler.head(200 if offset is None else 206, length | ranged)
        handler.wfile.write(sent[:after_bytes])
        handler.hang_up()

    return behave


def cut_at(end: int) -> Misbehaviour:
    """Announce the whole, or the rest that was asked for, and hang up before a byte of the file."""

    def behave(handler: Handler, body: bytes) -> None:
        cut(after_bytes=max(0, end - (handler.wanted_offset(body) or 0)))(handler, body)

    return behave


def drip(*, pause_seconds: float, count: int = 100) -> Misbehaviour:
    """Announce the whole, send some bytes one at a time with a pause after each, and hang up."""

    def behave(handler: Handler, body: bytes) -> None:
        handler.head(200, {"Content-Length": str(len(body))})
        for number in range(count):
            handler.wfile.write(body[number : number + 1])
            time.sleep(pause_seconds)
        handler.hang_up()

    return behave


def chunked(content: bytes) -> Misbehaviour:
    """Send content without telling its length first."""

    def behave(handler: Handler, _body: bytes) -> None:
        handler.head(200, {"Transfer-Encoding": "chunked"})
        handler.wfile.write(f"{len(content):x}\r\n".encode() + content + b"\r\n0\r\n\r\n")

    return behave


def partial(content: bytes, *, content_range: str) -> Misbehaviour:
    """Answer with a part, and say of it whatever is wanted."""
    return lambda handler, _body: handler.answer(206, content, content_range=content_range)


def endless(code: int, **headers: str) -> Misbehaviour:
    """Answer with a status and a body that does not end."""

    def behave(handler: Handler, _body: bytes) -> None:
        handler.head(code, _named(headers))
        while True:
            handler.wfile.write(bytes(65536))

    return behave


def ignoring_range() -> Misbehaviour:
    """Serve the whole, whatever part was asked for."""
    return lambda handler, body: handler.answer(200, body, etag=etag(body))


def _named(headers: Mapping[str, str]) -> dict[str, str]:
    return {name.replace("_", "-").title(): value for name, value in headers.items()}
