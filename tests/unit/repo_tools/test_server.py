import http.client
import json
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPResponse
from pathlib import Path
from typing import Any

import pytest

from repo_tools.errors import AddressInUseError, RepoToolsError
from repo_tools.faults import Faults
from repo_tools.programs import find_own_command
from repo_tools.server import LOOPBACK, StaticServer, open_server, serving
from tests.unit.repo_tools.machines import run

CONTENT = b"0123456789"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[StaticServer]:
    directory = tmp_path / "served"
    directory.mkdir()
    (directory / "file").write_bytes(CONTENT)
    (directory / "empty.json").write_bytes(b"")
    (directory / ".hidden").write_bytes(b"no")
    (directory / "sub").mkdir()
    (tmp_path / "outside").write_bytes(b"no")
    (directory / "link").symlink_to(tmp_path / "outside")
    with serving(directory) as running:
        yield running


def ask(
    server: StaticServer, path: str, method: str = "GET", **headers: str
) -> tuple[HTTPResponse, bytes]:
    connection = http.client.HTTPConnection(LOOPBACK, server.server_port, timeout=5)
    try:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method, path, headers=named)
        response = connection.getresponse()
        return response, response.read()
    finally:
        connection.close()


def test_a_file_is_sent_whole(server: StaticServer) -> None:
    response, body = ask(server, "/file")
    assert (response.status, body) == (200, CONTENT)
    assert response.headers["Accept-Ranges"] == "bytes"


def test_an_empty_file_is_sent_too(server: StaticServer) -> None:
    response, body = ask(server, "/empty.json")
    assert (response.status, body) == (200, b"")
    assert response.headers["Content-Type"] == "application/json"


def test_head_sends_the_length_and_no_body(server: StaticServer) -> None:
    response, body = ask(server, "/file", "HEAD")
    assert (response.status, response.headers["Content-Length"], body) == (200, "10", b"")


def test_a_range_is_sent_with_its_place(server: StaticServer) -> None:
    response, body = ask(server, "/file", Range="bytes=4-")
    assert (response.status, body) == (206, b"456789")
    assert response.headers["Content-Range"] == "bytes 4-9/10"


def test_a_range_of_the_same_file_is_sent(server: StaticServer) -> None:
    tag = ask(server, "/file")[0].headers["ETag"]
    response, body = ask(server, "/file", Range="bytes=8-", If_Range=tag)
    assert (response.status, body) == (206, b"89")


def test_a_replaced_file_is_sent_whole(server: StaticServer) -> None:
    tag = ask(server, "/file")[0].headers["ETag"]
    replacement = server.directory / "new"
    replacement.write_bytes(b"abcdefghij")
    replacement.replace(server.directory / "file")
    response, body = ask(server, "/file", Range="bytes=8-", If_Range=tag)
    assert (response.status, body) == (200, b"abcdefghij")


def test_a_range_behind_the_end_is_refused(server: StaticServer) -> None:
    response, _ = ask(server, "/file", Range="bytes=10-")
    assert (response.status, response.headers["Content-Range"]) == (416, "bytes */10")


def test_one_connection_takes_several_requests(server: StaticServer) -> None:
    connection = http.client.HTTPConnection(LOOPBACK, server.server_port, timeout=5)
    bodies = []
    for _ in range(3):
        connection.request("GET", "/file")
        bodies.append(connection.getresponse().read())
    connection.close()
    assert bodies == [CONTENT] * 3


@pytest.mark.parametrize(
    "path",
    ["/", "/sub", "/nothing", "/.hidden", "/../outside", "/%2e%2e/outside", "/link", "/file%00"],
)
def test_nothing_but_visible_files_inside_is_found(server: StaticServer, path: str) -> None:
    assert ask(server, path)[0].status == 404


def test_other_methods_are_refused(server: StaticServer) -> None:
    assert ask(server, "/file", "POST")[0].status == 501


def test_a_taken_port_is_named(server: StaticServer) -> None:
    message = rf"cannot serve on 127\.0\.0\.1:{server.server_port}: Address already in use"
    with pytest.raises(AddressInUseError, match=message):
        open_server(server.directory, port=server.server_port)


def test_only_a_directory_can_be_served(tmp_path: Path) -> None:
    with pytest.raises(RepoToolsError, match=r"cannot serve .*/nowhere: it is not a directory"):
        open_server(tmp_path / "nowhere", port=0)


@pytest.mark.parametrize("path", ["/" + "x" * 300, "/file/below", "/loop", "/" + "d/" * 3000])
def test_a_path_that_cannot_be_looked_up_is_not_found_and_no_defect(
    server: StaticServer, path: str, capfd: pytest.CaptureFixture[str]
) -> None:
    (server.directory / "loop").symlink_to("loop")
    assert ask(server, path)[0].status == 404
    assert capfd.readouterr().err == ""


