import pytest
from hypothesis import given
from hypothesis import strategies as st

from repo_tools.byterange import ByteRange, parse_range


@pytest.mark.parametrize(
    ("header", "start", "stop"),
    [
        ("bytes=0-", 0, 10),
        ("bytes=4-", 4, 10),
        ("bytes=4-4", 4, 5),
        ("bytes=4-9", 4, 10),
        ("bytes=4-99", 4, 10),
        ("bytes=-3", 7, 10),
        ("bytes=-99", 0, 10),
    ],
)
def test_one_range_is_understood(header: str, start: int, stop: int) -> None:
    assert parse_range(header, 10) == ByteRange(start=start, stop=stop)


@pytest.mark.parametrize(
    "header", ["", "bytes=", "bytes=-", "bytes=5-4", "bytes=0-1,4-5", "lines=1-2", "bytes=a-b"]
)
def test_anything_else_asks_for_the_whole_file(header: str) -> None:
    assert parse_range(header, 10) is None


@pytest.mark.parametrize("header", ["bytes=10-", "bytes=11-12", "bytes=-0"])
def test_a_range_without_a_byte_of_the_file_cannot_be_satisfied(header: str) -> None:
    found = parse_range(header, 10)
    assert found is not None
    assert not found.is_satisfiable


@given(st.text(max_size=30) | st.from_regex(r"bytes=\d*-\d*", fullmatch=True), st.integers(0, 99))
def test_a_satisfiable_range_lies_inside_the_file(header: str, length: int) -> None:
    found = parse_range(header, length)
    if found is not None and found.is_satisfiable:
        assert 0 <= found.start < found.stop <= length
