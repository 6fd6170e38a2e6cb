"""A whole `updog update`, recorded, and every state that a power cut during it can leave, judged.

The disk and the tree of files (metadata cache, floor, history, kept migrations) lose independently
of each other what was not flushed. A state is bad if

- a reader finds no partition table, or other partitions or flags than a step of an update makes;
- the boot loader's rule finds no set, or one whose content is not, byte for byte, a release that
  was published;
- the history does not say that an update was started although the disk was touched: should its
  trial fail, nobody would know what failed;
- the new set may boot, but the floor, the metadata or its migrations are not all there;
- a file or a directory that is replaced as a whole is neither the old nor the new one.

Whatever is compared with was built by the publisher or read before the command; readers of tables
share no code with signpost.
"""

import json
import mmap
import random
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import chain, cycle, product
from math import inf
from pathlib import Path
from typing import Final

from semver import Version

from repo_tools.images import Codec
from signpost import gpt
from signpost.errors import SignpostError
from signpost.flags import BootFlags
from signpost.sets import SetName, discover
from signpost.state import BootState, next_set
from signpost.table_write import plan_write
from tests.crash.explorer import IS_DEEP, CrashState, Sectors, cut_states, split_sectors
from tests.crash.recorded import (
    Change,
    Content,
    Recording,
    SectorWrite,
    Tree,
    replay,
    scan,
    tree_of,
    write_tree,
)
from tests.crash.tracing import trace
from tests.crash.tree_states import tree_states
from tests.helpers.gpt_builder import Flags
from tests.helpers.gpt_readers import (
    ALL_READERS,
    Medium,
    Seen,
    boot_rule,
    linux_reader_without_gpt,
    uefi_reader,
)
from tests.helpers.machine import BIN, Machine, copy_sparsely
from tests.helpers.small_releases import Step, publish_small_release

SECTOR: Final = 512
_COMPARED_SECTORS: Final = 2048
MOST_TREES: Final = 500 if IS_DEEP else 24
"""Trees that are tried at one moment, about."""

A, B = 0, 1
FALLBACK: Final = Flags(1, 0, 1)
CLEARED: Final = Flags(0, 0, 0)
VALID: Final = Flags(0, 1, 0)
NEXT: Final = Flags(2, 1, 0)
_FLAG_BITS: Final = 0x1FF << 48

FACTORY, FIRST, SECOND, THIRD = (Version.parse(v) for v in ("1.0.0", "1.1.0", "1.1.1", "1.1.2"))

CACHE, FLOOR, HISTORY = "cache/metadata", "lib/updog/metadata-floor.json", "lib/updog/history.jsonl"
CHECKED, MIGRATIONS = "lib/updog/checked.json", "lib/migrations"


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """An update to record: of which compression, with migrations or not, and what was before.

    Attributes:
        over_staged: An update is staged in the inactive set already, and is replaced.
        from_b: Set B runs, the release before, and set A still holds the factory release, healthy.
    """

    name: str
    codec: Codec
    migrations: bool = False
    over_staged: bool = False
    from_b: bool = False


SCENARIOS: Final = (
    Scenario(name="the-first-zstd", codec=Codec.ZSTD),
    Scenario(name="over-a-staged-one-lz4", codec=Codec.LZ4, migrations=True, over_staged=True),
    Scenario(name="from-b-over-a-healthy-a-zstd", codec=Codec.ZSTD, migrations=True, from_b=True),
)


@dataclass(slots=True, kw_only=True)
class Update:
    """A recorded update: what was before, what it did, what there is now."""

    scenario: Scenario
    machine: Machine
    original: Path
    medium: Medium
    recording: Recording
    before: Tree
    after: Tree
    releases: dict[Version, dict[int, bytes]]
    goal: Version
    seen: Seen
    partitioned: range
    active: int
    _verdicts: dict[object, tuple[frozenset[tuple[Flags, ...]], str | None]] = field(
        default_factory=dict
    )

    @property
    def tree_directory(self) -> Path:
        """Where the tree of files is."""
        return self.machine.directory / "var"

    @property
    def inactive(self) -> int:
        """The set that is updated, as a number."""
        return 1 - self.active

    def is_of_table(self, lba: int) -> bool:
        """Tell whether a sector lies before or behind all partitions."""
        return lba not in self.partitioned

    def original_sector(self, lba: int) -> bytes:
        """Return a sector as it was before the update."""
        return self.medium.read(lba, 1)


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


# Recording.


