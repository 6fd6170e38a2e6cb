"""Trust: from a root that came with the machine to metadata and targets that it vouches for.

Decides by The Update Framework's client workflow (https://theupdateframework.github.io/specification,
section 5), as python-tuf implements it, started from the shipped root every time, so that no damage
to the cache can outlast a refresh. Refuses on top of it: targets without a sha256 or sha512, and
target names that are more than flat file names. A target is vouched for only when its stream was
read to the end. Of several mirrors none is trusted more than another: one that serves what was not
signed is left for the next. Knows no disk, and does not say what a target means.
"""

import hashlib
import re
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

import structlog
from tuf.api.exceptions import (
    BadVersionNumberError,
    DownloadError,
    DownloadHTTPError,
    ExpiredMetadataError,
    LengthOrHashMismatchError,
    RepositoryError,
    UnsignedMetadataError,
)
from tuf.api.metadata import Metadata, Root, Signed, Snapshot, TargetFile, Targets, Timestamp
from tuf.ngclient import FetcherInterface, Updater

from updog.errors import ImageError, TransportError, TrustError, UpdogError
from updog.metadata_cache import ROOTS, MetadataCache
from updog.names import is_target_name, printable, quoted
from updog.transport import Transport, public_url, together

_METADATA_DEADLINE_SECONDS = 300
"""For one metadata file; the largest that is accepted holds 5 MB."""

_DIGEST_CHARACTERS = {"sha256": 64, "sha512": 128}
"""The algorithms that count, with the length of their digests in hexadecimal."""

_HEX = re.compile(r"[0-9a-f]+")

