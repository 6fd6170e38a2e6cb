"""signpost on real block devices, beside the programs that share the disk with it."""

import json
import subprocess
import time
from pathlib import Path

import pytest

from tests.helpers.disk_tools import PATH as SBIN
from tests.helpers.disk_tools import disk_tool as tool
from tests.helpers.gpt_builder import BOOT_B, an_ab_disk, build
from tests.helpers.loop_device import loop_device
from tests.helpers.machine import BIN

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


def test_signpost_waits_for_a_program_that_holds_the_disk(tmp_path: Path) -> None:
    with (
        loop_device(an_image(tmp_path, 512)) as node,
        subprocess.Popen(["flock", str(node), "sleep", "1.5"]) as holder,
    ):
        time.sleep(0.3)
        started = time.monotonic()
        signpost("--disk", str(node), "--active", "A", "mark-inactive-valid")
        assert time.monotonic() - started > 0.5
        holder.wait()


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
