"""Structured entries for systemd's journal, by its native protocol.

Source: https://systemd.io/JOURNAL_NATIVE_PROTOCOL/. Decides how an entry is encoded and handed
over; what is in it, `updog.log` decides.
"""

import errno
import fcntl
import os
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Final

SOCKET: Final = Path("/run/systemd/journal/socket")

_PATIENCE_SECONDS: Final = 1.0
"""A journal that does not take an entry must not hold an update up."""

_TOO_LARGE: Final = (errno.EMSGSIZE, errno.ENOBUFS)
_SEALS: Final = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SEAL


def stderr_is_journal(stream: str | None) -> bool:
    """Tell whether stderr goes to the journal.

    Args:
        stream: The variable JOURNAL_STREAM, which systemd sets to device and inode of the stream.
    """
    try:
        status = os.fstat(2)
    except OSError:
        return False
    return stream == f"{status.st_dev}:{status.st_ino}"


def send(fields: Mapping[str, str], path: Path) -> None:
    """Hand an entry over.

    Raises:
        OSError: nobody takes it.
    """
    data = b"".join(_encode(name, value) for name, value in fields.items())
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as journal:
        journal.settimeout(_PATIENCE_SECONDS)
        journal.connect(str(path))
        try:
            journal.send(data)
        except OSError as err:
            if err.errno not in _TOO_LARGE:
                raise
            _send_sealed(data, journal)


def _encode(name: str, value: str) -> bytes:
    data = value.encode("utf-8", "backslashreplace")
    if b"\n" not in data:
        return name.encode() + b"=" + data + b"\n"
    return name.encode() + b"\n" + len(data).to_bytes(8, "little") + data + b"\n"


def _send_sealed(data: bytes, journal: socket.socket) -> None:
    """Hand over what is too large for a datagram, as a file in memory that nobody can change."""
    descriptor = os.memfd_create("updog", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    with open(descriptor, "wb") as file:  # noqa: PTH123 -- a descriptor, not a path
        file.write(data)
        file.flush()
        fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, _SEALS)
        socket.send_fds(journal, [b""], [descriptor])
