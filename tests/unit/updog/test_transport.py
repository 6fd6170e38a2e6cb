import logging
import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

import pytest

from tests.helpers.dripping_server import dripping
from tests.helpers.http_server import (
    Handler,
    Misbehaviour,
    Server,
    chunked,
    cut,
    drip,
    endless,
    etag,
    ignoring_range,
    instead,
    partial,
    serving,
    status,
)
from updog.errors import TransportError
from updog.patience import Limits
from updog.proxies import Proxies
from updog.transport import Network, Transport, public_url

CONTENT = bytes(range(256)) * 1024

LIMITS = Limits(
    connect_timeout_seconds=1,
    attempts=3,
    first_pause_seconds=0.5,
    longest_pause_seconds=8,
)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    (tmp_path / "file").write_bytes(CONTENT)
    with serving(tmp_path) as server:
        yield server


class Pauses(list[float]):
    """Stands in for sleeping, and remembers for how long."""

    def __call__(self, seconds: float) -> None:
        self.append(seconds)


def fetch(
    url: str | list[str],
    *,
    length: int | None = len(CONTENT),
    limits: Limits = LIMITS,
    pauses: Pauses | None = None,
    https_proxy: str | None = None,
    no_proxy: tuple[str, ...] = (),
    deadline_seconds: float | None = None,
) -> bytes:
    sleep = pauses if pauses is not None else Pauses()
    with Transport(
        network=Network(proxies=Proxies(http=https_proxy, https=https_proxy, no_proxy=no_proxy)),
        limits=limits,
        sleep=sleep,
    ) as transport:
        chunks = transport.stream(url, length=length, deadline_seconds=deadline_seconds)
        return b"".join(chunks)


def refusal(url: str, **options: object) -> TransportError:
    with pytest.raises(TransportError) as caught:
        fetch(url, **options)  # type: ignore[arg-type]
    assert str(caught.value) == f"cannot fetch {public_url(url)}: {caught.value.reason}"
    return caught.value


def reason(server: Server, *misbehaviours: Misbehaviour, **options: object) -> str:
    """Return why the file cannot be fetched from a server that misbehaves so."""
    server.misbehave("/file", *misbehaviours)
    return refusal(f"{server.url}/file", **options).reason


def test_a_file_is_fetched_in_one_request(server: Server) -> None:
    assert fetch(f"{server.url}/file") == CONTENT
    (request,) = server.requests
    assert request.headers["Accept-Encoding"] == "identity"
    assert request.headers["Range"] is None


def test_a_path_that_no_file_can_have_is_refused() -> None:
    assert refusal("file:///nix%00x").reason == "no file has a name with a null byte"


def test_a_file_of_unknown_length_is_fetched(server: Server) -> None:
    assert fetch(f"{server.url}/file", length=None) == CONTENT


def test_an_empty_file_is_fetched(server: Server) -> None:
    (server.directory / "empty").touch()
    assert fetch(f"{server.url}/empty", length=0) == b""


def test_a_file_sent_in_chunks_is_fetched(server: Server) -> None:
    server.misbehave("/file", chunked(CONTENT))
    assert fetch(f"{server.url}/file") == CONTENT


def test_one_connection_serves_many_files(server: Server) -> None:
    with Transport(limits=LIMITS) as transport:
        for _ in range(3):
            assert b"".join(transport.stream(f"{server.url}/file")) == CONTENT
    assert len({request.port for request in server.requests}) == 1