def record(scenario: Scenario, machine: Machine, directory: Path) -> Update:
    """Prepare a machine, update it under the recorder, and keep what was before.

    Args:
        scenario: which update.
        machine: which runs the factory release.
        directory: for what is kept.
    """
    tree = _separate_directories(machine)
    versions = list(_prepare(scenario, machine))
    original = directory / "before.img"
    copy_sparsely(machine.disk, original)
    before = scan(tree)
    tree_before = tree_of(before)
    calls = trace(
        [str(BIN / "updog"), "update", "--now"],
        directory / "trace",
        environment=machine.full_environment(),
        directory=machine.directory,
    )
    recording = replay(calls, disk=machine.disk, tree=tree, before=before)
    medium = _mapped(original)
    seen = uefi_reader(medium)
    assert seen is not None
    active = B if scenario.from_b else A
    update = Update(
        scenario=scenario,
        machine=machine,
        original=original,
        medium=medium,
        recording=recording,
        before=tree_before,
        after=tree_of(recording.root),
        releases={v: _sectors_of(seen, 1 - active, _images(machine, v)) for v in versions},
        goal=max(versions),
        seen=seen,
        partitioned=_partitioned(seen),
        active=active,
    )
    _require_whole_recording(update)
    _require_signed_active(update)
    _require_all_kept(update)
    return update


def _separate_directories(machine: Machine) -> Path:
    """Give each kind of file a directory of its own, as on a machine: one flush is of one."""
    for name in ("cache", "lib"):
        (machine.directory / "var" / name).mkdir(parents=True)
    for name, path in (("metadata_cache", CACHE), ("migrations", MIGRATIONS)):
        machine.configure(f'{name} = "{path.rpartition("/")[2]}"', f'{name} = "var/{path}"')
    machine.configure('state = "state"', 'state = "var/lib/updog"')
    return machine.directory / "var"


def _prepare(scenario: Scenario, machine: Machine) -> Iterator[Version]:
    """Publish the release to update to, and bring the machine to where it starts from.

    Yields what the inactive set may hold: what it holds at first, and what is published for it.
    """
    _publish(scenario, machine, SECOND, {(FACTORY, FIRST): ("1.lz4",), (FIRST, SECOND): ("2.lz4",)})
    if scenario.over_staged or scenario.from_b:
        machine.updog("update", "--now").succeeded()
        if scenario.from_b:
            _enter_b(machine)
        _publish(scenario, machine, THIRD, {(SECOND, THIRD): ("3.lz4",)})
        yield THIRD
    yield FACTORY if scenario.from_b else SECOND


def _publish(
    scenario: Scenario, machine: Machine, version: Version, steps: dict[Step, tuple[str, ...]]
) -> None:
    publish_small_release(
        machine.directory,
        version,
        codec=scenario.codec,
        migrations=steps if scenario.migrations else None,
    )


def _enter_b(machine: Machine) -> None:
    """Do what a boot into the staged update and its health checks do, and leave A healthy."""
    machine.signpost("select-boot").succeeded()
    run = machine.directory / "run"
    (run / "active-set").write_text("B\n")
    os_release = (run / "os-release").read_text()
    (run / "os-release").write_text(os_release.replace(str(FACTORY), str(SECOND)))
    (run / "boot-id").write_text("1b4e28ba-2fa1-11d2-883f-0016d3cca427\n")
    machine.signpost("mark-successful-boot").succeeded()


def _images(machine: Machine, version: Version) -> list[Path]:
    """Return the images of a release as its publisher built them: boot, root and hash."""
    directory = machine.directory / "releases" / str(version)
    return [directory / name for name in ("boot.ext4", "root.ext4", "root.verity")]


