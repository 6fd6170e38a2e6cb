import json
import random
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from repo_tools.errors import RepoToolsError
from repo_tools.layout import (
    MEBIBYTE,
    MINIMUM_MIB,
    create_disk,
    mark_legacy_bootable,
    plan,
    write_image,
)
from signpost import gpt
from signpost.disk import Location, change, read
from signpost.flags import BootFlags
from signpost.sets import SetName
from signpost.state import mark_inactive_valid
from updog.block_hash import BLOCK_BYTES
from updog.verity import Superblock

DESIGN = [
    ("BIOS-BOOT", "21686148-6449-6e6f-744e-656564454649", 4),
    ("EFI-SYSTEM", "c12a7328-f81f-11d2-ba4b-00a0c93ec93b", 5),
    ("BOTTLEROCKET-BOOT-A", "6b636168-7420-6568-2070-6c616e657421", 40),
    ("BOTTLEROCKET-ROOT-A", "5526016a-1a97-4ea4-b39a-b7c8c6ca4502", 920),
    ("BOTTLEROCKET-HASH-A", "598f10af-c955-4456-6a99-7720068a6cea", 10),
    ("BOTTLEROCKET-RESERVED-A", "0c5d99a5-d331-4147-baef-08e2b855bdc9", 25),
    ("EFI-BACKUP", "b39ce39c-0a00-b4ab-2d11-f18f8237a21c", 5),
    ("BOTTLEROCKET-BOOT-B", "6b636168-7420-6568-2070-6c616e657421", 40),
    ("BOTTLEROCKET-ROOT-B", "5526016a-1a97-4ea4-b39a-b7c8c6ca4502", 920),
    ("BOTTLEROCKET-HASH-B", "598f10af-c955-4456-6a99-7720068a6cea", 10),
    ("BOTTLEROCKET-RESERVED-B", "0c5d99a5-d331-4147-baef-08e2b855bdc9", 25),
    ("BOTTLEROCKET-PRIVATE", "440408bb-eb0b-4328-a6e5-a29038fad706", 41),
    ("BOTTLEROCKET-DATA", "626f7474-6c65-6474-6861-726d61726b73", 1),
]


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    path = tmp_path / "disk.img"
    create_disk(path, 2048)
    return path


def sfdisk_sees(disk: Path) -> dict[str, Any]:
    sfdisk = shutil.which("sfdisk", path="/usr/sbin:/sbin:/usr/bin")
    if sfdisk is None:
        pytest.skip("sfdisk is not installed (Debian: fdisk): the table was not cross-checked")
    done = subprocess.run([sfdisk, "--json", disk], check=True, capture_output=True)
    table: dict[str, Any] = json.loads(done.stdout)["partitiontable"]
    return table


def primary_array_lba(disk: Path) -> int:
    primary = read(Location(path=disk)).table.primary
    assert isinstance(primary, gpt.Copy)
    return primary.header.entries_lba


