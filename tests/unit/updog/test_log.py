"""Steps on stderr, for people, programs or the journal, and never on stdout."""

import json
import os
import pty
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import structlog

from updog import journal
from updog.log import LogFormat, configure, log_failure, resolve
from updog.names import escaped


@pytest.fixture(autouse=True)
def _structlog_as_it_was() -> Iterator[None]:
    yield
    structlog.reset_defaults()


def logged(capsys: pytest.CaptureFixture[str]) -> list[str]:
    """Return the lines on stderr, having checked that stdout is empty."""
    captured = capsys.readouterr()
    assert captured.out == ""
    return captured.err.splitlines()


class TestForPeople:
    def test_a_step_is_its_name_and_its_summary(self, capsys: pytest.CaptureFixture[str]) -> None:
        configure(LogFormat.HUMAN)
        structlog.get_logger().info("root", summary="241 MiB fetched", bytes=252706816)
        structlog.get_logger().info("migrations", summary="2 kept")
        structlog.get_logger().info("rolled back", summary="1.2.0 in set B")
        assert logged(capsys) == [
            "Root       241 MiB fetched",
            "Migrations 2 kept",
            "Rolled back 1.2.0 in set B",
        ]

    def test_without_a_summary_the_facts_are_told(self, capsys: pytest.CaptureFixture[str]) -> None:
        configure(LogFormat.HUMAN)
        structlog.get_logger().warning("retry", url="http://a/b", attempt=2)
        assert logged(capsys) == ["Retry      url=http://a/b attempt=2"]

    def test_a_bare_event_leaves_no_blanks_behind_it(
        self, capsys: pytest.CaptureFixture[str]
    ) -> None:
        configure(LogFormat.HUMAN)
        structlog.get_logger().info("verify")
        assert logged(capsys) == ["Verify"]


HOSTILE = "1.0.0\x1b[2J\r\nFlags B: priority 2\x07\x7f\x9b\u202e\ud800"


class TestHostileText:
    @pytest.mark.parametrize("log_format", LogFormat)
    def test_no_control_character_reaches_the_log(
        self, log_format: LogFormat, capsys: pytest.CaptureFixture[str], tmp_path: Path
    ) -> None:
        configure(log_format, journal_socket=tmp_path / "none")
        structlog.get_logger().info("step", summary=f"took {HOSTILE}", url=HOSTILE)
        structlog.get_logger().info(HOSTILE, **{"a fact": HOSTILE})
        shown = capsys.readouterr().err
        assert shown.count("\n") == 2
        assert shown.replace("\n", "").isprintable()

    def test_nor_the_journal(self, tmp_path: Path) -> None:
        with a_journal(tmp_path / "socket") as received:
            configure(LogFormat.JOURNAL, journal_socket=tmp_path / "socket")
            structlog.get_logger().info("step", summary=f"took {HOSTILE}", url=HOSTILE)
            fields = received()
        assert fields["UPDOG_URL"] == escaped(HOSTILE)
        assert all(value.isprintable() for value in fields.values())

    def test_letters_of_all_languages_are_left_as_they_are(
        self, capsys: pytest.CaptureFixture[str]
    ) -> None:
        configure(LogFormat.HUMAN)
        structlog.get_logger().info("step", summary="/srv/\u00e9t\u00e9")
        assert logged(capsys) == ["Step       /srv/\u00e9t\u00e9"]


class TestJournal:
    def test_an_event_is_an_entry_with_its_facts_in_fields(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        with a_journal(tmp_path / "socket") as received:
            configure(LogFormat.JOURNAL, journal_socket=tmp_path / "socket")
            structlog.get_logger().warning("root", summary="2 MiB fetched", bytes=2, parts=["a"])
            fields = received()
        assert fields == {
            "MESSAGE": "Root       2 MiB fetched",
            "PRIORITY": "4",
            "SYSLOG_IDENTIFIER": "updog",
            "UPDOG_EVENT": "root",
            "UPDOG_SUMMARY": "2 MiB fetched",
            "UPDOG_BYTES": "2",
            "UPDOG_PARTS": '["a"]',
        }
        assert logged(capsys) == []

    @pytest.mark.parametrize(
        ("method", "priority"), [("debug", "7"), ("info", "6"), ("warning", "4"), ("error", "3")]
    )
    def test_levels_are_priorities(self, tmp_path: Path, method: str, priority: str) -> None:
        with a_journal(tmp_path / "socket") as received:
            configure(LogFormat.JOURNAL, level="debug", journal_socket=tmp_path / "socket")
            getattr(structlog.get_logger(), method)("step")
            assert received()["PRIORITY"] == priority

    def test_an_entry_too_large_for_a_datagram_arrives_whole(self, tmp_path: Path) -> None:
        with a_journal(tmp_path / "socket") as received:
            configure(LogFormat.JOURNAL, journal_socket=tmp_path / "socket")
            structlog.get_logger().info("step", summary="x" * (4 << 20))
            assert received()["UPDOG_SUMMARY"] == "x" * (4 << 20)

    def test_lines_of_a_value_are_one_field(self, tmp_path: Path) -> None:
        with a_journal(tmp_path / "socket") as received:
            journal.send({"MESSAGE": "one\ntwo=2", "PRIORITY": "6"}, tmp_path / "socket")
            assert received() == {"MESSAGE": "one\ntwo=2", "PRIORITY": "6"}

    @pytest.mark.parametrize("name", ["none", "file"])
    def test_without_a_journal_the_lines_go_to_stderr(
        self, name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        (tmp_path / "file").touch()
        configure(LogFormat.JOURNAL, journal_socket=tmp_path / name)
        structlog.get_logger().info("root", summary="2 MiB fetched")
        assert logged(capsys) == ["Root       2 MiB fetched"]


class TestWhoReads:
    @pytest.mark.parametrize("chosen", [each for each in LogFormat if each is not LogFormat.AUTO])
    def test_what_was_chosen_is_taken(self, chosen: LogFormat) -> None:
        assert resolve(chosen) is chosen

    def test_a_file_is_for_programs(self, tmp_path: Path) -> None:
        with (tmp_path / "log").open("w") as stderr:
            assert format_with(stderr.fileno()) == "json"

    def test_a_terminal_is_for_people(self) -> None:
        shows, terminal = pty.openpty()
        try:
            assert format_with(terminal) == "human"
        finally:
            os.close(shows)
            os.close(terminal)

    def test_the_stream_that_systemd_names_is_the_journal(self, tmp_path: Path) -> None:
        with (tmp_path / "log").open("w") as stderr:
            status = os.fstat(stderr.fileno())
            named = f"{status.st_dev}:{status.st_ino}"
            assert format_with(stderr.fileno(), JOURNAL_STREAM=named) == "journal"

    @pytest.mark.parametrize("other", ["", "1:2", "nonsense"])
    def test_another_stream_is_not(self, tmp_path: Path, other: str) -> None:
        """The variable is inherited by what no longer writes into the journal."""
        with (tmp_path / "log").open("w") as stderr:
            assert format_with(stderr.fileno(), JOURNAL_STREAM=other) == "json"


def format_with(stderr: int, **environment: str) -> str:
    """Return the format that a process with this stderr chooses by itself."""
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            "from updog.log import LogFormat, resolve; print(resolve(LogFormat.AUTO))",
        ],
        env={"PYTHONPATH": str(Path.cwd()), **environment},
        stdout=subprocess.PIPE,
        stderr=stderr,
        text=True,
        timeout=60,
        check=True,
    )
    return done.stdout.strip()


