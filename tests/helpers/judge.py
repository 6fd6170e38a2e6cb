"""One judge for every fault: what a run that failed has said and left, and the run after it.

    judge = Judge(machine)
    ...let something fail...
    judge.failed(machine.updog("update", "--now"), "cannot flush", "No space left on device")
    ...let it work again...
    judge.next_run_succeeds()

Looks at the medium itself, past whatever makes the machine's disk fail, and reads the table with
the readers of the tests. Set A runs; set B is the one that is written.
"""

import hashlib
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from tests.helpers.gpt_builder import TYPES, Flags
from tests.helpers.gpt_readers import Medium, Seen, uefi_reader
from tests.helpers.machine import Machine, Run, offsets_with_data

ROLES = ("hash", "root", "boot")
UNBOOTABLE = Flags(0, 0, 0)
STAGED = Flags(0, 1, 0)
PENDING = Flags(2, 1, 0)
NEXT_TO_PENDING = Flags(1, 0, 1)

_CLAIMS: Mapping[str, Flags | None] = {
    "nothing was changed": None,
    "both sets are untouched": None,
    "Set B is cleared and will not boot; set A is untouched": UNBOOTABLE,
    "It will not boot; set A is untouched": UNBOOTABLE,
    "marked valid but not activated; set A is untouched": STAGED,
    "It is not activated; set A is untouched": STAGED,
    "is in set B, not activated": STAGED,
    "is active in set B and boots next": PENDING,
}
"""What a message may say of the state, and the flags of set B that it stands for; None: all as it
was before, to the byte."""

_OLD_FLAGS = "the old flags count"
"""What a message says of a table that was not, or not wholly, written: its other copy may be."""

_ADVICE = re.compile(
    r"[Rr]un the command again|try again|make room|reboot to enter|unmount|Only a smaller|`[a-z]+ "
)
"""What a message may tell somebody to do."""

_FLAG_BITS = 0x1FF << 48


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """A disk at one moment: digests, and the table without the flags of the sets.

    Attributes:
        whole: Of the disk.
        outside: Of all but the partitions of set B and the table.
        inside: Of the partitions of set B.
        table: Its entries, without the flags.
        flags: By the name of the set.
    """

    whole: str
    outside: str
    inside: str
    table: tuple[object, ...]
    flags: Mapping[str, Flags]


@dataclass(slots=True)
class Judge:
    """Remembers a machine's disk and judges what becomes of it.

    Args:
        machine: whose disk it is.
        medium: the file that holds what the disk holds, where that is not the disk itself.
        sector_size: of the disk, in bytes.
    """

    machine: Machine
    medium: Path | None = None
    sector_size: int = 512
    before: Look = field(init=False)

    def __post_init__(self) -> None:
        self.before = self.look()

    # Verdicts

    def failed(self, run: Run, *parts: str, code: int = 1) -> str:
        """Judge a run that was to fail; return its one line.

        Args:
            run: what was run.
            parts: what its line must hold: what failed, on what, and why.
            code: its exit code.
        """
        line = run.failed(code=code)
        for part in parts:
            assert part in line, line
        # Whoever interrupts a run, or runs two, knows what to do about it.
        assert _ADVICE.search(line) or "interrupted" in line or code == 4, f"no advice: {line}"
        self.left_as_said(line)
        return line

    def left_as_said(self, line: str) -> None:
        """Require that the disk is as a message says, and the rest of it as it was."""
        claims = [claim for claim in _CLAIMS if claim in line]
        assert len(claims) == 1 or (_OLD_FLAGS in line and not claims), f"{claims}: {line}"
        now = self.look()
        if not claims:
            assert now.flags == self.before.flags
            assert now.inside == self.before.inside
            self.harmless(now)
            return
        flags = _CLAIMS[claims[0]]
        if flags is None:
            assert now == self.before, line
            return
        running = NEXT_TO_PENDING if flags == PENDING else self.before.flags["A"]
        assert now.flags == {"A": running, "B": flags}, line
        self.harmless(now)

    def boots_what_is_whole(self) -> None:
        """Require what must be true of a disk at any moment, also where nothing was said.

        Set B can be booted, or will be once it is activated, only with all that it held before or
        all of the update.
        """
        now = self.look()
        self.harmless(now)
        flags = now.flags["B"]
        if flags == self.before.flags["B"]:
            assert now.inside == self.before.inside
        elif flags in {STAGED, PENDING}:
            assert self.holds(release(self.machine))
        else:
            assert flags == UNBOOTABLE
        assert now.flags["A"] == (NEXT_TO_PENDING if flags == PENDING else self.before.flags["A"])

    def harmless(self, now: Look | None = None) -> None:
        """Require that nothing but the partitions and the flags of set B has changed."""
        now = now or self.look()
        assert now.table == self.before.table
        assert now.outside == self.before.outside

    def next_run_succeeds(self, *, images: Mapping[str, Path] | None = None) -> Run:
        """Require that the next run installs and activates the update, and proves it."""
        done = self.machine.updog("update", "--now").succeeded()
        self.installed(images=images)
        self.machine.updog("verify").succeeded()
        return done

    def installed(self, *, images: Mapping[str, Path] | None = None) -> None:
        """Require that set B holds exactly the update and boots next, and all else is as it was."""
        now = self.look()
        assert now.flags == {"A": NEXT_TO_PENDING, "B": PENDING}
        self.harmless(now)
        assert self.holds(images or release(self.machine))

    # Facts

    def holds(self, images: Mapping[str, Path]) -> bool:
        """Tell whether set B holds these images."""
        windows = self.windows()
        with self.path.open("rb") as disk:
            for role, image in images.items():
                content = image.read_bytes()
                disk.seek(windows[role][0])
                if disk.read(len(content)) != content:
                    return False
        return True

    def windows(self) -> dict[str, tuple[int, int]]:
        """Return the first byte of each partition of set B, and the one behind its last."""
        return windows_of_b(self.path, self.sector_size)

    def look(self) -> Look:
        """Look at the medium."""
        seen = self.seen()
        flags = dict(zip("AB", seen.boot_flags, strict=True))
        first = min(each.first_lba for each in seen.partitions) * self.sector_size
        last = (max(each.last_lba for each in seen.partitions) + 1) * self.sector_size
        tables = [(0, first), (last, self.path.stat().st_size)]
        windows = list(_windows(seen, self.sector_size).values())
        return Look(
            whole=_digest(self.path, without=[]),
            outside=_digest(self.path, without=[*tables, *windows]),
            inside=_digest(self.path, without=_gaps(windows)),
            table=_without_flags(seen),
            flags=flags,
        )

    def seen(self) -> Seen:
        """Return the table as a boot loader sees it."""
        return seen_on(self.path, self.sector_size)

    @property
    def path(self) -> Path:
        return self.medium or self.machine.disk


