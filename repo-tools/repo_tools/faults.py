"""What a server for trials does wrong, and when. Pure.

Decides by the path of a request, and by a number that is drawn for it, so that a trial with the
same seed and the same requests goes the same way.
"""

from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Final


@dataclass(frozen=True, slots=True, kw_only=True)
class Faults:
    """What goes wrong with the answers to requests for some paths.

    Attributes:
        pattern: The paths, as a shell pattern without the slash that they begin with.
        bytes_per_second: Of bodies, all connections together; None for as fast as it goes.
        latency_seconds: Before every answer.
        close_after_bytes: Of each body; then the connection is closed. None for never.
        statuses: What some requests are answered with instead, and the share of each: 0 to 1.
        has_ranges: Whether a part of a file may be asked for; if not, the whole is sent.
        corrupt_byte: Which byte of each file, from 0 on, is sent with all its bits turned over.
        seed: Of what is drawn.
    """

    pattern: str = "*"
    bytes_per_second: int | None = None
    latency_seconds: float = 0
    close_after_bytes: int | None = None
    statuses: tuple[tuple[int, float], ...] = ()
    has_ranges: bool = True
    corrupt_byte: int | None = None
    seed: int = 0

    def concern(self, path: str) -> bool:
        """Whether anything is to go wrong with a path."""
        return fnmatchcase(path.lstrip("/"), self.pattern)

    def status(self, chance: float) -> int | None:
        """Return what a request is answered with instead of the file, if so.

        Args:
            chance: drawn for it, from 0 to below 1.
        """
        for code, share in self.statuses:
            if chance < share:
                return code
            chance -= share
        return None

    @property
    def spoil_bodies(self) -> bool:
        """Whether bodies are not simply sent."""
        wrongs = (self.bytes_per_second, self.close_after_bytes, self.corrupt_byte)
        return any(each is not None for each in wrongs)

    def corrupted(self, piece: bytes, offset: int) -> bytes:
        """Return a piece of a file, from an offset on, as it is to be sent."""
        if self.corrupt_byte is None or not offset <= self.corrupt_byte < offset + len(piece):
            return piece
        at = self.corrupt_byte - offset
        return piece[:at] + bytes([piece[at] ^ 0xFF]) + piece[at + 1 :]


FLAWLESS: Final = Faults()
"""Nothing goes wrong."""
