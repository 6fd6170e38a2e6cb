"""What a fingerprint tells apart, and what stands in where OpenSSL lacks its own."""

import mmap
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from updog import fingerprint
from updog.fingerprint import draw_fingerprint


@pytest.fixture(params=["OpenSSL", "none"])
def draw(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a Python without OpenSSL behind hashlib be tested too."""
    if request.param == "none":
        monkeypatch.setattr(fingerprint, "_load", lambda: None)


def writable(data: bytes | bytearray) -> memoryview:
    return memoryview(bytearray(data))


@pytest.mark.usefixtures("draw")
class TestBothKinds:
    def test_the_same_bytes_have_the_same_fingerprint(self) -> None:
        take, data = draw_fingerprint(), os.urandom(10_000)
        assert take(writable(data)) == take(writable(data))

    @pytest.mark.parametrize("at", [0, 15, 16, 4095, 4096, 9_999])
    def test_one_bit_makes_another(self, at: int) -> None:
        take, data = draw_fingerprint(), os.urandom(10_000)
        changed = bytearray(data)
        changed[at] ^= 1
        assert take(writable(data)) != take(writable(changed))

    def test_zeros_of_other_lengths_have_others(self) -> None:
        take = draw_fingerprint()
        assert len({take(writable(bytes(length))) for length in range(1, 100)}) == 99

    def test_another_run_has_another_key(self) -> None:
        data = writable(bytes(4096))
        assert draw_fingerprint()(data) != draw_fingerprint()(data)


def test_openssl_is_found_behind_the_python_that_runs_the_tests() -> None:
    assert fingerprint._load() is not None, "reading back is as slow as hashing"  # noqa: SLF001


@given(st.binary(min_size=1, max_size=200))
def test_it_is_poly1305(data: bytes) -> None:
    """RFC 8439, section 2.5, in whole numbers."""
    library = fingerprint._load()  # noqa: SLF001
    assert library is not None
    key = bytes(range(32))
    clamped = int.from_bytes(key[:16], "little") & 0x0FFFFFFC0FFFFFFC0FFFFFFC0FFFFFFF
    total = 0
    for start in range(0, len(data), 16):
        block = int.from_bytes(data[start : start + 16] + b"\1", "little")
        total = (total + block) * clamped % ((1 << 130) - 5)
    tag = (total + int.from_bytes(key[16:], "little")) % (1 << 128)
    found = fingerprint._poly1305(library, key, writable(data))  # noqa: SLF001
    assert found == tag.to_bytes(16, "little")


def test_a_window_into_a_buffer_is_all_that_counts() -> None:
    take, buffer = draw_fingerprint(), memoryview(mmap.mmap(-1, 8192))
    before = take(buffer[:5000])
    buffer[5000] = 1
    assert take(buffer[:5000]) == before
