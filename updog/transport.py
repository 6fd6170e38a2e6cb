"""Bytes from an address: HTTP, HTTPS and `file://`, with patience but not without end.

Decides how often and how long to try, that a broken body is continued where it broke, and which
proxy to use. Refuses to be held: by a server that drips, a body beyond its length, redirects in a
circle or to another scheme. Takes nothing from the environment. Does not judge content: that is for
whoever knows the digest.
"""

import logging
import os
import random
import socket
import ssl
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import unquote, urljoin, urlsplit, urlunsplit

import requests
import structlog
import urllib3

from updog.answers import Broken, Refused, Wanted, read_answer, request_headers
from updog.errors import TransportError
from updog.names import printable, quoted
from updog.patience import PATIENT, PROGRESS_BYTES, Download, Limits, Pace
from updog.proxies import bypasses_proxy

_CHUNK_BYTES = 256 << 10

_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_MOST_REDIRECTS = 5

_log = structlog.get_logger(__name__)

# At DEBUG it logs whole addresses, with whatever secret a redirect put into their query.
logging.getLogger("urllib3").setLevel(logging.INFO)


class Transport:
    """A way to fetch files, one at a time; close it after use.

    Args:
        https_proxy: The address of a proxy for all `http:` and `https:` addresses.
        no_proxy: Hosts, domains and networks that are reached without it.
        limits: How patient to be.
        clock: Seconds that only ever grow.
        sleep: Waits for some seconds.
    """

    def __init__(
        self,
        *,
        https_proxy: str | None = None,
        no_proxy: Sequence[str] = (),
        limits: Limits = PATIENT,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._session = _session()
        self._proxies = {"http": https_proxy, "https": https_proxy} if https_proxy else {}
        self._no_proxy = tuple(no_proxy)
        self._limits = limits
        self._clock = clock
        self._sleep = sleep

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Drop all connections."""
        self._session.close()

    def stream(
        self, url: str, *, length: int | None = None, deadline_seconds: float | None = None
    ) -> Iterator[bytes]:
        """Yield a file's bytes in order, each once, however often the connection breaks.

        Args:
            url: Of scheme https, http or file.
            length: What the file must hold, in bytes, if it is known.
            deadline_seconds: Less patience than the limits' for this file.

        Raises:
            TransportError: The file, or the rest of it, could not be fetched.
        """
        if urlsplit(url).scheme == "file":
            yield from _read_file(url, length)
            return
        patience = self._limits.deadline_seconds if deadline_seconds is None else deadline_seconds
        download = Download(url=url, wanted=Wanted(length=length), deadline_seconds=patience)
        try:
            yield from self._fetch(download)
        except (Refused, Broken) as outcome:
            raise _failure(download, outcome) from outcome

    def _fetch(self, download: Download) -> Iterator[bytes]:
        while True:
            offset = download.wanted.offset
            try:
                yield from self._attempt(download)
            except Broken as outcome:
                if download.wanted.offset - offset >= PROGRESS_BYTES:
                    download.failures = 0
                self._pause(download, outcome)
            else:
                return

    def _attempt(self, download: Download) -> Iterator[bytes]:
        with self._timed(download):
            response = self._ask(download)
        with closing(response):
            body = read_answer(
                response.status_code,
                response.headers,
                wanted=download.wanted,
                now=datetime.now(UTC),
            )
            download.wanted = replace(download.wanted, length=body.length, validator=body.validator)
            yield from self._receive(response, download, skip=body.skip)

    def _receive(
        self, response: requests.Response, download: Download, *, skip: int
    ) -> Iterator[bytes]:
        """Yield a body without its first `skip` bytes."""
        pace = Pace(limits=self._limits)
        while chunk := self._read(response, download, pace=pace):
            fresh = chunk[skip:]
            skip -= len(chunk) - len(fresh)
            if fresh:
                download.receive(len(fresh))
                yield fresh
        download.refuse_short_end()

    def _read(self, response: requests.Response, download: Download, *, pace: Pace) -> bytes:
        before = download.waited_seconds
        with self._timed(download):
            # read1: whatever has come, not all that was asked for, so that the clock is looked at.
            chunk: bytes = response.raw.read1(_CHUNK_BYTES)
        pace.add(download.waited_seconds - before, len(chunk))
        return chunk

    @contextmanager
    def _timed(self, download: Download) -> Iterator[None]:
        """Count the time of one wait for the server, and put its failures into words."""
        start, handled = self._clock(), sys.exception()
        try:
            yield
        except (requests.RequestException, urllib3.exceptions.HTTPError, OSError) as err:
            raise _outcome(list(_causes(err, handled)), self._limits) from err
        finally:
            download.wait(self._clock() - start)

    def _ask(self, download: Download) -> requests.Response:
        """Send the request and follow redirects, up to the header of the answer."""
        url = download.url
        for _ in range(_MOST_REDIRECTS + 1):
            response = self._get(url, request_headers(download.wanted))
            if response.status_code not in _REDIRECTS:
                return response
            response.close()
            url = _redirected(url, response.headers.get("Location", ""))
        raise Refused(f"the server redirected more than {_MOST_REDIRECTS} times")

    def _get(self, url: str, headers: dict[str, str]) -> requests.Response:
        """Exchange one request for the header of its answer.

        By the adapter, not the session: even told not to follow a redirect, a session reads its
        body into memory, however long it is, and chokes on its address.
        """
        request = self._session.prepare_request(requests.Request("GET", url, headers))
        return self._session.get_adapter(url).send(
            request,
            stream=True,
            timeout=(self._limits.connect_timeout_seconds, self._limits.gap_timeout_seconds),
            proxies={} if bypasses_proxy(url, self._no_proxy) else self._proxies,
        )

    def _pause(self, download: Download, outcome: Broken) -> None:
        """Wait before the next attempt, or give up."""
        download.failures += 1
        if download.is_hopeless(self._limits, status=outcome.status):
            raise outcome
        seconds = self._limits.pause_seconds(
            download.failures, asked=outcome.pause_seconds, chance=random.SystemRandom().random()
        )
        download.wait(seconds)
        _log.warning(
            "download interrupted",
            url=public_url(download.url),
            reason=outcome.reason,
            offset_bytes=download.wanted.offset,
            pause_seconds=round(seconds, 1),
        )
        self._sleep(seconds)


def public_url(url: str) -> str:
    """Return an address fit for logs and messages: without user, password, query and fragment."""
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    return printable(urlunsplit((parts.scheme, host, parts.path, "", "")))


def _session() -> requests.Session:
    session = requests.Session()
    # Else REQUESTS_CA_BUNDLE, HTTP_PROXY and ~/.netrc of whoever runs this would have a say.
    session.trust_env = False
    session.headers.update({"User-Agent": "updog", "Accept-Encoding": "identity"})
    return session


def _redirected(url: str, location: str) -> str:
    try:
        target = urljoin(url, location)
        scheme = urlsplit(target).scheme
    except ValueError as err:
        raise Refused(f"the server redirected to {quoted(location)}, which is no address") from err
    if not location or scheme != urlsplit(url).scheme:
        raise Refused(f"the server redirected to {quoted(scheme)}, another scheme")
    return target


def _failure(download: Download, outcome: Refused | Broken) -> TransportError:
    """Put the end of a download into words."""
    offset = download.wanted.offset
    reason = f"{outcome.reason} (at byte {offset})" if offset else outcome.reason
    if isinstance(outcome, Broken):
        times = f", {download.failures} times in a row" if download.failures > 1 else ""
        reason = f"{reason}{times}; try again later"
    return TransportError(public_url(download.url), reason, status=outcome.status)


def _read_file(url: str, length: int | None) -> Iterator[bytes]:
    """Yield a local file; a missing one counts as a 404, as it would on a server."""
    shown = public_url(url)
    path = Path(unquote(urlsplit(url).path))
    try:
        if path.exists() and not path.is_file():
            raise TransportError(shown, "it is no regular file")
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            if length is not None and size != length:
                sizes = f"the file holds {size} bytes, where {length} are expected"
                raise TransportError(shown, sizes)
            while chunk := file.read(_CHUNK_BYTES):
                yield chunk
    except OSError as err:
        missing = 404 if isinstance(err, FileNotFoundError) else None
        raise TransportError(shown, str(err.strerror), status=missing) from err


def _outcome(causes: list[BaseException], limits: Limits) -> Refused | Broken:
    """Judge a failed exchange: what went wrong, and whether another attempt may mend it."""
    proxy = any(isinstance(cause, urllib3.exceptions.ProxyError) for cause in causes)
    reason = ("through the proxy: " if proxy else "") + _reason(causes, limits)
    return Refused(reason) if any(isinstance(c, _HOPELESS) for c in causes) else Broken(reason)


_HOPELESS = (
    ssl.SSLCertVerificationError,
    requests.exceptions.InvalidURL,
    requests.exceptions.InvalidSchema,
    requests.exceptions.InvalidHeader,
)


def _causes(err: BaseException | None, handled: BaseException | None) -> Iterator[BaseException]:
    """Walk from what the libraries raised to what the system said; some hide it in `reason`.

    Stop at an error that the caller was handling already: python-tuf, for one, fetches a file while
    it handles that its copy is missing, and Python hangs the one on the other.
    """
    while err is not None and err is not handled:
        yield err
        hidden = getattr(err, "reason", None)
        err = hidden if isinstance(hidden, BaseException) else err.__cause__ or err.__context__


_MEANINGS: tuple[tuple[type[BaseException], str], ...] = (
    (ssl.SSLCertVerificationError, "its certificate is not trusted: {cause.verify_message}"),
    (ssl.SSLError, "TLS failed: {cause.reason}"),
    (socket.gaierror, "the host name cannot be resolved"),
    (
        urllib3.exceptions.ConnectTimeoutError,
        "no connection within {limits.connect_timeout_seconds:g} s",
    ),
    (urllib3.exceptions.ReadTimeoutError, "no data for {limits.gap_timeout_seconds:g} s"),
    (requests.exceptions.InvalidURL, "it is no usable address"),
    (requests.exceptions.InvalidSchema, "it is no usable address"),
    (requests.exceptions.InvalidHeader, "the server's answer contradicts itself"),
)


def _reason(causes: list[BaseException], limits: Limits) -> str:
    """Say what the innermost cause means that means something; whole library texts show queries."""
    for cause in reversed(causes):
        for kind, words in _MEANINGS:
            if isinstance(cause, kind):
                return printable(words.format(cause=cause, limits=limits))
        if isinstance(cause, OSError) and cause.strerror:
            return cause.strerror
    return "the connection broke off"
