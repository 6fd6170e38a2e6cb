"""One whole frame comes out as it went in; anything else is refused, whatever the chunks."""

import random
import tracemalloc
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from itertools import pairwise

import lz4.frame
import pytest
from backports import zstd
from hypothesis import given, settings
from hypothesis import strategies as st

from updog.errors import ImageError
from updog.stream import check_beginning, decompress

MIB = 1 << 20
BUFFER_BYTES = MIB


@dataclass(frozen=True, kw_only=True)
class Codec:
    """A way to compress, and the name of what comes of it."""

    name: str
    compress: Callable[[bytes], bytes]


def lz4_codec(label: str, **options: object) -> Codec:
    def compress(data: bytes) -> bytes:
        return bytes(lz4.frame.compress(data, **options))

    return Codec(name=f"{label}.lz4", compress=cache(compress))


def zstd_codec(label: str, options: dict[int, int]) -> Codec:
    def compress(data: bytes) -> bytes:
        return zstd.compress(data, options=options)

    return Codec(name=f"{label}.zst", compress=cache(compress))


LZ4 = lz4_codec("checked", content_checksum=True)
ZSTD = zstd_codec("checked", {zstd.CompressionParameter.checksum_flag: 1})
CODECS = (
    LZ4,
    ZSTD,
    lz4_codec("plain"),
    lz4_codec("large-blocks", block_size=lz4.frame.BLOCKSIZE_MAX4MB),
    lz4_codec("lone-blocks", block_linked=False, block_checksum=True, store_size=False),
    zstd_codec("plain", {zstd.CompressionParameter.compression_level: 3}),
)

each_codec = pytest.mark.parametrize("codec", CODECS, ids=lambda codec: codec.name)
each_suffix = pytest.mark.parametrize("codec", [LZ4, ZSTD], ids=lambda codec: codec.name)

TEXT = b"the quick brown fox jumps over the lazy dog, " * 40


