from datetime import timedelta

import pytest

from repo_tools.durations import parse_duration


@pytest.mark.parametrize(
    ("text", "span"),
    [
        ("1 second", timedelta(seconds=1)),
        ("30 minutes", timedelta(minutes=30)),
        ("in 4 hours", timedelta(hours=4)),
        ("7 days", timedelta(days=7)),
        ("2 weeks", timedelta(weeks=2)),
        ("90s", timedelta(seconds=90)),
        ("5m", timedelta(minutes=5)),
        ("36h", timedelta(hours=36)),
        ("7d", timedelta(days=7)),
        ("1w", timedelta(weeks=1)),
        ("0 days", timedelta()),
    ],
)
def test_times_are_read_in_words_and_in_short(text: str, span: timedelta) -> None:
    assert parse_duration(text) == span


@pytest.mark.parametrize(
    "text", ["", "7", "d", "7 d", "7days", "-1 days", "1 month", "7d\n", "\u0667d"]
)
def test_anything_else_is_no_time(text: str) -> None:
    assert parse_duration(text) is None
