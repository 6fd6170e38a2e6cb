"""The compiled digests and those of Python are the same, and those of FIPS 180-4."""

import platform
import random
import sys
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from updog import block_hash
from updog.block_hash import (
    BLOCK_BYTES,
    BlockHasher,
    Digests,
    compiled_digests,
    hashlib_digests,
)
from updog.errors import ImageError

CPU_FLAGS = Path("/proc/cpuinfo").read_text().partition("flags")[2].partition("\n")[0].split()
HAS_INSTRUCTIONS = platform.machine() == "x86_64" and "sha_ni" in CPU_FLAGS

needs_instructions = pytest.mark.skipif(
    not HAS_INSTRUCTIONS,
    reason="this processor has no SHA instructions: the compiled digests are not tested",
)

MOST_BLOCKS = 9
"""Two rounds of four blocks side by side, and one that is left over."""

DATA = random.Random(1).randbytes(MOST_BLOCKS * BLOCK_BYTES)


def one_by_one(salt: bytes, data: bytes) -> bytes:
    starts = range(0, len(data), BLOCK_BYTES)
    return b"".join(sha256(salt + data[at : at + BLOCK_BYTES]).digest() for at in starts)


def zeros_for_all(_salt: bytes, data: bytes | memoryview) -> bytes:
    return bytes(len(data) // BLOCK_BYTES * 32)


def the_first_of_four_for_all(salt: bytes, data: bytes | memoryview) -> bytes:
    found = hashlib_digests(salt, data)
    return b"".join(found[at // 128 * 128 :][:32] for at in range(0, len(found), 32))


def neighbours_exchanged(salt: bytes, data: bytes | memoryview) -> bytes:
    found = hashlib_digests(salt, data)
    end = len(found) // 128 * 128
    return b"".join(found[at ^ 32 :][:32] for at in range(0, end, 32)) + found[end:]


def another_digest_once_blocks_were_empty(salt: bytes, data: bytes | memoryview) -> bytes:
    empty = sha256(salt + bytes(BLOCK_BYTES)).digest() * 4
    first, *later = hashlib_digests(salt, data).split(empty)
    return empty.join([first, bytes(128).join(later)]) if later else first


def empty_by_their_beginning(salt: bytes, data: bytes | memoryview) -> bytes:
    changed = bytearray(data)
    for at in range(0, len(changed), BLOCK_BYTES):
        if not any(changed[at : at + 16]):
            changed[at : at + BLOCK_BYTES] = bytes(BLOCK_BYTES)
    return hashlib_digests(salt, bytes(changed))


def no_whole_chunk_of_salt(salt: bytes, data: bytes | memoryview) -> bytes:
    return hashlib_digests(salt[len(salt) // 64 * 64 :], data)


def the_usual_length_whatever_it_is(salt: bytes, data: bytes | memoryview) -> bytes:
    return hashlib_digests(salt[:32].ljust(32, b"\0"), data)


def nothing_left_over(salt: bytes, data: bytes | memoryview) -> bytes:
    found = hashlib_digests(salt, data)
    return found[: len(found) // 128 * 128].ljust(len(found), b"\0")


WRONG = [
    zeros_for_all,
    the_first_of_four_for_all,
    neighbours_exchanged,
    another_digest_once_blocks_were_empty,
    empty_by_their_beginning,
    no_whole_chunk_of_salt,
    the_usual_length_whatever_it_is,
    nothing_left_over,
]


@pytest.fixture(params=["hashlib", pytest.param("compiled", marks=needs_instructions)])
def digests(request: pytest.FixtureRequest) -> Digests:
    if request.param == "hashlib":
        return hashlib_digests
    found = compiled_digests()
    assert found is not None, "the processor has SHA instructions, but the module was not built"
    return found


class TestDigests:
    def test_a_salt_of_any_length_goes_before_each_block(self, digests: Digests) -> None:
        data = DATA[: 5 * BLOCK_BYTES]
        for length in range(257):
            salt = random.Random(length).randbytes(length)

            assert digests(salt, data) == one_by_one(salt, data), length

    @pytest.mark.parametrize("blocks", range(MOST_BLOCKS + 1))
    def test_any_number_of_blocks_is_hashed(self, digests: Digests, blocks: int) -> None:
        data = DATA[: blocks * BLOCK_BYTES]

        assert digests(b"salt", data) == one_by_one(b"salt", data)

    @given(salt=st.binary(max_size=256), seed=st.integers(0, 2**32))
    def test_any_content_is_hashed(self, salt: bytes, seed: int) -> None:
        data = random.Random(seed).randbytes(6 * BLOCK_BYTES)

        assert BlockHasher(salt).digests(data) == one_by_one(salt, data)

    def test_empty_blocks_are_hashed_wherever_they_lie(self, digests: Digests) -> None:
        for empty in range(1 << MOST_BLOCKS):
            data = bytearray(DATA)
            for block in range(MOST_BLOCKS):
                if empty >> block & 1:
                    data[block * BLOCK_BYTES : (block + 1) * BLOCK_BYTES] = bytes(BLOCK_BYTES)

            assert digests(b"salt", bytes(data)) == one_by_one(b"salt", bytes(data)), bin(empty)

    def test_long_runs_of_empty_blocks_are_hashed(self, digests: Digests) -> None:
        data = bytes(20 * BLOCK_BYTES) + DATA + bytes(20 * BLOCK_BYTES)

        assert digests(b"salt", data) == one_by_one(b"salt", data)

    @pytest.mark.parametrize("at", [0, 1, 7, 8, 63, 64, 2048, 4088, 4095])
    def test_a_block_of_one_byte_is_not_empty(self, digests: Digests, at: int) -> None:
        data = bytearray(5 * BLOCK_BYTES)
        data[2 * BLOCK_BYTES + at] = 1

        assert digests(b"salt", bytes(data)) == one_by_one(b"salt", bytes(data))

    @pytest.mark.parametrize("block", range(MOST_BLOCKS))
    def test_every_byte_of_a_block_counts(self, digests: Digests, block: int) -> None:
        whole, start = digests(b"salt", DATA), block * BLOCK_BYTES
        for at in range(start, start + BLOCK_BYTES, 61):
            changed = bytearray(DATA)
            changed[at] ^= 1

            found = digests(b"salt", memoryview(changed))

            digest = slice(block * 32, block * 32 + 32)
            assert found[digest] != whole[digest]
            assert found[: digest.start] + found[digest.stop :] == (
                whole[: digest.start] + whole[digest.stop :]
            )

    def test_a_buffer_at_any_address_is_hashed(self, digests: Digests) -> None:
        for shift in range(17):
            view = memoryview(bytearray(bytes(shift) + DATA))[shift:]

            assert digests(b"salt", view) == one_by_one(b"salt", DATA)

    def test_threads_do_not_disturb_each_other(self, digests: Digests) -> None:
        pieces = [random.Random(seed).randbytes(64 * BLOCK_BYTES) for seed in range(8)]
        with ThreadPoolExecutor(4) as threads:
            found = list(threads.map(lambda piece: digests(b"salt", piece), pieces * 8))

        assert found == [one_by_one(b"salt", piece) for piece in pieces] * 8


class TestBlockHasher:
    def test_data_of_no_whole_blocks_is_refused(self) -> None:
        with pytest.raises(ImageError, match=r"^4097 bytes are no whole number of 4096-byte"):
            BlockHasher(b"").digests(bytes(4097))

    def test_a_salt_that_no_superblock_holds_is_refused(self) -> None:
        with pytest.raises(ValueError, match="256 bytes at most"):
            BlockHasher(bytes(257))

    def test_without_the_module_python_hashes(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(block_hash, "compiled_digests", lambda: None)

        assert BlockHasher(b"salt").digests(DATA) == one_by_one(b"salt", DATA)

    @pytest.mark.parametrize("wrong", WRONG)
    def test_a_module_that_computes_something_else_is_not_used(
        self, wrong: Digests, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """As it would after a compiler's or a processor's mistake."""
        monkeypatch.setitem(sys.modules, "updog._block_hash", SimpleNamespace(digests=wrong))

        assert compiled_digests.__wrapped__() is None

    def test_a_module_that_computes_the_same_is_used(self, monkeypatch: pytest.MonkeyPatch) -> None:
        right = SimpleNamespace(digests=one_by_one)
        monkeypatch.setitem(sys.modules, "updog._block_hash", right)

        assert compiled_digests.__wrapped__() is one_by_one

    def test_a_module_of_another_version_is_not_used(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "updog._block_hash", SimpleNamespace())

        assert compiled_digests.__wrapped__() is None


@needs_instructions
class TestCompiledModule:
    @pytest.mark.parametrize(
        ("salt", "data"), [(bytes(257), b""), (b"", bytes(4095)), (b"", bytes(4097))]
    )
    def test_what_has_another_shape_is_refused(self, salt: bytes, data: bytes) -> None:
        from updog._block_hash import digests  # noqa: PLC0415 -- not on every processor

        with pytest.raises(ValueError, match=r"."):
            digests(salt, data)

    def test_what_is_no_bytes_is_refused(self) -> None:
        from updog._block_hash import digests  # noqa: PLC0415 -- not on every processor

        with pytest.raises(TypeError):
            digests("salt", DATA)  # type: ignore[arg-type]
        with pytest.raises(BufferError):
            digests(b"", memoryview(DATA)[::2])
