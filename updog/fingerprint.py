"""Whether a medium gives back what was written, at a tenth of what a digest would cost.

Decides how a piece of an image is remembered between writing and reading back: by a keyed hash
whose key is drawn for the run, never leaves the process and is forgotten with it. What does not
know the key, as no disk does, finds another piece of the same fingerprint with a chance below
2^-80. Says nothing about who made a piece: that is for signed digests and hash trees.

Source: D. J. Bernstein, The Poly1305-AES message-authentication code (2005), theorem 3.3; the
library is OpenSSL's, the very one that Python's own hashlib calls, found by way of that.
"""

import ctypes
import hashlib
import os
from collections.abc import Callable
from ctypes import byref, c_char, c_char_p, c_int, c_size_t, c_void_p, create_string_buffer
from functools import cache
from typing import Any, Final

_KEY_BYTES: Final = 32
_TAG_BYTES: Final = 16

Fingerprint = Callable[[memoryview], bytes]
"""`fingerprint(data)` of a writable buffer; may be called by several threads at a time."""


def draw_fingerprint() -> Fingerprint:
    """Return a hash under a new key; a slower one of the same strength where OpenSSL has none."""
    key = os.urandom(_KEY_BYTES)
    library = _load()
    if library is None:
        return lambda data: hashlib.sha256(key + hashlib.sha256(data).digest()).digest()
    return lambda data: _poly1305(library, key, data)


def _poly1305(library: ctypes.CDLL, key: bytes, data: memoryview) -> bytes:
    context = library.EVP_MAC_CTX_new(_algorithm(library))
    if context is None:
        raise MemoryError
    tag, length = create_string_buffer(_TAG_BYTES), c_size_t()
    address = ctypes.addressof(c_char.from_buffer(data))
    try:
        done = (
            library.EVP_MAC_init(context, key, len(key), None)
            and library.EVP_MAC_update(context, address, len(data))
            and library.EVP_MAC_final(context, tag, byref(length), _TAG_BYTES)
        )
    finally:
        library.EVP_MAC_CTX_free(context)
    if not done:
        raise MemoryError
    return tag.raw


@cache
def _load() -> ctypes.CDLL | None:
    """Find OpenSSL 3 behind hashlib; None where Python is linked with another library."""
    try:
        import _hashlib  # noqa: PLC0415 -- not in every Python

        library = ctypes.CDLL(_hashlib.__file__)
        _declare(library.EVP_MAC_fetch, c_void_p, c_void_p, c_char_p, c_char_p)
        _declare(library.EVP_MAC_CTX_new, c_void_p, c_void_p)
        _declare(library.EVP_MAC_CTX_free, None, c_void_p)
        _declare(library.EVP_MAC_init, c_int, c_void_p, c_char_p, c_size_t, c_void_p)
        _declare(library.EVP_MAC_update, c_int, c_void_p, c_void_p, c_size_t)
        _declare(library.EVP_MAC_final, c_int, c_void_p, c_char_p, c_void_p, c_size_t)
    except (ImportError, AttributeError, OSError):
        return None
    return library if _algorithm(library) else None


@cache
def _algorithm(library: ctypes.CDLL) -> int | None:
    algorithm: int | None = library.EVP_MAC_fetch(None, b"POLY1305", None)
    return algorithm


def _declare(function: Any, result: Any, *arguments: Any) -> None:
    function.restype = result
    function.argtypes = list(arguments)
