"""Which bytes of a file a Range header asks for (RFC 9110, section 14). Pure.

Decides for one range in bytes; ignores several ranges, other units and nonsense, as a server may.
"""

import re
from dataclasses import dataclass

_ONE_RANGE = re.compile(r"bytes=(\d{0,19})-(\d{0,19})")


@dataclass(frozen=True, slots=True, kw_only=True)
class ByteRange:
    """Consecutive bytes of a file; `stop` is the first one that is not included."""

    start: int
    stop: int

    @property
    def is_satisfiable(self) -> bool:
        """Whether any byte of the file lies in it."""
        return self.start < self.stop


def parse_range(header: str, length: int) -> ByteRange | None:
    """Return the range of a file of `length` bytes, None when the whole file is to be sent."""
    match = _ONE_RANGE.fullmatch(header)
    if match is None:
        return None
    first, last = match.groups()
    if first and last and int(last) < int(first):
        return None
    if first:
        return ByteRange(start=int(first), stop=min(length, int(last) + 1) if last else length)
    # RFC 9110, 14.1.2: without a first position, that many bytes from the end.
    return ByteRange(start=max(0, length - int(last)), stop=length) if last else None
