"""What is called installed is on the disk and is what was signed."""

import hashlib
import os
import re
import tracemalloc
from collections.abc import Iterator
from contextlib import AbstractContextManager
from functools import cache
from pathlib import Path

import lz4.frame
import pytest
from backports import zstd
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from signpost.disk import Window
from tests.helpers.loop_device import failing_device, loop_device
from updog import blocks, install
from updog.block_hash import BLOCK_BYTES
from updog.errors import ImageError, PartitionError
from updog.install import (
    Image,
    Role,
    Written,
    check_image,
    find_bad_block,
    open_tree,
    prove,
    write_image,
)
from updog.partition import OpenPartition, open_for_writing
from updog.verity import Tree, TreeReader, build_tree

MIB = 1 << 20
BOOT = b"kernel and boot loader configuration " * 3000
ROOT_BLOCKS = 640
"""Two and a half pieces of 1 MiB."""

FILLING = b"\xa5"
NEIGHBOUR_BYTES = 4096

_COMPRESSORS = {".lz4": lz4.frame.compress, ".zst": zstd.compress}


@cache
def root_content() -> bytes:
    return b"".join(number.to_bytes(4, "big") * 1024 for number in range(ROOT_BLOCKS))


@cache
def root_tree() -> Tree:
    return build_tree([root_content()], salt=b"salt", uuid=bytes(16))


@pytest.fixture(autouse=True, scope="module")
def small_buffers() -> Iterator[None]:
    """Let the few blocks of these images fill several buffers."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (blocks, install):
            patch.setattr(module, "BUFFER_BYTES", MIB)
        yield


def a_tree_reader() -> TreeReader:
    image = root_tree().image
    return TreeReader(
        lambda offset, length: image[offset : offset + length], length_bytes=len(image)
    )


def with_bad_block(content: bytes, block: int) -> bytes:
    changed = bytearray(content)
    changed[block * BLOCK_BYTES + 77] ^= 1
    return bytes(changed)


def an_image(
    content: bytes = BOOT,
    *,
    role: Role = Role.BOOT,
    suffix: str = ".lz4",
    signed: bytes | None = BOOT,
    chunk_bytes: int = 65536,
) -> Image:
    """Return an image of some content; `signed` is what was signed, None where nothing was."""
    compressed = bytes(_COMPRESSORS[suffix](content))
    return Image(
        role=role,
        name=f"{role}{suffix}",
        chunks=(
            compressed[start : start + chunk_bytes]
            for start in range(0, len(compressed), chunk_bytes)
        ),
        content_length=None if signed is None else len(signed),
        content_sha256=None if signed is None else hashlib.sha256(signed).hexdigest(),
    )


def a_root_image(
    content: bytes | None = None, *, signed: bytes | None = None, chunk_bytes: int = 65536
) -> Image:
    """Return a root image; its content's length and digest are unsigned, as the tree tells all."""
    return an_image(
        root_content() if content is None else content,
        role=Role.ROOT,
        signed=signed,
        chunk_bytes=chunk_bytes,
    )


def a_partition(directory: Path, room_bytes: int = 3 * MIB) -> Window:
    """Return a window into a new image file, with neighbours before and after it."""
    path = directory / "disk.img"
    path.write_bytes(FILLING * (room_bytes + 2 * NEIGHBOUR_BYTES))
    return Window(path=path, offset_bytes=NEIGHBOUR_BYTES, length_bytes=room_bytes)


def content_of(window: Window) -> bytes:
    """Return what a window holds, having checked that its neighbours are as they were."""
    data = window.path.read_bytes()
    start, end = window.offset_bytes, window.offset_bytes + window.length_bytes
    assert data[:start] == FILLING * NEIGHBOUR_BYTES, "the partition before was written"
    assert data[end:] == FILLING * NEIGHBOUR_BYTES, "the partition behind was written"
    return data[start:end]


def write(image: Image, window: Window, *, tree: TreeReader | None = None) -> Written:
    with open_for_writing(window) as partition:
        return write_image(image, partition, tree=tree)


def refusal_to_write(image: Image, window: Window, *, tree: TreeReader | None = None) -> str:
    with pytest.raises(ImageError) as caught:
        write(image, window, tree=tree)
    return str(caught.value)