class TestBrokenBodies:
    def test_a_broken_body_is_continued_where_it_broke(self, server: Server) -> None:
        server.misbehave("/file", cut(after_bytes=1000), cut(after_bytes=500))
        assert fetch(f"{server.url}/file") == CONTENT
        assert [request.headers["Range"] for request in server.requests] == [
            None,
            "bytes=1000-",
            "bytes=1500-",
        ]
        assert server.requests[1].headers["If-Range"] == etag(CONTENT)

    def test_it_is_continued_without_a_known_length_too(self, server: Server) -> None:
        server.misbehave("/file", cut(after_bytes=1000))
        assert fetch(f"{server.url}/file", length=None) == CONTENT

    def test_a_server_that_sends_the_whole_again_is_understood(self, server: Server) -> None:
        server.misbehave("/file", cut(after_bytes=1000), ignoring_range())
        assert fetch(f"{server.url}/file") == CONTENT

    def test_a_file_that_changed_meanwhile_is_not_pieced_together(self, server: Server) -> None:
        changed = bytes(len(CONTENT))
        assert reason(server, cut(after_bytes=1000), instead(changed, etag=etag(changed))) == (
            "the file changed on the server while it was fetched; run the command again "
            "(at byte 1000)"
        )

    @pytest.mark.parametrize("first", [0, 999, 1001])
    def test_another_part_than_the_rest_is_refused(self, server: Server, first: int) -> None:
        last, length = len(CONTENT) - 1, len(CONTENT)
        wrong = partial(CONTENT[first:], content_range=f"bytes {first}-{last}/{length}")
        assert reason(server, cut(after_bytes=1000), wrong) == (
            "the server sent another part than the one from byte 1000 on (at byte 1000)"
        )

    def test_a_whole_file_whose_answer_does_not_end_is_whole(self, server: Server) -> None:
        def forget_the_end(handler: Handler, body: bytes) -> None:
            handler.head(200, {"Transfer-Encoding": "chunked"})
            handler.wfile.write(f"{len(body):x}\r\n".encode() + body + b"\r\n")
            handler.hang_up()

        server.misbehave("/file", forget_the_end)
        assert fetch(f"{server.url}/file") == CONTENT
        assert len(server.requests) == 1
        end = f"bytes */{len(CONTENT)}"
        server.misbehave("/file", forget_the_end, status(416, content_range=end))
        assert fetch(f"{server.url}/file", length=None) == CONTENT

    def test_progress_starts_the_count_of_failures_anew(self, server: Server) -> None:
        server.misbehave("/file", *[cut(after_bytes=65536)] * 3)
        assert fetch(f"{server.url}/file", limits=Limits(attempts=2)) == CONTENT

    def test_without_progress_it_gives_up_after_some_attempts(self, server: Server) -> None:
        assert reason(server, *[cut(after_bytes=10)] * 3) == (
            "the connection broke off (at byte 30), 3 times in a row; try again later"
        )
        assert len(server.requests) == 3


