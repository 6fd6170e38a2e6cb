"""Hostile tables for as long as you like: `make fuzz`, `make fuzz FUZZ_SECONDS=3600`.

Each input is a disk with some of its fields, entries or bytes changed, checksums made right again
where a field was. signpost must answer within bounds of time and memory: the table, or a typed
error; and it must never write when it refuses. Prints how many inputs it tried.
"""

import random
import resource
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from signpost import disk, state
from signpost.disk import Location
from signpost.errors import SignpostError
from signpost.sets import SetName
from tests.helpers.gpt_builder import (
    DiskSpec,
    Part,
    an_ab_disk,
    build,
    with_entry_fields,
    with_header_fields,
)

SIZE = 6 << 20
SLOWEST_SECONDS = 2.0
MOST_MEMORY_KIB = 200 << 10
_NUMBERS = (
    0,
    1,
    2,
    3,
    33,
    34,
    65,
    66,
    127,
    128,
    129,
    255,
    4096,
    2**31,
    2**32 - 1,
    2**63,
    2**64 - 1,
)
_HEADER_FIELDS = {
    "revision": 4,
    "header_size": 4,
    "my_lba": 8,
    "alternate_lba": 8,
    "first_usable_lba": 8,
    "last_usable_lba": 8,
    "entries_lba": 8,
    "entry_count": 4,
    "entry_size": 4,
}
_ENTRY_NUMBERS = {"first_lba": 8, "last_lba": 8, "attributes": 8}
_TRANSITIONS = (
    state.mark_successful_boot,
    state.clear_inactive,
    state.mark_inactive_valid,
    state.upgrade_to_inactive,
    state.rollback_to_inactive,
    state.select_boot,
)


def a_number(chance: random.Random, length: int, spec: DiskSpec) -> int:
    """Return an interesting number that fits into a field."""
    near = chance.choice((*_NUMBERS, spec.sector_count, spec.last_lba, spec.backup_entries_lba))
    number = near + chance.randint(-2, 2) if chance.random() < 0.7 else chance.getrandbits(64)
    return int(number % 2 ** (8 * length))


def an_input(chance: random.Random, spec: DiskSpec, image: bytes) -> bytes:
    """Change a disk in one to four ways."""
    for _ in range(chance.randint(1, 4)):
        match chance.randrange(4):
            case 0 | 1:
                name = chance.choice(list(_HEADER_FIELDS))
                part = chance.choice((Part.PRIMARY_HEADER, Part.BACKUP_HEADER))
                value = a_number(chance, _HEADER_FIELDS[name], spec)
                image = with_header_fields(image, spec, part, **{name: value})
            case 2:
                name = chance.choice(list(_ENTRY_NUMBERS))
                value = a_number(chance, 8, spec)
                fields: dict[str, Any] = {name: value}
                image = with_entry_fields(image, spec, chance.randint(1, 16), **fields)
            case _:
                at = chance.choice((chance.randrange(70 * 512), SIZE - 1 - chance.randrange(17408)))
                image = image[:at] + chance.randbytes(1) + image[at + 1 :]
    return image


def try_input(image: bytes, path: Path, chance: random.Random) -> str:
    """Read and change a hostile disk; return what came of it."""
    path.write_bytes(image)
    location = Location(path=path, active=SetName.A)
    try:
        disk.read(location)
        disk.change(location, chance.choice(_TRANSITIONS))
    except SignpostError as err:
        if path.read_bytes() != image:
            raise AssertionError(f"wrote although it refused: {err}") from err
        return type(err).__name__
    if disk.read(location).table.faults:
        raise AssertionError("a change that succeeded left a fault")
    return "changed"


def fuzz(seconds: float, seed: int) -> Counter[str]:
    """Try inputs for a time and return how often each outcome occurred."""
    chance = random.Random(seed)
    specs = [an_ab_disk(size_bytes=SIZE), an_ab_disk(size_bytes=SIZE, entry_count=256)]
    images = [build(spec) for spec in specs]
    outcomes: Counter[str] = Counter()
    deadline = time.monotonic() + seconds
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "disk.img"
        while time.monotonic() < deadline:
            which = chance.randrange(len(specs))
            image = an_input(chance, specs[which], images[which])
            started = time.monotonic()
            outcomes[try_input(image, path, chance)] += 1
            if time.monotonic() - started > SLOWEST_SECONDS:
                raise AssertionError("an input took too long")
    return outcomes


def main() -> None:
    """Fuzz for the seconds given, with a seed that is printed."""
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 60
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else random.SystemRandom().randrange(2**32)
    print(f"seed {seed}", flush=True)
    outcomes = fuzz(seconds, seed)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(f"{outcomes.total()} inputs: {dict(outcomes)}; peak memory {peak >> 10} MiB")
    if peak > MOST_MEMORY_KIB:
        raise SystemExit("too much memory")


if __name__ == "__main__":
    main()
