"""Whether every target's bytes are those that were signed, and every image can be installed.

Decides by reading each file once, in pieces: its length and digests as signed, what it unpacks to
as the publisher says, every block of the root by the hash tree, and the hash tree by the command
line in the boot image, which is what the kernel goes by. Tells bytes that were changed after
signing, which the server is to blame for, from images that were signed broken.
"""

import hashlib
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Final

from repo_tools import ext4
from repo_tools.cmdline import FILE_NAME, VerityTable, parse_command_line
from repo_tools.crew import WORKERS, Crew
from repo_tools.errors import CommandLineError, FileSystemError
from repo_tools.findings import Finding, Kind, absent, fault, warning
from repo_tools.offer import Offer
from repo_tools.source import NOT_THERE, Source
from repo_tools.target_source import Served, fetch_target, served_files
from updog.block_hash import BLOCK_BYTES
from updog.blocks import BUFFER_BYTES
from updog.errors import ImageError, TransportError, UpdogError
from updog.install import MOST_TREE_BYTES, Image, Role, check_image
from updog.manifest import Images, Manifest
from updog.metadata import Target
from updog.stream import decompress
from updog.transport import Transport
from updog.verity import TreeReader

_MOST_BYTES: Final = 64 << 30
"""What an image may unpack to where nobody has signed its length."""

_MOST_BOOT_BYTES: Final = 1 << 30
_LONGEST_COMMAND_LINE: Final = 64 << 10


Tell = Callable[[Served], None]
"""Told of each file that was there."""


def check_contents(
    source: Source,
    offer: Offer,
    manifest: Manifest | None,
    *,
    tell: Tell = lambda _served: None,
    workers: int = WORKERS,
) -> list[Finding]:
    """Read every target that was signed, in parallel.

    Args:
        source: where the files are.
        offer: what was signed of them.
        manifest: which of them are images; None if there is none that can be read.
        tell: called after each file, from several threads.
        workers: how many files are read at a time.
    """
    look = _Look(source=source, crew=Crew(workers), tell=tell)
    releases = _releases(offer, manifest)
    of_releases = {each.file_name for one in releases for each in one.values()}
    others = [
        each
        for target in offer.targets.values()
        for each in served_files(offer, target)
        if each.file_name not in of_releases
    ]
    largest_first = sorted(others, key=lambda each: -each.target.length)
    jobs: list[Served | dict[Role, Served]] = [*releases, *largest_first]
    look.crew.run(jobs, look.at)
    return sorted(look.findings, key=lambda each: (each.kind, each.subject, each.text))


def _releases(offer: Offer, manifest: Manifest | None) -> list[dict[Role, Served]]:
    """Return the images that belong together, each group once, if all of it was signed."""
    groups = dict.fromkeys(update.images for update in manifest.updates) if manifest else {}
    named = [_by_role(images) for images in groups]
    return [
        {role: served_files(offer, offer.targets[name])[0] for role, name in one.items()}
        for one in named
        if all(name in offer.targets for name in one.values())
    ]


def _by_role(images: Images) -> dict[Role, str]:
    return {Role.HASH: images.hash, Role.ROOT: images.root, Role.BOOT: images.boot}


class _Look:
    """What was found so far, and how files are read."""

    def __init__(self, *, source: Source, crew: Crew, tell: Tell) -> None:
        self.source = source
        self.crew = crew
        self.tell = tell
        self.findings: list[Finding] = []

    def at(self, job: "Served | dict[Role, Served]", transport: Transport) -> None:
        """Do one job."""
        if isinstance(job, Served):
            self._take(job, transport, _drain)
        else:
            self._check_release(job, transport)

    def _check_release(self, images: dict[Role, Served], transport: Transport) -> None:
        """Check the images of one system, the tree before what it vouches for."""
        trees: list[TreeReader | None] = []
        hashes, root, boot = images[Role.HASH], images[Role.ROOT], images[Role.BOOT]
        self._take(hashes, transport, lambda chunks: trees.append(_tree(hashes.target, chunks)))
        tree = trees[0] if trees else None
        if trees and tree is None:
            self.findings.append(_unchecked(hashes.target))
        self._take(root, transport, lambda chunks: _check_root(root.target, chunks, tree))
        self._take(
            boot,
            transport,
            lambda chunks: self.findings.extend(_check_boot(boot.target, chunks, tree)),
        )

    def _take(
        self, served: Served, transport: Transport, read: Callable[[Iterator[bytes]], object]
    ) -> None:
        """Read a file to its end, and note what is wrong with it."""
        problem = self._problem(served, transport, read)
        if problem is not None:
            self.findings.append(problem)
        if problem is None or problem.kind is not Kind.ABSENT:
            self.tell(served)

    def _problem(
        self, served: Served, transport: Transport, read: Callable[[Iterator[bytes]], object]
    ) -> Finding | None:
        name = served.target.name
        try:
            self._read(served, transport, read)
        except TransportError as error:
            if error.status in NOT_THERE:
                return absent(name, f"there is no file targets/{served.file_name}")
            return fault(name, error)
        except ImageError as error:
            if read is _drain:
                return fault(name, error)
            # What went wrong may have been the bytes, before their digest could say so.
            changed = self._problem(served, transport, _drain)
            text = str(error).removeprefix(f"{name}: ")
            return changed or fault(name, f"was signed as it is, but no machine takes it: {text}")
        except UpdogError as error:
            return fault(name, error)
        return None

    def _read(
        self, served: Served, transport: Transport, read: Callable[[Iterator[bytes]], object]
    ) -> None:
        with closing(fetch_target(self.source, transport, served)) as chunks:
            read(self.crew.unless_stopped(chunks))


