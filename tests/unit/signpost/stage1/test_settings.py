import pytest

from signpost.stage1.settings import Settings, parse_settings


def test_without_words_of_its_own_the_defaults_count() -> None:
    assert parse_settings("console=ttyS0 quiet root=/dev/vda1 notsignpost.disk=x") == Settings()


def test_every_setting_can_be_given() -> None:
    line = "quiet signpost.disk=/dev/sdb signpost.wait=5 signpost.pause=0\n"
    assert parse_settings(line) == Settings(disk="/dev/sdb", wait_seconds=5, pause_seconds=0)


def test_the_last_of_equal_words_counts() -> None:
    assert parse_settings("signpost.wait=5 signpost.wait=6").wait_seconds == 6


@pytest.mark.parametrize("text", ["-1", "x", "1.5", "²", "9" * 400])
def test_a_number_that_is_none_keeps_the_default(text: str) -> None:
    assert parse_settings(f"signpost.wait={text}").wait_seconds == Settings().wait_seconds


def test_no_pause_is_longer_than_an_hour() -> None:
    assert parse_settings("signpost.pause=999999").pause_seconds == 3600
