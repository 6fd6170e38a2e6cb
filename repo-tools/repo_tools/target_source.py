"""The targets of a proven repository, fetched: no byte of them is to be trusted before the last.

Decides what files a target is served as, and that fetching goes on where an earlier run has ended.
"""

from collections.abc import Generator, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from itertools import chain
from os import SEEK_END
from typing import IO, BinaryIO, Final

from repo_tools.offer import Offer
from repo_tools.source import Source
from updog.errors import TrustError
from updog.manifest import MANIFEST, MAX_MANIFEST_BYTES, Manifest, parse_manifest
from updog.metadata import Target, verified
from updog.transport import Transport, public_url

MOST_PIECE_BYTES: Final = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """One file that a client may ask for: a target under one of the names of its file."""

    target: Target
    file_name: str


def served_files(offer: Offer, target: Target) -> list[Served]:
    """Return the files that a target is served as."""
    return [Served(target=target, file_name=name) for name in offer.file_names(target)]


def fetch_target(
    source: Source, transport: Transport, served: Served
) -> Generator[bytes, None, None]:
    """Yield a target's bytes.

    Raises:
        ImageError: they are not those that were signed.
        TransportError: they could not be fetched.
    """
    url = source.target_url(served.file_name)
    chunks = transport.stream(url, length=served.target.length)
    return verified(chunks, served.target, source=public_url(url))


def fetch_rest(
    source: Source, transport: Transport, served: Served, file: BinaryIO
) -> Generator[bytes, None, None]:
    """Yield the bytes of a target that a file does not hold yet; verify those that it holds too.

    Raises:
        ImageError: together they are not those that were signed.
        TransportError: they could not be fetched.
    """
    url, target = source.target_url(served.file_name), served.target
    held = min(file.seek(0, SEEK_END), target.length)
    file.truncate(held)
    file.seek(0)
    rest: Iterable[bytes] = ()
    if held < target.length:
        rest = transport.stream(url, length=target.length, offset=held)
    passed = 0
    for chunk in verified(chain(pieces(file, held), rest), target, source=public_url(url)):
        if passed >= held:
            yield chunk
        passed += len(chunk)


def pieces(file: IO[bytes], length: int) -> Iterator[bytes]:
    """Yield the next `length` bytes of a file, or as many as it has."""
    while length and (piece := file.read(min(length, MOST_PIECE_BYTES))):
        length -= len(piece)
        yield piece


def fetch_manifest(source: Source, offer: Offer, transport: Transport) -> Manifest:
    """Fetch and read the list of updates.

    Raises:
        TrustError: no such target was signed, or a larger one than clients read.
        UpdogError: it cannot be fetched, is not what was signed, or breaks the format's rules.
    """
    target = offer.targets.get(MANIFEST)
    if target is None:
        raise TrustError("is no signed target: no client finds an update")
    if target.length > MAX_MANIFEST_BYTES:
        raise TrustError(f"holds {target.length} bytes, clients read {MAX_MANIFEST_BYTES}")
    with closing(fetch_target(source, transport, served_files(offer, target)[0])) as chunks:
        return parse_manifest(b"".join(chunks))
