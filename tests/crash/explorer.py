"""Every state in which a power cut can leave a disk, from what a command really wrote and flushed.

Between two flushes a disk may have kept any of the pending sectors and lost any of the others. An
`Epoch` is what was written between two flushes; `crash_states` yields the disks after a cut in
each epoch: every subset of its sectors up to 12, beyond that all prefixes, all single omissions and
500 random subsets (40 unless `make explore` asks for all), of more than 1024 sectors a sample of
each kind; and torn variants: half of a 4096-byte block, and garbage in one sector.
"""

import os
import random
import stat
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any, Final, TypeVar
from unittest.mock import patch

ALL_SUBSETS_UP_TO: Final = 12
IS_DEEP: Final = os.environ.get("EXPLORE") == "all"
RANDOM_SUBSETS: Final = 500 if IS_DEEP else 40
MANY_SECTORS: Final = 1024
OF_MANY: Final = 200 if IS_DEEP else 3
"""How many states of each kind are tried where there are many sectors."""

_LARGE_WRITE_SECTORS: Final = (4 << 20) // 512
_PHYSICAL_BLOCK: Final = 4096
_Choice = TypeVar("_Choice")
_NOT_RECORDED: Final = ("write", "writev", "pwritev", "sendfile")

Sectors = Mapping[int, bytes]
"""Contents of sectors by LBA, laid over an image."""

Epoch = tuple[tuple[int, bytes], ...]
"""The sectors (LBA, content) written between two flushes, in the order of writing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CrashState:
    """A disk after a cut: what differs from the disk before the command, and how it came about."""

    changed: Sectors
    how: str
    garbage_lba: int | None = None


@contextmanager
def recording(sector_size: int) -> Iterator[list[Epoch]]:
    """Record what this process writes with pwrite and flushes with fsync or fdatasync.

    The calls are made as they are. A flush ends the epoch of the file that it flushes, of no other;
    what follows a file's last flush stands as a last epoch. Ways of writing that are not recorded
    fail.
    """
    epochs: list[Epoch] = []
    pending: dict[tuple[int, int], list[tuple[int, bytes]]] = {}
    real_pwrite = os.pwrite

    def pwrite(descriptor: int, data: bytes, offset: int) -> int:
        done = real_pwrite(descriptor, data, offset)
        written = split_sectors(bytes(data)[:done], offset, sector_size)
        pending.setdefault(_file_of(descriptor), []).extend(written)
        return done

    def flushing(real: Callable[[int], None]) -> Callable[[int], None]:
        def flush(descriptor: int) -> None:
            real(descriptor)
            if writes := pending.pop(_file_of(descriptor), None):
                epochs.append(tuple(writes))

        return flush

    with ExitStack() as patches:
        patches.enter_context(patch("os.pwrite", pwrite))
        for name in ("fsync", "fdatasync"):
            patches.enter_context(patch(f"os.{name}", flushing(getattr(os, name))))
        for name in _NOT_RECORDED:
            patches.enter_context(patch(f"os.{name}", _refusing(name)))
        yield epochs
    epochs.extend(tuple(writes) for writes in pending.values())


def _file_of(descriptor: int) -> tuple[int, int]:
    status = os.fstat(descriptor)
    return status.st_dev, status.st_ino


def _refusing(name: str) -> Callable[..., int]:
    """Replace a way of writing to files; pipes and sockets are nobody's disk."""
    real: Callable[..., int] = getattr(os, name)

    def write(descriptor: int, *arguments: Any, **named: Any) -> int:
        kind = os.fstat(descriptor).st_mode
        is_disk = stat.S_ISREG(kind) or stat.S_ISBLK(kind)
        assert not is_disk, f"os.{name} is not recorded"
        return real(descriptor, *arguments, **named)

    return write


def split_sectors(data: bytes, offset: int, size: int) -> Iterator[tuple[int, bytes]]:
    """Cut one write into its sectors."""
    assert offset % size == 0, f"a write at byte {offset} does not begin with a sector"
    assert len(data) % size == 0, f"{len(data)} bytes at {offset} are no whole sectors"
    for at in range(0, len(data), size):
        yield (offset + at) // size, data[at : at + size]


def crash_states(
    epochs: Sequence[Epoch],
    *,
    sector_size: int,
    original: Callable[[int], bytes],
    seed: int = 0,
) -> Iterator[CrashState]:
    """Yield every state that a cut can leave, the untouched and the finished disk included.

    Args:
        epochs: what the command wrote.
        sector_size: bytes in a sector.
        original: gives a sector of the disk before the command.
        seed: of the random subsets.
    """
    chance = random.Random(seed)
    base: dict[int, bytes] = {}
    yield CrashState(changed=base, how="nothing written")
    for number, epoch in enumerate(epochs):
        before = {lba: base.get(lba, original(lba)) for lba, _ in epoch}
        for state in cut_states(epoch, before=before, sector_size=sector_size, chance=chance):
            yield replace(
                state, changed={**base, **state.changed}, how=f"epoch {number}: {state.how}"
            )
        base = base | dict(epoch)
    yield CrashState(changed=base, how="finished")


