"""Real writes that do less than they were asked to, in every thread of a command.

with short_writes(tmp_path, at_most=65_536) as environment:
    ...run the command in that environment...
"""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_SOURCE = Path(__file__).with_suffix(".c")


@contextmanager
def short_writes(directory: Path, *, at_most: int) -> Iterator[dict[str, str]]:
    """Yield what makes the loader put our `pwrite` before that of the C library."""
    library = directory / "short_writes.so"
    subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", library, _SOURCE], check=True)
    yield {"LD_PRELOAD": str(library), "SHORT_WRITES_AT_MOST": str(at_most)}
