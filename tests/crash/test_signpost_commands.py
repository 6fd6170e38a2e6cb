"""No cut during any signpost command loses the partition table or leaves half a flip.

Each command runs on real image files; what it wrote and flushed is recorded; each state that a cut
can leave is judged by readers that share no code with signpost, and the command is run again from
it.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from uuid import UUID

import pytest

from signpost import disk, state
from signpost.disk import Location, Transition
from signpost.errors import TableError
from signpost.sets import SetName
from tests.crash.explorer import CrashState, crash_states, recording
from tests.helpers.gpt_builder import (
    BOOT_B,
    DiskSpec,
    Flags,
    Part,
    an_ab_disk,
    build,
    garble,
    grown,
    noise,
    with_entry_fields,
    with_header_fields,
)
from tests.helpers.gpt_readers import (
    ALL_READERS,
    LINUX_READERS,
    Medium,
    Seen,
    libblkid_reader,
    linux_reader_without_gpt,
    strict_gptprio_reader,
)

Reader = Callable[[Medium], Seen | None]

SMALL = 6 << 20
STEADY = (Flags(1, 0, 1), Flags(0, 0, 0))
STAGED = (Flags(1, 0, 1), Flags(0, 1, 0))
PENDING = (Flags(1, 0, 1), Flags(2, 1, 0))
TRIAL_OF_A = (Flags(2, 0, 0), Flags(1, 0, 1))
HEALTHY_PAIR = (Flags(2, 0, 1), Flags(1, 0, 1))


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """A command and flags of A and B that allow it; A runs."""

    name: str
    transition: Transition
    flags: tuple[Flags, Flags]
    rewrite: bool = False


COMMANDS = [
    Command(name="mark-successful-boot", transition=state.mark_successful_boot, flags=TRIAL_OF_A),
    Command(name="clear-inactive", transition=state.clear_inactive, flags=HEALTHY_PAIR),
    Command(name="mark-inactive-valid", transition=state.mark_inactive_valid, flags=STEADY),
    Command(name="upgrade-to-inactive", transition=state.upgrade_to_inactive, flags=STAGED),
    Command(name="cancel-upgrade", transition=state.cancel_upgrade, flags=PENDING),
    Command(name="rollback-to-inactive", transition=state.rollback_to_inactive, flags=HEALTHY_PAIR),
    Command(name="select-boot", transition=state.select_boot, flags=PENDING),
    Command(name="rewrite-table", transition=lambda same: same, flags=HEALTHY_PAIR, rewrite=True),
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """A kind of table. `has_spare` says whether a second entry array fits in front of it."""

    name: str
    has_spare: bool
    grown_by: int = 0
    facts: dict[str, object] = field(default_factory=dict)

    @property
    def is_known_to_linux(self) -> bool:
        return self.facts.get("entry_size", 128) == 128

    @property
    def readers(self) -> list[Reader]:
        """The readers that can read such a table at all."""
        return [r for r in ALL_READERS if self.is_known_to_linux or r not in LINUX_READERS]

    @property
    def starts(self) -> list[str]:
        """The damages of which somebody sees what signpost takes for the table.

        On a grown disk LBA 1 alone tells of the backup. A primary whose usable sectors cannot be is
        void for Linux only, which looks for the backup at the end of the disk.
        """
        lost = ("primary-header", "primary-bad") if self.grown_by else ()
        if self.grown_by or not self.is_known_to_linux:
            lost = (*lost, "primary-range-impossible-and-copies-disagree")
        return [start for start in STARTS if not start.startswith(lost)]

    def spec(self, flags: tuple[Flags, Flags]) -> DiskSpec:
        return an_ab_disk(a=flags[0], b=flags[1], size_bytes=SMALL, **self.facts)  # type: ignore[arg-type]


def old_array_with_other_guids() -> bytes:
    """Return an array as signpost left it before the disk was flashed with other unique GUIDs."""
    spec = an_ab_disk(size_bytes=SMALL)
    others = tuple(replace(p, unique_guid=UUID(int=p.unique_guid.int ^ 1)) for p in spec.partitions)
    return build(replace(spec, partitions=others))[2 * 512 : 34 * 512]


LAYOUTS = [
    Layout(name="512", has_spare=True),
    Layout(
        name="512-array-at-34",
        has_spare=True,
        facts={"primary_entries_lba": 34, "first_usable": 66},
    ),
    Layout(name="4096", has_spare=True, facts={"sector_size": 4096}),
    Layout(name="256-entries", has_spare=True, facts={"entry_count": 256}),
    Layout(name="16-entries", has_spare=True, facts={"entry_count": 16}),
    Layout(name="entries-of-256-bytes", has_spare=True, facts={"entry_size": 256}),
    Layout(
        name="stale-array-of-another-table",
        has_spare=True,
        facts={"raw_sectors": {34: old_array_with_other_guids()}},
    ),
    Layout(name="grown", has_spare=True, grown_by=64),
    Layout(name="no-gap", has_spare=False, facts={"first_partition_lba": 34}),
    Layout(
        name="no-gap-4096", has_spare=False, facts={"sector_size": 4096, "first_partition_lba": 6}
    ),
    Layout(
        name="boot-loader-in-the-gap",
        has_spare=False,
        facts={"raw_sectors": {64: noise(512)}, "first_usable": 2048},
    ),
    Layout(name="no-gap-grown", has_spare=False, grown_by=10, facts={"first_partition_lba": 34}),
]


PRIMARY_PARTS = (Part.PRIMARY_HEADER, Part.PRIMARY_ENTRIES)
BACKUP_PARTS = (Part.BACKUP_HEADER, Part.BACKUP_ENTRIES)


def stale_backup(image: bytes, spec: DiskSpec) -> bytes:
    """Return a disk whose backup is valid and says something else: a cut before the commit."""
    other = spec.partition(BOOT_B).attributes | 1 << 60
    return with_entry_fields(image, spec, BOOT_B, parts=(Part.BACKUP_ENTRIES,), attributes=other)


def backup_that_claims_too_much(image: bytes, spec: DiskSpec) -> bytes:
    """Return a disk whose backup lets partitions reach over itself: what is written must not."""
    return with_header_fields(image, spec, Part.BACKUP_HEADER, last_usable_lba=spec.last_lba)


def impossible_range(part: Part) -> "Damage":
    """Return what makes a header say that no sector is usable, under right checksums."""
    return lambda image, spec: with_header_fields(image, spec, part, first_usable_lba=2**64 - 1)


Damage = Callable[[bytes, DiskSpec], bytes]


def damage(*parts: Part) -> Damage:
    def apply(image: bytes, spec: DiskSpec) -> bytes:
        for part in parts:
            image = garble(image, spec, part)
        return image

    return apply


STARTS: dict[str, Damage] = {
    "healthy": damage(),
    "primary-header-bad": damage(Part.PRIMARY_HEADER),
    "primary-entries-bad": damage(Part.PRIMARY_ENTRIES),
    "primary-bad": damage(Part.PRIMARY_HEADER, Part.PRIMARY_ENTRIES),
    "backup-header-bad": damage(Part.BACKUP_HEADER),
    "backup-entries-bad": damage(Part.BACKUP_ENTRIES),
    "backup-bad": damage(Part.BACKUP_HEADER, Part.BACKUP_ENTRIES),
    "copies-disagree": stale_backup,
    "primary-header-bad-and-copies-disagree": lambda image, spec: garble(
        stale_backup(image, spec), spec, Part.PRIMARY_HEADER
    ),
    "primary-entries-bad-and-copies-disagree": lambda image, spec: garble(
        stale_backup(image, spec), spec, Part.PRIMARY_ENTRIES
    ),
    "primary-bad-and-backup-claims-too-much": lambda image, spec: damage(*PRIMARY_PARTS)(
        backup_that_claims_too_much(image, spec), spec
    ),
    "primary-range-impossible": impossible_range(Part.PRIMARY_HEADER),
    "primary-range-impossible-and-copies-disagree": lambda image, spec: impossible_range(
        Part.PRIMARY_HEADER
    )(stale_backup(image, spec), spec),
    "backup-range-impossible": impossible_range(Part.BACKUP_HEADER),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """A command recorded on a disk, with what each reader saw before and sees after it."""

    layout: Layout
    medium: Medium
    before: dict[Reader, Seen | None]
    after: dict[Reader, Seen | None]
    states: list[CrashState]


def run_trial(command: Command, layout: Layout, start: str, path: Path) -> Trial:
    spec = layout.spec(command.flags)
    image = grown(STARTS[start](build(spec), spec), spec, layout.grown_by)
    path.write_bytes(image)
    size = spec.sector_size
    with recording(size) as epochs:
        disk.change(
            Location(path=path, active=SetName.A), command.transition, rewrite=command.rewrite
        )
    assert not any(lba == 0 for epoch in epochs for lba, _ in epoch), "LBA 0 has no second copy"
    medium = Medium.of_bytes(image, size)
    finished = Medium.of_bytes(path.read_bytes(), size)
    return Trial(
        layout=layout,
        medium=medium,
        before={reader: reader(medium) for reader in ALL_READERS},
        after={reader: reader(finished) for reader in ALL_READERS},
        states=list(
            crash_states(epochs, sector_size=size, original=lambda lba: medium.read(lba, 1))
        ),
    )


def excused(reader: Reader, crash: CrashState, trial: Trial) -> bool:
    """Tell where a reader cannot be served by any order of writing.

    Linux without `gpt` never looks at the backup: it sees nothing when LBA 1 itself is garbage, or
    where entries must be replaced in place.
    """
    if reader is not linux_reader_without_gpt:
        return False
    return crash.garbage_lba == 1 or not trial.layout.has_spare


def complaints(trial: Trial) -> Iterator[str]:
    """Yield what is wrong with any state.

    A reader must see the table that some reader took for the old one, or the new one.
    """
    whole = [s.partitions for s in (*trial.before.values(), *trial.after.values()) if s]
    for crash in trial.states:
        medium = trial.medium.overlaid(crash.changed)
        for reader in trial.layout.readers:
            if excused(reader, crash, trial):
                continue
            seen = reader(medium)
            if seen is None and trial.before[reader] is not None:
                yield f"{crash.how}: {reader.__name__} finds no table"
            if seen is not None and seen.partitions not in whole:
                yield f"{crash.how}: {reader.__name__} sees half a flip: {seen.boot_flags}"


def rerun_complaints(
    trial: Trial, states: list[CrashState], command: Command, path: Path
) -> Iterator[str]:
    """Run the command again from crash states and yield what is wrong then."""
    location = Location(path=path, active=SetName.A)
    path.write_bytes(trial.medium.read(0, trial.medium.sector_count))
    for crash in states:
        put_table(path, trial.medium.overlaid(crash.changed))
        disk.change(location, command.transition, rewrite=command.rewrite)
        medium = Medium.of_file(path, trial.medium.sector_size)
        seen = [reader(medium) for reader in trial.layout.readers]
        if any(one is None or one.copy != "primary" for one in seen):
            yield f"{crash.how}: after running it again a reader sees no primary table"
        elif command.name != "select-boot" and seen[0] != trial.after[ALL_READERS[0]]:
            yield f"{crash.how}: running it again gave {seen[0]}"
        elif disk.read(location).table.faults:
            yield f"{crash.how}: running it again left a fault"


def put_table(path: Path, medium: Medium) -> None:
    """Write both ends of a disk, where the table stands, over an image file."""
    near = 2 + 2 * 64
    size, count = medium.sector_size, medium.sector_count
    with path.open("r+b") as file:
        file.write(medium.read(0, near))
        file.seek((count - near) * size)
        file.write(medium.read(count - near, near))


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.name)
@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)
def test_no_cut_loses_the_table_or_leaves_half_a_flip(
    command: Command, layout: Layout, tmp_path: Path, count_states: Callable[[int], None]
) -> None:
    for start in layout.starts:
        trial = run_trial(command, layout, start, tmp_path / "disk.img")
        unseen = [reader.__name__ for reader in layout.readers if not trial.after[reader]]
        assert not unseen, f"{start}: the finished table is not seen"
        finished = trial.medium.overlaid(trial.states[-1].changed)
        assert libblkid_reader(finished) or layout.spec(command.flags).entry_size != 128
        assert not list(complaints(trial)), start
        count_states(len(trial.states))


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.name)
@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)
def test_a_cut_command_can_be_run_again(
    command: Command,
    layout: Layout,
    tmp_path: Path,
    sampled: Callable[[list[CrashState]], list[CrashState]],
) -> None:
    for start in layout.starts:
        path = tmp_path / "disk.img"
        trial = run_trial(command, layout, start, path)
        states = sampled(trial.states)
        assert not list(rerun_complaints(trial, states, command, path)), start


@pytest.mark.parametrize("backup", BACKUP_PARTS, ids=lambda part: part.value)
@pytest.mark.parametrize("primary", PRIMARY_PARTS, ids=lambda part: part.value)
@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)
def test_with_both_copies_bad_nothing_is_written(
    command: Command, primary: Part, backup: Part, tmp_path: Path
) -> None:
    spec = LAYOUTS[0].spec(command.flags)
    image = damage(primary, backup)(build(spec), spec)
    path = tmp_path / "disk.img"
    path.write_bytes(image)
    with pytest.raises(TableError, match="no valid GUID partition table"):
        disk.change(
            Location(path=path, active=SetName.A), command.transition, rewrite=command.rewrite
        )
    assert path.read_bytes() == image


def test_the_explorer_notices_a_writer_that_does_not_flush(tmp_path: Path) -> None:
    """A writer with the same sectors but without flushes must be caught, else nothing is proven."""
    command, layout = COMMANDS[3], LAYOUTS[0]
    trial = run_trial(command, layout, "healthy", tmp_path / "disk.img")
    spec = layout.spec(command.flags)
    image = build(spec)
    (tmp_path / "disk.img").write_bytes(image)
    with recording(spec.sector_size) as epochs:
        disk.change(Location(path=tmp_path / "disk.img", active=SetName.A), command.transition)
    merged = tuple(write for epoch in epochs for write in epoch)
    medium = Medium.of_bytes(image, spec.sector_size)
    unflushed = Trial(
        layout=layout,
        medium=medium,
        before=trial.before,
        after=trial.after,
        states=list(
            crash_states([merged], sector_size=512, original=lambda lba: medium.read(lba, 1))
        ),
    )
    found = list(complaints(unflushed))
    assert any("finds no table" in one for one in found)
    assert strict_gptprio_reader.__name__ in " ".join(found)
