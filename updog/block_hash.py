"""The digest of every block of a piece of an image, salted as dm-verity wants it.

Decides who computes them: a compiled module where the processor has instructions for it and the
module was built, else Python's own hashlib, in twice the time. Knows nothing of trees. The compiled
module is believed after a trial: its digests of blocks of every kind were compared with hashlib's.
"""

from collections.abc import Callable, Iterator
from functools import cache
from hashlib import sha256, shake_128
from typing import Final

from updog.errors import ImageError

BLOCK_BYTES: Final = 4096
DIGEST_BYTES: Final = 32
MOST_SALT_BYTES: Final = 256

Digests = Callable[[bytes, bytes | memoryview], bytes]
"""`digests(salt, data)`: sha256(salt + block) of consecutive blocks, joined."""


class BlockHasher:
    """sha256(salt + block); may be used by several threads at a time.

    Args:
        salt: up to 256 bytes that go before every block.

    Raises:
        ValueError: the salt is longer.
    """

    def __init__(self, salt: bytes) -> None:
        if len(salt) > MOST_SALT_BYTES:
            raise ValueError(f"a salt has {MOST_SALT_BYTES} bytes at most")
        self._salt = salt
        self._digests = compiled_digests() or hashlib_digests

    def digests(self, data: bytes | memoryview) -> bytes:
        """Return the digests of consecutive blocks, joined.

        Raises:
            ImageError: the data is no whole number of blocks.
        """
        if len(data) % BLOCK_BYTES:
            raise ImageError(f"{len(data)} bytes are no whole number of {BLOCK_BYTES}-byte blocks")
        return self._digests(self._salt, data)


def hashlib_digests(salt: bytes, data: bytes | memoryview) -> bytes:
    """See `Digests`; in plain Python."""
    return b"".join(_each_digest(salt, memoryview(data)))


def _each_digest(salt: bytes, view: memoryview) -> Iterator[bytes]:
    copy = sha256(salt).copy  # the salt is taken in once
    for start in range(0, len(view), BLOCK_BYTES):
        digest = copy()
        digest.update(view[start : start + BLOCK_BYTES])
        yield digest.digest()


@cache
def compiled_digests() -> Digests | None:
    """See `Digests`; None where there is no such module, or one that computes something else."""
    try:
        from updog._block_hash import digests  # noqa: PLC0415 -- not in every installation
    except ImportError:
        return None
    data = _trial_blocks()
    is_right = all(
        digests(salt, data) == hashlib_digests(salt, data)
        for salt in (shake_128(b"salt").digest(length) for length in _TRIAL_SALTS)
    )
    return digests if is_right else None


_TRIAL_SALTS: Final = (0, 32, 255, 256)
"""Lengths: none, the usual one, one whose rest leaves no room for the padding, one without rest."""


def _trial_blocks() -> bytes:
    """Return full blocks side by side, empty ones twice, all but empty ones, and a rest."""
    empty, full = bytes(BLOCK_BYTES), shake_128(b"blocks").digest(5 * BLOCK_BYTES)
    nearly_empty = bytes(4 * BLOCK_BYTES - 1) + b"\1"
    return full[BLOCK_BYTES:] + 8 * empty + nearly_empty + full[:BLOCK_BYTES] + empty
