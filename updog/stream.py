"""From the compressed bytes of an image to the bytes that belong on the disk.

Decides by a target's name how it is compressed, and refuses output beyond a limit, a frame that
ends early, and anything behind its end. Knows no device and no network; that the compressed bytes
are the signed ones is `metadata`'s business, which is why a stream is always read to its end.
"""

from collections.abc import Callable, Iterator
from typing import Final, Protocol

from updog.errors import ImageError

BLOCK_BYTES: Final = 1 << 20
"""The most that is decompressed at a time."""

_WINDOW_LOG_MAX: Final = 25
"""zstd frames may ask for a window of 32 MiB, enough for every level but `--ultra` and `--long`."""


class _Decoder(Protocol):
    """What the decompressors of bz2, lzma, lz4 and zstd have in common."""

    @property
    def eof(self) -> bool: ...

    @property
    def needs_input(self) -> bool: ...

    @property
    def unused_data(self) -> bytes | None: ...

    def decompress(self, data: bytes, max_length: int = ...) -> bytes: ...


def decompress(chunks: Iterator[bytes], *, name: str, limit_bytes: int) -> Iterator[bytes]:
    """Decompress an image as it arrives.

    Args:
        chunks: the compressed bytes; always consumed to the end, or to the first error.
        name: the target's name, whose suffix says how it is compressed.
        limit_bytes: the most output that may come, as on the disk there is no more room.

    Yields:
        Pieces of at most 1 MiB.

    Raises:
        ImageError: the stream is no single whole frame, or larger than `limit_bytes`.
    """
    decoder, failures = _open_decoder(name)
    produced = 0
    for chunk in chunks:
        if decoder.eof:
            raise ImageError(f"{name}: there are bytes behind the end of the compressed image")
        for piece in _drain(decoder, chunk, name, failures):
            produced += len(piece)
            if produced > limit_bytes:
                raise ImageError(f"{name}: holds more than the {limit_bytes} bytes expected")
            yield piece
        if decoder.unused_data:
            raise ImageError(f"{name}: there are bytes behind the end of the compressed image")
    if not decoder.eof:
        raise ImageError(f"{name}: the compressed image ends in the middle")


def _drain(
    decoder: _Decoder, chunk: bytes, name: str, failures: type[Exception]
) -> Iterator[bytes]:
    """Feed one chunk and yield all that comes of it."""
    data = chunk
    while True:
        try:
            piece = decoder.decompress(data, BLOCK_BYTES)
        except failures as err:
            raise ImageError(f"{name}: the compressed image is damaged: {err}") from err
        data = b""
        if piece:
            yield piece
        if decoder.eof or decoder.needs_input:
            return


def _open_decoder(name: str) -> tuple[_Decoder, type[Exception]]:
    """Return the decoder that a name asks for, and what it raises on damage."""
    for suffix, opener in _OPENERS.items():
        if name.endswith(suffix):
            return opener()
    raise ImageError(f"{name}: unknown compression; the name must end in {' or '.join(_OPENERS)}")


def _open_lz4() -> tuple[_Decoder, type[Exception]]:
    import lz4.frame  # noqa: PLC0415 -- only the codec that is used is loaded

    return lz4.frame.LZ4FrameDecompressor(), RuntimeError


def _open_zstd() -> tuple[_Decoder, type[Exception]]:
    from backports import zstd  # noqa: PLC0415 -- only the codec that is used is loaded

    options = {int(zstd.DecompressionParameter.window_log_max): _WINDOW_LOG_MAX}
    return zstd.ZstdDecompressor(options=options), zstd.ZstdError


_OPENERS: Final[dict[str, Callable[[], tuple[_Decoder, type[Exception]]]]] = {
    ".lz4": _open_lz4,
    ".zst": _open_zstd,
}
