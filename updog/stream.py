"""From the compressed bytes of an image to buffers full of what belongs on the disk.

Refuses output beyond a limit, a frame that ends early, and anything behind its end. Knows no device
and no network; that the compressed bytes are the signed ones is `metadata`'s business, which is why
a stream is always read to its end.
"""

from collections.abc import Callable, Iterator
from typing import Final

from updog.codec import Damaged, Decoder, open_decoder
from updog.errors import ImageError

_SCRATCH_BYTES: Final = 64 << 10

TakeBuffer = Callable[[], memoryview]
"""`take()` returns an empty buffer to be filled; always of the same length, in bytes."""


def decompress(
    chunks: Iterator[bytes], *, name: str, limit_bytes: int, take: TakeBuffer
) -> Iterator[memoryview]:
    """Decompress an image as it arrives.

    Args:
        chunks: the compressed bytes; always consumed to the end, or to the first error.
        name: the target's name, whose suffix says how it is compressed.
        limit_bytes: the most output that may come, as on the disk there is no more room.
        take: where to get buffers.

    Yields:
        Buffers, each full but the last, of which the part that is filled is yielded.

    Raises:
        ImageError: the stream is no single whole frame, or larger than `limit_bytes`.
    """
    decoder = open_decoder(name)
    buffer, filled, room = take(), 0, limit_bytes
    for chunk in chunks:
        at = 0
        _refuse_bytes_behind(decoder, len(chunk), name)
        while True:
            taken, made = _decode(decoder, chunk, at, buffer[filled:], name)
            at, filled = at + taken, filled + made
            if filled > room:
                raise ImageError(f"{name}: holds more than the {limit_bytes} bytes expected")
            is_full = filled == len(buffer)
            if is_full:
                yield buffer
                buffer, filled, room = take(), 0, room - filled
            if decoder.is_at_end or (at == len(chunk) and not is_full):
                break
        _refuse_bytes_behind(decoder, len(chunk) - at, name)
    if not decoder.is_at_end:
        raise ImageError(f"{name}: the compressed image ends in the middle")
    if filled:
        yield buffer[:filled]


def check_beginning(name: str, chunk: bytes) -> None:
    """Refuse what shows by its first bytes that it cannot be decompressed.

    Raises:
        ImageError: the name or the bytes are of no kind that is known, or memory is asked for that
            no image gets.
    """
    decoder, scratch = open_decoder(name), memoryview(bytearray(_SCRATCH_BYTES))
    at = 0
    while at < len(chunk) and not decoder.is_at_end:
        taken, made = _decode(decoder, chunk, at, scratch, name)
        at += taken
        if made == len(scratch) or not taken:
            return


def _refuse_bytes_behind(decoder: Decoder, count: int, name: str) -> None:
    if decoder.is_at_end and count:
        raise ImageError(f"{name}: there are bytes behind the end of the compressed image")


def _decode(
    decoder: Decoder, source: bytes, start: int, target: memoryview, name: str
) -> tuple[int, int]:
    try:
        return decoder.decode(source, start, target)
    except Damaged as err:
        raise ImageError(f"{name}: the compressed image {err}") from err
