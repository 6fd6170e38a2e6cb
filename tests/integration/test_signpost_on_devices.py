"""signpost on real block devices, beside the programs that share the disk with it."""

import fcntl
import json
import re
import subprocess
from pathlib import Path

import pytest

from signpost.osdisk import OsDisk, find_disk_under
from tests.helpers.disk_tools import PATH as SBIN
from tests.helpers.disk_tools import disk_tool as tool
from tests.helpers.gpt_builder import BOOT_A, BOOT_B, PRIVATE, an_ab_disk, build
from tests.helpers.loop_device import loop_device
from tests.helpers.machine import BIN
from tests.helpers.processes import wait_until_open

pytestmark = [pytest.mark.root, pytest.mark.loop]


def signpost(*arguments: str) -> str:
    done = subprocess.run(
        [str(BIN / "signpost"), *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def an_image(directory: Path, sector_size: int) -> Path:
    image = directory / "disk.img"
    image.write_bytes(build(an_ab_disk(sector_size=sector_size)))
    return image


@pytest.mark.parametrize("sector_size", [512, 4096])
def test_a_flip_on_a_device_is_seen_by_sfdisk(sector_size: int, tmp_path: Path) -> None:
    image = an_image(tmp_path, sector_size)
    with loop_device(image, "--sector-size", str(sector_size)) as node:
        signpost("--disk", str(node), "--active", "A", "mark-inactive-valid")
        signpost("--disk", str(node), "--active", "A", "upgrade-to-inactive")
        table = json.loads(tool("sfdisk", "--json", str(node)))["partitiontable"]
        # Priority 2 is bit 49, one try is bit 52.
        assert table["sectorsize"] == sector_size
        assert table["partitions"][BOOT_B - 1]["attrs"] == "GUID:49,52"
        facts = json.loads(signpost("--disk", str(node), "status", "--json"))
        assert facts["sector_size"] == sector_size
        assert facts["table"] == {
            "mbr": "protective",
            "primary": "good",
            "backup": "good",
            "faults": [],
            "commits_at_once": True,
        }


def written_sectors(node: Path) -> int:
    """Return how many 512-byte sectors the kernel has written to a device so far."""
    return int(Path(f"/sys/block/{node.name}/stat").read_text().split()[6])


@pytest.mark.parametrize("sector_size", [512, 4096])
def test_nothing_but_the_sectors_that_must_change_reaches_the_device(
    sector_size: int, tmp_path: Path
) -> None:
    image = an_image(tmp_path, sector_size)
    with loop_device(image, "--sector-size", str(sector_size)) as node:
        before, content = written_sectors(node), image.read_bytes()
        signpost("--disk", str(node), "--active", "A", "mark-inactive-valid")
        written = written_sectors(node) - before
    after = image.read_bytes()
    changed = sum(
        content[at : at + sector_size] != after[at : at + sector_size]
        for at in range(0, len(content), sector_size)
    )
    assert written * 512 == changed * sector_size


@pytest.mark.parametrize("sector_size", [512, 4096])
def test_partitions_of_a_device_are_its_nodes(sector_size: int, tmp_path: Path) -> None:
    with loop_device(an_image(tmp_path, sector_size), "--sector-size", str(sector_size)) as node:
        tool("partx", "--add", str(node))
        facts = json.loads(signpost("--disk", str(node), "status", "--json"))
        assert facts["sets"]["B"]["boot"]["path"] == f"{node}p{BOOT_B}"
        assert facts["sets"]["B"]["boot"]["offset_bytes"] == 0
        assert f"{node}p{BOOT_B}" in signpost("--disk", str(node), "status")
        tool("partx", "--delete", str(node))


@pytest.mark.parametrize(
    "change",
    [
        ("sgdisk", "-A", f"{BOOT_B}:set:60"),
        ("sgdisk", "-c", f"{BOOT_B}:OTHER-NAME"),
        ("sfdisk", "--part-label", "{disk}", str(BOOT_B), "OTHER-NAME"),
        ("parted", "-s", "{disk}", "name", str(BOOT_B), "OTHER-NAME"),
    ],
    ids=lambda change: " ".join(change[:2]),
)
def test_a_table_that_another_program_wrote_in_between_is_flipped_again(
    change: tuple[str, ...], tmp_path: Path
) -> None:
    """Others write the table back their own way, the array moved or not: nothing is assumed."""
    with loop_device(an_image(tmp_path, 512)) as node:
        disk = str(node)
        signpost("--disk", disk, "--active", "A", "mark-inactive-valid")
        command = [word.format(disk=disk) for word in change]
        tool(*command, *([] if "{disk}" in change else [disk]))
        signpost("--disk", disk, "--active", "A", "upgrade-to-inactive")
        facts = json.loads(signpost("--disk", disk, "--active", "A", "status", "--json"))
        assert facts["next"] == "B"
        assert facts["table"]["faults"] == []
        table = json.loads(tool("sfdisk", "--json", disk))["partitiontable"]
        entry = table["partitions"][BOOT_B - 1]
        assert "49,52" in entry["attrs"]
        assert ("60" in entry["attrs"]) == ("-A" in change)
        assert (entry["name"] == "OTHER-NAME") == ("-A" not in change)


def test_signpost_waits_for_the_holder_of_the_lock_and_starts_from_what_it_left(
    tmp_path: Path,
) -> None:
    with loop_device(an_image(tmp_path, 512)) as node:
        with node.open("rb") as held:
            fcntl.flock(held, fcntl.LOCK_EX)
            waiting = subprocess.Popen(
                [str(BIN / "signpost"), "--disk", str(node), "--active", "A", "clear-inactive"]
            )
            wait_until_open(waiting, node)
            tool("sgdisk", "-A", f"{BOOT_B}:set:52", str(node))
        assert waiting.wait(timeout=60) == 0
        facts = json.loads(signpost("--disk", str(node), "status", "--json"))
        assert facts["sets"]["B"]["tries"] == 0


def test_a_device_that_takes_no_writes_is_refused_before_anything_else(tmp_path: Path) -> None:
    with loop_device(an_image(tmp_path, 512), "--read-only") as node:
        command = [str(BIN / "signpost"), "--disk", str(node), "--active", "A", "clear-inactive"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 1
        assert done.stderr == f"signpost: cannot write to disk {node}: the device is read-only\n"
        assert signpost("--disk", str(node), "status")


def test_the_disk_under_a_partition_of_a_device_is_found(tmp_path: Path) -> None:
    with loop_device(an_image(tmp_path, 512)) as node:
        tool("partx", "--add", str(node))
        root_b = Path(f"{node}p{BOOT_B + 1}").stat().st_rdev
        assert find_disk_under(root_b) == OsDisk(
            path=str(node), partition_numbers=frozenset({BOOT_B + 1})
        )


def test_a_link_to_a_device_still_names_the_partitions_of_the_device(tmp_path: Path) -> None:
    link = tmp_path / "by-id"
    with loop_device(an_image(tmp_path, 512)) as node:
        link.symlink_to(node)
        assert f" {node}p{BOOT_B} " in signpost("--disk", str(link), "status")


COMMANDS = (
    *("A mark-inactive-valid", "A upgrade-to-inactive", "A cancel-upgrade"),
    *("A upgrade-to-inactive", "A rewrite-table", "A select-boot", "B mark-successful-boot"),
    *("B rollback-to-inactive", "A rewrite-table", "A rollback-to-inactive", "A clear-inactive"),
)
"""The running set and a command."""


@pytest.mark.parametrize("sector_size", [512, 4096])
def test_after_every_command_sfdisk_reads_what_signpost_says(
    sector_size: int, tmp_path: Path
) -> None:
    """The reader is libfdisk's own; each attribute of each partition is compared."""
    with loop_device(an_image(tmp_path, sector_size), "--sector-size", str(sector_size)) as node:
        before = attributes_by_sfdisk(node)
        assert before[BOOT_A] == {48, 56}
        for command in COMMANDS:
            signpost("--disk", str(node), "--active", *command.split())
            facts = json.loads(signpost("--disk", str(node), "status", "--json"))
            found = attributes_by_sfdisk(node)
            assert found[BOOT_A] == bits(facts["sets"]["A"]), command
            assert found[BOOT_B] == bits(facts["sets"]["B"]), command
            assert found[PRIVATE] == ({57} if facts["has_boot_ever_succeeded"] else set()), command
            others = before.keys() - {BOOT_A, BOOT_B, PRIVATE}
            assert {n: found[n] for n in others} == {n: before[n] for n in others}, command


def attributes_by_sfdisk(node: Path) -> dict[int, set[int]]:
    """Return the attribute bits that are set, by partition."""
    rows = json.loads(tool("sfdisk", "--json", str(node)))["partitiontable"]["partitions"]
    return {
        number: {int(bit) for bit in re.findall(r"\d+", row.get("attrs", ""))}
        for number, row in enumerate(rows, 1)
    }


def bits(flags: dict[str, int]) -> set[int]:
    priority = {48 + bit for bit in range(4) if flags["priority"] >> bit & 1}
    tries = {52 + bit for bit in range(4) if flags["tries"] >> bit & 1}
    return priority | tries | ({56} if flags["successful"] else set())


def test_sfdisk_waits_for_signpost_s_lock_and_the_table_is_never_mixed(tmp_path: Path) -> None:
    """Flips and relabelling race on one disk; every outcome is a whole table with both changes."""
    with loop_device(an_image(tmp_path, 512)) as node:
        disk = str(node)
        racers = []
        for number in range(6):
            racers.append(
                subprocess.Popen(
                    [str(BIN / "signpost"), "--disk", disk, "--active", "A", "mark-inactive-valid"],
                    stdout=subprocess.DEVNULL,
                )
            )
            label = ["sfdisk", "--lock=yes", "--part-label", disk, "13", f"DATA-{number}"]
            racers.append(
                subprocess.Popen(
                    label,
                    env={"PATH": SBIN},
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                )
            )
        assert [racer.wait(timeout=60) for racer in racers] == [0] * 12
        facts = json.loads(signpost("--disk", disk, "--active", "A", "status", "--json"))
        assert facts["table"]["faults"] == []
        assert facts["sets"]["B"]["tries"] == 1
        entry = json.loads(tool("sfdisk", "--json", disk))["partitiontable"]["partitions"][12]
        assert entry["name"].startswith("DATA-")
