"""A repository, or a part of one, as one tar file, for a place without a network.

Decides its form: metadata/ first, in the order in which it may be made public, then targets/ sorted
by name; nothing of the host, its clock or its users is in it, so that the same repository gives the
same bytes. Taking one out believes nothing of it: the metadata is proven before a target is looked
at, a target may be as long as was signed and no longer, and nothing gets its name before all of it
was verified. Refuses entries that are no plain file of a repository: other paths, links, devices,
sparse files, the same name twice, compression.

Source: POSIX.1-2001 pax interchange format, as Python's tarfile writes it.
"""

import re
import tarfile
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from io import BufferedIOBase, BufferedReader, BytesIO
from pathlib import Path
from typing import IO, Final

from repo_tools.mirror import Mirror
from repo_tools.offer import Offer, read_offer
from repo_tools.target_source import MOST_PIECE_BYTES, Served, pieces, served_files
from updog.errors import ImageError, TrustError
from updog.metadata import verified
from updog.metadata_cache import LARGEST_FILE_BYTES
from updog.names import quoted

METADATA: Final = "metadata/"
TARGETS: Final = "targets/"

_METADATA_NAME: Final = re.compile(r"metadata/([A-Za-z0-9][A-Za-z0-9._+-]{0,200}\.json)")
_MOST_ENTRIES: Final = 50_000
_MOST_METADATA_BYTES: Final = 256 << 20


def write_bundle(
    out: IO[bytes],
    offer: Offer,
    names: Iterable[str],
    *,
    fetch: Callable[[Served], Generator[bytes, None, None]],
    tell: Callable[[int], None],
) -> None:
    """Write the metadata, and some of the targets, each verified on its way.

    Args:
        out: where to.
        offer: what was proven.
        names: the targets to include.
        fetch: yields a target's bytes, verified.
        tell: told of the length of each target that is done.

    Raises:
        ImageError: a target is not what was signed.
        TransportError: a target could not be fetched.
    """
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name, data in offer.collected.files.items():
            tar.addfile(_entry(METADATA + name, len(data)), BytesIO(data))
        files = [each for name in names for each in served_files(offer, offer.targets[name])]
        for served in sorted(files, key=lambda each: each.file_name):
            with closing(fetch(served)) as chunks:
                _add(tar, served, chunks)
            tell(served.target.length)


def _entry(name: str, length: int) -> tarfile.TarInfo:
    """Return an entry of owner 0, time 0 and mode 0644."""
    entry = tarfile.TarInfo(name)
    entry.size = length
    return entry


def _add(tar: tarfile.TarFile, served: Served, chunks: Iterator[bytes]) -> None:
    tar.addfile(
        _entry(TARGETS + served.file_name, served.target.length),
        _Reader(chunks),
    )
    for _ in chunks:  # what a tar file takes ends at its length: the digest is only known after
        pass


class _Reader(BufferedIOBase):
    """Pieces of any length, read as a file."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._rest = memoryview(b"")

    def read(self, size: int | None = -1, /) -> bytes:
        wanted = -1 if size is None else size
        taken = bytearray()
        while len(taken) != wanted:
            if not self._rest:
                self._rest = memoryview(next(self._chunks, b""))
                if not self._rest:
                    break
            count = len(self._rest) if wanted < 0 else wanted - len(taken)
            taken += self._rest[:count]
            self._rest = self._rest[count:]
        return bytes(taken)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """An open bundle whose metadata is proven and whose entries are all known."""

    tar: tarfile.TarFile
    offer: Offer
    entries: dict[str, tarfile.TarInfo]
    """Of targets, by the names of their files."""

    @property
    def files(self) -> list[Served]:
        """The targets' files that it holds."""
        by_name = {
            each.file_name: each
            for target in self.offer.targets.values()
            for each in served_files(self.offer, target)
        }
        return [by_name[name] for name in sorted(self.entries)]

    def chunks(self, served: Served) -> Iterator[bytes]:
        """Yield a target's bytes.

        Raises:
            ImageError: they are not those that were signed.
        """
        file = self.tar.extractfile(self.entries[served.file_name])
        if file is None:
            raise ImageError(f"{served.file_name} is no file")
        with file, _reading():
            yield from verified(
                pieces(file, served.target.length),
                served.target,
                source=TARGETS + served.file_name,
            )


@contextmanager
def opened_bundle(path: Path, trusted_root: bytes) -> Iterator[Bundle]:
    """Open a bundle and prove its metadata; its targets are verified when they are read.

    Raises:
        TrustError: it is none, holds what no bundle holds, or is not what the root vouches for.
    """
    with path.open("rb", buffering=0) as raw, _Careful(raw) as file:
        with _reading():
            tar = tarfile.open(fileobj=file, mode="r:")  # noqa: SIM115 -- closed below
        with tar:
            with _reading():
                bundle = _read_bundle(tar, trusted_root)
                _refuse_early_end(file, tar.offset)
            yield bundle


