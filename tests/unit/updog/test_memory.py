"""A piece that follows another gets its memory, and no page of it is cleared for that."""

import subprocess
import sys

PROGRAM = """\
import resource, sys
from updog.memory import keep_freed_pieces
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
if "keep" in sys.argv:
    keep_freed_pieces()
for number in range(33):
    if number == 1:
        before = faults()
    pieces = [b"x" * (1 << 20) for _ in range(3)]  # one read, one hashed, one decompressed
    del pieces
print(faults() - before)
"""


def page_faults(*arguments: str) -> int:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *arguments], capture_output=True, text=True, check=True
    )
    return int(done.stdout)


def test_pieces_reuse_the_memory_of_those_before() -> None:
    """32 rounds of 768 pages: each page is cleared once, or once a round."""
    assert page_faults("keep") < 1_000
    assert page_faults() > 10_000, "the C library keeps them by itself now"
