"""The draft: changes that wait to be made public, in `draft.json` of the draft's directory.

Decides how the draft is kept and how changes become a publication: files are compressed into the
repository's own disk, then the changes are applied to the manifest as it is by then, and all of it
becomes visible at once. What was made public names its draft, so that a draft which a crash left
behind is not published twice. Refuses two writers at once, a draft of another kind, a source file
that is no longer the one that was added, and migrations that no target holds.
"""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import msgspec
from semver import Version

from repo_tools.catalogue import Catalogue, parse_catalogue, serialise_catalogue
from repo_tools.changes import Change, SourceFile, apply_changes, files_of
from repo_tools.durable import write_durably
from repo_tools.errors import RepoToolsError
from repo_tools.images import compress
from repo_tools.lock import holding
from repo_tools.repository import Publication, PublishedRepository, StagedTarget
from repo_tools.telling import telling
from updog.manifest import MANIFEST

Clock = Callable[[], datetime]

FILE_NAME: Final = "draft.json"


class _Document(msgspec.Struct, forbid_unknown_fields=True):
    changes: tuple[Change, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """Changes in the order in which they were made."""

    changes: tuple[Change, ...] = ()

    @property
    def digest(self) -> str:
        """Tells this draft from any other."""
        return hashlib.sha256(_encoded(self)).hexdigest()


@contextmanager
def editing(directory: Path) -> Iterator[None]:
    """Hold the draft against other writers; the directory is made if need be.

    Raises:
        RepoToolsError: another command changes the draft.
    """
    with telling("keep a draft in", directory, left="nothing was changed"):
        directory.mkdir(parents=True, exist_ok=True)
    with holding(directory, taken=f"another command changes the draft in {directory}"):
        yield


def load_draft(directory: Path, published: PublishedRepository) -> Draft:
    """Read the draft, an empty one if there is none or what it holds is public already.

    Raises:
        RepoToolsError: it cannot be read.
    """
    path = directory / FILE_NAME
    try:
        document = msgspec.json.decode(path.read_bytes(), type=_Document, dec_hook=_decode)
    except FileNotFoundError:
        return Draft()
    except OSError as error:
        raise RepoToolsError(f"cannot read {path}: {error.strerror}") from error
    except (msgspec.DecodeError, ValueError) as error:
        raise RepoToolsError(
            f"{path} is not a draft of this version of repo-tools: {error}; "
            "`repo-tools release discard` removes it"
        ) from error
    draft = Draft(changes=document.changes)
    return Draft() if draft.digest == published_draft(published) else draft


def save_draft(directory: Path, draft: Draft, *, left: str) -> None:
    """Write the draft; an empty one leaves no file.

    Args:
        directory: of the draft.
        draft: what it holds from now on.
        left: what to say of the state if it cannot be written.

    Raises:
        RepoToolsError: it cannot.
    """
    with telling("write the draft in", directory, left=left):
        _save(directory, draft)


def _save(directory: Path, draft: Draft) -> None:
    if draft.changes:
        write_durably(directory / FILE_NAME, _encoded(draft), mode=0o600)
    else:
        discard_draft(directory)


def discard_draft(directory: Path) -> None:
    """Remove the draft, whatever it holds."""
    (directory / FILE_NAME).unlink(missing_ok=True)


def published_draft(published: PublishedRepository) -> str | None:
    """Return the digest of the draft that was published last."""
    custom = published.custom(MANIFEST)
    found = custom.get("draft")
    return found if isinstance(found, str) else None


def read_catalogue(repository: Publication | PublishedRepository) -> Catalogue:
    """Return what the repository's manifest says, an empty catalogue while it has none."""
    data = repository.read(MANIFEST)
    return Catalogue() if data is None else parse_catalogue(data)


def make_changes(publication: Publication, changes: Sequence[Change], *, clock: Clock) -> Catalogue:
    """Add changes, and the files that they bring, to a publication.

    Args:
        publication: what will be published together.
        changes: in their order.
        clock: asked once more when all files are there: only then do waves begin.

    Returns:
        The manifest as it will be.

    Raises:
        RepoToolsError: a change makes no sense, or a file is not what it was.
    """
    published = read_catalogue(publication)
    apply_changes(published, changes, now=clock())
    refuse_missing_migrations(publication.published, changes)
    for file in files_of(changes):
        _stage(publication, file)
    catalogue = apply_changes(published, changes, now=clock())
    draft = Draft(changes=tuple(changes))
    data = serialise_catalogue(catalogue)
    publication.add_bytes(MANIFEST, data, custom={"draft": draft.digest})
    return catalogue


def refuse_missing_migrations(published: PublishedRepository, changes: Sequence[Change]) -> None:
    """Refuse migrations that would be no targets once all of these changes are published.

    Raises:
        RepoToolsError: it names the first.
    """
    brought = {file.name for file in files_of(changes)}
    for name in (name for change in changes for name in change.migrations):
        if name not in brought and published.find(name) is None:
            raise RepoToolsError(
                f"{name} is neither a file nor a migration that is published; nothing was changed"
            )


def require_files(published: PublishedRepository, changes: Sequence[Change]) -> None:
    """Refuse changes whose files are not what they were, before anything is compressed.

    Raises:
        RepoToolsError: one is gone, or has changed since it was added.
    """
    for file in files_of(changes):
        if published.uncompressed_sha256(file.name) == file.sha256:
            continue
        with _noticing_its_absence(file), Path(file.path).open("rb") as source:
            _refuse_changed(file, hashlib.file_digest(source, "sha256").hexdigest())


def _encoded(draft: Draft) -> bytes:
    encoded = msgspec.json.encode(_Document(changes=draft.changes), enc_hook=_encode)
    return msgspec.json.format(encoded) + b"\n"


def _encode(value: Any) -> object:
    if isinstance(value, Version):
        return str(value)
    raise NotImplementedError(type(value))  # how msgspec is told that a hook knows no such type


def _decode(kind: type, value: Any) -> object:
    if kind is Version:
        return Version.parse(value)
    raise NotImplementedError(kind)  # likewise


def _stage(publication: Publication, file: SourceFile) -> None:
    """Put a file where it will be published from, unless it is there from before."""
    if publication.holds(file.name, uncompressed_sha256=file.sha256):
        return
    path = publication.staging_path(file.name)
    with _noticing_its_absence(file):
        packed = compress(Path(file.path), path, file.codec)
    _refuse_changed(file, packed.uncompressed_sha256)
    uncompressed = {"length": packed.uncompressed_length, "sha256": packed.uncompressed_sha256}
    publication.add(
        StagedTarget(
            name=file.name,
            path=path,
            length=packed.length,
            sha256=packed.sha256,
            custom={"uncompressed": uncompressed},
        )
    )


@contextmanager
def _noticing_its_absence(file: SourceFile) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        raise RepoToolsError(
            f"{file.path} is gone: put it back, or add the release anew; nothing was published"
        ) from error


def _refuse_changed(file: SourceFile, sha256: str) -> None:
    if sha256 != file.sha256:
        raise RepoToolsError(
            f"{file.path} has changed since it was added: add it anew; nothing was published"
        )