_Role = TypeVar("_Role", Root, Timestamp, Snapshot, Targets)
_Result = TypeVar("_Result")

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A file of the repository as it was signed.

    Attributes:
        name: A flat file name.
        length: In bytes, as it is fetched.
        digests: Hexadecimal, by algorithm: sha256, sha512 or both.
        uncompressed_length: In bytes, of what it unpacks to, if the publisher says so.
        uncompressed_sha256: Of the same.
    """

    name: str
    length: int
    digests: Mapping[str, str]
    uncompressed_length: int | None
    uncompressed_sha256: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RoleVersions:
    """Which versions of the top-level roles are trusted, and until when the timestamp holds."""

    root: int
    timestamp: int
    snapshot: int
    targets: int
    timestamp_expires: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class _Trusted:
    root: Root
    timestamp: Timestamp
    snapshot: Snapshot
    targets: Targets

    @property
    def versions(self) -> RoleVersions:
        return RoleVersions(
            root=self.root.version,
            timestamp=self.timestamp.version,
            snapshot=self.snapshot.version,
            targets=self.targets.version,
            timestamp_expires=self.timestamp.expires,
        )


class Repository:
    """A TUF repository as one machine sees it.

    Args:
        trusted_root: The bytes of the root metadata that came with the machine.
        cache: The directory to keep verified metadata in; it need not exist. One user at a time.
        metadata_base_url: The address that metadata file names are put behind, or those of several
            mirrors, which are tried in order.
        targets_base_url: The same for targets.
        transport: Fetches the files; the caller closes it.
    """

    def __init__(
        self,
        *,
        trusted_root: bytes,
        cache: Path,
        metadata_base_url: str | Sequence[str],
        targets_base_url: str | Sequence[str],
        transport: Transport,
    ) -> None:
        self.cache = cache
        self._directory = MetadataCache(cache)
        self._trusted_root = trusted_root
        self._metadata_base_urls = _several(metadata_base_url)
        self._targets_base_urls = _several(targets_base_url)
        self._metadata_base_url = self._metadata_base_urls[0]
        self._transport = transport
        self._fetcher = _Fetcher(transport)
        self._updater: Updater | None = None
        self._trusted: _Trusted | None = None

    def refresh(self) -> None:
        """Bring the top-level metadata up to date, from the first mirror that has it.

        Raises:
            TrustError: What is served is not signed, too old, or otherwise not to be trusted.
            TransportError: It could not be fetched.
            UpdogError: The cache could not be written.
        """
        self._try_each(self._metadata_base_urls, self._refresh_from)

    def _refresh_from(self, base_url: str) -> None:
        self._metadata_base_url = base_url
        with self._trusting(), self._directory.changing() as directory:
            updater = self._start(directory)
            updater.refresh()
        self._updater = updater
        self._trusted = _read_trusted(self._trusted_root, self.cache)

    def _try_each(self, mirrors: Sequence[str], take: Callable[[str], _Result]) -> _Result:
        """Return what the first mirror gives that does not fail; if all fail, name each."""
        with _collected() as failures:
            for mirror in mirrors:
                _warn_of_last(failures, mirrors)
                try:
                    return take(mirror)
                except (TrustError, TransportError) as err:
                    failures.append(err)
            raise _together(failures, mirrors) from failures[-1]

    @property
    def versions(self) -> RoleVersions:
        """What is trusted since the refresh."""
        return self._require_trusted().versions

    def target(self, name: str) -> Target:
        """Look up what was signed about a target; delegated roles are fetched as needed.

        Raises:
            TrustError: No trusted role lists it, or not in a way that can be relied on.
            TransportError: A delegated role could not be fetched.
        """
        if not is_target_name(name):
            raise TrustError(f"target {quoted(name)} is no flat file name; it was not looked up")
        self._require_trusted()
        at = self._metadata_base_urls.index(self._metadata_base_url)
        info = self._try_each(
            self._metadata_base_urls[at:], lambda base_url: self._look_up(name, base_url)
        )
        if info is None:
            raise TrustError(
                f"target {name} is not listed by the metadata at {self._shown}; "
                "the publisher must add it"
            )
        return _target(info)

    def _look_up(self, name: str, base_url: str) -> TargetFile | None:
        """Ask what was signed about a target; of another mirror than before, all metadata anew."""
        if base_url != self._metadata_base_url:
            self._refresh_from(base_url)
        with self._trusting(), self._directory.changing():
            return self._updater.get_targetinfo(name) if self._updater else None

    def stream(self, target: Target) -> Generator[bytes, None, None]:
        """Yield a target's bytes; trust none of them before the last was taken without an error.

        Raises:
            ImageError: The bytes are not those that were signed.
            TransportError: They could not be fetched.
        """
        return self._stream_from(self._target_urls(target), target)

    def deliver(self, target: Target, read: Callable[[Iterator[bytes]], _Result]) -> _Result:
        """Hand a target's bytes to a reader, and return what it makes of them.

        That a mirror serves other bytes than those that were signed may show at their end. The
        reader is then called again, to start over with the bytes of the next mirror.

        Args:
            target: What to fetch.
            read: Takes all bytes; it is done only when they end without an error.

        Raises:
            ImageError: No mirror serves the bytes that were signed.
            TransportError: They could not be fetched.
        """
        urls = self._target_urls(target)
        with _collected() as failures:
            for number in range(len(urls)):
                _warn_of_last(failures, urls)
                try:
                    with closing(self._stream_from(urls[number:], target)) as chunks:
                        return read(chunks)
                except ImageError as err:
                    failures.append(err)
                except TransportError as err:
                    failures.append(err)
                    break  # the stream has tried all the mirrors that are left
            raise _together(failures, urls) from failures[-1]

    def read(self, target: Target, *, max_length: int) -> bytes:
        """Return the whole of a small target.

        Raises:
            TrustError: It holds more than `max_length` bytes.
            ImageError: The bytes are not those that were signed.
            TransportError: They could not be fetched.
        """
        if target.length > max_length:
            raise TrustError(
                f"target {target.name} holds {target.length} bytes, at most {max_length} are "
                "accepted; nothing was fetched"
            )
        return self.deliver(target, b"".join)

    def _stream_from(self, urls: Sequence[str], target: Target) -> Generator[bytes, None, None]:
        chunks = self._transport.stream(urls, length=target.length)
        return _verified(chunks, target, source=public_url(urls[0]))

    @property
    def _shown(self) -> str:
        return public_url(self._metadata_base_url)

    def _start(self, directory: Path) -> Updater:
        try:
            return Updater(
                str(directory),
                self._metadata_base_url,
                fetcher=self._fetcher,
                bootstrap=self._trusted_root,
            )
        except RepositoryError as err:
            raise TrustError(
                f"the trusted root of this machine is no root metadata: {printable(str(err))}; "
                "install the publisher's root.json at paths.trusted_root"
            ) from err

    def _require_trusted(self) -> "_Trusted":
        if self._trusted is None:
            raise TrustError(f"the metadata at {self._shown} was not refreshed yet")
        return self._trusted

    def _target_urls(self, target: Target) -> list[str]:
        prefix = ""
        if self._require_trusted().root.consistent_snapshot:
            # TUF specification 6.2: HASH.FILENAME.EXT, with any one of the listed digests.
            prefix = next(iter(target.digests.values())) + "."
        return [f"{base.rstrip('/')}/{prefix}{target.name}" for base in self._targets_base_urls]

    @contextmanager
    def _trusting(self) -> Iterator[None]:
        """Put the library's errors into this package's."""
        try:
            yield
        except DownloadError as err:
            raise self._download_failure(err) from err
        except RepositoryError as err:
            raise TrustError(
                f"cannot trust the metadata at {self._shown}: {printable(str(err))} "
                f"(after {self._fetcher.last_name}); {_advice(err)}"
            ) from err
        except OSError as err:
            raise UpdogError(
                f"cannot keep metadata in {self.cache}: {err.strerror}; "
                "make room there or set paths.metadata_cache"
            ) from err
        finally:
            self._fetcher.drop()

    def _download_failure(self, err: DownloadError) -> UpdogError:
        cause = err.__cause__
        if not isinstance(cause, TransportError):
            return TrustError(
                f"cannot trust the metadata at {self._shown}: {self._fetcher.last_name}: "
                f"{printable(str(err))}"
            )
        advice = "; check metadata_base_url" if cause.status in _NOT_THERE else ""
        return TransportError(cause.url, cause.reason + advice, status=cause.status)


_NOT_THERE = frozenset({401, 403, 404, 410})


class _Fetcher(FetcherInterface):
    """What python-tuf fetches metadata with."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._chunks: Generator[bytes, None, None] | None = None
        self.last_name = "nothing"

    def drop(self) -> None:
        """Let go of a file that was not read to its end: python-tuf leaves what is too long."""
        if self._chunks is not None:
            self._chunks.close()

    def _fetch(self, url: str) -> Iterator[bytes]:
        """Yield a file, with every failure, in the middle of it too, in python-tuf's terms.

        A missing N.root.json is how the newest root is found (client workflow 5.3.3), so a status
        must arrive as one.
        """
        self.last_name = public_url(url).rpartition("/")[2]
        deadline = _METADATA_DEADLINE_SECONDS
        self._chunks = self._transport.stream(url, deadline_seconds=deadline)
        try:
            yield from self._chunks
        except TransportError as err:
            if err.status is not None:
                raise DownloadHTTPError(str(err), err.status) from err
            raise DownloadError(str(err)) from err


