"""Bytes from an address: HTTP, HTTPS and `file://`, with patience but not without end.

Decides how often and how long to try, that a broken body is continued where it broke, on the next
mirror if need be. Refuses to be held: by a server that drips, a body beyond its length, redirects
in a circle or to another scheme. Takes nothing from the environment. Does not judge content: that
is for whoever knows the digest.
"""

import os
import random
import sys
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Self
from urllib.parse import unquote, urljoin, urlsplit, urlunsplit

import msgspec
import structlog
from msgspec.structs import replace

from updog.answers import Broken, Refused, Wanted, read_answer, request_headers
from updog.connections import FAILURES, Answer, Connections, judge_failure
from updog.errors import TransportError
from updog.names import printable, quoted
from updog.patience import (
    MOST_PIECE_BYTES,
    PATIENT,
    PROGRESS_BYTES,
    Download,
    Limits,
    Pace,
    Throttle,
    too_slow,
)
from updog.proxies import Proxies
from updog.tls import TlsSettings, load_tls
from updog.watchdog import Watchdog

_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_MOST_REDIRECTS = 5

_log = structlog.get_logger(__name__)


class Network(msgspec.Struct, frozen=True, kw_only=True):
    """How this machine reaches others, and what it shows of itself.

    Attributes:
        proxies: What to reach `http:` and `https:` addresses through.
        tls: Whom to trust, and as whom to appear.
        max_bytes_per_second: A limit over everything that is fetched; none if None.
        query: What to tell every server, as parameters of its addresses. What a server redirects to
            is not given them: such addresses are often signed.
    """

    proxies: Proxies = msgspec.field(default_factory=Proxies)
    tls: TlsSettings = msgspec.field(default_factory=TlsSettings)
    max_bytes_per_second: int | None = None
    query: Mapping[str, str] = msgspec.field(default_factory=dict)


PLAIN = Network()
"""Nothing but the defaults."""