def _refuse_early_end(file: BufferedReader, offset: int) -> None:
    """Refuse a file without the two zero blocks of its end: tarfile takes half a header for one."""
    file.seek(offset)
    if file.read(2 * tarfile.BLOCKSIZE) != bytes(2 * tarfile.BLOCKSIZE):
        raise TrustError("it ends early")


@contextmanager
def _reading() -> Iterator[None]:
    try:
        yield
    except (tarfile.TarError, EOFError, ValueError) as error:
        raise TrustError(f"it is no tar file, or a damaged one: {error}") from error
    except RecursionError as error:
        raise TrustError("it has too many headers in a row") from error


def _read_bundle(tar: tarfile.TarFile, trusted_root: bytes) -> Bundle:
    metadata: dict[str, tarfile.TarInfo] = {}
    targets: dict[str, tarfile.TarInfo] = {}
    for number, entry in enumerate(tar):
        if number >= _MOST_ENTRIES:
            raise TrustError(f"it holds more than {_MOST_ENTRIES} entries")
        _sort_in(entry, metadata, targets)
    _refuse_much_metadata(metadata.values())
    offer = read_offer(lambda name: _content(tar, metadata.get(name)), trusted_root)
    for name in sorted(metadata.keys() - offer.collected.files.keys()):
        raise TrustError(f"it holds metadata/{name}, which nothing leads to")
    bundle = Bundle(tar=tar, offer=offer, entries=targets)
    _refuse_unsigned(bundle)
    return bundle


def _sort_in(
    entry: tarfile.TarInfo,
    metadata: dict[str, tarfile.TarInfo],
    targets: dict[str, tarfile.TarInfo],
) -> None:
    if entry.type not in (tarfile.REGTYPE, tarfile.AREGTYPE) or entry.sparse is not None:
        raise TrustError(f"its entry {quoted(entry.name)} is no plain file")
    match = _METADATA_NAME.fullmatch(entry.name)
    if not match and not entry.name.startswith(TARGETS):
        raise TrustError(f"its entry {quoted(entry.name)} is no file of a repository")
    name = match[1] if match else entry.name.removeprefix(TARGETS)
    place = metadata if match else targets
    if name in place:
        raise TrustError(f"its entry {quoted(entry.name)} is there twice")
    place[name] = entry


def _refuse_much_metadata(entries: Iterable[tarfile.TarInfo]) -> None:
    sizes = [entry.size for entry in entries]
    if max(sizes, default=0) > LARGEST_FILE_BYTES or sum(sizes) > _MOST_METADATA_BYTES:
        raise TrustError("it holds more metadata than any client reads")


def _refuse_unsigned(bundle: Bundle) -> None:
    """Refuse a target that was not signed, or of another length: its bytes are not looked at."""
    signed = {
        each.file_name: each.target.length
        for target in bundle.offer.targets.values()
        for each in served_files(bundle.offer, target)
    }
    for name, entry in bundle.entries.items():
        if name not in signed:
            raise TrustError(f"it holds {quoted(entry.name)}, which was not signed")
        if entry.size != signed[name]:
            raise TrustError(
                f"its {entry.name} holds {entry.size} bytes, {signed[name]} were signed"
            )


def _content(tar: tarfile.TarFile, entry: tarfile.TarInfo | None) -> bytes | None:
    file = tar.extractfile(entry) if entry is not None else None
    if entry is None or file is None:
        return None
    with file:
        return b"".join(pieces(file, entry.size))


class _Careful(BufferedReader):
    """A file that reads no more at once than a bundle's entries, or our pieces, need.

    An extended header may say that it is gigabytes long, and tarfile would read it whole.
    """

    def read(self, size: int | None = -1, /) -> bytes:
        if size is None or not 0 <= size <= MOST_PIECE_BYTES:
            raise TrustError(f"one of its headers says that it holds {size} bytes")
        return super().read(size)


def unpack_targets(bundle: Bundle, mirror: Mirror, *, tell: Callable[[int], None]) -> list[Served]:
    """Write the targets that a mirror lacks, verified, under names that no client asks for.

    Returns:
        Those that were written; `Mirror.place` gives each its name.

    Raises:
        ImageError: one is not what was signed; none of them is left.
    """
    written: list[Served] = []
    try:
        for served in bundle.files:
            if not mirror.holds(served.target, served.file_name):
                written.append(served)
                _unpack(bundle, served, mirror.temporary(served.file_name))
            else:
                for _ in bundle.chunks(served):  # what is carried must be right in any case
                    pass
            tell(served.target.length)
    except BaseException:
        for served in written:
            mirror.temporary(served.file_name).unlink(missing_ok=True)
        raise
    return written


def _unpack(bundle: Bundle, served: Served, temporary: Path) -> None:
    temporary.unlink(missing_ok=True)
    with temporary.open("xb") as file:
        file.writelines(bundle.chunks(served))
