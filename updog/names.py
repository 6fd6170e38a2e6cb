"""What a name from outside may look like, and how any text from outside is shown.

Decides which names of targets, variants and architectures are acceptable, and renders text that an
attacker may have chosen so that a terminal or a log line survives it. Knows nothing of what the
names stand for.
"""

import re

# Flat: hash-prefixed names with directories resolve differently between TUF clients, and a name
# that cannot hold a slash or begin with a dot cannot leave the directory that it is put in.
_TARGET_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,200}")

# os-release(5) on VARIANT_ID, with capitals tolerated; wide enough for any architecture too.
_IDENTIFIER = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,100}")

_SHOWN_CHARACTERS = 100


def is_target_name(name: str) -> bool:
    """Tell whether `name` is a flat file name of harmless characters, at most 201 of them."""
    return _TARGET_NAME.fullmatch(name) is not None


def is_identifier(name: str) -> bool:
    """Tell whether `name` can be a variant or an architecture: at most 101 harmless characters."""
    return _IDENTIFIER.fullmatch(name) is not None


def quoted(text: object) -> str:
    """Show a value from outside in quotes, in printable ASCII only, cut to 100 characters."""
    shown = ascii(text if isinstance(text, (str, bytes, int, float)) else str(text))
    return shown if len(shown) <= _SHOWN_CHARACTERS else f"{shown[:_SHOWN_CHARACTERS]}..."


def printable(text: str) -> str:
    """Return `text` with all but printable ASCII escaped, cut to 500 characters."""
    return text.encode("ascii", "backslashreplace").decode("ascii").translate(_CONTROLS)[:500]


def escaped(text: str) -> str:
    """Return `text` whole, with all that a terminal would not simply show escaped.

    That are control characters, line breaks among them, and what changes the direction of writing.
    """
    if text.isprintable():
        return text
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode("ascii")
        for char in text
    )


_CONTROLS = {code: f"\\x{code:02x}" for code in (*range(32), 127)}
