"""Whole runs of `updog update`, recorded: real machines, real releases, the installed command.

Three machines are brought to where an update starts from, and updated under the recorder of system
calls. Refuses a recording that does not make the disk and the files that are there afterwards, and
an update that touched more than the table and the inactive set.
"""

import json
import mmap
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from semver import Version

from repo_tools.images import Codec
from tests.crash.explorer import split_sectors
from tests.crash.recorded import Content, Recording, SectorWrite, Tree, replay, scan, tree_of
from tests.crash.tracing import trace
from tests.helpers.gpt_readers import Medium, Seen, uefi_reader
from tests.helpers.machine import BIN, Machine, copy_sparsely
from tests.helpers.small_releases import Step, publish_small_release

SECTOR: Final = 512
_COMPARED_SECTORS: Final = 2048

A, B = 0, 1

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
    """A recorded update: what was before, what it did, what there is now.

    Attributes:
        scenario: Which update it is.
        machine: Whose.
        medium: The disk before it.
        recording: What it did.
        before: All files before it.
        after: All files after it.
        releases: What the inactive set may hold whole, by sector.
        goal: The version that it leads to.
        seen: The partition table before it.
        partitioned: The sectors from the first partition to the last one.
        active: The running set, as a number.
    """

    scenario: Scenario
    machine: Machine
    medium: Medium
    recording: Recording
    before: Tree
    after: Tree
    releases: dict[Version, dict[int, bytes]]
    goal: Version
    seen: Seen
    partitioned: range
    active: int

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
    medium = mapped(original)
    seen = uefi_reader(medium)
    assert seen is not None
    active = B if scenario.from_b else A
    update = Update(
        scenario=scenario,
        machine=machine,
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


def mapped(path: Path) -> Medium:
    """Return a disk image as readers see it, as it is when they look."""
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
    allowed = set_ranges(update.seen, update.inactive)
    sectors: dict[int, bytes] = {}
    for write in update.recording.writes:
        sectors |= split_write(write)
    for lba in sectors:
        is_in_place = update.is_of_table(lba) or any(lba in each for each in allowed)
        assert is_in_place, f"a neighbour was written to, at sector {lba}"
    assert 0 not in sectors, "LBA 0 has no second copy"
    finished = mapped(update.machine.disk)
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
    timestamp, floor = (repository / "timestamp.json").read_bytes(), tree.get(FLOOR)
    assert tree.get(f"{CACHE}/timestamp.json") == timestamp, (
        "other metadata than the newest is kept"
    )
    assert isinstance(floor, bytes), "no floor is kept"
    version = json.loads(timestamp)["signed"]["version"]
    assert json.loads(floor)["timestamp"]["version"] == version
    names = [p.rpartition("/")[2] for p in standing(tree, MIGRATIONS) if p.endswith(".lz4")]
    wanted = _migrations_of(update.scenario)
    assert names == wanted, f"kept are {names}, needed {wanted}"
    assert tells_of(history_lines(tree)[:-1], "activated", update.goal)


def _migrations_of(scenario: Scenario) -> list[str]:
    """Return the migrations that are needed from what runs to the newest release."""
    if not scenario.migrations:
        return []
    return ["3.lz4"] if scenario.from_b else ["1.lz4", "2.lz4", "3.lz4"]


def require_same_neighbours(update: Update) -> None:
    """Check that nothing but the table and the inactive set differs from the disk before."""
    now, at = mapped(update.machine.disk), 0
    for first, count in sorted(written_ranges(update)):
        while at < first:
            step = min(_COMPARED_SECTORS, first - at)
            is_same = now.read(at, step) == update.medium.read(at, step)
            assert is_same, f"a neighbour was changed, in one of {step} sectors from {at} on"
            at += step
        at = first + count


def set_ranges(seen: Seen, which: int) -> list[range]:
    """Return the sectors of the partitions of a set."""
    boot = [p for p in seen.partitions if p.type_guid == _boot_type(seen)][which].number
    found = (p for p in seen.partitions if boot <= p.number <= boot + 2)
    return [range(p.first_lba, p.last_lba + 1) for p in found]


def written_ranges(update: Update) -> Iterator[tuple[int, int]]:
    """Yield the places of the table and of what the set may hold: first sector and count."""
    end = update.medium.sector_count
    yield 0, update.partitioned.start
    yield update.partitioned.stop, end - update.partitioned.stop
    lbas = {lba for release in update.releases.values() for lba in release}
    for each in set_ranges(update.seen, update.inactive):
        inside = lbas.intersection(each)
        yield min(inside), max(inside) - min(inside) + 1


def history_lines(tree: Tree) -> list[bytes]:
    """Return the lines of the history; the last one is not ended."""
    content = tree.get(HISTORY)
    return (content if isinstance(content, bytes) else b"").split(b"\n")


def tells_of(lines: list[bytes], kind: str, version: Version) -> bool:
    """Tell whether lines of the history tell of an event."""
    events = [json.loads(line) for line in lines]
    return any(e["event"] == kind and e["version"] == str(version) for e in events)


def standing(tree: Tree, place: str) -> dict[str, Content]:
    """Return the content of a directory that is replaced as a whole, as `updog.durable` says."""
    parent, _, name = place.rpartition("/")
    new, old = f"{parent}/.{name}.new", f"{parent}/.{name}.old"
    if place not in tree and old in tree:
        place = new if new in tree else old
    return {path[len(place) :]: tree[path] for path in tree if path.startswith(f"{place}/")}


def split_write(write: SectorWrite) -> Iterator[tuple[int, bytes]]:
    """Cut a write into its sectors."""
    return split_sectors(write.data, write.offset, SECTOR)
