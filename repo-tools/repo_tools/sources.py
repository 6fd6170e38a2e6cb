"""Files that become targets: a release's images, and migrations.

Decides what their targets are called, and checks before anything is drafted that the images of a
release belong together: the hash tree vouches for every block of the root image, the boot image's
kernel command line for the tree, and each fits its partition on the disks it is made for. Refuses
everything else that would only be noticed by a machine.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from semver import Version

from repo_tools import ext4, layout
from repo_tools.changes import AddRelease, ReleaseFiles, Schedule, SourceFile
from repo_tools.cmdline import FILE_NAME, VerityTable, parse_command_line
from repo_tools.errors import RepoToolsError
from repo_tools.images import Codec, SystemImages
from updog.errors import UpdogError
from updog.names import is_identifier, is_target_name, quoted
from updog.units import size
from updog.verity import BLOCK_BYTES, TreeReader

_CHUNK_BYTES: Final = 1 << 20
_ROOT_NAMES: Final = ("root.ext4", "root.erofs")
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


def find_images(directory: Path) -> ImagePaths:
    """Return the images that a build left in a directory.

    Raises:
        RepoToolsError: one is missing, or there are two root images.
    """
    roots = [directory / name for name in _ROOT_NAMES if (directory / name).exists()]
    found = ImagePaths(
        boot=directory / "boot.ext4",
        root=roots[0] if roots else directory / _ROOT_NAMES[0],
        hash=directory / "root.verity",
    )
    if len(roots) > 1:
        raise RepoToolsError(f"{directory} holds {' and '.join(_ROOT_NAMES)}: say --root FILE")
    return found


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
        _refuse_large(paths, disk_mib)
    table = _prove_root(paths)
    if not trusts_boot:
        _prove_boot(paths.boot, table)
    return SystemImages(boot=paths.boot, root=paths.root, hash=paths.hash, table=table)


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


def _refuse_large(paths: ImagePaths, disk_mib: int) -> None:
    sizes = {planned.label: planned.size_mib for planned in layout.plan(disk_mib)}
    for role, path in {"BOOT": paths.boot, "ROOT": paths.root, "HASH": paths.hash}.items():
        room, needed = sizes[f"BOTTLEROCKET-{role}-A"] << 20, path.stat().st_size
        if needed > room:
            raise RepoToolsError(
                f"{path} has {size(needed)}, the {role.lower()} partition of a disk of {disk_mib} "
                f"MiB only {size(room)}"
            )


def _prove_root(paths: ImagePaths) -> VerityTable:
    """Check every block of a root image against its hash tree."""
    with paths.root.open("rb") as root, paths.hash.open("rb") as tree:

        def read(offset: int, length: int) -> bytes:
            tree.seek(offset)
            return tree.read(length)

        try:
            reader = TreeReader(read, length_bytes=paths.hash.stat().st_size)
            bad = _first_bad_block(reader, paths.root)
        except UpdogError as error:
            raise RepoToolsError(f"{paths.hash} vouches for no root image: {error}") from error
        if bad is None and root.seek(0, 2) != reader.superblock.data_bytes:
            bad = root.tell() // BLOCK_BYTES
    if bad is not None:
        raise RepoToolsError(
            f"{paths.hash} does not vouch for {paths.root}: they differ from block {bad} on; "
            "build both anew"
        )
    superblock = reader.superblock
    return VerityTable(
        data_blocks=superblock.data_blocks, root_digest=reader.root_digest, salt=superblock.salt
    )


def _first_bad_block(reader: TreeReader, root: Path) -> int | None:
    with root.open("rb") as file:
        block = 0
        while chunk := file.read(_CHUNK_BYTES):
            bad = reader.first_bad_block(block, chunk)
            if bad is not None:
                return bad
            block += len(chunk) // BLOCK_BYTES
    return None


def _prove_boot(boot: Path, table: VerityTable) -> None:
    """Check that a boot image boots this root image and no other."""
    text = ext4.read_file(boot, FILE_NAME).decode("utf-8", "replace")
    try:
        found = parse_command_line(text)
    except RepoToolsError as error:
        raise RepoToolsError(f"{FILE_NAME.lstrip('/')} in {boot}: {error}") from error
    if found != table:
        raise RepoToolsError(
            f"{boot} boots a root image of digest {found.root_digest.hex()[:16]}..., this one has "
            f"{table.root_digest.hex()[:16]}...: build both anew"
        )
