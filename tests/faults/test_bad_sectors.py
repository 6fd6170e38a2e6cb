"""Sectors of a partition table that a disk cannot read or write, and what `signpost` does."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.fault_device import FaultDevice, fault_device
from tests.helpers.gpt_builder import Flags, an_ab_disk, build
from tests.helpers.gpt_readers import Medium, uefi_reader
from tests.helpers.machine import BIN

pytestmark = [pytest.mark.faults]

ON_TRIAL = Flags(2, 0, 0)
SPEC = an_ab_disk(a=ON_TRIAL, b=Flags(1, 0, 1))


@pytest.fixture
def content(tmp_path: Path) -> Path:
    """What the medium holds."""
    path = tmp_path / "content.img"
    path.write_bytes(build(SPEC))
    return path


@pytest.fixture
def table_disk(content: Path, tmp_path: Path) -> Iterator[FaultDevice]:
    """A disk of which set A, on trial, runs."""
    with fault_device(content, tmp_path) as device:
        yield device


def signpost(device: FaultDevice, *arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [BIN / "signpost", "--disk", device.node, "--active", "A", *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def bad_sector(lba: int, op: str = "pread", **more: Any) -> dict[str, Any]:
    return {"op": op, "first": lba * 512, "end": (lba + 1) * 512, "errno": "EIO", **more}


def flags_on(content: Path) -> Flags:
    seen = uefi_reader(Medium.of_file(content, 512))
    assert seen is not None
    return seen.boot_flags[0]


# 1 is the primary header, 2 and 7 hold its entries; all share a page of the cache with LBA 0.
@pytest.mark.parametrize("lba", [1, 2, 7, SPEC.backup_entries_lba, SPEC.last_lba])
class TestOneUnreadableSectorOfATable:
    def test_leaves_the_other_copy_to_read(self, table_disk: FaultDevice, lba: int) -> None:
        table_disk.set_faults(bad_sector(lba))
        done = signpost(table_disk, "status", "--json")
        assert done.returncode == 0, done.stderr
        facts = json.loads(done.stdout)
        good, bad = ("backup", "primary") if lba < 8 else ("primary", "backup")
        assert facts["table"][good] == "good"
        assert "Input/output error" in facts["table"][bad]
        assert facts["next"] == "B"

    @pytest.mark.parametrize("command", ["mark-successful-boot", "rewrite-table"])
    def test_is_repaired_by_any_write(
        self, table_disk: FaultDevice, content: Path, lba: int, command: str
    ) -> None:
        table_disk.set_faults(bad_sector(lba, mends=True))
        done = signpost(table_disk, command)
        assert done.returncode == 0, done.stderr
        assert "repaired the partition table" in done.stderr
        again = json.loads(signpost(table_disk, "status", "--json").stdout)
        assert again["table"]["faults"] == []
        marked = command == "mark-successful-boot"
        assert flags_on(content) == ON_TRIAL._replace(successful=int(marked))


class TestABackupForGoodUnusable:
    """The last sector is dead: the two decisions are recorded in docs/adr/0001."""

    def test_one_that_takes_no_write_keeps_everything_as_it_is_and_says_so(
        self, table_disk: FaultDevice, content: Path
    ) -> None:
        primary = content.read_bytes()[: 66 * 512]
        table_disk.set_faults(bad_sector(SPEC.last_lba, "pwrite"))
        done = signpost(table_disk, "mark-successful-boot")
        assert (done.returncode, done.stdout) == (1, "")
        assert "cannot write the backup header to " in done.stderr
        assert "the old flags count, in the primary copy; none are changed while" in done.stderr
        assert content.read_bytes()[: 66 * 512] == primary

    def test_one_that_takes_a_write_but_is_not_read_back_leaves_the_new_flags_and_says_so(
        self, table_disk: FaultDevice, content: Path
    ) -> None:
        table_disk.set_faults(bad_sector(SPEC.last_lba))
        done = signpost(table_disk, "mark-successful-boot")
        assert (done.returncode, done.stdout) == (1, "")
        assert "did not keep what was written: backup copy: cannot read " in done.stderr
        assert "the new flags count, in the primary copy. The disk may be failing" in done.stderr
        assert flags_on(content) == ON_TRIAL._replace(successful=1)
