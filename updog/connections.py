"""One HTTP exchange: a request, the header of its answer, and its body piece by piece.

Decides how connections are made and kept, and puts what the libraries raise into words. Tells the
watchdog which socket is waited for, from before TLS or a proxy is spoken to. Takes nothing from the
environment, follows no redirect, tries nothing twice.
"""

import logging
import re
import socket
import ssl
from collections.abc import Iterator, Mapping
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Any, ClassVar

import requests
import urllib3
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import ConnectTimeoutError, NameResolutionError, NewConnectionError

from updog.answers import Broken, Refused
from updog.names import printable
from updog.patience import Limits
from updog.proxies import Proxies
from updog.tls import TlsContexts
from updog.watchdog import Watchdog

FAILURES = (requests.RequestException, urllib3.exceptions.HTTPError, OSError)
"""What an exchange may raise; `judge_failure` says what it means."""

# At DEBUG it logs whole addresses, with whatever secret a redirect put into their query.
logging.getLogger("urllib3").setLevel(logging.INFO)


class Answer:
    """The header of an answer, and the way to its body; close it after use."""

    def __init__(self, response: requests.Response, watchdog: Watchdog) -> None:
        self._response = response
        self._watchdog = watchdog
        self._line = watchdog.line
        self.status = response.status_code
        self.headers: Mapping[str, str] = response.headers

    def read(self, most_bytes: int) -> bytes:
        """Return what has come, not all that was asked for; nothing at the end."""
        piece: bytes = self._response.raw.read1(most_bytes)
        return piece

    def close(self) -> None:
        """Give the connection back, or drop it if there is more to come."""
        self._response.close()
        self._watchdog.release(self._line)


class Connections:
    """Connections that are kept for the next request; close them after use."""

    def __init__(
        self, *, tls: TlsContexts, proxies: Proxies, limits: Limits, watchdog: Watchdog
    ) -> None:
        self._proxies = proxies
        self._timeouts = (limits.connect_timeout_seconds, limits.gap_timeout_seconds)
        self._session = requests.Session()
        # Else REQUESTS_CA_BUNDLE, ALL_PROXY and ~/.netrc of whoever runs this would have a say.
        self._session.trust_env = False
        self._session.headers.update({"User-Agent": "updog", "Accept-Encoding": "identity"})
        self._watchdog = watchdog
        for prefix in ("http://", "https://"):
            self._session.mount(prefix, _Adapter(tls, watchdog))

    def close(self) -> None:
        """Drop all connections."""
        self._session.close()

    def get(self, url: str, headers: Mapping[str, str], query: Mapping[str, str]) -> Answer:
        """Exchange one request for the header of its answer.

        By the adapter, not the session: even told not to follow a redirect, a session reads its
        body into memory, however long it is, and chokes on its address.
        """
        request = requests.Request("GET", url, headers=dict(headers), params=dict(query))
        prepared = self._session.prepare_request(request)
        proxy = self._proxies.proxy_for(url)
        try:
            response = self._session.get_adapter(url).send(
                prepared,
                stream=True,
                timeout=self._timeouts,
                proxies={"http": proxy, "https": proxy} if proxy else {},
            )
        except FAILURES:
            self._watchdog.release(self._watchdog.line)
            raise
        return Answer(response, self._watchdog)


class _Adapter(HTTPAdapter):
    """Makes connections that the watchdog can reach, with these TLS contexts and no others."""

    def __init__(self, tls: TlsContexts, watchdog: Watchdog) -> None:
        self._tls = tls
        self._pool_classes = _pool_classes(watchdog)
        super().__init__()

    def init_poolmanager(self, *args: Any, **options: Any) -> None:
        super().init_poolmanager(*args, **options)
        self.poolmanager.pool_classes_by_scheme = self._pool_classes

    def proxy_manager_for(self, proxy: str, **options: Any) -> Any:
        manager = super().proxy_manager_for(proxy, proxy_ssl_context=self._tls.proxy, **options)
        manager.pool_classes_by_scheme = self._pool_classes
        return manager

    def build_connection_pool_key_attributes(
        self, request: requests.PreparedRequest, verify: Any, cert: Any = None
    ) -> Any:
        host, _ = super().build_connection_pool_key_attributes(request, verify, cert)
        return host, {"ssl_context": self._tls.server} if host["scheme"] == "https" else {}

    def cert_verify(self, conn: Any, url: Any, verify: Any, cert: Any) -> None:
        """Add no CA to those of the context."""