def _several(urls: str | Sequence[str]) -> tuple[str, ...]:
    return (urls,) if isinstance(urls, str) else tuple(urls)


@contextmanager
def _collected() -> Iterator[list[UpdogError]]:
    """Give out a list for the failures of mirrors, and empty it in the end.

    Else each would hold, by way of its traceback, the list that holds it: what it left open would
    be closed whenever the garbage is collected.
    """
    failures: list[UpdogError] = []
    try:
        yield failures
    finally:
        failures.clear()


def _warn_of_last(failures: Sequence[UpdogError], urls: Sequence[str]) -> None:
    """Say that a mirror has failed, if one has, and that the next is asked."""
    if failures:
        words = _words(failures, urls)[-1]
        _log.warning("mirror", summary=f"{words}; trying the next mirror")


def _words(failures: Sequence[UpdogError], urls: Sequence[str]) -> list[str]:
    """Say of each failure at which address it was."""
    texts = [(str(failure), public_url(url)) for failure, url in zip(failures, urls, strict=False)]
    return [text if url in text else f"{url}: {text}" for text, url in texts]


def _together(failures: Sequence[UpdogError], urls: Sequence[str]) -> UpdogError:
    """Make one error of those of several mirrors; what all of them lead to is said once."""
    of_transport = [failure for failure in failures if isinstance(failure, TransportError)]
    if len(of_transport) == len(failures):
        return together(of_transport)
    kind = next(type(each) for each in failures if not isinstance(each, TransportError))
    texts = {str(failure) for failure in failures}
    return kind(texts.pop() if len(texts) == 1 else "; ".join(_words(failures, urls)))


def read_versions(trusted_root: bytes, cache: Path) -> RoleVersions | None:
    """Read from the cache, without a network, what was trusted last; expired or not.

    Returns:
        The versions, or None where there is no cache or it is damaged: the next refresh heals it.
    """
    trusted = _read_trusted(trusted_root, cache)
    return trusted.versions if trusted else None


def _read_trusted(trusted_root: bytes, cache: Path) -> _Trusted | None:
    """Verify the top-level roles in a cache by the keys of the newest root, one by one."""
    try:
        root = _newest_root(trusted_root, cache)
        return _Trusted(
            root=root,
            timestamp=_read_role(cache, root, Timestamp),
            snapshot=_read_role(cache, root, Snapshot),
            targets=_read_role(cache, root, Targets),
        )
    except (OSError, RepositoryError):
        return None


