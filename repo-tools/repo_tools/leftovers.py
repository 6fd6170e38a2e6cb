"""Files of a repository in a directory that nobody refers to.

Decides by all metadata that lies there: what an older targets.json lists is still read by clients
that have begun with it. What no publish has finished, and what is newer than timestamp.json leads
to, is not. Removes nothing.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import Metadata, Targets

from repo_tools.durable import TEMPORARY_SUFFIX
from repo_tools.findings import Finding, warning
from repo_tools.offer import Offer
from updog.files import read_small_file
from updog.metadata_cache import LARGEST_FILE_BYTES
from updog.names import printable
from updog.units import size

_VERSIONED: Final = re.compile(r"(\d{1,9})\.(.+)\.json")
_MOST_NAMES: Final = 3


def check_leftovers(directory: Path, offer: Offer) -> Iterator[Finding]:
    """Look for files in a repository's directory that no client will ask for."""
    referred = set(_referred(directory, offer))
    strays = [path for path in _files(directory / "targets") if path.name not in referred]
    if strays:
        yield warning("targets", _told(strays, "nobody refers to"))
    ahead = [path for path in _files(directory / "metadata") if _is_ahead(path, offer)]
    if ahead:
        yield warning(
            "metadata", _told(ahead, "nothing leads to: a publish was interrupted; publish again")
        )


def _told(paths: list[Path], why: str) -> str:
    names = ", ".join(printable(path.name) for path in sorted(paths)[:_MOST_NAMES])
    more = f" and {len(paths) - _MOST_NAMES} more" if len(paths) > _MOST_NAMES else ""
    count = "1 file" if len(paths) == 1 else f"{len(paths)} files"
    total = size(sum(path.lstat().st_size for path in paths))
    return f"{count} ({total}) that {why}: {names}{more}"


def _files(directory: Path) -> Iterator[Path]:
    if directory.is_dir():
        yield from (path for path in directory.iterdir() if path.is_symlink() or not path.is_dir())


def _is_ahead(path: Path, offer: Offer) -> bool:
    if path.name in offer.collected.files:
        return False
    if path.name.endswith(TEMPORARY_SUFFIX):
        return True
    match = _VERSIONED.fullmatch(path.name)
    current = _current_versions(offer).get(match[2]) if match else None
    return current is not None and match is not None and int(match[1]) > current


def _current_versions(offer: Offer) -> dict[str, int]:
    named = offer.trusted.snapshot.meta.items()
    roles = {name.removesuffix(".json"): meta.version for name, meta in named}
    return roles | {"snapshot": offer.trusted.snapshot.version, "root": offer.trusted.root.version}


def _referred(directory: Path, offer: Offer) -> Iterator[str]:
    """Yield the names of the files of all targets that any targets metadata lists."""
    for target in offer.targets.values():
        yield from offer.file_names(target)
    for path in (directory / "metadata").glob("*.json"):
        if not _is_ahead(path, offer):
            yield from _listed_in(path)


def _listed_in(path: Path) -> Iterator[str]:
    try:
        data = read_small_file(path, limit_bytes=LARGEST_FILE_BYTES)
        metadata: Metadata[Any] = Metadata.from_bytes(data)
    except (OSError, ValueError, RepositoryError):
        return
    if isinstance(metadata.signed, Targets):
        for name, info in metadata.signed.targets.items():
            yield name
            yield from (f"{digest}.{name}" for digest in info.hashes.values())