def cut_states(
    epoch: Epoch, *, before: Sectors, sector_size: int, chance: random.Random
) -> Iterator[CrashState]:
    """Yield what a cut before the flush of an epoch can leave of it, all and nothing left out.

    Args:
        epoch: what was written and not yet flushed.
        before: its sectors as they were before.
        sector_size: bytes in a sector.
        chance: picks the random subsets.

    Returns:
        States that hold only what differs from `before`.
    """
    yield from _overtaken(epoch)
    pending = dict(epoch)
    for kept in _subsets(list(pending), chance):
        yield CrashState(
            changed={lba: pending[lba] for lba in kept},
            how=f"{len(kept)} of {len(pending)} sectors kept",
        )
    for lost in _picked(_halves_of_blocks(pending, sector_size), len(pending), chance):
        yield CrashState(
            changed={lba: content for lba, content in pending.items() if lba not in lost},
            how=f"a torn block lost sectors {sorted(lost)}",
        )
    for lba in _picked(pending, len(pending), chance):
        yield CrashState(
            changed={**pending, lba: chance.randbytes(len(pending[lba]))},
            how=f"garbage in sector {lba}",
            garbage_lba=lba,
        )
    yield from _torn_sectors(pending, before)


def _picked(choices: Iterable[_Choice], sectors: int, chance: random.Random) -> Iterable[_Choice]:
    """Return all choices, or of an epoch with many sectors some."""
    if sectors <= MANY_SECTORS:
        return choices
    every = list(choices)
    return chance.sample(every, min(len(every), OF_MANY))


def _overtaken(epoch: Epoch) -> Iterator[CrashState]:
    """Yield states in which a sector holds what was written before its last content.

    Every prefix of the writes, and every older content beside all that was written later.
    """
    final = dict(epoch)
    for index, (lba, content) in enumerate(epoch):
        if content == final[lba]:
            continue
        how = f"write {index} to sector {lba} was not yet overtaken"
        yield CrashState(changed=dict(epoch[: index + 1]), how=how)
        yield CrashState(changed={**final, lba: content}, how=how)


def _subsets(lbas: Sequence[int], chance: random.Random) -> Iterator[Collection[int]]:
    """Yield the kept sectors of each cut, but not all of them: that is the next epoch's start."""
    count = len(lbas)
    if count <= ALL_SUBSETS_UP_TO:
        for size in range(1, count):
            yield from combinations(lbas, size)
        return
    if count > MANY_SECTORS:
        yield from _subsets_of_many(lbas, chance)
        return
    for size in range(1, count):
        yield tuple(lbas[:size])
    for omitted in range(count):
        yield (*lbas[:omitted], *lbas[omitted + 1 :])
    for _ in range(RANDOM_SUBSETS):
        yield tuple(lba for lba in lbas if chance.random() < 0.5)


def _subsets_of_many(lbas: Sequence[int], chance: random.Random) -> Iterator[Collection[int]]:
    """Yield samples: combinations of large writes, torn ends, holes, islands, scattered losses."""
    pieces = [
        lbas[at : at + _LARGE_WRITE_SECTORS] for at in range(0, len(lbas), _LARGE_WRITE_SECTORS)
    ]
    if len(pieces) <= ALL_SUBSETS_UP_TO // 2:
        for size in range(1, len(pieces)):
            for kept in combinations(pieces, size):
                yield [lba for piece in kept for lba in piece]
    for _ in range(OF_MANY):
        one, other = sorted(chance.sample(range(len(lbas)), 2))
        yield lbas[: one + 1]
        yield lbas[one + 1 :]
        yield lbas[one:other]
        yield [*lbas[:one], *lbas[other:]]
        yield [*lbas[:one], *lbas[one + 1 :]]
        share = chance.choice((0.01, 0.5, 0.99))
        yield [lba for lba in lbas if chance.random() < share]


def _halves_of_blocks(pending: Sectors, sector_size: int) -> Iterator[set[int]]:
    """Yield the sectors that are lost when one half of a physical block is; whole sectors only."""
    in_block = _PHYSICAL_BLOCK // sector_size
    if in_block < 2:
        return
    for block in sorted({lba // in_block for lba in pending}):
        for half in (0, 1):
            start = block * in_block + half * in_block // 2
            lost = {lba for lba in range(start, start + in_block // 2) if lba in pending}
            if lost:
                yield lost


def _torn_sectors(pending: Sectors, before: Sectors) -> Iterator[CrashState]:
    """Yield states in which half of one 4096-byte sector was written."""
    for lba, content in pending.items():
        middle = len(content) // 2
        if len(content) < _PHYSICAL_BLOCK:
            continue
        for torn in (
            content[:middle] + before[lba][middle:],
            before[lba][:middle] + content[middle:],
        ):
            yield CrashState(changed={**pending, lba: torn}, how=f"half of sector {lba}")