def test_a_disk_of_two_gib_is_laid_out_as_the_design_says(disk: Path) -> None:
    partitions = read(Location(path=disk)).table.partitions
    found = [(p.label, str(p.type_guid), p.sectors * 512 // MEBIBYTE) for p in partitions]
    assert found == DESIGN


def test_the_first_partition_starts_at_one_mib_and_the_others_follow_without_a_gap(
    disk: Path,
) -> None:
    partitions = read(Location(path=disk)).table.partitions
    assert partitions[0].first_lba == 2048
    assert [p.first_lba for p in partitions[1:]] == [p.last_lba + 1 for p in partitions[:-1]]


def test_sfdisk_reads_the_same_table(disk: Path) -> None:
    table = sfdisk_sees(disk)
    seen = [(p["name"], p["type"].lower(), p["size"] // 2048) for p in table["partitions"]]
    assert seen == DESIGN
    assert table["firstlba"] == 66
    attributes = {p["name"]: p["attrs"] for p in table["partitions"] if "attrs" in p}
    assert attributes == {"BOTTLEROCKET-BOOT-A": "GUID:48,56", "BOTTLEROCKET-PRIVATE": "GUID:57"}


def test_set_a_leaves_the_factory_bootable_and_set_b_does_not(disk: Path) -> None:
    found = read(Location(path=disk))
    assert found.state.flags == {
        SetName.A: BootFlags(priority=1, tries=0, successful=True),
        SetName.B: BootFlags(priority=0, tries=0, successful=False),
    }
    assert found.state.ever_succeeded
    assert found.table.faults == ()


def test_every_change_of_the_flags_uses_the_spare_entry_array(disk: Path) -> None:
    running = Location(path=disk, active=SetName.A)
    places = [primary_array_lba(disk)]
    for transition in (mark_inactive_valid, lambda state: state.with_flags(SetName.B, FLAGS)):
        change(running, transition)
        places.append(primary_array_lba(disk))
    assert places == [2, 34, 2]


FLAGS = BootFlags(priority=3, tries=3, successful=False)


@given(st.integers(MINIMUM_MIB, 1 << 20))
def test_the_tree_of_the_largest_root_fits_its_hash_partition(disk_mib: int) -> None:
    sizes = {partition.label: partition.size_mib * MEBIBYTE for partition in plan(disk_mib)}
    blocks = sizes["BOTTLEROCKET-ROOT-A"] // BLOCK_BYTES
    levels = Superblock(uuid=bytes(16), salt=b"", data_blocks=blocks).level_sizes()
    assert (1 + sum(levels)) * BLOCK_BYTES <= sizes["BOTTLEROCKET-HASH-A"]


@given(st.integers(MINIMUM_MIB, 1 << 20))
def test_both_sets_are_alike_and_leave_room_for_data(disk_mib: int) -> None:
    planned = plan(disk_mib)
    assert [p.size_mib for p in planned[1:6]] == [p.size_mib for p in planned[6:11]]
    assert all(partition.size_mib > 0 for partition in planned[:-1])
    rest = disk_mib - 2 - sum(partition.size_mib for partition in planned)
    assert rest in {1, 2}


def test_the_smallest_disk_can_be_made(tmp_path: Path) -> None:
    create_disk(tmp_path / "disk.img", MINIMUM_MIB)
    assert read(Location(path=tmp_path / "disk.img")).table.faults == ()


def test_a_smaller_disk_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RepoToolsError, match="a disk of 191 MiB is too small: at least 192 MiB"):
        create_disk(tmp_path / "disk.img", MINIMUM_MIB - 1)


def test_a_disk_that_exists_is_not_overwritten(disk: Path) -> None:
    before = disk.stat().st_mtime_ns
    with pytest.raises(RepoToolsError, match=r"cannot create .*/disk\.img: File exists"):
        create_disk(disk, 2048)
    assert disk.stat().st_mtime_ns == before


def test_an_image_lands_in_its_partition_and_nowhere_else(disk: Path, tmp_path: Path) -> None:
    image = tmp_path / "image"
    image.write_bytes(random.Random(7).randbytes(3 * MEBIBYTE + 4096))
    found = read(Location(path=disk))
    window = found.window(found.sets[SetName.A].boot)
    write_image(image, window)
    with disk.open("rb") as file:
        file.seek(window.offset_bytes)
        assert file.read(3 * MEBIBYTE + 4096) == image.read_bytes()
        assert not any(file.read(MEBIBYTE))
        file.seek(window.offset_bytes - MEBIBYTE)
        assert not any(file.read(MEBIBYTE))
    assert read(Location(path=disk)).table.faults == ()


def test_an_image_larger_than_its_partition_is_refused(disk: Path, tmp_path: Path) -> None:
    image = tmp_path / "image"
    with image.open("wb") as file:
        file.truncate(11 * MEBIBYTE)
    found = read(Location(path=disk))
    with pytest.raises(RepoToolsError, match=r"11534336 bytes, its partition .* only 10485760"):
        write_image(image, found.window(found.sets[SetName.A].hash))


def test_more_room_for_efi_is_taken_from_the_roots(tmp_path: Path) -> None:
    usual = {p.label: p.size_mib for p in plan(1024)}
    roomy = {p.label: p.size_mib for p in plan(1024, efi_mib=64)}
    for efi, root in (
        ("EFI-SYSTEM", "BOTTLEROCKET-ROOT-A"),
        ("EFI-BACKUP", "BOTTLEROCKET-ROOT-B"),
    ):
        assert roomy[efi] == 64
        assert roomy[root] == usual[root] - 59
    with pytest.raises(RepoToolsError, match="at least 310 MiB"):
        create_disk(tmp_path / "small.img", 309, efi_mib=64)


def test_only_the_efi_system_partition_is_marked_for_a_bios_and_keeps_what_it_had(
    tmp_path: Path,
) -> None:
    path = tmp_path / "disk.img"
    create_disk(path, MINIMUM_MIB)
    before = read(Location(path=path))
    mark_legacy_bootable(path)
    after = read(Location(path=path))
    changed = {
        old.label: new.attributes
        for old, new in zip(before.table.partitions, after.table.partitions, strict=True)
        if old != new
    }
    assert changed == {"EFI-SYSTEM": 1 << 2}
    assert after.table.faults == ()
    assert after.commits_at_once
