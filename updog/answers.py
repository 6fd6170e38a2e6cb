"""What an HTTP answer means for a download: the file, its exact rest, wait, or give up.

Decides from status and header fields alone, by RFC 9110. Refuses an answer that would make a file
of pieces from two versions, of a wrong length, or compressed unasked. Sends and receives nothing.
"""

import re
from collections.abc import Mapping
from datetime import datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus

import msgspec

# RFC 9110 section 14.4.
_CONTENT_RANGE = re.compile(r"bytes ([0-9]{1,18})-([0-9]{1,18})/([0-9]{1,18})", re.ASCII)
_UNSATISFIED = re.compile(r"bytes \*/([0-9]{1,18})", re.ASCII)
_NUMBER = re.compile(r"[0-9]{1,18}", re.ASCII)

# RFC 9110 section 15.6, and the client errors that mean "later".
_PASSING = frozenset({408, 425, 429, 500, 502, 503, 504})


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """What is still wanted of a file.

    Attributes:
        offset: The bytes that are here already.
        length: Of the whole file; None until something says it.
        validator: What tells this version of the file from another (RFC 9110 section 13.1.5).
    """

    offset: int = 0
    length: int | None = None
    validator: str | None = None


class Body(msgspec.Struct, frozen=True, kw_only=True):
    """What the body of an answer holds: the wanted bytes, after `skip` that are here already."""

    skip: int
    length: int | None
    validator: str | None


class Refused(Exception):  # noqa: N818 -- an outcome, not a defect
    """An answer that trying again will not better."""

    def __init__(self, reason: str, *, status: int | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.status = status


class Broken(Exception):  # noqa: N818 -- an outcome, not a defect
    """An attempt that a later one may better; a server may have said how much later."""

    def __init__(
        self, reason: str, *, status: int | None = None, pause_seconds: float | None = None
    ) -> None:
        super().__init__(reason)
        self.reason = reason
        self.status = status
        self.pause_seconds = pause_seconds


def request_headers(wanted: Wanted) -> dict[str, str]:
    """Ask for the rest of a file, and for that only while it is the same file."""
    if wanted.offset == 0:
        return {}
    rest = {"Range": f"bytes={wanted.offset}-"}
    return rest | ({"If-Range": wanted.validator} if wanted.validator else {})


def read_answer(
    status: int, headers: Mapping[str, str], *, wanted: Wanted, now: datetime
) -> Body | None:
    """Find out what an answer's body is; None if the file has ended where its rest was asked for.

    Args:
        status: The HTTP status.
        headers: The header fields, under names of any case.
        wanted: What was asked for.
        now: The time, aware: Retry-After may name one.

    Raises:
        Refused: The answer is of no use, and the next will not be either.
        Broken: Asking again may help.
    """
    match status:
        case 200:
            return _whole(headers, wanted)
        case 206 if wanted.offset:
            return _rest(headers, wanted)
        case 416 if wanted.offset:
            _refuse_other_end(headers, wanted)
            return None
        case _ if status in _PASSING:
            raise Broken(_answered(status), status=status, pause_seconds=_retry_after(headers, now))
        case _:
            raise Refused(_answered(status), status=status)


def _answered(status: int) -> str:
    # The phrase is ours: the one that was sent may hold anything.
    known = {each.value: each.phrase for each in HTTPStatus}
    return f"the server answered {status} {known.get(status, '')}".rstrip()


def _whole(headers: Mapping[str, str], wanted: Wanted) -> Body:
    """Take a body that starts at the file's first byte, also where the rest of it was asked for."""
    _refuse_encoding(headers)
    _refuse_change(headers, wanted)
    length = _agreed_length(_content_length(headers), wanted.length)
    return Body(skip=wanted.offset, length=length, validator=_validator(headers))


def _rest(headers: Mapping[str, str], wanted: Wanted) -> Body:
    _refuse_encoding(headers)
    _refuse_change(headers, wanted)
    sent = headers.get("Content-Range", "")
    match = _CONTENT_RANGE.fullmatch(sent)
    first, last, length = map(int, match.groups()) if match else (-1, -1, -1)
    if first != wanted.offset or last != length - 1:
        raise Refused(f"the server sent another part than the one from byte {wanted.offset} on")
    return Body(skip=0, length=_agreed_length(length, wanted.length), validator=wanted.validator)


def _refuse_other_end(headers: Mapping[str, str], wanted: Wanted) -> None:
    """Refuse that there is no rest, unless the file ends there (RFC 9110 section 15.5.17)."""
    match = _UNSATISFIED.fullmatch(headers.get("Content-Range", ""))
    length = int(match[1]) if match else None
    if length != wanted.offset or wanted.length not in {None, length}:
        raise Refused(
            f"the server has nothing from byte {wanted.offset} on, where more is expected",
            status=416,
        )
    _refuse_change(headers, wanted)


def _refuse_encoding(headers: Mapping[str, str]) -> None:
    if headers.get("Content-Encoding", "identity").lower() != "identity":
        raise Refused("the server compressed the file, which it was asked not to")


def _refuse_change(headers: Mapping[str, str], wanted: Wanted) -> None:
    now = _validator(headers)
    if wanted.validator and now and wanted.validator != now:
        raise Refused("the file changed on the server while it was fetched; run the command again")


def _validator(headers: Mapping[str, str]) -> str | None:
    """Pick what If-Range accepts: an entity tag unless it is weak, else the modification date."""
    tag = headers.get("ETag", "")
    return tag if tag.startswith('"') else headers.get("Last-Modified")


def _content_length(headers: Mapping[str, str]) -> int | None:
    sent = headers.get("Content-Length", "")
    return int(sent) if _NUMBER.fullmatch(sent) else None


def _agreed_length(sent: int | None, expected: int | None) -> int | None:
    if sent is not None and expected is not None and sent != expected:
        raise Refused(f"the server's file holds {sent} bytes, where {expected} are expected")
    return expected if sent is None else sent


def _retry_after(headers: Mapping[str, str], now: datetime) -> float | None:
    """Read the seconds to wait, given as such or as a date (RFC 9110 section 10.2.3)."""
    sent = headers.get("Retry-After", "").strip()
    if _NUMBER.fullmatch(sent):
        return float(sent)
    try:
        return max(0.0, (parsedate_to_datetime(sent) - now).total_seconds())
    except (TypeError, ValueError, OverflowError):  # no date, or one without a time zone
        return None