class _Watched(HTTPConnection):
    """A connection that shows the watchdog its socket, when that is made and when it is reused."""

    watchdog: ClassVar[Watchdog]

    def _new_conn(self) -> socket.socket:
        made = self._connect_to_any()
        self.watchdog.hold(made)
        return made

    def _connect_to_any(self) -> socket.socket:
        """Try one address of the host after the other, as urllib3 does, but resolve it first."""
        host = self._dns_host
        try:
            for address in self._resolve(host):
                self._dns_host = address
                try:
                    return super()._new_conn()
                except (NewConnectionError, ConnectTimeoutError) as err:
                    failure = err
        finally:
            self._dns_host = host
        raise failure

    def _resolve(self, host: str) -> list[str]:
        """Look a name up in a thread: the system's resolver hears neither of signals nor of time.

        Raises:
            NameResolutionError: there is no such name.
            ConnectTimeoutError: nobody answers.
            MemoryError: no thread can be started.
        """
        answers: SimpleQueue[list[str] | OSError] = SimpleQueue()
        try:
            Thread(target=_look_up, args=(host, self.port, answers), daemon=True).start()
        except RuntimeError as err:
            raise MemoryError("cannot start a thread") from err
        try:
            answer = answers.get(timeout=self._seconds())
        except Empty:
            raise ConnectTimeoutError(self, f"no name server has answered for {host}") from None
        if isinstance(answer, socket.gaierror):
            raise NameResolutionError(host, self, answer) from answer
        if isinstance(answer, OSError):
            raise NewConnectionError(self, str(answer)) from answer
        return answer

    def _seconds(self) -> float | None:
        return self.timeout if isinstance(self.timeout, int | float) else None

    def request(self, *args: Any, **options: Any) -> None:
        if self.sock is not None:
            self.watchdog.hold(self.sock)
        super().request(*args, **options)


def _look_up(host: str, port: int, answers: "SimpleQueue[list[str] | OSError]") -> None:
    try:
        found = socket.getaddrinfo(host.strip("[]"), port, 0, socket.SOCK_STREAM)
        answers.put(list(dict.fromkeys(str(each[4][0]) for each in found)))
    except OSError as err:
        answers.put(err)
    except UnicodeError as err:  # a name that no resolver can be asked for
        answers.put(socket.gaierror(socket.EAI_NONAME, str(err)))


def _pool_classes(dog: Watchdog) -> dict[str, Any]:
    """Return urllib3's pools with connections that this watchdog watches."""

    class Plain(_Watched):
        watchdog = dog

    class Secure(_Watched, HTTPSConnection):
        watchdog = dog

    class PlainPool(urllib3.HTTPConnectionPool):
        ConnectionCls = Plain

    class SecurePool(urllib3.HTTPSConnectionPool):
        ConnectionCls = Secure

    return {"http": PlainPool, "https": SecurePool}


def judge_failure(
    err: BaseException, handled: BaseException | None, limits: Limits
) -> Refused | Broken:
    """Say what went wrong in an exchange, and whether another attempt may mend it.

    Args:
        err: One of `FAILURES`.
        handled: What the caller was handling already. python-tuf, for one, fetches a file while it
            handles that its copy is missing, and Python hangs the one error on the other.
        limits: For the words about them.
    """
    causes = list(_causes(err, handled))
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
    """Walk from what the libraries raised to what the system said; some only wrap it."""
    while err is not None and err is not handled:
        yield err
        wrapped = (getattr(err, "reason", None), *err.args)
        hidden = next((each for each in wrapped if isinstance(each, BaseException)), None)
        err = hidden or err.__cause__ or err.__context__


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


# How urllib3 words that a proxy did not open a connection; what follows is the proxy's own text.
_NO_TUNNEL = re.compile(r"Tunnel connection failed: ([0-9]{3})\b")


def _reason(causes: list[BaseException], limits: Limits) -> str:
    """Say what the innermost cause means that means something; whole library texts show queries."""
    for cause in reversed(causes):
        for kind, words in _MEANINGS:
            if isinstance(cause, kind):
                return printable(words.format(cause=cause, limits=limits))
        if isinstance(cause, OSError) and cause.strerror:
            return cause.strerror
        if refused := _NO_TUNNEL.match(str(cause)):
            return f"it answered {refused[1]}"
    return "the connection broke off"
