"""The system's LZ4 and zstd libraries, decompressing from one buffer straight into another.

Decides which library to load and which memory to refuse it. Python's bindings allocate for every
piece that they hand out, and the page faults of that cost more than the decompressing; liblz4 and
libzstd, which every Debian system holds (systemd and dpkg need them), write where they are told to.
Knows frames only, not what is in them.

Source: lz4frame.h of LZ4 1.9.4, zstd.h of zstd 1.5.4.
"""

import ctypes
from collections.abc import Callable
from ctypes import POINTER, Structure, byref, c_char, c_char_p, c_int, c_size_t, c_uint, c_void_p
from functools import cache
from typing import Any, Final, Protocol

from updog.errors import ImageError

_LZ4F_VERSION: Final = 100
_ZSTD_WINDOW_LOG_MAX: Final = 100
"""The number of the parameter `ZSTD_d_windowLogMax`."""

_ZSTD_IGNORE_CHECKSUM: Final = 1002
"""The number of the parameter `ZSTD_d_forceIgnoreChecksum`, known since zstd 1.4.9."""

_WINDOW_LOG_MAX: Final = 24
"""zstd frames may ask for a window of 16 MiB, enough for every level but `--ultra` and `--long`."""

_ZSTD_WINDOW_TOO_LARGE: Final = 16
_ZSTD_NO_MEMORY: Final = 64
"""Numbers of zstd_errors.h."""

_LZ4_NO_MEMORY: Final = b"ERROR_allocation_failed"


class Damaged(Exception):  # noqa: N818 -- an outcome, not a defect
    """What was fed to a decoder is no frame, or none that may be decoded; a predicate says why."""


class Decoder(Protocol):
    """One frame on its way out."""

    is_at_end: bool
    """Whether the whole frame was decoded."""

    def decode(self, source: bytes, start: int, target: memoryview) -> tuple[int, int]:
        """Decode to the start of a buffer, as far as it, or what comes, goes.

        Args:
            source: compressed bytes.
            start: where in them to go on.
            target: room for the output: one byte or more.

        Returns:
            How many bytes were taken from `source`, and how many stand in `target` now.

        Raises:
            Damaged: `source` goes on in a way that no frame does.
            MemoryError: there is not enough for it.
        """


def open_decoder(name: str) -> Decoder:
    """Return a decoder for what a file name says that it is.

    Raises:
        ImageError: no such compression is known, or this system lacks its library.
    """
    for suffix, decoder in _DECODERS.items():
        if name.endswith(suffix):
            return decoder()
    raise ImageError(f"{name}: unknown compression; the name must end in {' or '.join(_DECODERS)}")


class _Lz4Options(Structure):
    """LZ4F_decompressOptions_t."""

    _fields_ = (
        ("stable_target", c_uint),
        # The signed digest covers the same bytes; the frame's own checksum would cost as much as
        # decompressing does.
        ("skip_checksums", c_uint),
        ("reserved1", c_uint),
        ("reserved0", c_uint),
    )


class _Lz4:
    """Decodes one LZ4 frame."""

    _OPTIONS: Final = _Lz4Options(skip_checksums=1)

    def __init__(self) -> None:
        self._library = _load_lz4()
        self._context = c_void_p()
        self.is_at_end = False
        self._require(
            self._library.LZ4F_createDecompressionContext(byref(self._context), _LZ4F_VERSION)
        )

    def __del__(self) -> None:
        if hasattr(self, "_context"):
            self._library.LZ4F_freeDecompressionContext(self._context)

    def decode(self, source: bytes, start: int, target: memoryview) -> tuple[int, int]:
        """See `Decoder`."""
        taken, made = c_size_t(len(source) - start), c_size_t(len(target))
        hint = self._library.LZ4F_decompress(
            self._context,
            _address(target),
            byref(made),
            _address_within(source, start),
            byref(taken),
            byref(self._OPTIONS),
        )
        self.is_at_end = self._require(hint) == 0
        return taken.value, made.value

    def _require(self, code: int) -> int:
        if self._library.LZ4F_isError(code):
            name: bytes = self._library.LZ4F_getErrorName(code)
            if name == _LZ4_NO_MEMORY:
                raise MemoryError
            raise Damaged(f"is damaged: {name.decode()}")
        return code


