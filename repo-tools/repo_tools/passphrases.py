"""Passphrases of keys and PINs of devices: from a file, the environment, or the terminal.

Decides which is taken: `--passphrase-file` before REPO_TOOLS_PASSPHRASE before a question, whose
answer also opens the next key where it fits. A PIN comes from REPO_TOOLS_PIN or a question, never
from what opens a file: a device counts wrong guesses and locks itself. Refuses a passphrase file
that others may read, and an empty passphrase. Nothing given here is ever printed.
"""

import getpass
import os
import stat
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from repo_tools.errors import RepoToolsError

PASSPHRASE_VARIABLE: Final = "REPO_TOOLS_PASSPHRASE"  # noqa: S105 -- a name
PIN_VARIABLE: Final = "REPO_TOOLS_PIN"

_TRIES = 3
_MOST_BYTES = 4096


class Passphrases:
    """The secrets of one run; each is asked for once."""

    def __init__(self, file: Path | None = None) -> None:
        self._file = file
        self._proven: list[str] = []
        self._pins: dict[str, str] = {}

    def candidates(self, key: str) -> Iterator[str]:
        """Yield what may open a key, the next one when the last did not.

        Raises:
            RepoToolsError: there is no passphrase, or nobody to ask for one.
        """
        given = self._given()
        if given is not None:
            yield given
            return
        yield from list(self._proven)
        for _ in range(_TRIES):
            answer = _ask(f"Passphrase of {key}: ", missing=f"{key} is encrypted; {_HOW}")
            yield answer

    def remember(self, passphrase: str) -> None:
        """Try this passphrase for other keys too, before anybody is asked."""
        if passphrase not in self._proven:
            self._proven.append(passphrase)

    def choose(self) -> str:
        """Return the passphrase for new keys; whoever types it types it twice.

        Raises:
            RepoToolsError: it is empty, the two differ, or there is nobody to ask.
        """
        given = self._given()
        if given is not None:
            return given
        missing = f"a new key needs a passphrase; {_HOW}, or say --unencrypted"
        first = _ask("New passphrase: ", missing=missing)
        if not first:
            raise RepoToolsError("the passphrase is empty; no key was made")
        if _ask("The same again: ", missing=missing) != first:
            raise RepoToolsError("the two passphrases differ; no key was made")
        return first

    def pin(self, name: str, uri: str) -> str:
        """Return a secret that a device asks for by a name.

        Raises:
            RepoToolsError: there is nobody to ask.
        """
        if uri not in self._pins:
            self._pins[uri] = os.environ.get(PIN_VARIABLE) or _ask(
                f"{name.upper()} for {uri}: ", missing=f"{uri} wants a {name}; set {PIN_VARIABLE}"
            )
        return self._pins[uri]

    def _given(self) -> str | None:
        """Return the passphrase that needs no question, None where there is none."""
        if self._file is not None:
            return _read(self._file)
        from_environment = os.environ.get(PASSPHRASE_VARIABLE)
        if from_environment == "":
            raise RepoToolsError(f"{PASSPHRASE_VARIABLE} is empty: unset it, or give a passphrase")
        return from_environment


_HOW = f"give its passphrase by --passphrase-file or {PASSPHRASE_VARIABLE}, or run in a terminal"


def _ask(question: str, *, missing: str) -> str:
    if not sys.stdin.isatty():
        raise RepoToolsError(missing)
    return getpass.getpass(question, stream=sys.stderr)


def _read(path: Path) -> str:
    """Return the first line of a file that only its owner can read."""
    try:
        with path.open("rb") as file:
            status = os.fstat(file.fileno())
            if stat.S_ISREG(status.st_mode) and status.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
                raise RepoToolsError(
                    f"passphrase file {path} can be read by others "
                    f"(mode {stat.S_IMODE(status.st_mode):04o}): chmod 600 it"
                )
            line = file.read(_MOST_BYTES).partition(b"\n")[0].rstrip(b"\r")
    except OSError as error:
        raise RepoToolsError(f"cannot read passphrase file {path}: {error.strerror}") from error
    try:
        text = line.decode()
    except UnicodeDecodeError as error:
        raise RepoToolsError(f"passphrase file {path} is not UTF-8 text") from error
    if not text:
        raise RepoToolsError(f"passphrase file {path} begins with an empty line")
    return text
