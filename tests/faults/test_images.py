"""Images that are signed and wrong all the same: too long, cut short at any layer, a bomb.

Their length and digest are those that the metadata lists; a publisher made a mistake, or its keys
were stolen.
"""

import hashlib
import os
import resource
from collections.abc import Callable
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import pytest

from repo_tools.images import Codec, compress
from repo_tools.keys import KeyDirectory
from tests.attacks.bench import ONLINE, Bench
from tests.faults.conftest import EXPLORES_ALL, GROUNDS, Ground, on_a_loop_device
from tests.helpers.judge import ROLES, Judge, release
from tests.helpers.machine import Machine, copy_sparsely

BLOCK = 4096
MIB = 1 << 20

Change = Callable[[bytes], bytes]


@dataclass(slots=True)
class Publisher:
    """Offers images of its own in the place of those of 1.1.0, and the honest ones again."""

    machine: Machine
    scratch: Path

    def offer(
        self,
        role: str,
        content: bytes | Path,
        *,
        codec: Codec = Codec.ZSTD,
        signed: bytes | None = None,
        packed: Change = lambda frame: frame,
    ) -> str:
        """Offer an image; return its name.

        Args:
            role: Of the image.
            content: What it unpacks to, or a file of that.
            codec: How it is compressed.
            signed: What is signed as its content; None leaves that open.
            packed: What is done to the frame.
        """
        source, frame = self.scratch / "content", self.scratch / "frame"
        if isinstance(content, bytes):
            source.write_bytes(content)
        compress(source if isinstance(content, bytes) else content, frame, codec)
        name = f"offered-{role}.{codec}"
        custom: dict[str, object] = {} if signed is None else {"uncompressed": _facts(signed)}
        self._publish(role, name, packed(frame.read_bytes()), custom)
        return name

    def offer_honestly(self, role: str) -> None:
        content = release(self.machine)[role].read_bytes()
        self.offer(role, content, signed=content)

    def _publish(self, role: str, name: str, frame: bytes, custom: dict[str, object]) -> None:
        bench = Bench(
            self.machine.repository,
            publisher_keys=KeyDirectory(path=self.machine.directory / "keys"),
        )
        bench.steal(*ONLINE)
        bench.publish({name: frame}, **custom)
        bench.offer_instead(role, name)


def _facts(content: bytes) -> dict[str, object]:
    return {"length": len(content), "sha256": hashlib.sha256(content).hexdigest()}


@pytest.fixture
def publisher(machine: Machine, tmp_path: Path) -> Publisher:
    return Publisher(machine, tmp_path)