class _ZstdBuffer(Structure):
    """ZSTD_inBuffer and ZSTD_outBuffer, which are alike."""

    _fields_ = (("start", c_void_p), ("size", c_size_t), ("position", c_size_t))


class _Zstd:
    """Decodes one zstd frame."""

    def __init__(self) -> None:
        self._library = _load_zstd()
        context = self._library.ZSTD_createDCtx()
        if context is None:
            raise MemoryError
        self._context = c_void_p(context)
        self.is_at_end = False
        self._require(
            self._library.ZSTD_DCtx_setParameter(
                self._context, _ZSTD_WINDOW_LOG_MAX, _WINDOW_LOG_MAX
            )
        )
        # As with LZ4. A library that does not know how checks what need not be checked.
        self._library.ZSTD_DCtx_setParameter(self._context, _ZSTD_IGNORE_CHECKSUM, 1)

    def __del__(self) -> None:
        if hasattr(self, "_context"):
            self._library.ZSTD_freeDCtx(self._context)

    def decode(self, source: bytes, start: int, target: memoryview) -> tuple[int, int]:
        """See `Decoder`."""
        taken = _ZstdBuffer(_address_within(source, start), len(source) - start, 0)
        made = _ZstdBuffer(_address(target), len(target), 0)
        hint = self._library.ZSTD_decompressStream(self._context, byref(made), byref(taken))
        self.is_at_end = self._require(hint) == 0
        return taken.position, made.position

    def _require(self, code: int) -> int:
        if not self._library.ZSTD_isError(code):
            return code
        number = self._library.ZSTD_getErrorCode(code)
        if number == _ZSTD_NO_MEMORY:
            raise MemoryError
        if number == _ZSTD_WINDOW_TOO_LARGE:
            raise Damaged(
                f"needs a window of more than {1 << _WINDOW_LOG_MAX - 20} MiB to be decompressed: "
                "it was compressed with --ultra or --long"
            )
        raise Damaged(f"is damaged: {self._library.ZSTD_getErrorName(code).decode()}")


_DECODERS: Final[dict[str, Callable[[], Decoder]]] = {".lz4": _Lz4, ".zst": _Zstd}


def _address(view: memoryview) -> int:
    return ctypes.addressof(c_char.from_buffer(view))


def _address_within(data: bytes, start: int) -> int:
    return (ctypes.cast(c_char_p(data), c_void_p).value or 0) + start


@cache
def _load_lz4() -> ctypes.CDLL:
    library = _load("liblz4.so.1", package="liblz4-1")
    _declare(library.LZ4F_createDecompressionContext, c_size_t, POINTER(c_void_p), c_uint)
    _declare(library.LZ4F_freeDecompressionContext, c_size_t, c_void_p)
    _declare(
        library.LZ4F_decompress,
        *(c_size_t, c_void_p, c_void_p, POINTER(c_size_t), c_void_p, POINTER(c_size_t)),
        POINTER(_Lz4Options),
    )
    _declare(library.LZ4F_isError, c_uint, c_size_t)
    _declare(library.LZ4F_getErrorName, c_char_p, c_size_t)
    return library


@cache
def _load_zstd() -> ctypes.CDLL:
    library = _load("libzstd.so.1", package="libzstd1")
    _declare(library.ZSTD_createDCtx, c_void_p)
    _declare(library.ZSTD_freeDCtx, c_size_t, c_void_p)
    _declare(library.ZSTD_DCtx_setParameter, c_size_t, c_void_p, c_int, c_int)
    _declare(
        library.ZSTD_decompressStream,
        *(c_size_t, c_void_p, POINTER(_ZstdBuffer), POINTER(_ZstdBuffer)),
    )
    _declare(library.ZSTD_isError, c_uint, c_size_t)
    _declare(library.ZSTD_getErrorName, c_char_p, c_size_t)
    _declare(library.ZSTD_getErrorCode, c_int, c_size_t)
    return library


def _load(name: str, *, package: str) -> ctypes.CDLL:
    try:
        return ctypes.CDLL(name)
    except OSError as err:
        raise ImageError(
            f"this system lacks the library {name}, which images of this kind need; "
            f"install the package {package}"
        ) from err


def _declare(function: Any, result: Any, *arguments: Any) -> None:
    function.restype = result
    function.argtypes = list(arguments)
