"""The tree is the one that veritysetup makes, and no flipped bit gets past it."""

import hashlib
import os
import random
import re
import shutil
import struct
import subprocess
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from updog.block_hash import BLOCK_BYTES
from updog.errors import ImageError, PartitionError, UpdogError
from updog.verity import ReadAt, Superblock, Tree, TreeReader, build_tree

UUID_OF_TREE = UUID("12345678-1234-5678-1234-567812345678")
SALT = bytes.fromhex("ab" * 32)

EDGE_SIZES = (1, 2, 127, 128, 129, 128 * 128, 128 * 128 + 1)
"""In blocks: around full blocks of 128 digests, up to the first tree of three levels."""

# Users other than root have no sbin on their path.
SEARCHED = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
VERITYSETUP = shutil.which("veritysetup", path=SEARCHED) or "veritysetup"

needs_veritysetup = pytest.mark.skipif(
    not Path(VERITYSETUP).is_absolute(),
    reason="veritysetup is not installed: trees are not compared with its",
)


def numbered_block(number: int) -> bytes:
    return number.to_bytes(8, "big").ljust(BLOCK_BYTES, b"\0")


def an_image(blocks: int) -> bytes:
    return b"".join(numbered_block(number) for number in range(blocks))


def a_tree(data: bytes, *, salt: bytes = SALT) -> Tree:
    return build_tree([data], salt=salt, uuid=UUID_OF_TREE.bytes)


def a_superblock(**facts: bytes | int) -> bytes:
    """Return a superblock in which the named facts differ from what veritysetup writes."""
    known: dict[str, bytes | int] = {
        "signature": b"verity\0\0",
        "version": 1,
        "hash_type": 1,
        "uuid": UUID_OF_TREE.bytes,
        "algorithm": b"sha256",
        "data_block_size": 4096,
        "hash_block_size": 4096,
        "data_blocks": 2,
        "salt_size": 32,
        "salt": SALT,
    }
    wanted = {**known, **facts}
    packed = struct.pack("<8sII16s32sIIQH6x256s168x", *(wanted[name] for name in known))
    return packed.ljust(BLOCK_BYTES, b"\0")


def reading(image: bytes | bytearray) -> ReadAt:
    def read(offset: int, length: int) -> bytes:
        if offset + length > len(image):
            raise PartitionError("the hash image ends early")
        return bytes(image[offset : offset + length])

    return read


def a_reader(image: bytes) -> TreeReader:
    return TreeReader(reading(image), length_bytes=len(image))


def flipped(image: bytes, bit: int) -> bytes:
    changed = bytearray(image)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


@dataclass(frozen=True, kw_only=True)
class Formatted:
    """What `veritysetup format` made."""

    image: bytes
    root_digest: str