def release(machine: Machine, version: str = "1.1.0") -> dict[str, Path]:
    """Return the images of a release, as they were built."""
    built = machine.directory / "releases" / version
    names = {"hash": "root.verity", "root": "root.ext4", "boot": "boot.ext4"}
    return {role: built / name for role, name in names.items()}


def seen_on(medium: Path, sector_size: int) -> Seen:
    """Return the table of a medium as a boot loader sees it."""
    seen = uefi_reader(Medium.of_file(medium, sector_size))
    assert seen is not None, "no boot loader finds a table"
    return seen


def windows_of_b(medium: Path, sector_size: int = 512) -> dict[str, tuple[int, int]]:
    """Return the first byte of each partition of set B, and the one behind its last."""
    return _windows(seen_on(medium, sector_size), sector_size)


def _windows(seen: Seen, sector_size: int) -> dict[str, tuple[int, int]]:
    windows = {}
    for role in ROLES:
        of_type = [each for each in seen.partitions if each.type_guid == TYPES[role.upper()]]
        second = of_type[1]
        windows[role] = (second.first_lba * sector_size, (second.last_lba + 1) * sector_size)
    return windows


def _gaps(ranges: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return what lies between ranges, before the first and behind the last."""
    ordered = sorted(ranges)
    ends, begins = [0, *(end for _, end in ordered)], [*(begin for begin, _ in ordered), 1 << 62]
    return list(zip(ends, begins, strict=True))


def _without_flags(seen: Seen) -> tuple[object, ...]:
    boot = TYPES["BOOT"]
    return tuple(
        replace(each, attributes=each.attributes & ~_FLAG_BITS) if each.type_guid == boot else each
        for each in seen.partitions
    )


def _digest(path: Path, *, without: list[tuple[int, int]]) -> str:
    """Return a digest over a sparse file, but for some ranges."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        for first, length in offsets_with_data(file):
            for begin, end in _outside(first, min(first + length, size), sorted(without)):
                piece = os.pread(file.fileno(), end - begin, begin)
                if piece.strip(b"\0"):
                    digest.update(b"%d:" % begin)
                    digest.update(piece)
        digest.update(b"%d" % size)
    return digest.hexdigest()


def _outside(first: int, end: int, ranges: list[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """Yield what of a range lies outside of others, which are in order."""
    for begin, behind in ranges:
        if behind <= first or begin >= end:
            continue
        if begin > first:
            yield first, begin
        first = behind
    if first < end:
        yield first, end
