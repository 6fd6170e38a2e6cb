"""Stage-1's own settings, from the command line that the firmware or first loader gave the kernel.

Decides what `signpost.*` words mean. A word that cannot be used keeps its default: a machine that
boots by guessed settings is better than one that does not boot.
"""

import re
from typing import Final, NamedTuple

_WORD: Final = re.compile(r"(?:^|\s)signpost\.(\w+)=(\S+)")
_MOST_SECONDS: Final = 3600


class Settings(NamedTuple):
    """How stage-1 behaves.

    `disk`: the OS disk, by its node or by the GUID in its partition table; None is the first found.
    `wait_seconds`: how long to wait for it. `pause_seconds`: how long a message stands on the
    console before the machine restarts.
    """

    disk: str | None = None
    wait_seconds: int = 30
    pause_seconds: int = 30


def parse_settings(command_line: str) -> Settings:
    """Read the settings out of a kernel command line; the last of equal words counts."""
    words = dict(_WORD.findall(command_line))
    default = Settings()
    return Settings(
        disk=words.get("disk"),
        wait_seconds=_seconds(words.get("wait"), default.wait_seconds),
        pause_seconds=_seconds(words.get("pause"), default.pause_seconds),
    )


def _seconds(text: str | None, default: int) -> int:
    if text is None or not (text.isascii() and text.isdecimal()) or len(text) > 6:
        return default
    return min(int(text), _MOST_SECONDS)
