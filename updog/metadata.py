"""Trust: from a root that came with the machine to metadata and targets that it vouches for.

Decides by The Update Framework's client workflow (https://theupdateframework.github.io/specification,
section 5), as python-tuf implements it, started from the shipped root every time, so that no damage
to the cache can outlast a refresh. Refuses on top of it: a repository below the floor of what was
accepted before, targets without a sha256 or sha512, and target names that are more than flat file
names. A target is vouched for only when its stream was read to the end. Of several mirrors none is
trusted more than another: one that serves what was not signed is left for the next, and one that
has failed to serve a target is asked last from then on. Knows no disk, and does not say what a
target means.

Usable alone; docs/library.md shows how:

    with Transport() as transport:
        repository = Repository(trusted_root=..., cache=..., ..., transport=transport)
        repository.refresh()
        repository.save(repository.target("manifest.json"), Path("manifest.json"))
"""

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit

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
from tuf.api.metadata import TargetFile
from tuf.ngclient import FetcherInterface, Updater

from updog.digest import BackgroundDigests
from updog.durable import replacing
from updog.errors import ImageError, TransportError, TrustError, UpdogError
from updog.floor import (
    ROLES,
    AcceptedRole,
    DamagedFloor,
    Floor,
    find_rollback,
    is_clock_behind,
    raised,
    read_floor,
    shown,
    write_floor,
)
from updog.metadata_cache import MetadataCache, forget_roles
from updog.names import is_target_name, printable, quoted
from updog.proof import RoleVersions, Target, Trusted, as_target, prove, read_versions
from updog.transport import Transport, public_url, together

__all__ = ["Repository", "RoleVersions", "Target", "read_versions", "verified"]

_METADATA_DEADLINE_SECONDS = 300
"""For one metadata file; the largest that is accepted holds 5 MB."""

_Result = TypeVar("_Result")

_log = structlog.get_logger()


