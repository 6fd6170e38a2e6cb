"""Steps on stderr, for people or for programs, and never on stdout."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
import structlog

from updog.log import LogFormat, configure


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


@pytest.mark.parametrize("log_format", LogFormat)
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
    assert [each.value for each in LogFormat] == ["human", "json"]


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