def _newest_root(trusted_root: bytes, cache: Path) -> Root:
    """Follow the chain of roots, each signed by the one before (client workflow 5.3)."""
    root = _verified_role(trusted_root, Root, None)
    while True:
        path = cache / ROOTS / f"{root.version + 1}.root.json"
        try:
            following = _verified_role(path.read_bytes(), Root, root)
        except (OSError, RepositoryError):
            return root
        if following.version != root.version + 1:
            return root
        root = following


def _read_role(cache: Path, root: Root, role: type[_Role]) -> _Role:
    return _verified_role((cache / f"{role.type}.json").read_bytes(), role, root)


def _verified_role(data: bytes, role: type[_Role], root: Root | None) -> _Role:
    """Parse metadata and require the signatures that `root`, and a root itself, demands."""
    metadata: Metadata[_Role] = Metadata.from_bytes(data)
    signed = metadata.signed
    if not isinstance(signed, role):
        raise RepositoryError(f"expected {role.type}, got {signed.type}")
    for delegator in _delegators(root, signed):
        delegator.verify_delegate(role.type, metadata.signed_bytes, metadata.signatures)
    return signed


def _delegators(root: Root | None, signed: Signed) -> list[Root]:
    """Return the roots that must vouch for a role: the trusted one, and a new root itself."""
    return [each for each in (root, signed) if isinstance(each, Root)]


def _advice(err: RepositoryError) -> str:
    """Say what may be behind a refusal, and what to do about it."""
    match err:
        case ExpiredMetadataError():
            return "the publisher must renew it, unless this machine's clock is wrong"
        case UnsignedMetadataError():
            return "it is not from this machine's publisher: check metadata_base_url"
        case BadVersionNumberError():
            return "it is older than what this machine has seen: a stale mirror, or a replay"
        case LengthOrHashMismatchError():
            return "the repository is half published, or was changed on the way; try again later"
        case _:
            return "no TUF repository is served there, or a broken one: check metadata_base_url"


def _target(info: TargetFile) -> Target:
    uncompressed = _uncompressed(info)
    return Target(
        name=info.path,
        length=info.length,
        digests=MappingProxyType(_strong_digests(info)),
        uncompressed_length=uncompressed.get("length"),
        uncompressed_sha256=uncompressed.get("sha256"),
    )


def _strong_digests(info: TargetFile) -> dict[str, str]:
    """Pick the digests that count; python-tuf alone would be content with an md5."""
    strong = {
        algorithm: digest
        for algorithm, digest in info.hashes.items()
        if _is_digest(algorithm, digest)
    }
    if not strong:
        raise TrustError(
            f"target {info.path} was signed with neither a sha256 nor a sha512; "
            "the publisher must add one"
        )
    return strong


def _is_digest(algorithm: str, digest: object) -> bool:
    return (
        isinstance(digest, str)
        and len(digest) == _DIGEST_CHARACTERS.get(algorithm)
        and _HEX.fullmatch(digest) is not None
    )


def _uncompressed(info: TargetFile) -> dict[str, Any]:
    """Read custom.uncompressed: the length and sha256 that the publisher gives for the content."""
    custom = info.custom
    said = custom.get("uncompressed") if isinstance(custom, dict) else None
    if said is None:
        return {}
    length, sha256 = (said.get("length"), said.get("sha256")) if isinstance(said, dict) else (0, 0)
    if type(length) is not int or length < 0 or not _is_digest("sha256", sha256):
        raise TrustError(
            f"target {info.path}: custom.uncompressed must hold a length and a sha256; "
            "the publisher must correct it"
        )
    return {"length": length, "sha256": sha256}


def _verified(
    chunks: Iterable[bytes], target: Target, *, source: str
) -> Generator[bytes, None, None]:
    """Pass bytes on, and refuse the end unless they were all, and only, what was signed."""
    digests = {algorithm: hashlib.new(algorithm) for algorithm in target.digests}
    received = 0
    for chunk in chunks:
        received += len(chunk)
        if received > target.length:
            raise ImageError(f"{source} holds more than the {target.length} bytes that were signed")
        for digest in digests.values():
            digest.update(chunk)
        yield chunk
    if received != target.length:
        raise ImageError(f"{source} holds {received} bytes, {target.length} were signed")
    for algorithm, digest in digests.items():
        if digest.hexdigest() != target.digests[algorithm]:
            raise ImageError(
                f"{source} is not what was signed: its {algorithm} differs; do not use it, and "
                "try again later"
            )
