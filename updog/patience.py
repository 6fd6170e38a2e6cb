"""How long a download may go on: attempts, pauses, deadlines and the slowest pace.

Decides by counting the bytes and seconds that it is told of. Knows no clock, no random numbers and
no network.
"""

import msgspec
from msgspec.structs import replace

from updog.answers import Broken, Refused, Wanted

PROGRESS_BYTES = 64 << 10
"""An attempt that brought this much was worth it: failures are counted anew."""

MOST_PIECE_BYTES = 1 << 20
"""The most to read at once."""


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """How patient a transport is.

    Attributes:
        connect_timeout_seconds: For a connection to stand.
        gap_timeout_seconds: Between two pieces of an answer, of whatever length.
        answer_timeout_seconds: From a request to the end of the answer's header, connecting
            included.
        deadline_seconds: For one file, all attempts and pauses together. Only waiting counts, not
            what the reader does between two chunks.
        minimum_bytes_per_second: Less than this over a whole window breaks an attempt off.
        window_seconds: That window, and the longest wait for a piece that can be passed on.
        attempts: In a row without progress.
        attempts_to_go_on: The same for the rest of a file that has begun to come and whose server
            then vanished: with the pauses between them, about five minutes.
        first_pause_seconds: Before the second attempt; each next one doubles it.
        longest_pause_seconds: Whatever a server asks for.
    """

    connect_timeout_seconds: float = 10
    gap_timeout_seconds: float = 30
    answer_timeout_seconds: float = 60
    deadline_seconds: float = 6 * 3600
    minimum_bytes_per_second: float = 1024
    window_seconds: float = 60
    attempts: int = 4
    attempts_to_go_on: int = 14
    first_pause_seconds: float = 0.5
    longest_pause_seconds: float = 60

    def pause_seconds(self, failures: int, *, asked: float | None, chance: float) -> float:
        """Return how long to wait after so many failures in a row.

        Doubles with each failure, and is scattered: a fleet must not come back all at once.

        Args:
            failures: One or more.
            asked: The seconds that the server asked for, if it did.
            chance: Any number from 0 to 1.
        """
        if asked is not None:
            return min(asked, self.longest_pause_seconds)
        doubled = self.first_pause_seconds * 2.0 ** (failures - 1)
        return min(doubled, self.longest_pause_seconds) * (1 + chance) / 2


PATIENT = Limits()
"""The limits for production."""


class Download(msgspec.Struct, kw_only=True):
    """One file on its way, across attempts."""

    url: str
    wanted: Wanted
    deadline_seconds: float
    waited_seconds: float = 0
    failures: int = 0

    @property
    def left_seconds(self) -> float:
        """How much longer it may be waited for."""
        return max(0.0, self.deadline_seconds - self.waited_seconds)

    @property
    def is_whole(self) -> bool:
        """Whether all bytes are here; False where nobody has said how many there are."""
        return self.wanted.offset == self.wanted.length

    def receive(self, count: int) -> None:
        """Count bytes that are about to be handed on."""
        offset, length = self.wanted.offset + count, self.wanted.length
        if length is not None and offset > length:
            raise Refused(f"the server sent more than the {length} bytes that are expected")
        self.wanted = replace(self.wanted, offset=offset)

    def wait(self, seconds: float) -> None:
        """Count time that was, or will be, spent waiting."""
        self.waited_seconds += seconds
        if self.waited_seconds > self.deadline_seconds:
            raise Refused(f"it took more than {self.deadline_seconds:g} s; try again later")

    def refuse_short_end(self) -> None:
        """Refuse the end of a body that is not the end of the file."""
        if self.wanted.length is not None and self.wanted.offset < self.wanted.length:
            raise Broken("the connection broke off")

    def is_hopeless(self, limits: Limits, *, status: int | None) -> bool:
        """Tell whether it has failed too often to be tried again.

        Args:
            limits: How often is too often.
            status: The HTTP status of the last failure; None if the server did not answer.
        """
        has_begun = self.wanted.offset >= PROGRESS_BYTES
        is_gone = status is None or status >= 500
        return self.failures >= (
            limits.attempts_to_go_on if has_begun and is_gone else limits.attempts
        )


class Pace(msgspec.Struct, kw_only=True):
    """How fast a body comes, window by window."""

    limits: Limits
    seconds: float = 0
    count: int = 0

    def add(self, seconds: float, count: int) -> None:
        """Count bytes and the seconds they took; break off what is too slow."""
        self.seconds += seconds
        self.count += count
        if self.seconds < self.limits.window_seconds:
            return
        if self.count < self.limits.minimum_bytes_per_second * self.seconds:
            raise Broken(too_slow(self.limits))
        self.seconds, self.count = 0, 0


def too_slow(limits: Limits) -> str:
    """Say that a body does not come fast enough."""
    return f"the server sent less than {limits.minimum_bytes_per_second:g} bytes a second"


class Throttle(msgspec.Struct, kw_only=True):
    """How fast everything together may come.

    Attributes:
        bytes_per_second: None for as fast as it can.
    """

    bytes_per_second: int | None = None
    _free_at: float = 0

    @property
    def piece_bytes(self) -> int:
        """How much to take at once: what makes no pause longer than a quarter of a second."""
        if self.bytes_per_second is None:
            return MOST_PIECE_BYTES
        return min(MOST_PIECE_BYTES, max(1, self.bytes_per_second // 4))

    def pause_seconds(self, count: int, *, now: float) -> float:
        """Count bytes that have come; return how long to wait before any more."""
        if self.bytes_per_second is None:
            return 0
        self._free_at = max(now, self._free_at) + count / self.bytes_per_second
        return self._free_at - now
