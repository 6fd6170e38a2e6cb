"""Files that become targets: a release's images, and migrations.

Decides what their targets are called, and checks before anything is drafted that the images of a
release belong together: the hash tree vouches for every block of the root image, the boot image's
kernel command line for the tree, and each fits its partition on the disks it is made for. Refuses
everything else that would only be noticed by a machine.
"""

import hashlib
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from semver import Version

from repo_tools import filesystems, vouching
from repo_tools.changes import AddRelease, ReleaseFiles, Schedule, SourceFile
from repo_tools.cmdline import VerityTable
from repo_tools.errors import FileSystemError, RepoToolsError, VouchingError
from repo_tools.images import Codec, SystemImages
from repo_tools.layout import refuse_oversized
from updog.block_hash import BLOCK_BYTES
from updog.errors import UpdogError
from updog.host import read_host
from updog.names import is_identifier, is_target_name, quoted

_OS_RELEASES: Final = ("/etc/os-release", "/usr/lib/os-release")
_COMPRESSED: Final = (".lz4", ".zst")


@dataclass(frozen=True, slots=True, kw_only=True)
class ImagePaths:
    """The uncompressed images of one release."""

    boot: Path
    root: Path
    hash: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """Images that belong together, and what they are a release of."""

    variant: str
    arch: str
    version: Version
    images: SystemImages


def check_images(
    paths: ImagePaths, *, disk_mib: int | None, trusts_boot: bool = False
) -> SystemImages:
    """Return a release's images, proven to belong together.

    Args:
        paths: where they are.
        disk_mib: the disk that they are made for; without it, sizes are not checked.
        trusts_boot: the boot image keeps its command line in a way of its own, do not read it.

    Raises:
        RepoToolsError: they do not; the text says which.
    """
    for path in (paths.boot, paths.root, paths.hash):
        if not path.is_file():
            raise RepoToolsError(f"no image {path}")
    if disk_mib is not None:
        refuse_oversized({"boot": paths.boot, "root": paths.root, "hash": paths.hash}, disk_mib)
    try:
        table = vouching.verify(
            boot=None if trusts_boot else vouching.whole(paths.boot),
            root=vouching.whole(paths.root),
            hash_image=vouching.whole(paths.hash),
        )
        _refuse_other_length(paths.root, table)
    except (RepoToolsError, UpdogError) as error:
        raise RepoToolsError(
            f"the images {paths.boot}, {paths.root} and {paths.hash} do not belong together: "
            f"{error}; build them anew"
        ) from error
    return SystemImages(boot=paths.boot, root=paths.root, hash=paths.hash, table=table)


def refuse_other_release(release: Release) -> None:
    """Refuse a root image that calls itself another release, where it says what it is.

    Its machines would take the same release again, or roll it back, for ever.

    Raises:
        RepoToolsError: variant or version differ.
    """
    root = vouching.whole(release.images.root)
    for name in _OS_RELEASES:
        try:
            data = filesystems.read_file(root, name)
        except FileSystemError:  # no such file, or another file system
            continue
        with tempfile.NamedTemporaryFile() as file:
            file.write(data)
            file.flush()
            host = read_host(Path(file.name), arch=release.arch)
        if (host.variant, host.version) != (release.variant, release.version):
            raise RepoToolsError(
                f"{name} in {root.path} says that it is {host.variant} {host.version}, "
                f"not {release.variant} {release.version}"
            )
        return


def add_release(  # noqa: PLR0913 -- each may be said of a release
    release: Release,
    *,
    codec: Codec,
    schedule: Schedule | None = None,
    follows: Version | None = None,
    migrations: Sequence[SourceFile | str] = (),
    hold_back: bool = False,
) -> AddRelease:
    """Return the change that adds a release; its images are read for their digests.

    Args:
        release: the images.
        codec: how they are compressed.
        schedule: when it reaches whom; none for everybody at once.
        follows: a version that machines come from, if the repository does not list it.
        migrations: what leads to it from the version below: files, or names of targets.
        hold_back: let no machine take it yet.

    Raises:
        RepoToolsError: variant or architecture cannot be ones.
    """
    for what, text in {"variant": release.variant, "architecture": release.arch}.items():
        if not is_identifier(text):
            raise RepoToolsError(f"{quoted(text)} cannot be {what}: letters, digits, . _ and -")
    return AddRelease(
        variant=release.variant,
        arch=release.arch,
        version=release.version,
        images=_release_files(release, codec),
        schedule=schedule,
        follows=follows,
        migration_files=tuple(each for each in migrations if isinstance(each, SourceFile)),
        migration_names=tuple(
            each.name if isinstance(each, SourceFile) else each for each in migrations
        ),
        hold_back=hold_back,
    )


def find_migrations(words: Sequence[str]) -> tuple[SourceFile | str, ...]:
    """Return migrations by their files; a word that names no file is the name of a target.

    What is not compressed yet becomes LZ4, which machines of the cloned system unpack too.

    Raises:
        RepoToolsError: a word is neither.
    """
    return tuple(_migration(word) for word in words)


def _migration(word: str) -> SourceFile | str:
    path = Path(word)
    if path.is_file():
        if path.name.endswith(_COMPRESSED):
            return source_file(path, path.name, codec=None)
        return source_file(path, f"{path.name}.{Codec.LZ4}", codec=Codec.LZ4)
    if not is_target_name(word):
        raise RepoToolsError(f"{quoted(word)} is no file, and no name of a target either")
    return word


def source_file(path: Path, name: str, *, codec: Codec | None) -> SourceFile:
    """Describe a file that will be the target `name`.

    Raises:
        RepoToolsError: no target may have this name.
    """
    if not is_target_name(name):
        raise RepoToolsError(f"{quoted(name)} cannot be a target: names are flat and plain")
    with path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        length = file.tell()
    return SourceFile(
        name=name, path=str(path.absolute()), length=length, sha256=sha256, codec=codec
    )


def _release_files(release: Release, codec: Codec) -> ReleaseFiles:
    images = release.images
    name = f"{release.variant}-{release.arch}-{release.version}-{images.build_id}"

    def described(path: Path, ending: str) -> SourceFile:
        return source_file(path, f"{name}-{ending}.{codec}", codec=codec)

    root_ending = "root.erofs" if images.root.suffix == ".erofs" else "root.ext4"
    return ReleaseFiles(
        boot=described(images.boot, "boot.ext4"),
        root=described(images.root, root_ending),
        hash=described(images.hash, "root.verity"),
    )


def _refuse_other_length(root: Path, table: VerityTable) -> None:
    length = root.stat().st_size
    if length != table.data_blocks * BLOCK_BYTES:
        raise VouchingError(
            f"the root image has {length} bytes, its hash tree is of one of "
            f"{table.data_blocks * BLOCK_BYTES}"
        )