def test_a_failure_that_the_journal_takes_is_told_and_one_that_it_does_not_is_not(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "socket"
    with a_journal(path) as received:
        assert log_failure("no\x1bway", LogFormat.JOURNAL, journal_socket=path)
        fields = received()
    assert (fields["PRIORITY"], fields["UPDOG_EVENT"]) == ("3", "failed")
    assert fields["MESSAGE"] == "Failed     no\\x1bway"
    assert not log_failure("no way", LogFormat.JOURNAL, journal_socket=tmp_path / "away")
    assert logged(capsys) == []


@contextmanager
def a_journal(path: Path) -> Iterator[Callable[[], dict[str, str]]]:
    """Listen as journald does; yield what returns the fields of the next entry."""

    def received() -> dict[str, str]:
        data, descriptors, _, _ = socket.recv_fds(listener, 1 << 20, 1)
        for descriptor in descriptors:
            with open(descriptor, "rb") as file:  # noqa: PTH123 -- a descriptor, not a path
                file.seek(0)
                data = file.read()
        return _decoded(data)

    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(path))
        listener.settimeout(60)
        yield received


def _decoded(data: bytes) -> dict[str, str]:
    """Read an entry as https://systemd.io/JOURNAL_NATIVE_PROTOCOL/ describes it."""
    fields = {}
    while data:
        line, _, data = data.partition(b"\n")
        name, is_plain, value = line.partition(b"=")
        if not is_plain:
            length = int.from_bytes(data[:8], "little")
            value, data = data[8 : 8 + length], data[8 + length :].removeprefix(b"\n")
        fields[name.decode()] = value.decode()
    return fields


class TestForPrograms:
    def test_a_step_is_one_json_object_with_all_its_facts(
        self, capsys: pytest.CaptureFixture[str]
    ) -> None:
        configure(LogFormat.JSON)
        structlog.get_logger().warning("root", summary="line\nbreak", bytes=1)
        (line,) = logged(capsys)
        facts = json.loads(line)
        age = datetime.now(UTC) - datetime.fromisoformat(facts.pop("time"))
        assert abs(age) < timedelta(minutes=1)
        assert facts == {
            "event": "root",
            "level": "warning",
            "summary": "line\nbreak",
            "bytes": 1,
        }

    def test_a_fact_called_timestamp_is_kept(self, capsys: pytest.CaptureFixture[str]) -> None:
        configure(LogFormat.JSON)
        structlog.get_logger().info("trust", timestamp=812)
        (line,) = logged(capsys)
        assert json.loads(line)["timestamp"] == 812


@pytest.mark.parametrize("log_format", [LogFormat.HUMAN, LogFormat.JSON])
@pytest.mark.parametrize(
    ("level", "count"), [("debug", 4), ("info", 3), ("warning", 2), ("error", 1)]
)
def test_what_is_below_the_level_is_left_out(
    log_format: LogFormat, level: str, count: int, capsys: pytest.CaptureFixture[str]
) -> None:
    configure(log_format, level=level)
    log = structlog.get_logger()
    for method in (log.debug, log.info, log.warning, log.error):
        method("step")
    assert len(logged(capsys)) == count


def test_the_formats_are_called_as_on_the_command_line() -> None:
    assert [each.value for each in LogFormat] == ["auto", "human", "json", "journal"]


def test_info_is_the_level_unless_told_otherwise(capsys: pytest.CaptureFixture[str]) -> None:
    configure(LogFormat.HUMAN)
    structlog.get_logger().debug("details")
    structlog.get_logger().info("step")
    assert logged(capsys) == ["Step"]


def test_a_logger_made_before_the_configuration_follows_it(
    capsys: pytest.CaptureFixture[str],
) -> None:
    early = structlog.get_logger()
    configure(LogFormat.JSON)
    early.info("one")
    configure(LogFormat.HUMAN)
    early.info("two")
    first, second = logged(capsys)
    assert json.loads(first)["event"] == "one"
    assert second == "Two"