class Repository:
    """A TUF repository as one machine sees it.

    Args:
        trusted_root: The bytes of the root metadata that came with the machine.
        cache: The directory to keep verified metadata in; it need not exist. One user at a time.
        floor: The file to note in what was accepted last, so that nothing older is accepted even
            if the cache is lost; it need not exist. By default it lies beside the cache; best is a
            place that is not lost together with it.
        metadata_base_url: The address that metadata file names are put behind, or those of several
            mirrors, which are tried in order.
        targets_base_url: The same for targets.
        transport: Fetches the files; the caller closes it.
    """

    def __init__(  # noqa: PLR0913 -- each is named, none could be left out
        self,
        *,
        trusted_root: bytes,
        cache: Path,
        metadata_base_url: str | Sequence[str],
        targets_base_url: str | Sequence[str],
        transport: Transport,
        floor: Path | None = None,
    ) -> None:
        self.cache = cache
        self._floor = floor or cache.with_name(f"{cache.name}.floor.json")
        self._directory = MetadataCache(cache)
        self._trusted_root = trusted_root
        self._metadata_base_urls = _several(metadata_base_url)
        self._targets_base_urls = [each.rstrip("/") for each in _several(targets_base_url)]
        self._failed_base_urls: set[str] = set()
        self._metadata_base_url = self._metadata_base_urls[0]
        self._transport = transport
        self._fetcher = _Fetcher(transport)
        self._updater: Updater | None = None
        self._trusted: Trusted | None = None

    def refresh(self) -> None:
        """Bring the top-level metadata up to date, from the first mirror that has it.

        Raises:
            TrustError: What is served is not signed, too old, or otherwise not to be trusted.
            TransportError: It could not be fetched.
            UpdogError: The cache or the floor could not be written.
        """
        now = datetime.now(UTC)
        floor = self._read_floor()
        self._warn_of_clock(floor, now)
        self._try_each(
            self._metadata_base_urls, lambda base_url: self._refresh_from(base_url, floor, now)
        )

    def _refresh_from(self, base_url: str, floor: Floor | None, now: datetime) -> None:
        self._metadata_base_url = base_url
        # What a half-published mirror shows must not make the next one look old.
        is_last = base_url == self._metadata_base_urls[-1]
        with self._trusting(), self._directory.changing(keeps_unfinished=is_last) as directory:
            updater, trusted = self._refresh_in(directory)
            offered = _as_floor(trusted, now)
            self._require_not_older(floor, offered)
            self._require_still_valid(trusted, floor, now)
            write_floor(self._floor, raised(floor, offered))
        self._updater = updater
        self._trusted = trusted

    def _try_each(self, mirrors: Sequence[str], take: Callable[[str], _Result]) -> _Result:
        """Return what the first mirror gives that does not fail; if all fail, name each."""
        with _collected() as failures:
            for mirror in mirrors:
                _warn_of_last(failures, mirrors)
                try:
                    return take(mirror)
                except TrustError as err:
                    failures.append(err)
                except TransportError as err:
                    failures.append(err)
                    if err.status is None:
                        self._note_silence(mirror)
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
        return as_target(info)

    def _look_up(self, name: str, base_url: str) -> TargetFile | None:
        """Ask what was signed about a target; of another mirror than before, all metadata anew."""
        if base_url != self._metadata_base_url:
            self._refresh_from(base_url, self._read_floor(), datetime.now(UTC))
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
                    self._note_failure(urls[number])
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
        chunks = self._transport.stream(urls, length=target.length, on_failure=self._note_failure)
        return verified(chunks, target, source=public_url(urls[0]))

    def save(self, target: Target, path: Path) -> None:
        """Stream a target into a file, which is there at the end, verified and flushed, or not.

        Whatever stood at `path` stays until then. A killed run leaves `.NAME.part` beside it, which
        nobody takes for the target and the next try replaces.

        Raises:
            ImageError: The bytes are not those that were signed.
            TransportError: They could not be fetched.
            UpdogError: The file could not be written.
        """

        def write(chunks: Iterator[bytes]) -> None:
            with replacing(path) as file:
                file.writelines(chunks)

        try:
            self.deliver(target, write)
        except OSError as err:
            raise UpdogError(
                f"cannot save target {target.name} as {path}: {err.strerror}; nothing is left there"
            ) from err

    def _read_floor(self) -> Floor | None:
        """Read the floor; what a damaged one said, the cache says too."""
        try:
            return read_floor(self._floor)
        except DamagedFloor as err:
            _log.warning(
                "floor",
                summary=f"{self._floor} cannot be used: {printable(str(err))}; what the metadata "
                "cache holds counts in its place, and it is written anew",
            )
            return None

    def _warn_of_clock(self, floor: Floor | None, now: datetime) -> None:
        if floor is not None and is_clock_behind(floor, now):
            _log.warning(
                "clock",
                summary=f"this machine's clock says {shown(now)}, but metadata was accepted on "
                f"{shown(floor.accepted_at)} already: what has expired is judged by the latter",
            )

    def _require_still_valid(self, trusted: Trusted, floor: Floor | None, now: datetime) -> None:
        """Judge expiry once more, by the floor's time, where the clock has stepped back.

        Not for delegated roles: the snapshot, which is judged, vouches for each by its version.
        """
        if floor is None or not is_clock_behind(floor, now):
            return
        for role in ROLES:
            expires: datetime = getattr(trusted, role).expires
            if expires <= floor.accepted_at:
                raise TrustError(
                    f"cannot trust the metadata at {self._shown}: this machine's clock says "
                    f"{shown(now)}, but metadata was accepted on {shown(floor.accepted_at)} "
                    f"already, and this {role} expired on {shown(expires)}; set the clock. If it "
                    "is right now and was wrong then, wait for the publisher to sign anew, or "
                    f"lower accepted_at in {self._floor}, and leave the versions there"
                )

    def _require_not_older(self, floor: Floor | None, offered: Floor) -> None:
        why = find_rollback(floor, offered) if floor is not None else None
        if why is not None:
            raise TrustError(
                f"cannot trust the metadata at {self._shown}: {why}; {self._rollback_advice}"
            )

    @property
    def _is_cache_unfinished(self) -> bool:
        """Tell whether the cache holds more than what was accepted, and so sets the bar higher."""
        return read_versions(self._trusted_root, self.cache) is None

    @property
    def _rollback_advice(self) -> str:
        return (
            "it is older than what this machine has seen: a stale mirror, or a replay. Only if the "
            f"publisher has begun anew on purpose, remove {self._floor} and {self.cache}"
        )

    def _refresh_in(self, directory: Path) -> tuple[Updater, Trusted]:
        """Refresh, once more without the cached roles if they do not fit to what was fetched.

        The library takes a cached snapshot of the right version without comparing its digest with
        the timestamp's.
        """
        updater = self._start(directory)
        updater.refresh()
        try:
            return updater, prove(self._trusted_root, directory)
        except TrustError:
            forget_roles(directory)
        updater = self._start(directory)
        updater.refresh()
        return updater, prove(self._trusted_root, directory)

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

    def _require_trusted(self) -> Trusted:
        if self._trusted is None:
            raise TrustError(f"the metadata at {self._shown} was not refreshed yet")
        return self._trusted

    def _target_urls(self, target: Target) -> list[str]:
        prefix = ""
        if self._require_trusted().root.consistent_snapshot:
            # TUF specification 6.2: HASH.FILENAME.EXT, with any one of the listed digests.
            prefix = next(iter(target.digests.values())) + "."
        bases = sorted(self._targets_base_urls, key=self._failed_base_urls.__contains__)
        return [f"{base}/{prefix}{target.name}" for base in bases]

    def _note_failure(self, target_url: str) -> None:
        """Ask a mirror last from now on: the waits for one that is silent add up over the files."""
        self._failed_base_urls.add(target_url.rpartition("/")[0])

    def _note_silence(self, metadata_url: str) -> None:
        """Ask a server that gave no answer last for targets too."""
        server = urlsplit(metadata_url).netloc
        self._failed_base_urls |= {
            base for base in self._targets_base_urls if urlsplit(base).netloc == server
        }

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
                f"(after {self._fetcher.last_name}); {self._advice(err)}"
            ) from err
        except OSError as err:
            raise UpdogError(
                f"cannot keep metadata in {self.cache}: {err.strerror}; "
                "make room there or set paths.metadata_cache"
            ) from err
        finally:
            self._fetcher.drop()

    def _advice(self, err: RepositoryError) -> str:
        """Say what may be behind a refusal, and what to do about it."""
        match err:
            case ExpiredMetadataError():
                return "the publisher must renew it, unless this machine's clock is wrong"
            case UnsignedMetadataError():
                return "it is not from this machine's publisher: check metadata_base_url"
            case BadVersionNumberError() if self._is_cache_unfinished:
                return (
                    "a refresh that did not end has seen newer metadata: the repository is half "
                    "published, or this is a stale mirror; try again later"
                )
            case BadVersionNumberError():
                return self._rollback_advice
            case LengthOrHashMismatchError():
                return (
                    "the repository is half published, or was changed on the way; try again later"
                )
            case _:
                return "no TUF repository is served there, or a broken one: check metadata_base_url"

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