class TestRetries:
    def test_a_passing_error_is_tried_again_after_growing_pauses(self, server: Server) -> None:
        pauses = Pauses()
        server.misbehave("/file", status(503), status(500))
        assert fetch(f"{server.url}/file", pauses=pauses) == CONTENT
        assert len(pauses) == 2
        assert 0.25 <= pauses[0] <= 0.5
        assert 0.5 <= pauses[1] <= 1

    def test_the_pause_that_a_server_asks_for_is_kept(self, server: Server) -> None:
        pauses = Pauses()
        server.misbehave("/file", status(429, retry_after="3"), status(503, retry_after="21600"))
        assert fetch(f"{server.url}/file", pauses=pauses) == CONTENT
        assert pauses == [3, 8]

    def test_a_lasting_error_is_not_tried_again(self, server: Server) -> None:
        error = refusal(f"{server.url}/none")
        assert error.reason == "the server answered 404 Not Found"
        assert error.status == 404
        assert len(server.requests) == 1

    def test_the_last_status_is_told(self, server: Server) -> None:
        server.misbehave("/file", *[status(503)] * 3)
        error = refusal(f"{server.url}/file")
        assert error.status == 503
        assert error.reason == (
            "the server answered 503 Service Unavailable, 3 times in a row; try again later"
        )

    def test_nobody_at_the_port_is_told_in_plain_words(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        error = refusal(f"http://127.0.0.1:{port}/file")
        assert error.reason == "Connection refused, 3 times in a row; try again later"
        assert error.status is None

    def test_an_unknown_host_is_told_in_plain_words(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def resolve(*_: object) -> NoReturn:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

        monkeypatch.setattr(socket, "getaddrinfo", resolve)
        error = refusal("http://updates.invalid/file", limits=Limits(attempts=1))
        assert error.reason == "the host name cannot be resolved; try again later"

    @pytest.mark.parametrize("begins", [0, 1], ids=["watchdog", "name"])
    def test_without_a_thread_it_is_memory_that_lacks(
        self, begins: int, server: Server, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        start, left = threading.Thread.start, iter(range(begins))

        def refuse(thread: threading.Thread) -> None:
            if threading.current_thread() is not threading.main_thread():
                start(thread)  # of the server
            elif next(left, None) is None:
                raise RuntimeError("can't start new thread")
            else:
                start(thread)

        monkeypatch.setattr(threading.Thread, "start", refuse)
        with pytest.raises(MemoryError):
            fetch(f"{server.url}/file")

    @pytest.mark.parametrize("url", ["http://a b/file", "gopher://h/file"])
    def test_an_address_that_is_none_is_not_tried_again(self, url: str) -> None:
        assert refusal(url).reason == "it is no usable address"

    def test_an_error_that_the_caller_is_handling_is_not_taken_for_the_cause(self) -> None:
        try:
            Path("/none").read_bytes()
        except FileNotFoundError:
            error = refusal("http://127.0.0.1:1/file")
        assert error.reason.startswith("Connection refused")

    def test_an_answer_that_contradicts_itself_is_not_tried_again(self, server: Server) -> None:
        def contradict(handler: Handler, body: bytes) -> None:
            handler.send_response(200)
            for length in (1, 2):
                handler.send_header("Content-Length", str(length))
            handler.end_headers()

        assert reason(server, contradict) == "the server's answer contradicts itself"


class TestSlowServers:
    def test_silence_is_broken_off(self, server: Server) -> None:
        def hang(*_: object) -> None:
            threading.Event().wait(1)

        assert reason(server, hang, limits=Limits(gap_timeout_seconds=0.1, attempts=1)) == (
            "no data for 0.1 s; try again later"
        )

    def test_a_drip_is_broken_off_though_it_never_stops(self, server: Server) -> None:
        limits = Limits(window_seconds=0.1, attempts=1)
        text = reason(server, drip(pause_seconds=0.01), limits=limits)
        assert text.startswith("the server sent less than 1024 bytes a second (at byte ")

    def test_the_deadline_ends_it_all(self, server: Server) -> None:
        limits = Limits(window_seconds=1000, deadline_seconds=0.1)
        text = reason(server, drip(pause_seconds=0.01), limits=limits)
        assert text.startswith("it took more than 0.1 s; try again later (at byte ")

    def test_a_file_may_have_a_deadline_of_its_own(self, server: Server) -> None:
        text = reason(server, drip(pause_seconds=0.01), deadline_seconds=0.05)
        assert text.startswith("it took more than 0.05 s")

    def test_the_readers_own_time_does_not_count(self, server: Server) -> None:
        now = 0.0
        with Transport(limits=LIMITS, clock=lambda: now) as transport:
            received = b""
            for chunk in transport.stream(f"{server.url}/file", deadline_seconds=1):
                received += chunk
                now += 100
        assert received == CONTENT


class TestBandwidth:
    def test_a_limit_is_kept_and_held_against_nobody(self, server: Server) -> None:
        now, pauses = [0.0], Pauses()

        def sleep(seconds: float) -> None:
            pauses(seconds)
            now[0] += seconds

        with Transport(
            network=Network(max_bytes_per_second=64 << 10),
            limits=Limits(deadline_seconds=1, window_seconds=0.5, attempts=1),
            clock=lambda: now[0],
            sleep=sleep,
        ) as transport:
            for _ in range(2):
                assert b"".join(transport.stream(f"{server.url}/file")) == CONTENT
        assert sum(pauses) == pytest.approx(2 * len(CONTENT) / (64 << 10))
        assert max(pauses) <= 0.25


class TestMirrors:
    @pytest.fixture
    def mirror(self, tmp_path: Path) -> Iterator[Server]:
        (tmp_path / "mirror").mkdir()
        (tmp_path / "mirror" / "file").write_bytes(CONTENT)
        with serving(tmp_path / "mirror") as server:
            yield server

    def both(self, server: Server, mirror: Server) -> list[str]:
        return [f"{server.url}/file", f"{mirror.url}/file"]

    def test_the_second_is_not_asked_while_the_first_serves(
        self, server: Server, mirror: Server
    ) -> None:
        assert fetch(self.both(server, mirror)) == CONTENT
        assert mirror.requests == []

    def test_the_second_serves_what_the_first_has_not(self, server: Server, mirror: Server) -> None:
        (server.directory / "file").unlink()
        assert fetch(self.both(server, mirror)) == CONTENT
        assert len(server.requests) == 1

    def test_it_goes_on_from_the_same_byte_without_a_condition(
        self, server: Server, mirror: Server
    ) -> None:
        server.misbehave("/file", cut(after_bytes=1000), status(404))
        assert fetch(self.both(server, mirror)) == CONTENT
        (request,) = mirror.requests
        assert request.headers["Range"] == "bytes=1000-"
        assert request.headers["If-Range"] is None

    def test_it_may_send_the_whole_again(self, server: Server, mirror: Server) -> None:
        server.misbehave("/file", *[cut(after_bytes=10)] * 3)
        mirror.misbehave("/file", ignoring_range())
        assert fetch(self.both(server, mirror)) == CONTENT

    def test_a_directory_may_be_one_of_them(self, server: Server, tmp_path: Path) -> None:
        server.misbehave("/file", cut(after_bytes=1000), status(404))
        (tmp_path / "copy").write_bytes(CONTENT)
        assert fetch([f"{server.url}/file", (tmp_path / "copy").as_uri()]) == CONTENT
        urls = [(tmp_path / "none").as_uri(), f"{server.url}/file"]
        assert fetch(urls) == CONTENT

    def test_redirects_are_followed_on_each(self, server: Server, mirror: Server) -> None:
        server.misbehave("/file", status(302, location=f"{mirror.url}/gone"))
        mirror.misbehave("/file", status(307, location=f"{server.url}/file"))
        assert fetch(self.both(server, mirror)) == CONTENT

    def test_if_all_fail_each_is_named(self, server: Server, mirror: Server) -> None:
        server.misbehave("/file", status(403))
        mirror.misbehave("/file", status(404))
        with pytest.raises(TransportError) as caught:
            fetch(self.both(server, mirror))
        assert str(caught.value) == (
            f"cannot fetch {server.url}/file: the server answered 403 Forbidden; "
            f"cannot fetch {mirror.url}/file: the server answered 404 Not Found"
        )
        assert caught.value.status is None

    def test_what_all_answer_is_the_status(self, server: Server, mirror: Server) -> None:
        server.misbehave("/file", status(404))
        mirror.misbehave("/file", status(404))
        with pytest.raises(TransportError) as caught:
            fetch(self.both(server, mirror))
        assert caught.value.status == 404

    def test_each_has_the_whole_deadline(self, server: Server, mirror: Server) -> None:
        server.misbehave("/file", status(503, retry_after="60"))
        limits = Limits(longest_pause_seconds=60)
        assert fetch(self.both(server, mirror), limits=limits, deadline_seconds=50) == CONTENT
        assert len(server.requests) == 1


class TestTheReportOfVersionAndSeed:
    NETWORK = Network(query={"version": "1.2.0+a", "seed": "7"})

    def fetch(self, url: str) -> bytes:
        with Transport(network=self.NETWORK, limits=LIMITS) as transport:
            return b"".join(transport.stream(url))

    def test_every_request_carries_it(self, server: Server) -> None:
        server.misbehave("/file", cut(after_bytes=70000))
        assert self.fetch(f"{server.url}/file") == CONTENT
        assert [each.target for each in server.requests] == ["/file?version=1.2.0%2Ba&seed=7"] * 2

    def test_what_a_server_redirects_to_does_not(self, server: Server) -> None:
        server.misbehave("/old", status(302, location="/file?signature=x"))
        assert self.fetch(f"{server.url}/old") == CONTENT
        assert server.requests[1].target == "/file?signature=x"

    def test_a_directory_is_told_nothing(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_bytes(CONTENT)
        assert self.fetch((tmp_path / "file").as_uri()) == CONTENT

    def test_it_is_never_told_by_errors_or_the_log(
        self, server: Server, capsys: pytest.CaptureFixture[str]
    ) -> None:
        server.misbehave("/file", status(503), status(404))
        with pytest.raises(TransportError) as caught:
            self.fetch(f"{server.url}/file")
        assert "seed" not in str(caught.value) + "".join(capsys.readouterr())


class TestLength:
    def test_a_longer_file_is_refused_before_it_is_read(self, server: Server) -> None:
        assert reason(server, length=10) == (
            f"the server's file holds {len(CONTENT)} bytes, where 10 are expected"
        )

    def test_a_body_without_a_length_is_cut_off_where_it_should_end(self, server: Server) -> None:
        text = reason(server, chunked(CONTENT + b"x"))
        assert text.startswith(f"the server sent more than the {len(CONTENT)} bytes")

    def test_a_body_without_an_end_is_cut_off_too(self, server: Server) -> None:
        text = reason(server, endless(200))
        assert text.startswith(f"the server sent more than the {len(CONTENT)} bytes")

    def test_a_shorter_body_without_a_length_is_no_end(self, server: Server) -> None:
        server.misbehave("/file", chunked(CONTENT[:-1]))
        assert fetch(f"{server.url}/file") == CONTENT


class TestRedirects:
    def test_one_to_the_same_scheme_is_followed(self, server: Server) -> None:
        server.misbehave("/old", status(302, location="/file"))
        assert fetch(f"{server.url}/old") == CONTENT

    @pytest.mark.parametrize("target", ["file:///etc/passwd", "ftp://h/", "https://127.0.0.1/"])
    def test_one_to_another_scheme_is_refused(self, server: Server, target: str) -> None:
        scheme = target.partition(":")[0]
        assert reason(server, status(301, location=target)) == (
            f"the server redirected to '{scheme}', another scheme"
        )

    def test_one_to_nowhere_is_refused(self, server: Server) -> None:
        assert "redirected to" in reason(server, status(302))
        assert "which is no address" in reason(server, status(302, location="http://[::1"))

    def test_the_body_of_one_is_not_read(self, server: Server) -> None:
        server.misbehave("/old", endless(302, location="/file"))
        assert fetch(f"{server.url}/old") == CONTENT

    def test_a_circle_is_refused(self, server: Server) -> None:
        circle = [status(302, location="/file")] * 10
        assert reason(server, *circle) == "the server redirected more than 5 times"
        assert len(server.requests) == 6


class TestProxies:
    def test_a_configured_proxy_is_used(self, server: Server) -> None:
        server.misbehave("http://updates.invalid/file", instead(CONTENT))
        assert fetch("http://updates.invalid/file", https_proxy=server.url) == CONTENT
        assert server.requests[0].target == "http://updates.invalid/file"

    def test_a_listed_host_is_reached_without_it(self, server: Server) -> None:
        url = f"{server.url}/file"
        proxy = "http://127.0.0.1:1"
        assert fetch(url, https_proxy=proxy, no_proxy=("127.0.0.1",)) == CONTENT

    def test_a_dead_proxy_is_named_as_what_failed(self) -> None:
        error = refusal("http://updates.invalid/", https_proxy="http://127.0.0.1:1")
        assert error.reason.startswith("through the proxy: Connection refused")

    def test_one_that_wants_a_password_is_told_by_its_answer(self) -> None:
        wanted = b"HTTP/1.1 407 \x1b[2J\r\nProxy-Authenticate: Basic\r\n\r\n"
        with dripping(wanted, b"") as proxy:
            error = refusal(
                "https://updates.invalid/", https_proxy=proxy.url, limits=Limits(attempts=1)
            )
        assert error.reason == "through the proxy: it answered 407; try again later"

    def test_the_environment_has_no_say(
        self, server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        for name in ("http_proxy", "https_proxy", "all_proxy"):
            monkeypatch.setenv(name, "http://127.0.0.1:1")
            monkeypatch.setenv(name.upper(), "http://127.0.0.1:1")
        (tmp_path / "netrc").write_text("machine 127.0.0.1 login user password secret")
        monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
        assert fetch(f"{server.url}/file") == CONTENT
        assert server.requests[0].headers["Authorization"] is None


def test_cookies_are_not_kept(server: Server) -> None:
    server.misbehave("/file", instead(CONTENT, set_cookie="machine=1; Path=/"))
    with Transport(limits=LIMITS) as transport:
        for _ in range(2):
            assert b"".join(transport.stream(f"{server.url}/file")) == CONTENT
    assert server.requests[1].headers["Cookie"] is None


class TestFiles:
    def test_a_file_of_this_machine_is_read(self, tmp_path: Path) -> None:
        (tmp_path / "a b").write_bytes(CONTENT)
        assert fetch((tmp_path / "a b").as_uri()) == CONTENT

    def test_a_missing_one_counts_as_404(self, tmp_path: Path) -> None:
        error = refusal((tmp_path / "none").as_uri())
        assert error.reason == "No such file or directory"
        assert error.status == 404

    def test_one_of_another_length_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_bytes(b"12345")
        error = refusal((tmp_path / "file").as_uri(), length=4)
        assert error.reason == "the file holds 5 bytes, where 4 are expected"

    @pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
    def test_what_is_no_file_is_refused_at_once(
        self, tmp_path: Path, make: Callable[[Path], None]
    ) -> None:
        make(tmp_path / "odd")
        error = refusal((tmp_path / "odd").as_uri())
        assert error.reason == "it is no regular file"
        assert error.status is None


@contextmanager
def all_logs(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    with caplog.at_level(logging.DEBUG):
        yield


def test_no_secret_of_an_address_is_logged_or_told(
    server: Server, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    url = f"{server.url.replace('://', '://user:pa55@')}/file?token=s3cret"
    with all_logs(caplog):
        text = str(refusal(url, length=3))
        server.misbehave("/file", *[status(503)] * 3)
        text += str(refusal(url))
    told = text + caplog.text + "".join(capsys.readouterr())
    assert f"{server.url}/file" in told
    assert "s3cret" not in told
    assert "pa55" not in told


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://h/a/b?q=1#f", "https://h/a/b"),
        ("http://u:p@h:8000/a", "http://h:8000/a"),
        ("http://[::1]:8000/", "http://[::1]:8000/"),
        ("file:///srv/m", "file:///srv/m"),
        ("http://h/\x1b[2J", "http://h/\\x1b[2J"),
    ],
)
def test_a_public_address_keeps_what_anybody_may_see(url: str, shown: str) -> None:
    assert public_url(url) == shown
