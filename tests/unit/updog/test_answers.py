from datetime import UTC, datetime
from typing import NoReturn

import pytest
from requests.structures import CaseInsensitiveDict

from updog.answers import Body, Broken, Refused, Wanted, read_answer, request_headers

NOW = datetime(2030, 1, 1, tzinfo=UTC)
TAG = '"v1"'
DATE = "Mon, 31 Dec 2029 00:00:00 GMT"
REST = Wanted(offset=40, length=100, validator=TAG)


def answer(status: int, wanted: Wanted, **headers: str) -> Body:
    """Read an answer with a body; header names are written with underscores."""
    body = read_any(status, wanted, **headers)
    assert body is not None
    return body


def read_any(status: int, wanted: Wanted, **headers: str) -> Body | None:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return read_answer(status, CaseInsensitiveDict(named), wanted=wanted, now=NOW)


def refusal(status: int, wanted: Wanted, **headers: str) -> str:
    with pytest.raises(Refused) as caught:
        answer(status, wanted, **headers)
    return caught.value.reason


def test_a_file_is_asked_for_without_a_range() -> None:
    assert request_headers(Wanted()) == {}


def test_a_rest_is_asked_for_on_condition_that_the_file_is_the_same() -> None:
    assert request_headers(REST) == {"Range": "bytes=40-", "If-Range": TAG}


def test_a_rest_of_a_file_without_a_validator_is_asked_for_unconditionally() -> None:
    assert request_headers(Wanted(offset=40)) == {"Range": "bytes=40-"}


def test_a_416_where_the_file_ends_is_its_end() -> None:
    at_end = Wanted(offset=100, validator=TAG)
    assert read_any(416, at_end, content_range="bytes */100") is None
    assert read_any(416, Wanted(offset=100, length=100), content_range="bytes */100") is None


@pytest.mark.parametrize(
    ("wanted", "sent"),
    [
        (REST, {"content_range": "bytes */40"}),
        (REST, {}),
        (Wanted(offset=40), {"content_range": "bytes */39"}),
        (Wanted(offset=40), {"content_range": "bytes */*"}),
    ],
)
def test_a_416_elsewhere_is_refused(wanted: Wanted, sent: dict[str, str]) -> None:
    assert refusal(416, wanted, **sent) == (
        "the server has nothing from byte 40 on, where more is expected"
    )


def test_a_416_of_another_version_is_refused() -> None:
    at_end = Wanted(offset=100, validator=TAG)
    assert "changed" in refusal(416, at_end, content_range="bytes */100", etag='"v2"')


def test_a_416_to_a_whole_file_is_an_error_like_any_other() -> None:
    assert refusal(416, Wanted()).startswith("the server answered 416 ")


def test_a_200_is_the_file() -> None:
    body = answer(200, Wanted(), content_length="100", etag=TAG)
    assert body == Body(skip=0, length=100, validator=TAG)


def test_a_200_to_a_range_is_the_file_of_which_a_part_is_here() -> None:
    assert answer(200, REST, content_length="100", etag=TAG).skip == 40


def test_a_200_without_a_length_keeps_the_expected_one() -> None:
    assert answer(200, Wanted(length=100)).length == 100
    assert answer(200, Wanted(length=100), content_length="-3").length == 100
    assert answer(200, Wanted()).length is None


def test_a_file_of_another_length_is_refused_before_a_byte_is_read() -> None:
    reason = refusal(200, Wanted(length=100), content_length="101")
    assert reason == "the server's file holds 101 bytes, where 100 are expected"


def test_a_weak_tag_is_passed_over_for_the_date() -> None:
    assert answer(200, Wanted(), etag='W/"v1"', last_modified=DATE).validator == DATE
    assert answer(200, Wanted(), etag='W/"v1"').validator is None


def test_a_206_with_the_exact_rest_is_the_rest() -> None:
    body = answer(206, REST, content_range="bytes 40-99/100", etag=TAG)
    assert body == Body(skip=0, length=100, validator=TAG)


def test_a_206_tells_the_length_where_nothing_did_before() -> None:
    assert answer(206, Wanted(offset=40), content_range="bytes 40-99/100").length == 100


@pytest.mark.parametrize(
    "content_range",
    ["", "bytes 0-99/100", "bytes 39-99/100", "bytes 41-99/100", "bytes 40-98/100",
     "bytes 40-100/100", "bytes 40-99/*", "bytes */100", "40-99/100", "bytes 40-99/100, 0-1/2",
     "items 40-99/100", "bytes 40-99/100\n"],
)  # fmt: skip
def test_a_206_with_another_part_is_refused(content_range: str) -> None:
    reason = refusal(206, REST, content_range=content_range)
    assert reason == "the server sent another part than the one from byte 40 on"


def test_a_206_of_a_file_of_another_length_is_refused() -> None:
    reason = refusal(206, REST, content_range="bytes 40-199/200")
    assert reason == "the server's file holds 200 bytes, where 100 are expected"


@pytest.mark.parametrize("status", [200, 206])
def test_a_file_that_changed_meanwhile_is_refused(status: int) -> None:
    reason = refusal(status, REST, etag='"v2"', content_range="bytes 40-99/100")
    assert reason == "the file changed on the server while it was fetched; run the command again"


def test_a_206_that_was_not_asked_for_is_refused() -> None:
    assert refusal(206, Wanted(), content_range="bytes 0-99/100") == (
        "the server answered 206 Partial Content"
    )


@pytest.mark.parametrize("encoding", ["gzip", "br", "zstd", "identity, gzip"])
def test_a_compressed_body_is_refused(encoding: str) -> None:
    reason = refusal(200, Wanted(), content_encoding=encoding)
    assert reason == "the server compressed the file, which it was asked not to"


@pytest.mark.parametrize("status", [204, 304, 400, 401, 403, 404, 410, 416, 501, 505])
def test_a_lasting_error_is_refused_with_its_status(status: int) -> None:
    with pytest.raises(Refused) as caught:
        answer(status, Wanted())
    assert caught.value.status == status


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504])
def test_a_passing_error_may_be_tried_again(status: int) -> None:
    with pytest.raises(Broken) as caught:
        answer(status, Wanted())
    assert caught.value.status == status
    assert caught.value.pause_seconds is None


def test_a_status_is_named_in_our_own_words() -> None:
    assert refusal(404, Wanted()) == "the server answered 404 Not Found"
    assert refusal(499, Wanted()) == "the server answered 499"


@pytest.mark.parametrize(
    ("retry_after", "seconds"),
    [
        ("0", 0),
        ("120", 120),
        ("Tue, 01 Jan 2030 00:02:00 GMT", 120),
        ("Mon, 31 Dec 2029 00:00:00 GMT", 0),
        ("", None),
        ("-5", None),
        ("soon", None),
        ("Tue, 01 Jan 2030 00:02:00 -0000", None),
    ],
)
def test_a_server_may_ask_for_a_pause(retry_after: str, seconds: float | None) -> None:
    def ask() -> NoReturn:
        answer(503, Wanted(), retry_after=retry_after)
        raise AssertionError

    with pytest.raises(Broken) as caught:
        ask()
    assert caught.value.pause_seconds == seconds
