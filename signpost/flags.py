"""The boot flags inside the 64 attribute bits of a BOOT partition, and nothing else.

Decides which bits mean what. Refuses values that do not fit; every other bit is kept as it is.
Bits 48-51 are the priority, 52-55 the tries left, 56 says that a boot was successful: the layout
that ChromeOS chose and that GRUB's gptprio module reads.
"""

from dataclasses import dataclass

_PRIORITY_SHIFT = 48
_TRIES_SHIFT = 52
_NIBBLE = 0xF
_SUCCESSFUL = 1 << 56
_OURS = _NIBBLE << _PRIORITY_SHIFT | _NIBBLE << _TRIES_SHIFT | _SUCCESSFUL

HAS_BOOT_EVER_SUCCEEDED = 1 << 57
"""On the PRIVATE partition: some boot of this machine has been marked successful."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BootFlags:
    """Priority (0-15, 0 is never booted), tries left (0-15) and the success mark of one set."""

    priority: int
    tries: int
    successful: bool

    def __post_init__(self) -> None:
        for name, value in (("priority", self.priority), ("tries", self.tries)):
            if not 0 <= value <= _NIBBLE:
                raise ValueError(f"{name} must be 0 to 15, not {value}")

    @classmethod
    def from_attributes(cls, attributes: int) -> "BootFlags":
        """Read the flags out of a GPT entry's 64 attribute bits."""
        return cls(
            priority=attributes >> _PRIORITY_SHIFT & _NIBBLE,
            tries=attributes >> _TRIES_SHIFT & _NIBBLE,
            successful=bool(attributes & _SUCCESSFUL),
        )

    def written_into(self, attributes: int) -> int:
        """Return `attributes` with these flags in place and every other bit unchanged."""
        return (
            attributes & ~_OURS
            | self.priority << _PRIORITY_SHIFT
            | self.tries << _TRIES_SHIFT
            | (_SUCCESSFUL if self.successful else 0)
        )

    @property
    def will_boot(self) -> bool:
        """Whether the boot loader's rule considers a set with these flags at all."""
        return self.priority > 0 and (self.tries > 0 or self.successful)

    def __str__(self) -> str:
        return f"{self.priority}/{self.tries}/{int(self.successful)}"


CLEARED = BootFlags(priority=0, tries=0, successful=False)
