"""What an installed command really does to files and disks: its system calls, from strace.

Decides nothing about them. Calls of several threads overlap: each has the place in the trace at
which it began and the one at which it ended, so that nobody takes a write for flushed by a flush
that had begun before it was done. Refuses a trace that is cut short.
"""

import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

CHANGING: Final = (
    *("openat", "open", "creat", "close", "dup", "dup2", "dup3", "fcntl", "lseek"),
    *("write", "writev", "pwrite64", "pwritev", "pwritev2", "ftruncate", "truncate", "fallocate"),
    *("sendfile", "splice", "copy_file_range", "mmap", "io_uring_setup"),
    *("fsync", "fdatasync", "sync", "syncfs", "sync_file_range"),
    *("rename", "renameat", "renameat2", "unlink", "unlinkat", "link", "linkat"),
    *("mkdir", "mkdirat", "rmdir", "symlink", "symlinkat"),
)
"""The calls that change files, make changes last, or tell which file a descriptor stands for."""

_LONGEST_BYTES: Final = 32 << 20
_RESUMED = re.compile(r"<\.\.\. \w+ resumed>(.*)", re.DOTALL)
_DESCRIPTOR = re.compile(r"(AT_FDCWD|-?\d+)(?:<(.*)>(?:\(deleted\))?)?", re.DOTALL)


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A system call that succeeded. `began` and `ended` are lines of the trace."""

    name: str
    arguments: tuple[str, ...]
    result: int
    began: int
    ended: int

    def number(self, index: int) -> int:
        """Return an argument that is a number, or a descriptor."""
        return int(_descriptor(self.arguments[index])[0])

    def text(self, index: int) -> str:
        """Return an argument that is a path."""
        return self.data(index).decode()

    def data(self, index: int) -> bytes:
        """Return an argument that is a string of bytes."""
        argument = self.arguments[index]
        assert argument.endswith('"'), f"{self.name}: a string was cut short"
        return bytes.fromhex(argument[1:-1].replace(r"\x", ""))

    def place(self, index: int) -> str:
        """Return the path of a directory that a path may start from."""
        return bytes.fromhex(_descriptor(self.arguments[index])[1].replace(r"\x", "")).decode()

    def has_flag(self, index: int, flag: str) -> bool:
        """Tell whether a flag is set."""
        return index < len(self.arguments) and flag in self.arguments[index].split("|")


def _descriptor(argument: str) -> tuple[str, str]:
    match = _DESCRIPTOR.fullmatch(argument)
    assert match is not None, argument[:80]
    return match[1], match[2] or ""


def why_no_traces() -> str | None:
    """Say why nothing can be recorded here, or None if it can."""
    return None if shutil.which("strace") else "NEEDS STRACE: install it to record system calls"


def trace(
    command: Sequence[str], log: Path, *, environment: Mapping[str, str], directory: Path
) -> tuple[Call, ...]:
    """Run a command to its good end and return what it did.

    Args:
        command: program and arguments.
        log: a file for the raw trace, which is removed again.
        environment: of the command.
        directory: that it starts in.
    """
    recorder = ("strace", "-f", "-qq", "-y", "-xx", "-s", str(_LONGEST_BYTES), "-o", str(log))
    done = subprocess.run(
        [*recorder, "-e", f"trace={','.join(CHANGING)}", *command],
        env=dict(environment),
        cwd=directory,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    with log.open(encoding="ascii") as lines:
        calls = tuple(parse(lines))
    log.unlink()
    return calls


def parse(lines: Iterator[str]) -> Iterator[Call]:
    """Yield the calls of a trace that succeeded, in the order of their ends."""
    unfinished: dict[str, tuple[int, str]] = {}
    for number, line in enumerate(lines):
        thread, _, text = line.rstrip("\n").partition(" ")
        text, began = text.lstrip(), number
        if text.startswith(("---", "+++")):
            continue
        if text.endswith(" <unfinished ...>"):
            unfinished[thread] = (number, text.removesuffix(" <unfinished ...>"))
            continue
        if match := _RESUMED.fullmatch(text):
            began, start = unfinished.pop(thread)
            text = start + match[1]
        if (call := _parse_call(text, began, number)) is not None:
            yield call
    assert not unfinished, f"the trace ends within {unfinished}"


def _parse_call(text: str, began: int, ended: int) -> Call | None:
    name, _, rest = text.partition("(")
    arguments, equals, result = rest.rpartition(" = ")
    assert equals, f"not a call: {text[:80]}"
    value = re.match(r"-?(?:0x[0-9a-f]+|\d+)", result)
    if value is None or value[0].startswith("-"):
        return None
    arguments = arguments.rstrip().removesuffix(")")
    return Call(
        name=name,
        arguments=tuple(arguments.split(", ")),
        result=int(value[0], 0),
        began=began,
        ended=ended,
    )
