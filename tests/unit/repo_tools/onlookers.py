"""Clients that look at a repository before each of its files gets its name."""

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.helpers.small_repository import SmallRepository
from updog.errors import TrustError
from updog.metadata import Repository
from updog.transport import Transport

_looks: list[Callable[[], None]] = []
_looking = threading.local()


def _audit(event: str, _arguments: object) -> None:
    # A client that looks renames files of its own, in the same thread.
    if event == "os.rename" and not getattr(_looking, "now", False):
        _looking.now = True
        try:
            for look in tuple(_looks):
                look()
        finally:
            _looking.now = False


sys.addaudithook(_audit)


@contextmanager
def before_each_rename(look: Callable[[], None]) -> Iterator[None]:
    """Call something before any file gets its final name, by the interpreter's own audit events."""
    _looks.append(look)
    try:
        yield
    finally:
        _looks.remove(look)


@contextmanager
def a_client_at_every_moment(
    small: SmallRepository, mirror: Path, scratch: Path
) -> Iterator[list[int | None]]:
    """Let a new client look before every rename and at the end; note what each has seen."""
    seen: list[int | None] = []
    root = small.root.read_bytes()

    lock = threading.Lock()

    def look() -> None:
        with lock:
            try:
                seen.append(timestamp_of(mirror, root, scratch / f"client-{len(seen)}"))
            except TrustError:
                seen.append(None)

    with before_each_rename(look):
        yield seen
    look()


def timestamp_of(mirror: Path, trusted_root: bytes, cache: Path) -> int:
    """Let a new client refresh and read every target; return the version that it saw."""
    base = mirror.as_uri()
    with Transport() as transport:
        repository = Repository(
            trusted_root=trusted_root,
            cache=cache,
            metadata_base_url=f"{base}/metadata",
            targets_base_url=f"{base}/targets",
            transport=transport,
        )
        repository.refresh()
        version = repository.versions.timestamp
        names = ["manifest.json", "1.1.0-boot.zst", *(["1.2.0-root.zst"] if version == 2 else [])]
        for name in names:
            for _ in repository.stream(repository.target(name)):
                pass
    return version
