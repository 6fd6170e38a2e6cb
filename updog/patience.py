"""How long a download may go on: attempts, pauses, deadlines and the slowest pace.

Decides by counting the bytes and seconds that it is told of. Knows no clock, no random numbers and
no network.
"""

from dataclasses import dataclass, replace

from updog.answers import Broken, Refused, Wanted

PROGRESS_BYTES = 64 << 10
"""An attempt that brought this much was worth it: failures are counted anew."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How patient a transport is.

    Attributes:
        connect_timeout_seconds: For a connection to stand.
        gap_timeout_seconds: Between two pieces of an answer.
        deadline_seconds: For one file, all attempts and pauses together. Only waiting counts, not
            what the reader does between two chunks.
        minimum_bytes_per_second: Less than this over a whole window breaks an attempt off.
        window_seconds: That window.
        attempts: In a row without progress.
        attempts_to_go_on: The same for the rest of a file that has begun to come and whose server
            then vanished: with the pauses between them, about five minutes.
        first_pause_seconds: Before the second attempt; each next one doubles it.
        longest_pause_seconds: Whatever a server asks for.
    """

    connect_timeout_seconds: float = 10
    gap_timeout_seconds: float = 30
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


@dataclass(slots=True, kw_only=True)
class Download:
    """One file on its way, across attempts."""

    url: str
    wanted: Wanted
    deadline_seconds: float
    waited_seconds: float = 0
    failures: int = 0

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


@dataclass(slots=True, kw_only=True)
class Pace:
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
            slowest = self.limits.minimum_bytes_per_second
            raise Broken(f"the server sent less than {slowest:g} bytes a second")
        self.seconds, self.count = 0, 0
