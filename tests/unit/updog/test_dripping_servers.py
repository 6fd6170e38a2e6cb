"""No server may hold a download, whatever it drips: each of these did, or would have."""

from contextlib import closing

import pytest

from tests.helpers.dripping_server import LONG, Dripping, dripping
from updog.errors import TransportError
from updog.patience import Limits
from updog.proxies import Proxies
from updog.transport import Network, Transport

OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"

SLOW_HEADERS = Limits(answer_timeout_seconds=0.2, window_seconds=LONG, attempts=1)
SLOW_BODIES = Limits(answer_timeout_seconds=LONG, window_seconds=0.2, attempts=1)
NO_TIME = Limits(deadline_seconds=0.2, answer_timeout_seconds=LONG, window_seconds=LONG, attempts=1)


def reason(url: str, limits: Limits, *, proxy: str | None = None) -> str:
    network = Network(proxies=Proxies(http=proxy, https=proxy))
    with Transport(network=network, limits=limits) as transport:
        with pytest.raises(TransportError) as caught:
            list(transport.stream(f"{url}/file"))
        return caught.value.reason


headers = pytest.mark.parametrize(
    ("beginning", "drop"),
    [
        pytest.param(b"HTTP/1.1 200 ", b"o", id="the status line"),
        pytest.param(b"", b"HTTP/1.1 100 Continue\r\n\r\n", id="one continue after another"),
        pytest.param(OK + b"X: ", b"a", id="a header line"),
        pytest.param(OK, b"A: b\r\n", id="header lines"),
    ],
)

bodies = pytest.mark.parametrize(
    ("beginning", "drop"),
    [
        pytest.param(OK + b"Content-Length: 100000\r\n\r\n", b"x", id="a body"),
        pytest.param(OK + b"\r\n", b"x", id="a body that ends with the connection"),
        pytest.param(CHUNKED, b"1\r\nx\r\n", id="chunks"),
        pytest.param(CHUNKED, b"0", id="the size of a chunk"),
        pytest.param(CHUNKED + b"5;", b"x", id="the extension of a chunk"),
        pytest.param(CHUNKED + b"1\r\nx\r\n0\r\n", b"A: b\r\n", id="trailers"),
    ],
)


def require_left(server: Dripping) -> None:
    """The connection is closed, too: nothing was kept of it."""
    assert server.was_left.wait(LONG)


@headers
def test_a_dripping_header_is_broken_off(beginning: bytes, drop: bytes) -> None:
    with dripping(beginning, drop, pause_seconds=0.05) as server:
        text = reason(server.url, SLOW_HEADERS)
        assert text == "no whole answer within 0.2 s; try again later"
        require_left(server)


@bodies
def test_a_dripping_body_is_broken_off(beginning: bytes, drop: bytes) -> None:
    with dripping(beginning, drop) as server:
        text = reason(server.url, SLOW_BODIES)
        assert text.startswith("the server sent less than 1024 bytes a second")
        require_left(server)


@headers
def test_a_dripping_header_ends_at_the_deadline(beginning: bytes, drop: bytes) -> None:
    with dripping(beginning, drop, pause_seconds=0.05) as server:
        assert reason(server.url, NO_TIME) == "it took more than 0.2 s; try again later"


@bodies
def test_a_dripping_body_ends_at_the_deadline(beginning: bytes, drop: bytes) -> None:
    with dripping(beginning, drop) as server:
        assert reason(server.url, NO_TIME).startswith("it took more than 0.2 s; try again later")


@pytest.mark.parametrize(
    ("beginning", "drop"),
    [(b"HTTP/1.1 200 ", b"o"), (OK, b"A: b\r\n"), (OK + b"X: ", b"a")],
    ids=["the status line", "header lines", "a header line"],
)
def test_a_proxy_that_drips_its_answer_is_broken_off(beginning: bytes, drop: bytes) -> None:
    with dripping(beginning, drop, pause_seconds=0.05) as server:
        text = reason("https://updates.invalid", SLOW_HEADERS, proxy=server.url)
        assert text == "no whole answer within 0.2 s; try again later"
        require_left(server)


def test_a_dripping_tls_handshake_is_broken_off() -> None:
    with dripping(b"\x16\x03\x03\x3f\xff\x02\x00\x3f\xfb", b"\x00") as server:
        text = reason(f"https://127.0.0.1:{server.port}", SLOW_HEADERS)
        assert text == "no whole answer within 0.2 s; try again later"
        require_left(server)


def test_a_server_that_closes_after_its_answer_is_left_at_once() -> None:
    answer = OK + b"Connection: close\r\nContent-Length: 2\r\n\r\nab"
    with dripping(answer, b"") as server, Transport() as transport:
        assert b"".join(transport.stream(f"{server.url}/file")) == b"ab"
        require_left(server)


def test_a_download_that_is_given_up_leaves_its_server() -> None:
    answer = OK + b"Content-Length: 100000\r\n\r\nab"
    with dripping(answer, b"") as server, Transport() as transport:
        with closing(transport.stream(f"{server.url}/file")) as chunks:
            assert next(chunks) == b"ab"
        require_left(server)