@cache
def some_content(length: int) -> bytes:
    """Return bytes that compress to about half."""
    noise = random.Random(length).randbytes(length // 2)
    return (noise + bytes(length))[:length]


def chunked(data: bytes, size: int) -> Iterator[bytes]:
    for start in range(0, len(data), size):
        yield data[start : start + size]


def a_buffer() -> memoryview:
    return memoryview(bytearray(BUFFER_BYTES))


def unpacked(
    chunks: Iterable[bytes], *, name: str = "image.lz4", limit_bytes: int = 64 * MIB
) -> bytes:
    return b"".join(decompress(iter(chunks), name=name, limit_bytes=limit_bytes, take=a_buffer))


def frame_with_window(log: int) -> bytes:
    """Return a frame that is not of known length, so that it needs the window it asks for."""
    options = {int(zstd.CompressionParameter.window_log): log}
    compressor = zstd.ZstdCompressor(options=options)
    return compressor.compress(TEXT) + compressor.flush()


def refusal(
    chunks: Iterable[bytes], *, name: str = "image.lz4", limit_bytes: int = 64 * MIB
) -> str:
    """Return the text of the error that decompressing ends with."""
    with pytest.raises(ImageError) as caught:
        unpacked(chunks, name=name, limit_bytes=limit_bytes)
    return str(caught.value)


class TestWholeFrames:
    @each_codec
    @pytest.mark.parametrize("length", [0, 1, 4096, MIB - 1, MIB, MIB + 1, 5 * MIB + 5])
    @pytest.mark.parametrize("chunk_bytes", [1000, 65536, 1 << 30])
    def test_an_image_comes_out_as_it_went_in(
        self, codec: Codec, length: int, chunk_bytes: int
    ) -> None:
        content = some_content(length)
        chunks = chunked(codec.compress(content), chunk_bytes)
        assert unpacked(chunks, name=codec.name) == content

    @each_codec
    @pytest.mark.parametrize("chunk_bytes", [1, 2, 3, 7, 8, 9])
    def test_the_smallest_chunks_will_do(self, codec: Codec, chunk_bytes: int) -> None:
        assert unpacked(chunked(codec.compress(TEXT), chunk_bytes), name=codec.name) == TEXT

    @each_codec
    @given(data=st.data())
    @settings(max_examples=30, deadline=None)
    def test_chunks_of_any_lengths_give_the_same(self, codec: Codec, data: st.DataObject) -> None:
        pattern, times = data.draw(st.binary(max_size=300)), data.draw(st.integers(0, 2000))
        frame = codec.compress(pattern * times)
        cuts = sorted(data.draw(st.sets(st.integers(1, max(1, len(frame) - 1)), max_size=6)))
        bounds = [0, *cuts, len(frame)]
        chunks = [frame[a:b] for a, b in pairwise(bounds)]
        assert unpacked(chunks, name=codec.name) == pattern * times

    @each_codec
    @pytest.mark.parametrize("content", [bytes(5 * MIB), some_content(5 * MIB)])
    @pytest.mark.parametrize("tail_bytes", [0, 1, BUFFER_BYTES - 1])
    def test_every_buffer_but_the_last_is_full(
        self, codec: Codec, content: bytes, tail_bytes: int
    ) -> None:
        content += TEXT[:1] * tail_bytes
        chunks = chunked(codec.compress(content), 10_000)
        pieces = list(decompress(chunks, name=codec.name, limit_bytes=len(content), take=a_buffer))
        tails = [tail_bytes] if tail_bytes else []
        assert [len(piece) for piece in pieces] == [BUFFER_BYTES] * 5 + tails

    @each_suffix
    def test_an_empty_chunk_before_the_end_changes_nothing(self, codec: Codec) -> None:
        frame = codec.compress(TEXT)
        assert unpacked([b"", frame[:9], b"", b"", frame[9:]], name=codec.name) == TEXT

    @each_suffix
    def test_pieces_come_while_the_rest_is_still_to_arrive(self, codec: Codec) -> None:
        frame = codec.compress(some_content(4 * MIB))
        chunks = chunked(frame, 65536)
        next(decompress(chunks, name=codec.name, limit_bytes=4 * MIB, take=a_buffer))
        assert len(b"".join(chunks)) > MIB // 2


class TestReadingToTheEnd:
    @each_suffix
    @pytest.mark.parametrize("chunk_bytes", [1, 7, 1 << 20])
    def test_the_input_is_exhausted(self, codec: Codec, chunk_bytes: int) -> None:
        ends: list[str] = []

        def chunks() -> Iterator[bytes]:
            yield from chunked(codec.compress(TEXT), chunk_bytes)
            ends.append("reached")

        assert unpacked(chunks(), name=codec.name, limit_bytes=len(TEXT)) == TEXT
        assert ends == ["reached"]

    @each_suffix
    def test_a_wrong_digest_that_shows_only_at_the_end_is_not_missed(self, codec: Codec) -> None:
        def chunks() -> Iterator[bytes]:
            yield codec.compress(TEXT)
            raise ImageError("these are not the bytes that were signed")

        assert refusal(chunks(), name=codec.name) == "these are not the bytes that were signed"


class TestTruncation:
    @each_codec
    @pytest.mark.parametrize("chunk_bytes", [1, 1 << 20])
    def test_a_frame_cut_anywhere_ends_in_the_middle(self, codec: Codec, chunk_bytes: int) -> None:
        frame = codec.compress(TEXT)
        for length in range(len(frame)):
            said = refusal(chunked(frame[:length], chunk_bytes), name=codec.name)
            assert said == f"{codec.name}: the compressed image ends in the middle", length

    @each_codec
    @pytest.mark.parametrize("missing", [1, 4, 5, 8, 100, MIB])
    def test_a_large_frame_without_its_last_bytes_ends_in_the_middle(
        self, codec: Codec, missing: int
    ) -> None:
        frame = codec.compress(some_content(5 * MIB))
        said = refusal(chunked(frame[:-missing], 65536), name=codec.name)
        assert said == f"{codec.name}: the compressed image ends in the middle"

    @each_suffix
    @pytest.mark.parametrize("chunks", [[], [b""], [b"", b""]])
    def test_no_input_at_all_is_no_image(self, codec: Codec, chunks: list[bytes]) -> None:
        said = refusal(chunks, name=codec.name)
        assert said == f"{codec.name}: the compressed image ends in the middle"


class TestTrailingBytes:
    @each_codec
    @pytest.mark.parametrize("trailing", [b"\0", b"x" * 4096, TEXT])
    def test_bytes_in_the_chunk_that_ends_the_frame_are_refused(
        self, codec: Codec, trailing: bytes
    ) -> None:
        said = refusal([codec.compress(TEXT) + trailing], name=codec.name)
        assert said == f"{codec.name}: there are bytes behind the end of the compressed image"

    @each_codec
    @pytest.mark.parametrize("trailing", [b"\0", b"x" * 4096, TEXT])
    def test_bytes_in_a_later_chunk_are_refused(self, codec: Codec, trailing: bytes) -> None:
        said = refusal([codec.compress(TEXT), trailing], name=codec.name)
        assert said == f"{codec.name}: there are bytes behind the end of the compressed image"

    @each_codec
    @pytest.mark.parametrize("chunk_bytes", [1, 100, 1 << 20])
    def test_a_second_frame_is_refused(self, codec: Codec, chunk_bytes: int) -> None:
        frames = codec.compress(TEXT) + codec.compress(TEXT)
        said = refusal(chunked(frames, chunk_bytes), name=codec.name)
        assert said == f"{codec.name}: there are bytes behind the end of the compressed image"

    @each_suffix
    def test_bytes_behind_an_image_that_fills_its_room_are_refused(self, codec: Codec) -> None:
        content = some_content(2 * MIB)
        chunks = chunked(codec.compress(content) + b"\0", 65536)
        said = refusal(chunks, name=codec.name, limit_bytes=len(content))
        assert "bytes behind the end" in said


class TestLimit:
    @each_codec
    @pytest.mark.parametrize("length", [0, 1, 4096, MIB, 3 * MIB + 1])
    def test_an_image_may_fill_its_room_exactly(self, codec: Codec, length: int) -> None:
        content = some_content(length)
        assert unpacked([codec.compress(content)], name=codec.name, limit_bytes=length) == content

    @each_codec
    @pytest.mark.parametrize("length", [1, 4096, MIB, 3 * MIB + 1])
    def test_one_byte_more_than_its_room_is_refused(self, codec: Codec, length: int) -> None:
        chunks = [codec.compress(some_content(length))]
        said = refusal(chunks, name=codec.name, limit_bytes=length - 1)
        assert said == f"{codec.name}: holds more than the {length - 1} bytes expected"

    @each_codec
    def test_nothing_beyond_the_limit_is_handed_out(self, codec: Codec) -> None:
        chunks = iter([codec.compress(bytes(8 * MIB))])
        pieces: list[memoryview] = []
        with pytest.raises(ImageError, match="holds more than"):
            pieces.extend(
                decompress(chunks, name=codec.name, limit_bytes=3 * MIB - 1, take=a_buffer)
            )
        assert sum(map(len, pieces)) <= 3 * MIB - 1

    @each_codec
    @pytest.mark.parametrize("chunk_bytes", [4096, 1 << 30])
    def test_a_decompression_bomb_stops_early_in_bounded_memory(
        self, codec: Codec, chunk_bytes: int
    ) -> None:
        bomb = codec.compress(bytes(128 * MIB))
        chunks = chunked(bomb, chunk_bytes)
        tracemalloc.start()
        try:
            said = refusal(chunks, name=codec.name, limit_bytes=MIB)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert said == f"{codec.name}: holds more than the {MIB} bytes expected"
        assert peak < 12 * MIB
        if chunk_bytes < len(bomb) // 8:
            assert next(chunks), "the rest of the bomb was read"


class TestDamage:
    @each_suffix
    @given(garbage=st.binary(max_size=200), chunk_bytes=st.integers(1, 201))
    @settings(deadline=None)
    def test_garbage_is_refused(self, codec: Codec, garbage: bytes, chunk_bytes: int) -> None:
        assert refusal(chunked(garbage, chunk_bytes), name=codec.name).startswith(codec.name)

    @each_suffix
    def test_the_text_says_that_it_is_damaged(self, codec: Codec) -> None:
        said = refusal([b"this is an HTML page of a captive portal"], name=codec.name)
        assert said.startswith(f"{codec.name}: the compressed image is damaged: ")
        assert "\n" not in said

    @each_codec
    @given(data=st.data())
    @settings(max_examples=60, deadline=None)
    def test_a_flipped_bit_is_refused_or_gives_bytes_for_the_digest_to_judge(
        self, codec: Codec, data: st.DataObject
    ) -> None:
        frame = bytearray(codec.compress(TEXT))
        bit = data.draw(st.integers(0, len(frame) * 8 - 1))
        frame[bit // 8] ^= 1 << bit % 8
        try:
            came = unpacked([bytes(frame)], name=codec.name, limit_bytes=2 * len(TEXT))
        except ImageError as err:
            assert str(err).startswith(f"{codec.name}: ")  # noqa: PT017 -- either may happen
        else:
            assert len(came) <= 2 * len(TEXT)

    @each_suffix
    def test_a_frame_of_the_other_kind_is_damaged(self, codec: Codec) -> None:
        other = ZSTD if codec is LZ4 else LZ4
        assert "is damaged" in refusal([other.compress(TEXT)], name=codec.name)

    def test_a_zstd_window_that_would_need_much_memory_is_refused(self) -> None:
        assert refusal([frame_with_window(25)], name="image.zst") == (
            "image.zst: the compressed image needs a window of more than 16 MiB to be "
            "decompressed: it was compressed with --ultra or --long"
        )

    def test_the_largest_ordinary_zstd_window_is_accepted(self) -> None:
        assert unpacked([frame_with_window(24)], name="image.zst") == TEXT


class TestBeginnings:
    @each_codec
    @pytest.mark.parametrize("length", [0, 1, 3, 20, 1000, 1 << 20])
    def test_any_beginning_of_a_frame_passes(self, codec: Codec, length: int) -> None:
        check_beginning(codec.name, codec.compress(TEXT * 100)[:length])

    @pytest.mark.parametrize(
        ("name", "chunk", "words"),
        [
            ("image.xz", b"", "unknown compression"),
            ("image.zst", b"no frame at all", "is damaged"),
            ("image.lz4", b"no frame at all", "is damaged"),
            ("image.zst", frame_with_window(27), "needs a window of more than 16 MiB"),
        ],
    )
    def test_what_can_never_be_decompressed_is_refused_at_once(
        self, name: str, chunk: bytes, words: str
    ) -> None:
        with pytest.raises(ImageError, match=words):
            check_beginning(name, chunk)


class TestNames:
    @pytest.mark.parametrize(
        "name", ["image.ext4", "image.lz4.gz", "image.LZ4", "image-lz4", "lz4", "image.xz"]
    )
    def test_a_name_that_says_no_known_compression_is_refused(self, name: str) -> None:
        said = refusal([LZ4.compress(TEXT)], name=name)
        assert said == f"{name}: unknown compression; the name must end in .lz4 or .zst"

    def test_a_name_of_no_known_compression_costs_no_download(self) -> None:
        chunks = iter([LZ4.compress(TEXT)])
        refusal(chunks, name="image.xz")
        assert next(chunks), "the first chunk was fetched"
