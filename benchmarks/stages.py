"""Each stage of an installation alone: how near the whole comes to what the machine can do.

The stages overlap, so the whole cannot be faster than the slowest of them; reading back comes after
all of them. Run with the agent's own code, on the same images, server and device.
"""

import hashlib
import mmap
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

from benchmarks.scene import Bench
from repo_tools.images import Codec
from updog.block_hash import BLOCK_BYTES
from updog.blocks import BUFFER_BYTES
from updog.install import Image, Role, prove, write_image
from updog.partition import open_for_writing
from updog.stream import decompress
from updog.transport import Transport
from updog.verity import TreeReader

_CHUNK_BYTES = 1 << 20


def stage_seconds(bench: Bench, codec: Codec) -> dict[str, float]:
    """Return the seconds that each stage takes for the root image, by its name."""
    root = bench.directory / "root.ext4"
    return {
        "download and digest": _timed(lambda: _fetch(bench, codec)),
        "decompress": _timed(lambda: _decompress(bench.target("root", codec))),
        "check against the tree": _timed(lambda: _check(root, bench.directory / "root.verity")),
        "write and flush": _timed(lambda: _write(bench, root)),
        "read back": _read_back(bench, codec),
    }


def limit_seconds(stages: dict[str, float]) -> float:
    """Return what the whole takes at the least."""
    return (
        max(seconds for name, seconds in stages.items() if name != "read back")
        + stages["read back"]
    )


def _timed(stage: Callable[[], None]) -> float:
    started = time.perf_counter()
    stage()
    return time.perf_counter() - started


def _fetch(bench: Bench, codec: Codec) -> None:
    digest = hashlib.sha256()
    url = f"{bench.url}/targets/{bench.target('root', codec).name}"
    with Transport() as transport, closing(transport.stream(url)) as chunks:
        for chunk in chunks:
            digest.update(chunk)


def _decompress(target: Path) -> None:
    buffer = memoryview(mmap.mmap(-1, BUFFER_BYTES))
    for _ in decompress(
        _chunks(target), name=target.name, limit_bytes=1 << 40, take=lambda: buffer
    ):
        pass


def _check(root: Path, tree: Path) -> None:
    image = tree.read_bytes()
    reader = TreeReader(lambda at, count: image[at : at + count], length_bytes=len(image))
    for offset, data in _pieces(root):
        if reader.first_bad_block(offset // BLOCK_BYTES, data) is not None:
            raise SystemExit("the tree does not vouch for the image")


def _write(bench: Bench, root: Path) -> None:
    length, buffer = root.stat().st_size, memoryview(mmap.mmap(-1, BUFFER_BYTES))
    with open_for_writing(bench.windows["root"]) as partition:
        for offset in range(0, length, BUFFER_BYTES):
            partition.write(offset, buffer[: length - offset])
        partition.flush()


def _read_back(bench: Bench, codec: Codec) -> float:
    target = bench.target("root", codec)
    image = Image(
        role=Role.ROOT,
        name=target.name,
        chunks=_chunks(target),
        content_length=None,
        content_sha256=None,
    )
    with open_for_writing(bench.windows["root"]) as partition:
        written = write_image(image, partition, tree=None)
        return _timed(lambda: prove(written, partition, tree=None))


def _chunks(target: Path) -> Iterator[bytes]:
    with target.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            yield chunk


def _pieces(path: Path) -> Iterator[tuple[int, memoryview]]:
    buffer, offset = memoryview(mmap.mmap(-1, BUFFER_BYTES)), 0
    with path.open("rb") as file:
        while count := file.readinto(buffer):
            yield offset, buffer[:count]
            offset += count