def test_a_small_answer_does_not_wait_for_an_acknowledgement(server: StaticServer) -> None:
    connection = http.client.HTTPConnection(LOOPBACK, server.server_port, timeout=5)
    started = time.monotonic()
    for _ in range(20):
        connection.request("GET", "/file")
        connection.getresponse().read()
    connection.close()
    # With Nagle's algorithm each but the first takes 40 ms.
    assert time.monotonic() - started < 0.5


@contextmanager
def serving_badly(directory: Path, **faults: Any) -> Iterator[StaticServer]:
    directory.mkdir(exist_ok=True)
    (directory / "file").write_bytes(CONTENT)
    (directory / "other").write_bytes(CONTENT)
    with serving(directory, faults=Faults(**faults)) as server:
        yield server


def test_a_throttled_server_keeps_to_its_pace(tmp_path: Path) -> None:
    with serving_badly(tmp_path, bytes_per_second=100) as server:
        started = time.monotonic()
        assert ask(server, "/file")[1] == CONTENT
        assert ask(server, "/file")[1] == CONTENT
        assert time.monotonic() - started >= 0.2


def test_a_slow_server_waits_before_it_answers(tmp_path: Path) -> None:
    with serving_badly(tmp_path, latency_seconds=0.1) as server:
        started = time.monotonic()
        assert ask(server, "/file")[1] == CONTENT
        assert time.monotonic() - started >= 0.1


def test_a_body_is_cut_and_can_be_gone_on_with(tmp_path: Path) -> None:
    with serving_badly(tmp_path, close_after_bytes=4) as server:
        with pytest.raises(http.client.IncompleteRead) as caught:
            ask(server, "/file")
        assert caught.value.partial == b"0123"
        with pytest.raises(http.client.IncompleteRead) as caught:
            ask(server, "/file", Range="bytes=4-")
        assert caught.value.partial == b"4567"
        assert ask(server, "/file", Range="bytes=8-")[1] == b"89"


def test_a_server_without_ranges_sends_the_whole(tmp_path: Path) -> None:
    with serving_badly(tmp_path, has_ranges=False) as server:
        response, body = ask(server, "/file", Range="bytes=4-")
        assert (response.status, body) == (200, CONTENT)
        assert response.headers["Accept-Ranges"] == "none"


@pytest.mark.parametrize(
    ("asked", "expected"), [("bytes=0-", b"012\xcc456789"), ("bytes=3-3", b"\xcc")]
)
def test_one_byte_is_sent_wrong(tmp_path: Path, asked: str, expected: bytes) -> None:
    with serving_badly(tmp_path, corrupt_byte=3) as server:
        assert ask(server, "/file", Range=asked)[1] == expected
        assert ask(server, "/file", Range="bytes=4-")[1] == b"456789"


def test_a_share_of_the_requests_gets_a_status_the_same_ones_for_a_seed(tmp_path: Path) -> None:
    seen = []
    for seed in (1, 1, 2):
        with serving_badly(tmp_path, statuses=((503, 0.3), (404, 0.2)), seed=seed) as server:
            seen.append([ask(server, "/file")[0].status for _ in range(40)])
    assert seen[0] == seen[1] != seen[2]
    assert {200, 404, 503} == set(seen[0])
    assert 6 <= seen[0].count(503) <= 20


def test_only_some_paths_go_wrong(tmp_path: Path) -> None:
    with serving_badly(tmp_path, statuses=((500, 1.0),), pattern="o*") as server:
        assert ask(server, "/file")[0].status == 200
        assert ask(server, "/other")[0].status == 500


@pytest.mark.parametrize("value", ["503", "200:10", "503:101", "503:60"])
def test_a_status_that_is_none_is_a_usage_error(tmp_path: Path, value: str) -> None:
    done = run("repo-tools", "serve", tmp_path, "--status", value, "--status", "500:50")
    assert done.returncode == 2
    assert "write a status from 400 to 599 and a percentage, like 503:10" in done.stderr


def test_the_installed_server_goes_wrong_as_it_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(CONTENT)
    command = [str(find_own_command("repo-tools")), "serve", str(tmp_path), "--port", "0", "--json"]
    options = ["--close-after", "6", "--corrupt-byte", "1", "--no-ranges", "--latency-ms", "1"]
    with subprocess.Popen([*command, *options], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        url = json.loads("".join(iter(process.stdout.readline, "}\n")) + "}")["url"]
        with pytest.raises(http.client.IncompleteRead) as caught:
            urllib.request.urlopen(f"{url}/file", timeout=5).read()  # noqa: S310
        process.terminate()
        assert process.wait(timeout=10) == 0
    assert caught.value.partial == b"0\xce2345"