def _as_floor(trusted: Trusted, now: datetime) -> Floor:
    """Return what accepting these roles now would raise the floor to."""
    root, timestamp, snapshot, targets = (
        AcceptedRole(version=getattr(trusted, role).version, key_ids=trusted.key_ids(role))
        for role in ROLES
    )
    return Floor(
        accepted_at=now, root=root, timestamp=timestamp, snapshot=snapshot, targets=targets
    )


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


def verified(
    chunks: Iterable[bytes], target: Target, *, source: str
) -> Generator[bytes, None, None]:
    """Pass a target's bytes on, and refuse the end unless they were all, and only, those signed.

    Args:
        chunks: The bytes, from wherever.
        target: What was signed.
        source: Where they come from, for the message.

    Raises:
        ImageError: They are not those that were signed.
    """
    received = 0
    with BackgroundDigests(target.digests) as digests:
        for chunk in chunks:
            received += len(chunk)
            if received > target.length:
                raise ImageError(
                    f"{source} holds more than the {target.length} bytes that were signed"
                )
            digests.update(chunk)
            yield chunk
        found = digests.hexdigests()
    if received != target.length:
        raise ImageError(f"{source} holds {received} bytes, {target.length} were signed")
    for algorithm, digest in found.items():
        if digest != target.digests[algorithm]:
            raise ImageError(
                f"{source} is not what was signed: its {algorithm} differs; do not use it, and "
                "try again later"
            )
