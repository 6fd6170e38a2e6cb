"""Where a repository is read from: a directory or a web address with metadata/ and targets/.

Decides how the two ways of naming one become addresses that the agent's own transport fetches, and
which proxies are on the way to them: as on a machine. Refuses a directory that holds no repository.
"""

import os
from collections.abc import Generator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import quote, unquote, urlsplit

from repo_tools.errors import RepoToolsError
from updog.errors import TransportError, TrustError
from updog.files import read_small_file
from updog.metadata_cache import LARGEST_FILE_BYTES
from updog.names import printable
from updog.proxies import choose_proxies, is_web_address
from updog.transport import Network, Transport, public_url

_METADATA_DEADLINE_SECONDS: Final = 300
NOT_THERE: Final = frozenset({403, 404})
"""What a missing file may be answered with (python-tuf takes both as the end of the roots)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A repository to read. `directory` is None for one on a server."""

    base_url: str
    directory: Path | None

    @property
    def metadata_url(self) -> str:
        """What names of metadata files are put behind."""
        return f"{self.base_url}/metadata"

    @property
    def targets_url(self) -> str:
        """What names of target files are put behind."""
        return f"{self.base_url}/targets"

    def target_url(self, file_name: str) -> str:
        """Return the address of a file of targets/."""
        return f"{self.targets_url}/{quote(file_name)}"

    def __str__(self) -> str:
        return str(self.directory) if self.directory else public_url(self.base_url)


def parse_source(text: str) -> Source:
    """Read what a user calls a repository: a directory, or an http, https or file address.

    Raises:
        RepoToolsError: there is no repository.
    """
    if is_web_address(text):
        return Source(base_url=text.rstrip("/"), directory=None)
    is_file_url = text.startswith("file://")
    directory = Path(unquote(urlsplit(text).path) if is_file_url else text)
    if not (directory / "metadata").is_dir():
        raise RepoToolsError(
            f"no repository in {printable(text)}: it has no directory metadata; name a directory "
            "that holds metadata and targets, or an address like https://updates.example"
        )
    return Source(base_url=directory.absolute().as_uri(), directory=directory)


def open_transport() -> Transport:
    """Return a way to fetch files, for one thread; the caller closes it.

    Raises:
        ConfigError: the environment names a proxy that is none.
    """
    proxies = choose_proxies(https_proxy=None, no_proxy=(), environment=os.environ)
    return Transport(network=Network(proxies=proxies))


def fetch_metadata_file(source: Source, transport: Transport, name: str) -> bytes | None:
    """Return a file of metadata/, None if there is no such file.

    Raises:
        TransportError: it could not be fetched.
        TrustError: it is larger than metadata ever is.
    """
    url = f"{source.metadata_url}/{quote(name)}"
    try:
        with closing(_metadata_chunks(transport, url)) as chunks:
            return _joined(chunks, url)
    except TransportError as error:
        if error.status in NOT_THERE:
            return None
        raise


def _metadata_chunks(transport: Transport, url: str) -> Generator[bytes, None, None]:
    return transport.stream(url, deadline_seconds=_METADATA_DEADLINE_SECONDS)


def _joined(chunks: Generator[bytes, None, None], url: str) -> bytes:
    data = bytearray()
    for chunk in chunks:
        data += chunk
        if len(data) > LARGEST_FILE_BYTES:
            raise TrustError(f"{public_url(url)} holds more than {LARGEST_FILE_BYTES} bytes")
    return bytes(data)


def read_root_file(path: Path) -> bytes:
    """Return the root that a user trusts.

    Raises:
        RepoToolsError: it cannot be read.
    """
    try:
        return read_small_file(path, limit_bytes=LARGEST_FILE_BYTES)
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise RepoToolsError(
            f"cannot read the trusted root {path}: {why}; name the root.json that machines come "
            "with, or an older one"
        ) from error