def _drain(chunks: Iterable[bytes]) -> None:
    for _ in chunks:
        pass


def _tree(target: Target, chunks: Iterator[bytes]) -> TreeReader | None:
    image = Image(
        role=Role.HASH,
        name=target.name,
        chunks=chunks,
        content_length=target.uncompressed_length,
        content_sha256=target.uncompressed_sha256,
    )
    room = _MOST_BYTES if target.uncompressed_length is None else target.uncompressed_length
    return check_image(image, room, tree=None)


def _unchecked(target: Target) -> Finding:
    return warning(
        target.name,
        f"its tree is larger than {MOST_TREE_BYTES >> 20} MiB and was not compared with the root",
    )


def _check_root(target: Target, chunks: Iterator[bytes], tree: TreeReader | None) -> None:
    offset = 0

    def compare(data: memoryview) -> None:
        nonlocal offset
        bad = tree.first_bad_block(offset // BLOCK_BYTES, data) if tree else None
        if bad is not None:
            raise ImageError(f"its block {bad} is not the one that the hash tree vouches for")
        offset += len(data)

    covered = tree.superblock.data_bytes if tree else None
    _unpack(target, chunks, most_bytes=covered or _MOST_BYTES, take=compare)
    if covered is not None and offset != covered:
        raise ImageError(f"the image has {offset} bytes, its hash tree covers {covered}")


def _check_boot(
    target: Target, chunks: Iterator[bytes], tree: TreeReader | None
) -> Iterator[Finding]:
    with tempfile.NamedTemporaryFile(prefix="repo-tools-", suffix=".boot") as copy:
        _unpack(target, chunks, most_bytes=_MOST_BOOT_BYTES, take=copy.write)
        copy.flush()
        found = _what_boots(target, Path(copy.name), tree)
    return iter([found] if found else [])


def _what_boots(target: Target, image: Path, tree: TreeReader | None) -> Finding | None:
    """Say what is wrong with what a boot image tells the kernel of its root, if anything is."""
    try:
        data = ext4.read_file(image, FILE_NAME)[:_LONGEST_COMMAND_LINE]
        table = parse_command_line(data.decode("utf-8", errors="replace"))
    except FileSystemError:
        text = f"holds no {FILE_NAME} in an ext4 file system: whether it boots its root is unknown"
        return warning(target.name, text)
    except CommandLineError as error:
        return fault(target.name, f"boots no root: {error}")
    difference = _difference(table, tree) if tree is not None else None
    return fault(target.name, f"{difference}: the machine would not boot") if difference else None


def _difference(table: VerityTable, tree: TreeReader) -> str | None:
    """Compare the table on the kernel's command line with the tree."""
    if table.root_digest != tree.root_digest or table.salt != tree.superblock.salt:
        return (
            f"its command line vouches for root digest {table.root_digest.hex()[:16]}..., the "
            f"hash tree has {tree.root_digest.hex()[:16]}..."
        )
    if table.data_blocks != tree.superblock.data_blocks:
        return (
            f"its command line maps {table.data_blocks} blocks, the hash tree covers "
            f"{tree.superblock.data_blocks}"
        )
    return None


def _unpack(
    target: Target,
    chunks: Iterator[bytes],
    *,
    most_bytes: int,
    take: Callable[[memoryview], object],
) -> None:
    """Decompress an image piece by piece, and compare it with what the publisher says of it.

    Raises:
        ImageError: it is not that, or more than `most_bytes`.
    """
    buffer, digest, length = memoryview(bytearray(BUFFER_BYTES)), hashlib.sha256(), 0
    limit = most_bytes if target.uncompressed_length is None else target.uncompressed_length
    for data in decompress(chunks, name=target.name, limit_bytes=limit, take=lambda: buffer):
        digest.update(data)
        length += len(data)
        take(data)
    if target.uncompressed_length not in (None, length):
        raise ImageError(f"unpacks to {length} bytes, {target.uncompressed_length} were signed")
    if target.uncompressed_sha256 not in (None, digest.hexdigest()):
        raise ImageError("unpacks to something else than was signed (sha256 differs)")
