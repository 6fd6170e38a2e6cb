"""A small static HTTP server for trials: what a repository needs of one, on loopback.

Decides how a file is answered: whole, or the one range asked for as long as it is still the same
file (RFC 9110, 13.1.5 and 14), with an entity tag that changes when the file is replaced; and, for
trials of bad networks, in which of its answers it commits the faults that it was told to. Refuses
every path outside its directory, hidden files, directory listings and methods other than GET and
HEAD. Not for the open internet.
"""

import errno
import random
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from email.utils import formatdate
from functools import partial
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BufferedReader
from os import fstat
from pathlib import Path
from urllib.parse import unquote, urlsplit

from repo_tools.byterange import ByteRange, parse_range
from repo_tools.errors import AddressInUseError, RepoToolsError
from repo_tools.faults import FLAWLESS, Faults
from updog.patience import Throttle

LOOPBACK = "127.0.0.1"
_IDLE_SECONDS = 60


class StaticServer(ThreadingHTTPServer):
    """Serves the files under one directory, a thread a connection."""

    daemon_threads = True

    def __init__(
        self,
        directory: Path,
        *,
        port: int,
        log_requests: bool = False,
        faults: Faults = FLAWLESS,
    ) -> None:
        self.directory = directory.resolve()
        self.log_requests = log_requests
        self._faults = faults
        self._throttle = Throttle(bytes_per_second=faults.bytes_per_second)
        self._chance = random.Random(faults.seed)  # noqa: S311 -- trials are to be repeated
        self._lock = threading.Lock()
        super().__init__((LOOPBACK, port), _FileRequest)

    def faults_for(self, path: str) -> Faults:
        """Return what is to go wrong with an answer."""
        return self._faults if self._faults.concern(path) else FLAWLESS

    def draw_status(self, faults: Faults) -> int | None:
        """Return the status to answer this request with instead of the file, if so."""
        with self._lock:
            return faults.status(self._chance.random()) if faults.statuses else None

    def pause_seconds(self, count: int) -> float:
        """Count bytes that are about to be sent; return how long to wait before."""
        with self._lock:
            return self._throttle.pause_seconds(count, now=time.monotonic())

    @property
    def piece_bytes(self) -> int:
        """How much to send at once where it is counted."""
        return self._throttle.piece_bytes

    @property
    def url(self) -> str:
        """The address of the directory, without a slash at its end."""
        return f"http://{LOOPBACK}:{self.server_port}"

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing of clients that went away; anything else is a defect and is shown."""
        if not isinstance(sys.exc_info()[1], ConnectionError | TimeoutError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]


def open_server(
    directory: Path, *, port: int, log_requests: bool = False, faults: Faults = FLAWLESS
) -> StaticServer:
    """Bind a server on loopback; port 0 takes a free one.

    Raises:
        AddressInUseError: the port is taken.
        RepoToolsError: there is no such directory, or the port may not be used.
    """
    if not directory.is_dir():
        raise RepoToolsError(f"cannot serve {directory}: it is not a directory")
    try:
        return StaticServer(directory, port=port, log_requests=log_requests, faults=faults)
    except OSError as error:
        message = f"cannot serve on {LOOPBACK}:{port}: {error.strerror}"
        if error.errno == errno.EADDRINUSE:
            raise AddressInUseError(message) from error
        raise RepoToolsError(message) from error


@contextmanager
def serving(directory: Path, *, port: int = 0, faults: Faults = FLAWLESS) -> Iterator[StaticServer]:
    """Serve from a thread of this process while the block runs."""
    with open_server(directory, port=port, faults=faults) as server:
        thread = threading.Thread(target=partial(server.serve_forever, poll_interval=0.02))
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


class _FileRequest(BaseHTTPRequestHandler):
    """One connection: any number of GET and HEAD requests for files."""

    protocol_version = "HTTP/1.1"
    server_version = "repo-tools"
    sys_version = ""
    timeout = _IDLE_SECONDS
    disable_nagle_algorithm = True
    """Headers and body go out apart: without this a small answer waits 40 ms for a delayed ACK."""

    server: StaticServer
    _faults: Faults = FLAWLESS

    def do_GET(self) -> None:
        """Answer with a file or a range of it."""
        self._answer(with_body=True)

    def do_HEAD(self) -> None:
        """Answer with a file's headers."""
        self._answer(with_body=False)

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """Log only if the server was asked to."""
        if self.server.log_requests:
            super().log_request(code, size)

    def log_error(self, format: str, *args: object) -> None:  # noqa: A002 -- the base class's name
        """Leave errors to the request log."""

    def _answer(self, *, with_body: bool) -> None:
        self._faults = self.server.faults_for(unquote(urlsplit(self.path).path))
        time.sleep(self._faults.latency_seconds)
        status = self.server.draw_status(self._faults)
        if status is not None:
            self.send_error(status)
            return
        opened = self._open()
        if opened is None:
            self.send_error(HTTPStatus.NOT_FOUND)
            return
        with opened as file:
            facts = _FileFacts.of(file)
            wanted = self._wanted_range(facts)
            if wanted is not None and not wanted.is_satisfiable:
                self._refuse_range(facts)
                return
            self._send_headers(facts, wanted)
            if with_body:
                self._send_body(file, wanted or ByteRange(start=0, stop=facts.length))

    def _open(self) -> BufferedReader | None:
        """Open the file that the request names, None for anything but a visible file inside."""
        names = unquote(urlsplit(self.path).path).split("/")[1:]
        if any(name.startswith(".") or "\0" in name for name in names):
            return None
        try:
            path = self.server.directory.joinpath(*names).resolve()
            if not path.is_relative_to(self.server.directory) or not path.is_file():
                return None
            return path.open("rb")
        except (OSError, RuntimeError):  # RuntimeError: links that lead in a circle
            return None

    def _wanted_range(self, facts: "_FileFacts") -> ByteRange | None:
        condition = self.headers.get("If-Range")
        if condition is not None and condition != facts.entity_tag:
            return None
        if not self._faults.has_ranges:
            return None
        return parse_range(self.headers.get("Range", ""), facts.length)

    def _refuse_range(self, facts: "_FileFacts") -> None:
        self.send_response(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE)
        self.send_header("Content-Range", f"bytes */{facts.length}")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _send_headers(self, facts: "_FileFacts", wanted: ByteRange | None) -> None:
        self.send_response(HTTPStatus.PARTIAL_CONTENT if wanted else HTTPStatus.OK)
        sent = wanted or ByteRange(start=0, stop=facts.length)
        if wanted:
            content_range = f"bytes {sent.start}-{sent.stop - 1}/{facts.length}"
            self.send_header("Content-Range", content_range)
        self.send_header("Content-Length", str(sent.stop - sent.start))
        self.send_header("Content-Type", facts.content_type)
        self.send_header("Accept-Ranges", "bytes" if self._faults.has_ranges else "none")
        self.send_header("ETag", facts.entity_tag)
        self.send_header("Last-Modified", facts.last_modified)
        self.end_headers()

    def _send_body(self, file: BufferedReader, sent: ByteRange) -> None:
        self.wfile.flush()
        if self._faults.spoil_bodies:
            self._send_spoilt(file, sent)
        elif sent.is_satisfiable:
            self.connection.sendfile(file, offset=sent.start, count=sent.stop - sent.start)

    def _send_spoilt(self, file: BufferedReader, sent: ByteRange) -> None:
        """Send a body as slow, as wrong and as far as the faults say."""
        cut = self._faults.close_after_bytes
        stop = sent.stop if cut is None else min(sent.stop, sent.start + cut)
        file.seek(sent.start)
        for start in range(sent.start, stop, self.server.piece_bytes):
            piece = file.read(min(self.server.piece_bytes, stop - start))
            time.sleep(self.server.pause_seconds(len(piece)))
            self.wfile.write(self._faults.corrupted(piece, start))
        self.close_connection = self.close_connection or stop < sent.stop


@dataclass(frozen=True, slots=True, kw_only=True)
class _FileFacts:
    """What the headers say of a file."""

    length: int
    entity_tag: str
    last_modified: str
    content_type: str

    @classmethod
    def of(cls, file: BufferedReader) -> "_FileFacts":
        status = fstat(file.fileno())
        return cls(
            length=status.st_size,
            entity_tag=f'"{status.st_ino:x}-{status.st_mtime_ns:x}-{status.st_size:x}"',
            last_modified=formatdate(status.st_mtime, usegmt=True),
            content_type=(
                "application/json" if file.name.endswith(".json") else "application/octet-stream"
            ),
        )
