from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from updog.units import duration, size

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30


@pytest.mark.parametrize(
    ("count", "words"),
    [
        (0, "0 B"),
        (1, "1 B"),
        (9, "9 B"),
        (1023, "1023 B"),
        (KIB, "1.0 KiB"),
        (KIB + KIB // 2, "1.5 KiB"),
        (10 * KIB, "10 KiB"),
        (999 * KIB, "999 KiB"),
        (MIB, "1.0 MiB"),
        (7_969_177, "7.6 MiB"),
        (252 * MIB, "252 MiB"),
        (GIB, "1.0 GiB"),
        (964689920, "920 MiB"),
        (1024 * GIB, "1024 GiB"),
        (5000 * GIB, "5000 GiB"),
    ],
)
def test_a_size_is_told_in_its_largest_unit_and_two_digits_at_least(count: int, words: str) -> None:
    assert size(count) == words


@given(count=st.integers(0, 1 << 50))
def test_a_size_in_words_is_close_to_the_size(count: int) -> None:
    number, unit = size(count).split(" ")
    told = float(number) * {"B": 1, "KiB": KIB, "MiB": MIB, "GiB": GIB}[unit]
    assert abs(told - count) <= max(count * 0.051, 0)


@pytest.mark.parametrize(
    ("span", "words"),
    [
        (timedelta(0), "0.0 s"),
        (timedelta(seconds=3, milliseconds=100), "3.1 s"),
        (timedelta(seconds=59), "59.0 s"),
        (timedelta(seconds=60), "1 min"),
        (timedelta(seconds=119), "1 min"),
        (timedelta(minutes=4), "4 min"),
        (timedelta(minutes=59, seconds=59), "59 min"),
        (timedelta(hours=1), "1 h 0 min"),
        (timedelta(hours=23, minutes=59, seconds=59), "23 h 59 min"),
        (timedelta(days=1), "1 d 0 h"),
        (timedelta(days=6, hours=23, minutes=59), "6 d 23 h"),
        (timedelta(days=400), "400 d 0 h"),
    ],
)
def test_a_duration_is_told_in_its_two_largest_units(span: timedelta, words: str) -> None:
    assert duration(span) == words


@pytest.mark.parametrize(
    ("span", "words"),
    [
        (timedelta(seconds=-1), "1.0 s ago"),
        (timedelta(minutes=-5), "5 min ago"),
        (timedelta(days=-2, hours=-3), "2 d 3 h ago"),
    ],
)
def test_a_duration_below_zero_lies_in_the_past(span: timedelta, words: str) -> None:
    assert duration(span) == words