def alter(window: Window, offset: int) -> None:
    """Change one byte of a partition, as a failing medium or another program would."""
    with window.path.open("r+b") as file:
        file.seek(window.offset_bytes + offset)
        old = file.read(1)
        file.seek(window.offset_bytes + offset)
        file.write(bytes([old[0] ^ 0x10]))


def test_the_hash_tree_is_written_before_the_root_that_it_judges() -> None:
    assert [role.value for role in Role] == ["hash", "root", "boot"]


class TestWriting:
    @pytest.mark.parametrize("suffix", [".lz4", ".zst"])
    @pytest.mark.parametrize("chunk_bytes", [10, 1 << 30])
    def test_the_content_stands_at_the_start_of_the_partition(
        self, tmp_path: Path, suffix: str, chunk_bytes: int
    ) -> None:
        window = a_partition(tmp_path)
        written = write(an_image(suffix=suffix, chunk_bytes=chunk_bytes), window)
        assert (written.role, written.name) == (Role.BOOT, f"boot{suffix}")
        assert written.length_bytes == len(BOOT)
        assert written.sha256 == hashlib.sha256(BOOT).hexdigest()
        assert content_of(window) == BOOT.ljust(3 * MIB, FILLING)

    def test_a_root_that_its_tree_vouches_for_is_written(self, tmp_path: Path) -> None:
        window = a_partition(tmp_path)
        written = write(a_root_image(), window, tree=a_tree_reader())
        assert written.length_bytes == ROOT_BLOCKS * BLOCK_BYTES
        assert content_of(window) == root_content().ljust(3 * MIB, FILLING)

    def test_content_of_which_nothing_was_signed_is_left_to_the_targets_digest(
        self, tmp_path: Path
    ) -> None:
        window = a_partition(tmp_path)
        assert write(an_image(signed=None), window).length_bytes == len(BOOT)

    def test_an_image_may_fill_its_partition(self, tmp_path: Path) -> None:
        window = a_partition(tmp_path, room_bytes=len(BOOT))
        write(an_image(), window)
        assert content_of(window) == BOOT

    @pytest.mark.loop
    def test_success_means_that_the_medium_has_it(self) -> None:
        with failing_device(MIB) as node:
            window = Window(path=node, offset_bytes=0, length_bytes=MIB)
            with pytest.raises(
                PartitionError, match=f"^cannot write to {node}: Input/output error"
            ):
                write(an_image(), window)