@pytest.mark.root
@pytest.mark.loop
@pytest.mark.parametrize("ground", GROUNDS if EXPLORES_ALL else GROUNDS[1:2], ids=str)
def test_an_image_one_byte_larger_than_its_partition(publisher: Publisher, ground: Ground) -> None:
    """Refused early where its length is signed; else it stops at the edge. One that fits, fits."""
    with on_a_loop_device(publisher.machine, ground) as judge:
        first, end = judge.windows()["boot"]
        room = end - first
        content = b"filled to the brim" * (room // 16)
        too_large, fitting = content[: room + 1], content[:room]
        update = ("updog", "update", "--now")
        publisher.offer("boot", too_large, signed=too_large)
        words = f"the partition holds {room} bytes, the image needs {room + 1}"
        judge.failed(judge.machine.run(*update), words)
        assert judge.look() == judge.before
        name = publisher.offer("boot", too_large)
        judge.failed(judge.machine.run(*update), f"{name}: holds more than the {room} bytes")
        publisher.offer("boot", fitting, signed=fitting)
        exact = publisher.scratch / "fitting"
        exact.write_bytes(fitting)
        judge.next_run_succeeds(images=release(judge.machine) | {"boot": exact})


FRAMES: dict[str, tuple[Change, str]] = {
    "a byte behind": (lambda frame: frame + b"\0", "there are bytes behind the end of"),
    "another frame behind": (lambda frame: frame * 2, "there are bytes behind the end of"),
    "without its last byte": (lambda frame: frame[:-1], "the compressed image ends in the middle"),
    "half": (lambda frame: frame[: len(frame) // 2], "the compressed image ends in the middle"),
}

FRAME_SAMPLE = (
    ("a byte behind", "root", Codec.ZSTD),
    ("without its last byte", "hash", Codec.LZ4),
)


@pytest.mark.parametrize(
    ("change", "role", "codec"),
    tuple(product(FRAMES, ROLES, Codec)) if EXPLORES_ALL else FRAME_SAMPLE,
)
def test_a_frame_that_is_not_whole_or_not_alone(
    publisher: Publisher, change: str, role: str, codec: Codec
) -> None:
    judge, content = Judge(publisher.machine), release(publisher.machine)[role].read_bytes()
    packed, words = FRAMES[change]
    name = publisher.offer(role, content, codec=codec, signed=content, packed=packed)
    judge.failed(publisher.machine.updog("update", "--now"), f"{name}: {words}")
    publisher.offer_honestly(role)
    judge.next_run_succeeds()


@pytest.mark.parametrize("role", ROLES if EXPLORES_ALL else ["boot"])
def test_what_shows_by_its_first_bytes_to_be_no_image_costs_no_set(
    publisher: Publisher, role: str
) -> None:
    judge = Judge(publisher.machine)
    name = publisher.offer(role, b"content", packed=lambda _frame: b"no frame at all" * 100)
    line = judge.failed(publisher.machine.updog("update", "--now"), f"{name}: the compressed image")
    assert "both sets are untouched" in line
    assert judge.look() == judge.before
    publisher.offer_honestly(role)
    judge.next_run_succeeds()


CONTENTS: dict[str, tuple[str, Change, bool, str]] = {
    "a root shorter than signed": (
        "root",
        lambda content: content[:-BLOCK],
        True,
        "bytes, its hash tree covers",
    ),
    "a boot image shorter than signed": (
        "boot",
        lambda content: content[:-1],
        True,
        "were signed",
    ),
    "a root shorter than its tree": (
        "root",
        lambda content: content[:-BLOCK],
        False,
        "bytes, its hash tree covers",
    ),
    "a hash tree without its last block": (
        "hash",
        lambda content: content[:-BLOCK],
        False,
        "tree",
    ),
}


@pytest.mark.parametrize("case", CONTENTS if EXPLORES_ALL else list(CONTENTS)[1::2])
def test_content_that_is_cut_short(publisher: Publisher, case: str) -> None:
    """With what is signed of the content left as it was, or left open."""
    role, change, keeps_signature, words = CONTENTS[case]
    judge, content = Judge(publisher.machine), release(publisher.machine)[role].read_bytes()
    publisher.offer(role, change(content), signed=content if keeps_signature else None)
    judge.failed(publisher.machine.updog("update", "--now"), words)
    publisher.offer_honestly(role)
    judge.next_run_succeeds()


def test_a_disk_shorter_than_its_partitions(machine: Machine) -> None:
    """The image of the disk lost its end: from inside the partition of the hash tree on."""
    judge, whole = Judge(machine), machine.directory / "whole.img"
    copy_sparsely(machine.disk, whole)
    _, end = judge.windows()["hash"]
    os.truncate(machine.disk, end - BLOCK)
    before = machine.disk_digest()
    line = machine.updog("update", "--now").failed()
    assert machine.disk_digest() == before
    assert f"{machine.disk}: " in line
    assert "nothing was changed" in line
    whole.replace(machine.disk)
    judge.next_run_succeeds()


@pytest.mark.parametrize(
    ("role", "codec"), tuple(product(ROLES, Codec)) if EXPLORES_ALL else [("root", Codec.LZ4)]
)
def test_a_decompression_bomb_in_little_memory(
    publisher: Publisher, role: str, codec: Codec
) -> None:
    judge, machine = Judge(publisher.machine), publisher.machine
    zeros = publisher.scratch / "zeros"
    with zeros.open("wb") as file:
        file.truncate(256 * MIB)
    name = publisher.offer(role, zeros, codec=codec)
    machine.limits = {resource.RLIMIT_AS: 192 * MIB}
    judge.failed(machine.updog("update", "--now"), f"{name}: ")
    publisher.offer_honestly(role)
    judge.next_run_succeeds()
