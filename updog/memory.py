"""What the C library does with memory that a piece of a download has left.

It would give a megabyte back to the kernel at once and ask for another for the next piece, whose
pages the kernel has to clear first: a quarter of a whole update's CPU time.

Source: mallopt(3) and malloc.h of the GNU C library; another library may lack the function.
"""

import ctypes
from functools import cache
from typing import Final

_M_TRIM_THRESHOLD: Final = -1
_M_MMAP_THRESHOLD: Final = -3
_LARGEST_PIECE_BYTES: Final = 4 << 20
_MOST_KEPT_BYTES: Final = 8 << 20


@cache
def keep_freed_pieces() -> None:
    """Keep what pieces of up to 4 MiB leave for the next ones, up to 8 MiB of it."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except AttributeError:
        return
    mallopt(_M_MMAP_THRESHOLD, _LARGEST_PIECE_BYTES)
    mallopt(_M_TRIM_THRESHOLD, _MOST_KEPT_BYTES)
