"""Every state that a power cut during a recorded update can leave, of the disk and of all files.

A cut just before the end of a flush leaves most in doubt; what it can leave includes what earlier
ones can since the flush before. Disk and files lose independently of each other, so each disk is
tried with some tree of files, and each tree with the disks that lost all or nothing.
"""

import random
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import chain, cycle, product
from math import inf
from typing import Final
from uuid import uuid4

from semver import Version

from tests.crash.explorer import IS_DEEP, CrashState, Sectors, cut_states
from tests.crash.recorded import Change, Content, Tree, write_tree
from tests.crash.tree_states import tree_states
from tests.crash.whole_update import SECTOR, Update, split_write, written_ranges

MOST_TREES: Final = 500 if IS_DEEP else 24
"""Trees that are tried at one moment, about."""


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """What a cut left: `changed` lies over `cut.base`, which lies over the original disk."""

    cut: "Cut"
    changed: Sectors
    tree: Tree
    how: str
    garbage_lba: int | None

    @property
    def key(self) -> int:
        """A number for the whole: the same for the same content."""
        on_disk = self.cut.base_key ^ _sectors_key(self.cut, self.changed)
        return hash((on_disk, frozenset(self.tree.items())))

    def sectors(self) -> dict[int, bytes]:
        """Return all that differs from the original disk."""
        return {**self.cut.base, **self.changed}


@dataclass(slots=True, kw_only=True)
class Cut:
    """A moment of a cut, and what was on the disk for certain then."""

    update: Update
    moment: float
    base: Sectors
    pending: tuple[tuple[int, bytes], ...]
    base_of_table: Sectors = field(init=False)
    base_key: int = field(init=False)
    _wrong: dict[Version, frozenset[int]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        is_of_table = self.update.is_of_table
        self.base_of_table = {lba: c for lba, c in self.base.items() if is_of_table(lba)}
        self.base_key = _sectors_key(self, self.base)

    def wrong_in(self, version: Version) -> frozenset[int]:
        """Return the sectors of the inactive set that are surely not those of a release."""
        if version not in self._wrong:
            original = self.update.original_sector
            self._wrong[version] = frozenset(
                lba
                for lba, content in self.update.releases[version].items()
                if (self.base[lba] if lba in self.base else original(lba)) != content
            )
        return self._wrong[version]


def cuts(update: Update) -> Iterator[Cut]:
    """Yield a cut before the end of each flush, where most is uncertain, and one at the end."""
    for moment in (*sorted(set(update.recording.flushes)), inf):
        base: dict[int, bytes] = {}
        pending: list[tuple[int, bytes]] = []
        for write in update.recording.writes:
            if write.is_durable(moment):
                base.update(split_write(write))
            elif write.is_pending(moment):
                pending += split_write(write)
        yield Cut(update=update, moment=moment, base=base, pending=tuple(pending))


def states_of(cut: Cut, chance: random.Random) -> Iterator[State]:
    """Yield what a cut can leave: each disk with some tree, and each tree with some disk."""
    trees = list(_distinct_trees(cut, chance))
    ends = [CrashState(changed={}, how="nothing kept")]
    if cut.pending:
        ends.append(CrashState(changed=dict(cut.pending), how="all kept"))
    for disk, tree in chain(
        zip(_disk_states(cut, chance), cycle(trees), strict=False), product(ends, trees)
    ):
        yield State(
            cut=cut,
            changed=disk.changed,
            tree=tree,
            how=f"cut at {cut.moment}: {disk.how}",
            garbage_lba=disk.garbage_lba,
        )


def _disk_states(cut: Cut, chance: random.Random) -> Iterator[CrashState]:
    if not cut.pending:
        return
    original = cut.update.original_sector
    before = {lba: cut.base[lba] if lba in cut.base else original(lba) for lba, _ in cut.pending}
    yield from cut_states(cut.pending, before=before, sector_size=SECTOR, chance=chance)


def _distinct_trees(cut: Cut, chance: random.Random) -> Iterator[Tree]:
    seen: set[frozenset[tuple[str, Content]]] = set()
    found = tree_states(cut.update.recording, cut.moment, most=MOST_TREES, chance=chance)
    for tree in found:
        key = frozenset(tree.items())
        if key not in seen:
            seen.add(key)
            yield tree


def _sectors_key(cut: Cut, changed: Sectors) -> int:
    """Return a number for what is on the disk: the same for the same content."""
    original, key = cut.update.original_sector, 0
    for lba, content in changed.items():
        key ^= _mark(lba, content, original(lba))
        if lba in cut.base and changed is not cut.base:
            key ^= _mark(lba, cut.base[lba], original(lba))
    return key


def _mark(lba: int, content: bytes, original: bytes) -> int:
    return 0 if content == original else hash((lba, content))


def restore(state: State) -> None:
    """Put a state onto the machine, where only what updates write may differ, in another boot."""
    update = state.cut.update
    sectors = state.sectors()
    with update.machine.disk.open("r+b") as file:
        for first, count in written_ranges(update):
            data = bytearray(update.medium.read(first, count))
            for lba in range(first, first + count):
                if lba in sectors:
                    at = (lba - first) * SECTOR
                    data[at : at + SECTOR] = sectors[lba]
            file.seek(first * SECTOR)
            file.write(data)
    shutil.rmtree(update.tree_directory)
    update.tree_directory.mkdir()
    write_tree(state.tree, update.tree_directory)
    (update.machine.directory / "run" / "boot-id").write_text(f"{uuid4()}\n")


@contextmanager
def forgetting(changes: Iterable[Change]) -> Iterator[None]:
    """Let no flush cover some changes for a while, as if the product had left it out."""
    known = [(change, change.durable_from) for change in changes]
    for change, _ in known:
        change.durable_from = inf
    try:
        yield
    finally:
        for change, durable_from in known:
            change.durable_from = durable_from
