"""repo-tools in a terminal, where it asks for passphrases and agreement."""

import os
import pty
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from repo_tools.programs import find_own_command


def in_a_terminal(
    directory: Path,
    *arguments: str | Path,
    answers: Sequence[str],
    meanwhile: Callable[[], None] = lambda: None,
) -> tuple[int, str, str]:
    """Run repo-tools in a directory, with a terminal, typing an answer after each question.

    Args:
        directory: where it runs.
        arguments: of the command.
        answers: what is typed.
        meanwhile: called when the first question stands there.

    Returns:
        The exit code, what was printed, and what the terminal showed.
    """
    child, terminal = pty.openpty()
    with subprocess.Popen(
        [find_own_command("repo-tools"), *arguments],
        stdin=terminal,
        stdout=subprocess.PIPE,
        stderr=terminal,
        cwd=directory,
        env={"PATH": os.environ["PATH"]},
        start_new_session=True,
    ) as process:
        os.close(terminal)
        seen = _type(child, answers, meanwhile)
        assert process.stdout is not None
        printed = process.stdout.read().decode()
        seen += _rest(child)
        os.close(child)
        return process.wait(timeout=60), printed, seen


def _type(terminal: int, answers: Sequence[str], meanwhile: Callable[[], None]) -> str:
    seen = ""
    for number, answer in enumerate(answers):
        before = len(seen)
        while not seen[before:].rstrip("\r\n").endswith((": ", "]: ")):
            more = _rest(terminal, once=True)
            if not more:
                return seen
            seen += more
        if not number:
            meanwhile()
        time.sleep(0.05)  # the question is printed a moment before the echo is switched off
        os.write(terminal, f"{answer}\n".encode())
    return seen


def _rest(terminal: int, *, once: bool = False) -> str:
    seen = ""
    while True:
        try:
            more = os.read(terminal, 4096).decode()
        except OSError:  # Linux says so when the other side is closed
            return seen
        seen += more
        if once or not more:
            return seen