class Transport:
    """A way to fetch files, one at a time; close it after use.

    Args:
        network: What the settings say.
        limits: How patient to be.
        clock: Seconds that only ever grow.
        sleep: Waits for some seconds.

    Raises:
        ConfigError: A file that `network.tls` names cannot be used.
    """

    def __init__(
        self,
        *,
        network: Network = PLAIN,
        limits: Limits = PATIENT,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._watchdog = Watchdog()
        self._connections = Connections(
            tls=load_tls(network.tls),
            proxies=network.proxies,
            limits=limits,
            watchdog=self._watchdog,
        )
        self._throttle = Throttle(bytes_per_second=network.max_bytes_per_second)
        self._query = network.query
        self._limits = limits
        self._clock = clock
        self._sleep = sleep

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Drop all connections."""
        self._connections.close()
        self._watchdog.close()

    def stream(
        self,
        url: str | Sequence[str],
        *,
        length: int | None = None,
        offset: int = 0,
        deadline_seconds: float | None = None,
        on_failure: Callable[[str], None] = lambda _url: None,
    ) -> Generator[bytes, None, None]:
        """Yield a file's bytes in order, each once, however often the connection breaks.

        Args:
            url: Of scheme https, http or file; or several of the same file. When one of them has
                failed for good, the next goes on where it ended.
            length: What the file must hold, in bytes, if it is known.
            offset: How many of its bytes are here already: those that follow are fetched.
            deadline_seconds: Less patience than the limits' for this file, by each address.
            on_failure: Is told each address that has failed for good.

        Raises:
            TransportError: The file, or the rest of it, could not be fetched; the text names each
                address and its reason.
        """
        patience = self._limits.deadline_seconds if deadline_seconds is None else deadline_seconds
        failures: list[TransportError] = []
        for each in (url,) if isinstance(url, str) else url:
            if failures:
                _log.warning("mirror", summary=f"{failures[-1]}; going on at the next mirror")
            # No validator: what one server calls this version says nothing to another.
            wanted = Wanted(length=length, offset=offset)
            download = Download(url=each, wanted=wanted, deadline_seconds=patience)
            try:
                yield from self._fetch(download)
            except (Refused, Broken) as outcome:
                failures.append(_failure(download, outcome))
                on_failure(each)
                offset = download.wanted.offset
            else:
                return
        raise together(failures) from failures[-1]

    def _fetch(self, download: Download) -> Iterator[bytes]:
        if urlsplit(download.url).scheme == "file":
            yield from _read_file(download)
            return
        while True:
            offset = download.wanted.offset
            try:
                yield from self._attempt(download)
            except Broken as outcome:
                if download.wanted.offset and download.is_whole:
                    return  # only the end of the answer is missing, not of the file
                if download.wanted.offset - offset >= PROGRESS_BYTES:
                    download.failures = 0
                self._pause(download, outcome)
            else:
                return

    def _attempt(self, download: Download) -> Iterator[bytes]:
        with closing(self._ask(download)) as answer:
            body = read_answer(
                answer.status, answer.headers, wanted=download.wanted, now=datetime.now(UTC)
            )
            if body is None:
                return
            download.wanted = replace(download.wanted, length=body.length, validator=body.validator)
            yield from self._receive(answer, download, skip=body.skip)

    def _receive(self, answer: Answer, download: Download, *, skip: int) -> Iterator[bytes]:
        """Yield a body without its first `skip` bytes."""
        pace = Pace(limits=self._limits)
        while chunk := self._read(answer, download, pace=pace):
            fresh = chunk[skip:]
            skip -= len(chunk) - len(fresh)
            if fresh:
                download.receive(len(fresh))
                yield fresh
        download.refuse_short_end()

    def _read(self, answer: Answer, download: Download, *, pace: Pace) -> bytes:
        before = download.waited_seconds
        seconds, slow = self._limits.window_seconds, too_slow(self._limits)
        with self._waiting(download, seconds=seconds, slow=slow):
            chunk = answer.read(self._throttle.piece_bytes)
        pace.add(download.waited_seconds - before, len(chunk))
        self._hold_back(len(chunk))
        return chunk

    def _hold_back(self, count: int) -> None:
        """Keep to the limit; the server is not to blame for this time, and it counts nowhere."""
        pause = self._throttle.pause_seconds(count, now=self._clock())
        if pause > 0:
            self._sleep(pause)

    @contextmanager
    def _waiting(self, download: Download, *, seconds: float, slow: str) -> Iterator[None]:
        """Bound and count one wait for the server, and put its failures into words.

        What came of a wait that was cut short is no answer, also where it looks like one: the end
        of the connection is how some header fields and bodies end.
        """
        start, handled = self._clock(), sys.exception()
        try:
            self._watchdog.arm(min(seconds, download.left_seconds))
            yield
        except FAILURES as err:
            if self._watchdog.disarm():
                raise Broken(slow) from err
            raise judge_failure(err, handled, self._limits) from err
        finally:
            is_cut = self._watchdog.disarm()
            download.wait(self._clock() - start)
        if is_cut:
            raise Broken(slow)

    def _ask(self, download: Download) -> Answer:
        """Send the request and follow redirects, up to the header of the answer."""
        url, query = download.url, self._query
        for _ in range(_MOST_REDIRECTS + 1):
            answer = self._exchange(url, query, download)
            if answer.status not in _REDIRECTS:
                return answer
            answer.close()
            url, query = _redirected(url, answer.headers.get("Location", "")), {}
        raise Refused(f"the server redirected more than {_MOST_REDIRECTS} times")

    def _exchange(self, url: str, query: Mapping[str, str], download: Download) -> Answer:
        seconds = self._limits.answer_timeout_seconds
        with self._waiting(download, seconds=seconds, slow=f"no whole answer within {seconds:g} s"):
            return self._connections.get(url, request_headers(download.wanted), query)

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
            summary=f"{outcome.reason}; trying {public_url(download.url)} again in {seconds:.1f} s",
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


def together(failures: Sequence[TransportError]) -> TransportError:
    """Make one error of those of several mirrors, which names each."""
    first, *others = failures
    reasons = [first.reason, *map(str, others)]
    statuses = {failure.status for failure in failures}
    status = first.status if len(statuses) == 1 else None
    return TransportError(first.url, "; ".join(reasons), status=status)


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


def _read_file(download: Download) -> Iterator[bytes]:
    """Yield a local file, or its rest; a missing one counts as a 404, as it would on a server."""
    path = Path(unquote(urlsplit(download.url).path))
    if "\0" in str(path):
        raise Refused("no file has a name with a null byte")
    try:
        if path.exists() and not path.is_file():
            raise Refused("it is no regular file")
        with path.open("rb") as file:
            _refuse_other_size(file.seek(0, os.SEEK_END), download.wanted)
            file.seek(download.wanted.offset)
            while chunk := file.read(MOST_PIECE_BYTES):
                download.receive(len(chunk))
                yield chunk
    except OSError as err:
        missing = 404 if isinstance(err, FileNotFoundError) else None
        raise Refused(str(err.strerror), status=missing) from err


def _refuse_other_size(size: int, wanted: Wanted) -> None:
    if wanted.length is not None and size != wanted.length:
        raise Refused(f"the file holds {size} bytes, where {wanted.length} are expected")