class TestBadBlocks:
    @pytest.mark.parametrize("block", [0, 1, 127, 128, 255, 256, 511, 512, 639])
    def test_a_wrong_block_is_named_and_neither_it_nor_what_came_with_it_is_written(
        self, tmp_path: Path, block: int
    ) -> None:
        window = a_partition(tmp_path)
        image = a_root_image(with_bad_block(root_content(), block))
        said = refusal_to_write(image, window, tree=a_tree_reader())
        assert said == f"root.lz4: block {block} is not the one that the hash tree vouches for"
        start = block * BLOCK_BYTES // MIB * MIB
        assert content_of(window)[start : start + MIB] == FILLING * MIB

    @pytest.mark.parametrize("others", [(4,), (3, 257), (300, 600)])
    def test_of_several_wrong_blocks_the_first_is_named(
        self, tmp_path: Path, others: tuple[int, ...]
    ) -> None:
        content = with_bad_block(root_content(), 3)
        for block in others:
            content = with_bad_block(content, block) if block != 3 else content
        said = refusal_to_write(a_root_image(content), a_partition(tmp_path), tree=a_tree_reader())
        assert "block 3 is not" in said

    def test_after_a_wrong_block_the_rest_is_not_fetched(self, tmp_path: Path) -> None:
        pieces: list[int] = []

        def endless() -> Iterator[bytes]:
            compressor = lz4.frame.LZ4FrameCompressor()
            yield compressor.begin()
            for number in range(10_000):
                pieces.append(number)
                yield compressor.compress(with_bad_block(root_content(), 0)[:MIB])

        image = replace(a_root_image(), chunks=endless())
        refusal_to_write(image, a_partition(tmp_path, room_bytes=64 * MIB), tree=a_tree_reader())
        assert len(pieces) < 100

    def test_a_block_more_than_the_tree_covers_is_named(self, tmp_path: Path) -> None:
        window = a_partition(tmp_path)
        image = a_root_image(root_content() + bytes(BLOCK_BYTES))
        said = refusal_to_write(image, window, tree=a_tree_reader())
        assert said == "root.lz4: block 640 is not the one that the hash tree vouches for"
        assert content_of(window)[ROOT_BLOCKS * BLOCK_BYTES :] == FILLING * (3 * MIB - 640 * 4096)

    @pytest.mark.parametrize("blocks", [1, 256, 639])
    def test_fewer_blocks_than_the_tree_covers_are_refused(
        self, tmp_path: Path, blocks: int
    ) -> None:
        image = a_root_image(root_content()[: blocks * BLOCK_BYTES])
        said = refusal_to_write(image, a_partition(tmp_path), tree=a_tree_reader())
        assert said == (
            f"root.lz4: the image has {blocks * 4096} bytes, its hash tree covers {640 * 4096}"
        )

    @pytest.mark.parametrize("missing", [1, 4095])
    def test_a_root_that_ends_inside_a_block_is_refused(self, tmp_path: Path, missing: int) -> None:
        image = a_root_image(root_content()[:-missing])
        said = refusal_to_write(image, a_partition(tmp_path), tree=a_tree_reader())
        assert "no whole number of 4096-byte blocks" in said

    @given(bit=st.integers(0, ROOT_BLOCKS * BLOCK_BYTES * 8 - 1))
    @settings(max_examples=15, deadline=None)
    def test_any_flipped_bit_stops_the_writing_at_its_block(
        self, tmp_path_factory: pytest.TempPathFactory, bit: int
    ) -> None:
        window = a_partition(tmp_path_factory.mktemp("disk"))
        content = bytearray(root_content())
        content[bit // 8] ^= 1 << bit % 8
        said = refusal_to_write(a_root_image(bytes(content)), window, tree=a_tree_reader())
        assert f"block {bit // 8 // BLOCK_BYTES} is not" in said
        assert content_of(window)[bit // 8] == FILLING[0]


class TestSignedContent:
    def test_content_that_is_shorter_than_signed_is_refused(self, tmp_path: Path) -> None:
        said = refusal_to_write(an_image(BOOT[:-1]), a_partition(tmp_path))
        assert said == (f"boot.lz4: decompressed to {len(BOOT) - 1} bytes, {len(BOOT)} were signed")

    def test_one_byte_more_than_signed_is_refused_and_not_written(self, tmp_path: Path) -> None:
        window = a_partition(tmp_path)
        said = refusal_to_write(an_image(BOOT + b"x"), window)
        assert said == f"boot.lz4: holds more than the {len(BOOT)} bytes expected"
        assert content_of(window)[len(BOOT) :] == FILLING * (3 * MIB - len(BOOT))

    @pytest.mark.parametrize("at", [0, len(BOOT) // 2, len(BOOT) - 1])
    def test_other_content_of_the_signed_length_is_refused(self, tmp_path: Path, at: int) -> None:
        other = BOOT[:at] + b"?" + BOOT[at + 1 :]
        said = refusal_to_write(an_image(other), a_partition(tmp_path))
        assert said == "boot.lz4: the content is not what was signed (sha256 differs)"

    def test_a_stream_that_turns_out_unsigned_at_its_end_is_refused(self, tmp_path: Path) -> None:
        image = an_image()

        def chunks() -> Iterator[bytes]:
            yield from image.chunks
            raise ImageError("boot.lz4: these are not the signed bytes")

        unsigned = Image(
            role=image.role,
            name=image.name,
            chunks=chunks(),
            content_length=image.content_length,
            content_sha256=image.content_sha256,
        )
        said = refusal_to_write(unsigned, a_partition(tmp_path))
        assert said == "boot.lz4: these are not the signed bytes"


class TestRoom:
    def test_an_image_signed_one_byte_larger_than_its_partition_is_not_even_fetched(
        self, tmp_path: Path
    ) -> None:
        window = a_partition(tmp_path, room_bytes=len(BOOT) - 1)
        image = an_image()
        said = refusal_to_write(image, window)
        assert said == (
            f"boot.lz4: the image has {len(BOOT)} bytes, its partition holds {len(BOOT) - 1}"
        )
        assert next(image.chunks), "the first chunk was fetched"
        assert content_of(window) == FILLING * (len(BOOT) - 1)

    def test_an_unsigned_image_one_byte_larger_than_its_partition_stops_at_the_edge(
        self, tmp_path: Path
    ) -> None:
        window = a_partition(tmp_path, room_bytes=len(BOOT) - 1)
        said = refusal_to_write(an_image(signed=None), window)
        assert f"holds more than the {len(BOOT) - 1} bytes" in said
        assert len(content_of(window)) == len(BOOT) - 1


class TestChecking:
    @pytest.mark.parametrize("room_bytes", [len(BOOT), len(BOOT) + 1])
    @pytest.mark.parametrize("signed", [BOOT, None])
    def test_a_whole_signed_image_that_fits_passes(
        self, room_bytes: int, signed: bytes | None
    ) -> None:
        image = an_image(signed=signed)
        check_image(image, room_bytes, tree=None)
        assert next(image.chunks, None) is None, "it was not read to its end"

    @pytest.mark.parametrize(
        ("content", "signed", "reason"),
        [
            (BOOT[:-1], BOOT, f"decompressed to {len(BOOT) - 1} bytes, {len(BOOT)} were signed"),
            (BOOT + b"x", BOOT, f"holds more than the {len(BOOT)} bytes expected"),
            (BOOT[:-1] + b"?", BOOT, "the content is not what was signed (sha256 differs)"),
            (
                BOOT + b"x",
                BOOT + b"x",
                f"the image has {len(BOOT) + 1} bytes, its partition holds {len(BOOT)}",
            ),
            (BOOT + b"x", None, f"holds more than the {len(BOOT)} bytes expected"),
        ],
    )
    def test_what_could_not_be_installed_does_not_pass(
        self, content: bytes, signed: bytes | None, reason: str
    ) -> None:
        with pytest.raises(ImageError, match=re.escape(f"boot.lz4: {reason}")):
            check_image(an_image(content, signed=signed), len(BOOT), tree=None)


def a_hash_image(content: bytes, *, signed: bytes | None = None) -> Image:
    return an_image(content, role=Role.HASH, signed=signed)


class TestRehearsing:
    """What `updog prepare` says of hash and root is what an installation would say."""

    ROOM = 4 * MIB

    def test_a_root_that_its_tree_vouches_for_passes(self) -> None:
        tree = check_image(a_hash_image(root_tree().image), self.ROOM, tree=None)
        assert tree is not None
        assert check_image(a_root_image(), self.ROOM, tree=tree) is tree
        assert check_image(an_image(), self.ROOM, tree=tree) is tree

    @pytest.mark.parametrize("block", [0, 128, 639])
    def test_a_root_that_does_not_match_the_hash_image_is_found_out(self, block: int) -> None:
        tree = check_image(a_hash_image(root_tree().image), self.ROOM, tree=None)
        image = a_root_image(with_bad_block(root_content(), block))
        with pytest.raises(ImageError, match=f"block {block} is not the one"):
            check_image(image, self.ROOM, tree=tree)

    def test_a_root_shorter_than_its_tree_is_found_out(self) -> None:
        image = a_root_image(root_content()[:BLOCK_BYTES])
        with pytest.raises(ImageError, match="the image has 4096 bytes, its hash tree covers"):
            check_image(image, self.ROOM, tree=a_tree_reader())

    @pytest.mark.parametrize("length", [1, 4095, 4096, 2 * 4096 + 1])
    def test_a_hash_image_shorter_than_its_tree_is_found_out(self, length: int) -> None:
        with pytest.raises(ImageError, match=f"^the hash image has {length} bytes"):
            check_image(a_hash_image(root_tree().image[:length]), self.ROOM, tree=None)

    @pytest.mark.parametrize("more", [0, -1])
    def test_a_tree_that_memory_should_not_hold_is_not_kept(
        self, monkeypatch: pytest.MonkeyPatch, more: int
    ) -> None:
        content = root_tree().image
        monkeypatch.setattr(install, "MOST_TREE_BYTES", len(content) + more)
        tree = check_image(a_hash_image(content + bytes(MIB)), self.ROOM, tree=None)
        assert (tree is None) == bool(more)

    def test_no_more_of_a_hash_image_is_kept_than_memory_should_hold(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(install, "MOST_TREE_BYTES", 2 * MIB)
        image = a_hash_image(root_tree().image + bytes(48 * MIB))
        tracemalloc.start()
        try:
            check_image(image, 64 * MIB, tree=None)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert peak < 16 * MIB

    def test_a_root_without_a_kept_tree_is_held_to_its_signed_digest_alone(self) -> None:
        image = a_root_image(with_bad_block(root_content(), 3), signed=root_content())
        with pytest.raises(ImageError, match="sha256 differs"):
            check_image(image, self.ROOM, tree=None)


class TestHoldingNothing:
    @pytest.mark.parametrize("role", Role)
    @pytest.mark.parametrize("signed", [b"", None])
    def test_an_empty_image_is_refused_whatever_was_signed(
        self, tmp_path: Path, role: Role, signed: bytes | None
    ) -> None:
        tree = a_tree_reader() if role is Role.ROOT else None
        image = an_image(b"", role=role, signed=signed)
        assert refusal_to_write(image, a_partition(tmp_path), tree=tree) == (
            f"{role}.lz4: holds nothing"
        )
        with pytest.raises(ImageError, match="holds nothing"):
            check_image(an_image(b"", role=role, signed=signed), MIB, tree=tree)


def test_a_rehearsal_reads_blocks_of_a_tree_that_lie_in_two_of_its_buffers() -> None:
    """The leaves of a root of 260 MiB reach beyond the first buffer, at no multiple of 128."""
    root = memoryview(bytes(260 * MIB))
    tree = build_tree([root], salt=b"s", uuid=bytes(16)).image
    held = check_image(an_image(tree, role=Role.HASH, signed=tree), len(tree), tree=None)
    assert held is not None
    for first in range(0, len(root) // BLOCK_BYTES, 512):
        assert held.first_bad_block(first, root[: 512 * BLOCK_BYTES]) is None


class TestOpeningTheTree:
    @pytest.mark.parametrize("length", [1, 4096, 2 * 4096])
    def test_a_hash_image_that_was_written_over_an_older_tree_does_not_borrow_from_it(
        self, tmp_path: Path, length: int
    ) -> None:
        whole = root_tree().image
        with open_for_writing(a_partition(tmp_path, MIB)) as partition:
            write_image(a_hash_image(whole), partition, tree=None)
            written = write_image(a_hash_image(whole[:length]), partition, tree=None)
            prove(written, partition, tree=None)
            with pytest.raises(ImageError, match=f"^the hash image has {length} bytes"):
                open_tree(written, partition)


class TestProving:
    def test_what_was_written_is_proven(self, tmp_path: Path) -> None:
        with open_for_writing(a_partition(tmp_path)) as partition:
            prove(write_image(an_image(), partition, tree=None), partition, tree=None)

    def test_a_root_is_proven_by_its_tree(self, tmp_path: Path) -> None:
        with open_for_writing(a_partition(tmp_path)) as partition:
            written = write_image(a_root_image(), partition, tree=a_tree_reader())
            prove(written, partition, tree=a_tree_reader())

    @pytest.mark.parametrize("role", [Role.BOOT, Role.HASH])
    @pytest.mark.parametrize("at", [0, len(BOOT) // 2, len(BOOT) - 1])
    def test_a_byte_that_changed_between_writing_and_reading_back_is_noticed(
        self, tmp_path: Path, role: Role, at: int
    ) -> None:
        window = a_partition(tmp_path)
        with open_for_writing(window) as partition:
            written = write_image(an_image(role=role), partition, tree=None)
            alter(window, at)
            with pytest.raises(PartitionError) as caught:
                prove(written, partition, tree=None)
        assert str(caught.value) == (
            f"{role}.lz4: the {role} partition does not give back what was written to its bytes "
            f"0 to {len(BOOT)}; the medium may be failing"
        )

    @pytest.mark.parametrize("block", [0, 127, 128, 256, 639])
    def test_a_root_block_that_changed_is_named(self, tmp_path: Path, block: int) -> None:
        window = a_partition(tmp_path)
        with open_for_writing(window) as partition:
            written = write_image(a_root_image(), partition, tree=a_tree_reader())
            alter(window, block * BLOCK_BYTES)
            with pytest.raises(PartitionError) as caught:
                prove(written, partition, tree=a_tree_reader())
        assert str(caught.value) == (
            f"root.lz4: block {block} of the root partition is not the one that the hash tree "
            "vouches for; the medium may be failing"
        )

    def test_what_lies_behind_the_image_does_not_matter(self, tmp_path: Path) -> None:
        window = a_partition(tmp_path)
        with open_for_writing(window) as partition:
            boot = write_image(an_image(), partition, tree=None)
            alter(window, len(BOOT))
            prove(boot, partition, tree=None)
            root = write_image(a_root_image(), partition, tree=a_tree_reader())
            alter(window, ROOT_BLOCKS * BLOCK_BYTES)
            prove(root, partition, tree=a_tree_reader())

    def test_a_root_partition_shorter_than_its_tree_is_told_to_be(self, tmp_path: Path) -> None:
        window = a_partition(tmp_path, room_bytes=ROOT_BLOCKS * BLOCK_BYTES - 1)
        window.path.write_bytes(bytes(NEIGHBOUR_BYTES) + root_content()[:-1])
        with (
            open_for_writing(window) as partition,
            pytest.raises(PartitionError, match="has no bytes"),
        ):
            find_bad_block(partition, a_tree_reader())

    @pytest.mark.loop
    @pytest.mark.parametrize("role", [Role.BOOT, Role.ROOT])
    def test_a_medium_that_gives_back_other_bytes_than_the_cache_is_found_out(
        self, tmp_path: Path, role: Role
    ) -> None:
        backing = a_partition(tmp_path)
        image = an_image() if role is Role.BOOT else a_root_image()
        tree = None if role is Role.BOOT else a_tree_reader()
        with loop_device(backing.path) as node, _open_device(node, backing) as partition:
            written = write_image(image, partition, tree=tree)
            alter(backing, 5000)
            assert partition.read(0, 4096) == backing.path.read_bytes()[4096:8192]
            with pytest.raises(PartitionError, match="the medium may be failing"):
                prove(written, partition, tree=tree)

    @pytest.mark.loop
    @pytest.mark.parametrize(
        ("start", "length"), [(0, 4 * MIB + 512), (MIB, MIB + 512), (MIB + 512, MIB)]
    )
    def test_the_last_page_of_an_odd_partition_is_read_back_from_the_medium(
        self, tmp_path: Path, start: int, length: int
    ) -> None:
        backing = tmp_path / "medium.img"
        backing.write_bytes(bytes(4 * MIB + 512))
        content = os.urandom(length)
        with loop_device(backing, "--direct-io=on") as node:
            window = Window(path=node, offset_bytes=start, length_bytes=length)
            with open_for_writing(window) as partition:
                written = write_image(an_image(content, signed=content), partition, tree=None)
                with backing.open("r+b", buffering=0) as medium:
                    os.pwrite(medium.fileno(), bytes([content[-1] ^ 1]), start + length - 1)
                    os.fsync(medium.fileno())
                with pytest.raises(PartitionError, match="does not give back"):
                    prove(written, partition, tree=None)


def _open_device(node: Path, window: Window) -> AbstractContextManager[OpenPartition]:
    same = Window(path=node, offset_bytes=window.offset_bytes, length_bytes=window.length_bytes)
    return open_for_writing(same)


def test_a_set_is_installed_image_by_image_under_the_tree_that_stands_on_the_disk(
    tmp_path: Path,
) -> None:
    (tmp_path / "hash").mkdir()
    (tmp_path / "root").mkdir()
    hash_image = an_image(root_tree().image, role=Role.HASH, signed=root_tree().image)
    with (
        open_for_writing(a_partition(tmp_path / "hash", 64 * 1024)) as hash_partition,
        open_for_writing(a_partition(tmp_path / "root")) as root_partition,
    ):
        written = write_image(hash_image, hash_partition, tree=None)
        prove(written, hash_partition, tree=None)
        tree = open_tree(written, hash_partition)
        assert tree.root_digest == root_tree().root_digest
        prove(write_image(a_root_image(), root_partition, tree=tree), root_partition, tree=tree)