def _mapped(path: Path) -> Medium:
    with path.open("rb") as file:
        image = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)

    def read(lba: int, count: int) -> bytes:
        return image[lba * SECTOR : (lba + count) * SECTOR]

    return Medium(sector_size=SECTOR, sector_count=len(image) // SECTOR, read=read)


def _sectors_of(seen: Seen, which: int, images: list[Path]) -> dict[int, bytes]:
    """Return what a release puts into a set, by sector."""
    boot = [p for p in seen.partitions if p.type_guid == _boot_type(seen)][which].number
    by_number = {p.number: p for p in seen.partitions}
    sectors: dict[int, bytes] = {}
    for image, number in zip(images, range(boot, boot + 3), strict=True):
        content = image.read_bytes()
        whole = content.ljust(-(-len(content) // SECTOR) * SECTOR, b"\0")
        sectors |= split_sectors(whole, by_number[number].first_lba * SECTOR, SECTOR)
    return sectors


def _boot_type(seen: Seen) -> object:
    counts = Counter(p.type_guid for p in seen.partitions)
    return next(p.type_guid for p in seen.partitions if counts[p.type_guid] == 2)


def _partitioned(seen: Seen) -> range:
    """Return the sectors from the first partition to the last one."""
    first = min(p.first_lba for p in seen.partitions)
    return range(first, max(p.last_lba for p in seen.partitions) + 1)


def _require_whole_recording(update: Update) -> None:
    """Check that the recorded writes make the disk that is there, and touch no other set."""
    allowed = _set_ranges(update.seen, update.inactive)
    sectors: dict[int, bytes] = {}
    for write in update.recording.writes:
        sectors |= _split(write)
    for lba in sectors:
        is_in_place = update.is_of_table(lba) or any(lba in each for each in allowed)
        assert is_in_place, f"a neighbour was written to, at sector {lba}"
    assert 0 not in sectors, "LBA 0 has no second copy"
    finished = _mapped(update.machine.disk)
    for lba, content in sectors.items():
        assert finished.read(lba, 1) == content, f"sector {lba} was not recorded as it is"
    goal = update.releases[update.goal]
    assert all(sectors.get(lba) == content for lba, content in goal.items())
    require_same_neighbours(update)


def _require_signed_active(update: Update) -> None:
    """Check that the running set is a release as it was built; no state changes any of it."""
    version = SECOND if update.scenario.from_b else FACTORY
    release = _sectors_of(update.seen, update.active, _images(update.machine, version))
    assert all(update.original_sector(lba) == content for lba, content in release.items())


def _require_all_kept(update: Update) -> None:
    """Check that the undisturbed update left all that states are compared with."""
    tree, repository = update.after, update.machine.repository / "metadata"
    timestamp = tree[f"{CACHE}/timestamp.json"]
    assert timestamp == (repository / "timestamp.json").read_bytes()
    floor = tree[FLOOR]
    assert isinstance(floor, bytes)
    assert isinstance(timestamp, bytes)
    version = json.loads(timestamp)["signed"]["version"]
    assert json.loads(floor)["timestamp"]["version"] == version
    names = [p.rpartition("/")[2] for p in standing(tree, MIGRATIONS) if p.endswith(".lz4")]
    wanted = _migrations_of(update.scenario)
    assert names == wanted, f"kept are {names}, needed {wanted}"
    assert _tells_of(_lines(tree)[:-1], "activated", update.goal)


def _migrations_of(scenario: Scenario) -> list[str]:
    """Return the migrations that are needed from what runs to the newest release."""
    if not scenario.migrations:
        return []
    return ["3.lz4"] if scenario.from_b else ["1.lz4", "2.lz4", "3.lz4"]


def require_same_neighbours(update: Update) -> None:
    """Check that nothing but the table and the inactive set differs from the disk before."""
    now, at = _mapped(update.machine.disk), 0
    for first, count in sorted(_written_ranges(update)):
        while at < first:
            step = min(_COMPARED_SECTORS, first - at)
            is_same = now.read(at, step) == update.medium.read(at, step)
            assert is_same, f"a neighbour was changed, in one of {step} sectors from {at} on"
            at += step
        at = first + count


def _set_ranges(seen: Seen, which: int) -> list[range]:
    boot = [p for p in seen.partitions if p.type_guid == _boot_type(seen)][which].number
    found = (p for p in seen.partitions if boot <= p.number <= boot + 2)
    return [range(p.first_lba, p.last_lba + 1) for p in found]


# Exploring.


def cuts(update: Update) -> Iterator[Cut]:
    """Yield a cut before the end of each flush, where most is uncertain, and one at the end."""
    for moment in (*sorted(set(update.recording.flushes)), inf):
        base: dict[int, bytes] = {}
        pending: list[tuple[int, bytes]] = []
        for write in update.recording.writes:
            if write.is_durable(moment):
                base.update(_split(write))
            elif write.is_pending(moment):
                pending += _split(write)
        yield Cut(update=update, moment=moment, base=base, pending=tuple(pending))


def _split(write: SectorWrite) -> Iterator[tuple[int, bytes]]:
    return split_sectors(write.data, write.offset, SECTOR)


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


# Judging.


def complaint(state: State) -> str | None:
    """Say what is wrong with a state, if anything is."""
    flags, fault = _judge_table(state)
    if fault is None:
        faults = (_judge_flags(state, each) for each in flags)
        fault = next((each for each in faults if each is not None), None) or _judge_tree(state)
    return None if fault is None else f"{state.how}: {fault}"


def _judge_table(state: State) -> tuple[frozenset[tuple[Flags, ...]], str | None]:
    """Return the flags that readers see; most states share the few tables of an update."""
    update = state.cut.update
    changed = {lba: c for lba, c in state.changed.items() if update.is_of_table(lba)}
    table = {**state.cut.base_of_table, **changed}
    key = frozenset(table.items())
    known = update._verdicts  # noqa: SLF001 -- of this module
    if key not in known:
        medium = update.medium.overlaid(table)
        try:
            known[key] = _read_by_all(update, medium, state.garbage_lba), None
        except (AssertionError, SignpostError) as err:
            known[key] = frozenset(), str(err)
    return known[key]


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
    first, last = (_lines(tree) for tree in (update.before, update.after))
    lines = _lines(state.tree)
    whole, torn = lines[:-1], lines[-1]
    if whole != last[: len(whole)] or len(whole) < len(first) - 1:
        return "the history lost or changed a line"
    following = last[len(whole)] if len(whole) < len(last) else b""
    if torn.rstrip(b"\0") and not following.startswith(torn.rstrip(b"\0")):
        return "the history ends with something else than a torn line"
    is_touched = bool(state.cut.base or state.changed)
    if is_touched and not _tells_of(whole, "started", update.goal):
        return f"the disk was changed, but the history does not tell that {update.goal} was started"
    return None


def _lines(tree: Tree) -> list[bytes]:
    content = tree.get(HISTORY)
    return (content if isinstance(content, bytes) else b"").split(b"\n")


def _tells_of(lines: list[bytes], kind: str, version: Version) -> bool:
    events = [json.loads(line) for line in lines]
    return any(e["event"] == kind and e["version"] == str(version) for e in events)


def standing(tree: Tree, place: str) -> dict[str, Content]:
    """Return the content of a directory that is replaced as a whole, as `updog.durable` says."""
    parent, _, name = place.rpartition("/")
    new, old = f"{parent}/.{name}.new", f"{parent}/.{name}.old"
    if place not in tree and old in tree:
        place = new if new in tree else old
    return {path[len(place) :]: tree[path] for path in tree if path.startswith(f"{place}/")}


# Running it again.


def restore(state: State) -> None:
    """Put a state onto the machine; only what updates write may differ from the original."""
    update = state.cut.update
    sectors = state.sectors()
    with update.machine.disk.open("r+b") as file:
        for first, count in _written_ranges(update):
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


def _written_ranges(update: Update) -> Iterator[tuple[int, int]]:
    """Yield the places of the table and of what the set may hold: first sector and count."""
    end = update.medium.sector_count
    yield 0, update.partitioned.start
    yield update.partitioned.stop, end - update.partitioned.stop
    lbas = {lba for release in update.releases.values() for lba in release}
    for each in _set_ranges(update.seen, update.inactive):
        inside = lbas.intersection(each)
        yield min(inside), max(inside) - min(inside) + 1


def complaint_after_rerun(update: Update, run: Callable[..., int]) -> str | None:
    """Run the update again on what stands on the machine, and say what is wrong then.

    Args:
        update: whose state was restored.
        run: runs updog with some arguments and returns its exit code.
    """
    if (code := run("update", "--now")) != 0:
        return f"running it again exits with {code}"
    medium = Medium.of_file(update.machine.disk, SECTOR)
    for reader in ALL_READERS:
        seen = reader(medium)
        if seen is None or seen.copy != "primary" or seen.boot_flags != _steps(update)[-1]:
            return f"after running it again {reader.__name__} sees {seen and seen.boot_flags}"
    goal = update.releases[update.goal]
    with _opened(update.machine.disk) as image:
        if any(image[lba * SECTOR : (lba + 1) * SECTOR] != goal[lba] for lba in goal):
            return f"after running it again the set does not hold {update.goal}"
    if run("verify", "--set", [*SetName][update.inactive]) != 0:
        return "after running it again `updog verify` is not content"
    if run("migrations", "verify") != 0:
        return "after running it again `updog migrations verify` is not content"
    return _complaint_about_tree(update)


def _opened(path: Path) -> mmap.mmap:
    with path.open("rb") as file:
        return mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)


def _complaint_about_tree(update: Update) -> str | None:
    tree = tree_of(scan(update.tree_directory))
    if surplus := tree.keys() ^ update.after.keys():
        return f"running it again leaves or lacks {sorted(surplus)}"
    for place in (CACHE, MIGRATIONS):
        if standing(tree, place) != standing(update.after, place):
            return f"after running it again {place} is another one"
    lines = [line for line in _lines(tree) if line]
    try:
        events = [json.loads(line) for line in lines]
    except ValueError:
        return "running it again leaves a torn line in the history"
    last = {e["event"]: e["version"] for e in events}
    if (last.get("installed"), last.get("activated")) != (str(update.goal), str(update.goal)):
        return f"after running it again the history does not tell of {update.goal}"
    return None


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