def veritysetup_format(
    directory: Path, data: bytes, *options: str, salt: bytes = SALT
) -> Formatted:
    data_file, hash_file = directory / "data", directory / "hash"
    data_file.write_bytes(data)
    hash_file.touch()
    identity = (f"--salt={salt.hex() or '-'}", f"--uuid={UUID_OF_TREE}")
    printed = subprocess.run(
        [VERITYSETUP, "format", *options, *identity, data_file, hash_file],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    data_file.unlink()
    found = re.search(r"^Root hash:\s*([0-9a-f]+)$", printed, re.MULTILINE)
    assert found, printed
    return Formatted(image=hash_file.read_bytes(), root_digest=found[1])


def veritysetup_accepts(directory: Path, data: bytes, tree: Tree) -> bool:
    data_file, hash_file = directory / "data", directory / "hash"
    data_file.write_bytes(data)
    hash_file.write_bytes(tree.image)
    command = [VERITYSETUP, "verify", str(data_file), str(hash_file), tree.root_digest.hex()]
    judged = subprocess.run(command, check=False, capture_output=True)
    data_file.unlink()
    return judged.returncode == 0


class TestBuilding:
    @needs_veritysetup
    @pytest.mark.parametrize("blocks", EDGE_SIZES)
    def test_a_tree_is_byte_for_byte_the_one_of_veritysetup(
        self, blocks: int, tmp_path: Path
    ) -> None:
        data = an_image(blocks)
        tree, formatted = a_tree(data), veritysetup_format(tmp_path, data)
        assert tree.root_digest.hex() == formatted.root_digest
        assert tree.image == formatted.image

    @needs_veritysetup
    @pytest.mark.parametrize("salt", [b"", b"\0", b"\xff" * 255, bytes(range(256))])
    def test_a_salt_of_any_length_goes_before_every_block(
        self, salt: bytes, tmp_path: Path
    ) -> None:
        data = an_image(129)
        tree, formatted = a_tree(data, salt=salt), veritysetup_format(tmp_path, data, salt=salt)
        assert tree.root_digest.hex() == formatted.root_digest
        assert tree.image == formatted.image

    @needs_veritysetup
    @pytest.mark.parametrize("blocks", EDGE_SIZES)
    def test_veritysetup_accepts_an_image_under_its_tree(self, blocks: int, tmp_path: Path) -> None:
        data = an_image(blocks)
        assert veritysetup_accepts(tmp_path, data, a_tree(data))

    def test_the_format_stays_what_it_was(self) -> None:
        tree = a_tree(an_image(129))
        assert tree.root_digest.hex() == (
            "985e5278ee02943eb9d7207b09653f0a0517a44ee2003b4a62e8e5d7b88f0780"
        )
        assert hashlib.sha256(tree.image).hexdigest() == (
            "0b7e49eb7dfe1a16fd164354e0f267c4c21997d07cdb163a7fac7afa18f77a2f"
        )

    @given(
        blocks=st.integers(1, 300),
        cuts=st.lists(st.integers(0, 300), max_size=5),
        seed=st.integers(0, 1000),
    )
    @settings(max_examples=30, deadline=None)
    def test_the_pieces_that_an_image_comes_in_do_not_matter(
        self, blocks: int, cuts: list[int], seed: int
    ) -> None:
        data = random.Random(seed).randbytes(blocks * BLOCK_BYTES)
        bounds = [0, *sorted(min(cut, blocks) for cut in cuts), blocks]
        pieces = (
            memoryview(data)[start * BLOCK_BYTES : end * BLOCK_BYTES]
            for start, end in pairwise(bounds)
        )
        assert build_tree(pieces, salt=SALT, uuid=UUID_OF_TREE.bytes) == a_tree(data)

    def test_an_empty_image_has_no_tree(self) -> None:
        with pytest.raises(ImageError, match=r"^an empty image has no hash tree$"):
            build_tree([], salt=SALT, uuid=UUID_OF_TREE.bytes)

    @pytest.mark.parametrize("length", [1, BLOCK_BYTES - 1, BLOCK_BYTES + 1])
    def test_a_part_of_a_block_is_refused(self, length: int) -> None:
        with pytest.raises(
            ImageError, match=f"^{length} bytes are no whole number of 4096-byte blocks$"
        ):
            build_tree([bytes(length)], salt=SALT, uuid=UUID_OF_TREE.bytes)


class TestSuperblock:
    @given(
        uuid=st.binary(min_size=16, max_size=16),
        salt=st.binary(max_size=256),
        data_blocks=st.integers(1, 1 << 32),
    )
    def test_a_superblock_reads_back_as_it_was_written(
        self, uuid: bytes, salt: bytes, data_blocks: int
    ) -> None:
        superblock = Superblock(uuid=uuid, salt=salt, data_blocks=data_blocks)
        assert len(superblock.serialise()) == BLOCK_BYTES
        assert Superblock.parse(superblock.serialise()) == superblock

    @pytest.mark.parametrize("salt", [b"", bytes(range(256))])
    @pytest.mark.parametrize("data_blocks", [1, 1 << 32])
    def test_the_largest_and_the_smallest_values_are_accepted(
        self, salt: bytes, data_blocks: int
    ) -> None:
        superblock = Superblock(uuid=bytes(16), salt=salt, data_blocks=data_blocks)
        assert Superblock.parse(superblock.serialise()) == superblock

    def test_the_layout_is_cryptsetups(self) -> None:
        superblock = Superblock(uuid=UUID_OF_TREE.bytes, salt=SALT, data_blocks=2)
        assert superblock.serialise() == a_superblock()

    @pytest.mark.parametrize(
        "block", [bytes(BLOCK_BYTES), b"\xff" * BLOCK_BYTES, b"verity\0\x01".ljust(BLOCK_BYTES)]
    )
    def test_a_block_without_the_signature_is_no_superblock(self, block: bytes) -> None:
        with pytest.raises(ImageError, match=r"^the hash image holds no dm-verity superblock$"):
            Superblock.parse(block)

    @pytest.mark.parametrize(
        ("field", "value"),
        [
            ("version", 0),
            ("version", 2),
            ("hash_type", 0),
            ("algorithm", b"sha512"),
            ("algorithm", b"sha256\0x"),
            ("algorithm", b""),
            ("data_block_size", 512),
            ("hash_block_size", 1024),
        ],
    )
    def test_a_tree_of_another_kind_is_refused(self, field: str, value: bytes | int) -> None:
        with pytest.raises(ImageError) as caught:
            Superblock.parse(a_superblock(**{field: value}))
        assert str(caught.value) == (
            "the hash image is not of the supported kind (dm-verity version 1, sha256, "
            "4096-byte blocks)"
        )

    @needs_veritysetup
    @pytest.mark.parametrize(
        "option", ["--format=0", "--hash=sha512", "--data-block-size=1024", "--hash-block-size=512"]
    )
    def test_what_veritysetup_makes_of_another_kind_is_refused(
        self, option: str, tmp_path: Path
    ) -> None:
        other = veritysetup_format(tmp_path, an_image(2), option)
        partition = other.image.ljust(2 * BLOCK_BYTES, b"\0")
        with pytest.raises(ImageError, match="not of the supported kind"):
            a_reader(partition)

    @pytest.mark.parametrize(
        ("field", "value"),
        [
            ("data_blocks", 0),
            ("data_blocks", (1 << 32) + 1),
            ("data_blocks", (1 << 64) - 1),
            ("salt_size", 257),
            ("salt_size", 65535),
        ],
    )
    def test_numbers_that_no_tree_has_are_damage(self, field: str, value: int) -> None:
        with pytest.raises(ImageError, match=r"^the superblock of the hash image is damaged$"):
            Superblock.parse(a_superblock(**{field: value}))

    @pytest.mark.parametrize(
        ("blocks", "sizes"),
        [
            (1, []),
            (2, [1]),
            (128, [1]),
            (129, [2, 1]),
            (128 * 128, [128, 1]),
            (128 * 128 + 1, [129, 2, 1]),
            (1 << 32, [1 << 25, 1 << 18, 1 << 11, 1 << 4, 1]),
        ],
    )
    def test_each_level_holds_a_digest_of_every_block_below(
        self, blocks: int, sizes: list[int]
    ) -> None:
        superblock = Superblock(uuid=bytes(16), salt=b"", data_blocks=blocks)
        assert superblock.level_sizes() == sizes
        assert superblock.data_bytes == blocks * 4096


BLOCKS_OF_THREE_LEVELS = 128 * 128 + 1


@pytest.fixture(scope="module")
def deep() -> Tree:
    """Return the tree of an image of 16385 numbered blocks: levels of 129, 2 and 1 block."""
    pieces = (numbered_block(number) for number in range(BLOCKS_OF_THREE_LEVELS))
    return build_tree(pieces, salt=SALT, uuid=UUID_OF_TREE.bytes)


class TestReading:
    @given(blocks=st.integers(2, 300), salt=st.binary(max_size=256), data=st.data())
    @settings(max_examples=40, deadline=None)
    def test_a_tree_vouches_for_the_image_that_it_was_built_from(
        self, blocks: int, salt: bytes, data: st.DataObject
    ) -> None:
        image = an_image(blocks)
        tree = a_tree(image, salt=salt)
        reader = a_reader(tree.image)
        assert reader.root_digest == tree.root_digest
        assert reader.superblock.image_bytes == len(tree.image)
        assert reader.superblock.data_bytes == len(image)
        first = data.draw(st.integers(0, blocks - 1))
        count = data.draw(st.integers(0, blocks - first))
        piece = image[first * BLOCK_BYTES : (first + count) * BLOCK_BYTES]
        assert reader.first_bad_block(first, piece) is None

    @pytest.mark.parametrize("number", [0, 1, 127, 128, 129, 16255, 16256, 16383, 16384])
    def test_a_deep_tree_vouches_for_its_blocks_in_any_order(self, deep: Tree, number: int) -> None:
        reader = a_reader(deep.image)
        for each in (number, 16384, number, 0):
            assert reader.first_bad_block(each, numbered_block(each)) is None

    @given(bit=st.integers(0, 300 * BLOCK_BYTES * 8 - 1))
    @settings(max_examples=60, deadline=None)
    def test_a_flipped_bit_in_the_data_is_noticed_and_its_block_is_named(self, bit: int) -> None:
        image = an_image(300)
        reader = a_reader(a_tree(image).image)
        assert reader.first_bad_block(0, flipped(image, bit)) == bit // 8 // BLOCK_BYTES

    @given(block=st.integers(0, BLOCKS_OF_THREE_LEVELS - 1), bit=st.integers(0, 4096 * 8 - 1))
    @settings(max_examples=60, deadline=None)
    def test_a_flipped_bit_under_a_deep_tree_is_noticed(
        self, deep: Tree, block: int, bit: int
    ) -> None:
        reader = a_reader(deep.image)
        assert reader.first_bad_block(block, flipped(numbered_block(block), bit)) == block

    def test_the_first_of_several_bad_blocks_is_named(self) -> None:
        image = an_image(300)
        reader = a_reader(a_tree(image).image)
        bad = flipped(flipped(image, 200 * BLOCK_BYTES * 8), 130 * BLOCK_BYTES * 8)
        assert reader.first_bad_block(0, bad) == 130
        assert reader.first_bad_block(131, bad[131 * BLOCK_BYTES :]) == 200

    def test_two_good_blocks_in_each_others_place_are_bad(self) -> None:
        reader = a_reader(a_tree(an_image(3)).image)
        swapped = numbered_block(0) + numbered_block(2) + numbered_block(1)
        assert reader.first_bad_block(0, swapped) == 1

    @pytest.mark.parametrize("blocks", [2, 127, 128, 129])
    def test_the_first_block_behind_the_end_is_bad(self, blocks: int) -> None:
        reader = a_reader(a_tree(an_image(blocks)).image)
        last = numbered_block(blocks - 1)
        assert reader.first_bad_block(blocks - 1, last) is None
        assert reader.first_bad_block(blocks - 1, last + bytes(BLOCK_BYTES)) == blocks
        assert reader.first_bad_block(blocks, bytes(BLOCK_BYTES)) == blocks

    def test_a_part_of_a_block_cannot_be_judged(self) -> None:
        reader = a_reader(a_tree(an_image(2)).image)
        with pytest.raises(ImageError, match="no whole number of 4096-byte blocks"):
            reader.first_bad_block(0, bytes(BLOCK_BYTES + 1))

    def test_a_tree_over_a_single_block_is_refused(self) -> None:
        with pytest.raises(ImageError, match=r"covers a single block: no system fits in that$"):
            a_reader(a_tree(an_image(1)).image)

    @pytest.mark.parametrize("length", [0, 1, 511, 4095])
    def test_a_hash_image_without_a_whole_superblock_is_refused(self, length: int) -> None:
        with pytest.raises(ImageError) as caught:
            a_reader(a_tree(an_image(2)).image[:length])
        assert str(caught.value) == (
            f"the hash image has {length} bytes: too few for a dm-verity superblock"
        )

    @pytest.mark.parametrize("length", [0, 1, 4095, 4096, 4097, 4 * 4096 - 1])
    def test_a_hash_image_shorter_than_its_tree_is_refused_whatever_stands_behind_it(
        self, length: int
    ) -> None:
        image = a_tree(an_image(129)).image
        with pytest.raises(ImageError, match=f"^the hash image has {length} bytes"):
            TreeReader(reading(image), length_bytes=length)

    @pytest.mark.parametrize("padding", [0, 1, 4096])
    def test_padding_behind_the_tree_does_not_matter(self, padding: int) -> None:
        tree = a_tree(an_image(129))
        assert a_reader(tree.image + bytes(padding)).root_digest == tree.root_digest

    def test_reading_in_order_takes_each_block_of_the_tree_once_and_no_more_than_asked_for(
        self, deep: Tree
    ) -> None:
        asked: list[tuple[int, int]] = []
        read = reading(deep.image)

        def noting(offset: int, length: int) -> bytes:
            asked.append((offset, length))
            return read(offset, length)

        reader = TreeReader(noting, length_bytes=len(deep.image))
        for first in range(0, BLOCKS_OF_THREE_LEVELS, 256):
            numbers = range(first, min(first + 256, BLOCKS_OF_THREE_LEVELS))
            assert reader.first_bad_block(first, b"".join(map(numbered_block, numbers))) is None
        assert max(length for _, length in asked) == 256 // 128 * BLOCK_BYTES
        taken = Counter(
            position // BLOCK_BYTES
            for offset, length in asked
            for position in range(offset, offset + length, BLOCK_BYTES)
        )
        top, below_the_top = 1, range(2, len(deep.image) // BLOCK_BYTES)
        assert {taken[index] for index in below_the_top} == {1}
        assert taken[top] <= 2


LEVELS_AS_STORED = ((2, 1, 1), (1, 2, 2), (0, 4, 129))
"""Of the deep tree: level, first block in the hash image, blocks."""


def blocks_under(level: int, index: int) -> Iterator[int]:
    """Yield the first and the last data block that a block of the deep tree stands over."""
    span = 128 ** (level + 1)
    yield index * span
    yield min((index + 1) * span, BLOCKS_OF_THREE_LEVELS) - 1


class TestDamagedTree:
    @given(index=st.integers(0, 128), bit=st.integers(0, 4096 * 8 - 1), last=st.booleans())
    @settings(max_examples=40, deadline=None)
    def test_a_flipped_bit_in_the_lowest_level_is_noticed_and_its_block_is_named(
        self, deep: Tree, index: int, bit: int, *, last: bool
    ) -> None:
        self._require_named(deep, level=0, index=index, bit=bit, last=last)

    @given(index=st.integers(0, 1), bit=st.integers(0, 4096 * 8 - 1), last=st.booleans())
    @settings(max_examples=40, deadline=None)
    def test_a_flipped_bit_in_a_middle_level_is_noticed_and_its_block_is_named(
        self, deep: Tree, index: int, bit: int, *, last: bool
    ) -> None:
        self._require_named(deep, level=1, index=index, bit=bit, last=last)

    def _require_named(self, deep: Tree, *, level: int, index: int, bit: int, last: bool) -> None:
        first_stored = {each: first for each, first, _ in LEVELS_AS_STORED}[level]
        bad = flipped(deep.image, (first_stored + index) * BLOCK_BYTES * 8 + bit)
        reader = a_reader(bad)
        data_block = list(blocks_under(level, index))[last]
        with pytest.raises(
            ImageError,
            match=f"^the hash tree contradicts itself: block {index} of level {level} is not the "
            "one that the level above vouches for$",
        ):
            reader.first_bad_block(data_block, numbered_block(data_block))

    @given(bit=st.integers(0, 4096 * 8 - 1))
    @settings(max_examples=40, deadline=None)
    def test_a_flipped_bit_in_the_topmost_block_changes_the_digest_that_vouches_for_all(
        self, deep: Tree, bit: int
    ) -> None:
        reader = a_reader(flipped(deep.image, BLOCK_BYTES * 8 + bit))
        assert reader.root_digest != deep.root_digest

    @pytest.mark.parametrize(("at", "index"), [(0, 0), (32, 1)])
    def test_a_topmost_block_with_a_wrong_digest_contradicts_the_level_below(
        self, deep: Tree, at: int, index: int
    ) -> None:
        reader = a_reader(flipped(deep.image, (BLOCK_BYTES + at) * 8))
        number = next(blocks_under(1, index))
        with pytest.raises(ImageError, match=f"block {index} of level 1 is not the one"):
            reader.first_bad_block(number, numbered_block(number))

    def test_a_block_that_was_found_bad_is_not_believed_when_asked_again(self, deep: Tree) -> None:
        reader = a_reader(flipped(deep.image, 4 * BLOCK_BYTES * 8))
        for _ in range(2):
            with pytest.raises(ImageError, match="block 0 of level 0 is not the one"):
                reader.first_bad_block(0, numbered_block(0))

    def test_a_tree_cut_at_its_end_is_refused(self, deep: Tree) -> None:
        with pytest.raises(ImageError) as caught:
            a_reader(deep.image[:-BLOCK_BYTES])
        assert str(caught.value) == (
            f"the hash image has {132 * 4096} bytes, its tree needs {133 * 4096}"
        )

    def test_a_medium_that_ends_in_the_middle_of_the_tree_cannot_vouch(self, deep: Tree) -> None:
        reader = TreeReader(reading(deep.image[:-BLOCK_BYTES]), length_bytes=len(deep.image))
        assert reader.first_bad_block(0, numbered_block(0)) is None
        with pytest.raises(PartitionError, match="ends early"):
            reader.first_bad_block(16384, numbered_block(16384))


FIELDS_THAT_COUNT = {
    "signature": range(8),
    "version": range(8, 12),
    "hash type": range(12, 16),
    "algorithm": range(32, 64),
    "data block size": range(64, 68),
    "hash block size": range(68, 72),
    "data blocks": range(72, 80),
    "salt size": range(80, 82),
    "salt": range(88, 120),
}
"""All but the UUID, which only names the tree, and padding, which veritysetup ignores as well."""


@pytest.mark.parametrize("field", FIELDS_THAT_COUNT)
def test_a_flipped_bit_in_the_superblock_is_noticed(field: str) -> None:
    image = an_image(130)
    tree = a_tree(image)
    for byte in FIELDS_THAT_COUNT[field]:
        for bit in range(byte * 8, byte * 8 + 8):
            assert _is_noticed(flipped(tree.image, bit), image, tree), f"bit {bit}"


def _is_noticed(hash_image: bytes, data: bytes, tree: Tree) -> bool:
    """Tell whether opening, the root digest, the length or reading gives the damage away."""
    try:
        reader = a_reader(hash_image)
        return (
            reader.root_digest != tree.root_digest
            or reader.superblock.data_bytes != len(data)
            or reader.first_bad_block(0, data) is not None
        )
    except UpdogError:
        return True


def test_an_undamaged_superblock_raises_no_alarm() -> None:
    image = an_image(130)
    tree = a_tree(image)
    assert not _is_noticed(tree.image, image, tree)


@needs_veritysetup
def test_veritysetup_and_the_reader_agree_on_which_images_are_good(tmp_path: Path) -> None:
    data = an_image(130)
    tree = a_tree(data)
    reader = a_reader(tree.image)
    for bit in (None, 0, 129 * BLOCK_BYTES * 8 + 7):
        seen = data if bit is None else flipped(data, bit)
        accepted = reader.first_bad_block(0, seen) is None
        assert accepted == veritysetup_accepts(tmp_path, seen, tree) == (bit is None)
