"""What must hold in every state that a power cut during an update can leave.

A state is bad if

- a reader finds no partition table, or other partitions or flags than a step of an update makes;
- the boot loader's rule finds no set, or one whose content is not, byte for byte, a release that
  was published;
- the history does not say that an update was started although the disk was touched: should its
  trial fail, nobody would know what failed;
- the new set may boot, but the floor, the metadata or its migrations are not all there;
- a file or a directory that is replaced as a whole is neither the old nor the new one;
- running the update again from there does not lead to where an undisturbed one does.

Whatever is compared with was built by the publisher or read before the command; readers of tables
share no code with signpost.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Final

from semver import Version

from signpost import gpt
from signpost.errors import SignpostError
from signpost.flags import BootFlags
from signpost.sets import SetName, discover
from signpost.state import BootState, next_set
from signpost.table_write import plan_write
from tests.crash.explorer import split_sectors
from tests.crash.recorded import scan, tree_of
from tests.crash.update_states import State
from tests.crash.whole_update import (
    CACHE,
    CHECKED,
    FLOOR,
    MIGRATIONS,
    SECTOR,
    A,
    Update,
    history_lines,
    mapped,
    standing,
    tells_of,
)
from tests.helpers.gpt_builder import Flags
from tests.helpers.gpt_readers import (
    ALL_READERS,
    Medium,
    Seen,
    boot_rule,
    linux_reader_without_gpt,
)

FALLBACK: Final = Flags(1, 0, 1)
CLEARED: Final = Flags(0, 0, 0)
VALID: Final = Flags(0, 1, 0)
NEXT: Final = Flags(2, 1, 0)
_FLAG_BITS: Final = 0x1FF << 48


@dataclass(slots=True)
class Judge:
    """Judges states of an update; most of them share the few tables that it writes."""

    update: Update
    _tables: dict[object, tuple[frozenset[tuple[Flags, ...]], str | None]] = field(
        default_factory=dict
    )

    def complaint(self, state: State) -> str | None:
        """Say what is wrong with a state, if anything is."""
        flags, fault = self._judge_table(state)
        if fault is None:
            faults = (_judge_flags(state, each) for each in flags)
            fault = next((each for each in faults if each is not None), None) or _judge_tree(state)
        return None if fault is None else f"{state.how}: {fault}"

    def _judge_table(self, state: State) -> tuple[frozenset[tuple[Flags, ...]], str | None]:
        """Return the flags that readers see."""
        is_of_table = self.update.is_of_table
        changed = {lba: content for lba, content in state.changed.items() if is_of_table(lba)}
        table = {**state.cut.base_of_table, **changed}
        key = frozenset(table.items())
        if key not in self._tables:
            medium = self.update.medium.overlaid(table)
            try:
                self._tables[key] = _read_by_all(self.update, medium, state.garbage_lba), None
            except (AssertionError, SignpostError) as err:
                self._tables[key] = frozenset(), str(err)
        return self._tables[key]


def _read_by_all(
    update: Update, medium: Medium, garbage_lba: int | None
) -> frozenset[tuple[Flags, ...]]:
    found: set[tuple[Flags, ...]] = set()
    for reader in ALL_READERS:
        if reader is linux_reader_without_gpt and garbage_lba == 1:
            continue  # it looks nowhere else
        seen = reader(medium)
        assert seen is not None, f"{reader.__name__} finds no table"
        assert _unflagged(seen) == _unflagged(update.seen), f"{reader.__name__}: other partitions"
        assert seen.boot_flags in _steps(update), f"{reader.__name__} sees {seen.boot_flags}"
        found.add(seen.boot_flags)
    _require_of_signpost(update, medium, found)
    return frozenset(found)


def _unflagged(seen: Seen) -> list[object]:
    kept = ~_FLAG_BITS
    return [replace(p, attributes=p.attributes & kept) for p in seen.partitions]


def _steps(update: Update) -> list[tuple[Flags, ...]]:
    """Return the flags of A and B that an update passes through."""
    first = update.seen.boot_flags[update.active]
    pairs = ((first, CLEARED), (first, VALID), (FALLBACK, NEXT))
    passed = [pair if update.active == A else pair[::-1] for pair in pairs]
    return [update.seen.boot_flags, *passed]


def _require_of_signpost(update: Update, medium: Medium, found: set[tuple[Flags, ...]]) -> None:
    """Check that signpost boots what others boot, and could mend the table from here."""
    table = gpt.load(medium.read, sector_size=SECTOR, sector_count=medium.sector_count)
    sets = discover(table.partitions)
    state = BootState(
        flags={s.name: BootFlags.from_attributes(s.boot.attributes) for s in sets.present()},
        active=[*SetName][update.active],
        ever_succeeded=False,
    )
    following = next_set(state)
    assert following is not None, "signpost finds no set to boot"
    numbers = {boot_rule(flags) for flags in found}
    assert [*SetName].index(following) in numbers, "signpost boots another set than boot loaders"
    mended: dict[int, bytes] = {}
    steps = plan_write(table, table.authority.entries, read=medium.read, rewrite=True)
    for write in (write for step in steps for write in step.writes):
        mended |= dict(split_sectors(write.data, write.lba * SECTOR, SECTOR))
    for reader in ALL_READERS:
        seen = reader(medium.overlaid(mended))
        assert seen is not None, "signpost cannot mend the table"
        assert seen.copy == "primary", "signpost cannot mend the primary copy"


def _judge_flags(state: State, flags: tuple[Flags, ...]) -> str | None:
    """Judge what the flags promise, by one reader: that a set is whole, and what goes with it."""
    update = state.cut.update
    following = boot_rule(flags)
    if following is None:
        return f"no set boots with {flags}"
    if flags[update.inactive] == CLEARED:
        return None
    held = [version for version in update.releases if _holds(state, version)]
    if not held:
        return f"the inactive set has {flags[update.inactive]} and holds no whole release"
    if update.goal in held and (missing := _missing_beside_goal(state)):
        return f"the new set has {flags[update.inactive]}, but {missing}"
    return None


def _holds(state: State, version: Version) -> bool:
    content, changed = state.cut.update.releases[version], state.changed
    if any(changed[lba] != content[lba] for lba in changed.keys() & content.keys()):
        return False
    return state.cut.wrong_in(version) <= changed.keys()


def _missing_beside_goal(state: State) -> str | None:
    """Say what must have been kept for good before a new set may boot, and was not."""
    update = state.cut.update
    for place in (CACHE, MIGRATIONS):
        if standing(state.tree, place) != standing(update.after, place):
            return f"{place} is not the new one"
    if state.tree.get(FLOOR) != update.after.get(FLOOR):
        return f"{FLOOR} is not the new one"
    return None


def _judge_tree(state: State) -> str | None:
    update, tree = state.cut.update, state.tree
    for place in (CACHE, MIGRATIONS):
        if standing(tree, place) not in (
            standing(update.before, place),
            standing(update.after, place),
        ):
            return f"{place} is neither the old one nor the new one"
    for path in (FLOOR, CHECKED):
        if tree.get(path) not in (update.before.get(path), update.after.get(path)):
            return f"{path} is neither the old one nor the new one"
    return _judge_history(state)


def _judge_history(state: State) -> str | None:
    """Judge that the history is a beginning of what was written, and tells what was begun."""
    update = state.cut.update
    first, last = (history_lines(tree) for tree in (update.before, update.after))
    lines = history_lines(state.tree)
    whole, torn = lines[:-1], lines[-1]
    if whole != last[: len(whole)] or len(whole) < len(first) - 1:
        return "the history lost or changed a line"
    following = last[len(whole)] if len(whole) < len(last) else b""
    if torn.rstrip(b"\0") and not following.startswith(torn.rstrip(b"\0")):
        return "the history ends with something else than a torn line"
    is_touched = bool(state.cut.base or state.changed)
    if is_touched and not tells_of(whole, "started", update.goal):
        return f"the disk was changed, but the history does not tell that {update.goal} was started"
    return None


def complaint_after_rerun(update: Update, run: Callable[..., int]) -> str | None:
    """Run the update again on what stands on the machine, and say what is wrong then.

    Args:
        update: whose state was restored.
        run: runs updog with some arguments and returns its exit code.
    """
    if (code := run("update", "--now")) != 0:
        return f"running it again exits with {code}"
    medium = mapped(update.machine.disk)
    for reader in ALL_READERS:
        seen = reader(medium)
        if seen is None or seen.copy != "primary" or seen.boot_flags != _steps(update)[-1]:
            return f"after running it again {reader.__name__} sees {seen and seen.boot_flags}"
    goal = update.releases[update.goal]
    if any(medium.read(lba, 1) != content for lba, content in goal.items()):
        return f"after running it again the set does not hold {update.goal}"
    if run("verify", "--set", [*SetName][update.inactive]) != 0:
        return "after running it again `updog verify` is not content"
    if run("migrations", "verify") != 0:
        return "after running it again `updog migrations verify` is not content"
    return _complaint_about_tree(update)


def _complaint_about_tree(update: Update) -> str | None:
    tree = tree_of(scan(update.tree_directory))
    if surplus := tree.keys() ^ update.after.keys():
        return f"running it again leaves or lacks {sorted(surplus)}"
    for place in (CACHE, MIGRATIONS):
        if standing(tree, place) != standing(update.after, place):
            return f"after running it again {place} is another one"
    lines = [line for line in history_lines(tree) if line]
    try:
        events = [json.loads(line) for line in lines]
    except ValueError:
        return "running it again leaves a torn line in the history"
    last = {e["event"]: e["version"] for e in events}
    if (last.get("installed"), last.get("activated")) != (str(update.goal), str(update.goal)):
        return f"after running it again the history does not tell of {update.goal}"
    return None
