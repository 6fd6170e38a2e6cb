"""Real programs read the crash states too: sfdisk, sgdisk and partx, on a sample.

What they must see is what they themselves see of the disk before or after the command.
"""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.crash.test_signpost_commands import (
    COMMANDS,
    LAYOUTS,
    Command,
    Layout,
    put_table,
    run_trial,
)
from tests.helpers.disk_tools import disk_tool
from tests.helpers.gpt_builder import BOOT_A, BOOT_B, PRIVATE, build

Reading = tuple[object, ...]


def by_sfdisk(image: Path) -> Reading:
    table = json.loads(disk_tool("sfdisk", "--json", str(image)))["partitiontable"]
    return tuple((p["start"], p["size"], p.get("attrs")) for p in table["partitions"])


def by_sgdisk(image: Path) -> Reading:
    return tuple(
        line
        for number in (BOOT_A, BOOT_B, PRIVATE)
        for line in disk_tool("sgdisk", "-i", str(number), str(image)).splitlines()
        if line.startswith(("Attribute flags", "First sector", "Last sector"))
    )


def by_partx(image: Path) -> Reading:
    return tuple(disk_tool("partx", "--pairs", "-o", "NR,START,END,FLAGS", str(image)).split("\n"))


PROGRAMS: dict[str, Callable[[Path], Reading]] = {
    "sfdisk": by_sfdisk,
    "sgdisk": by_sgdisk,
    "partx": by_partx,
}
SAMPLED_LAYOUTS = [one for one in LAYOUTS if one.name in {"512", "512-array-at-34", "no-gap"}]
SAMPLED_COMMANDS = [
    one for one in COMMANDS if one.name in {"upgrade-to-inactive", "mark-successful-boot"}
]
SAMPLE = 12


@pytest.mark.parametrize("program", PROGRAMS)
@pytest.mark.parametrize("layout", SAMPLED_LAYOUTS, ids=lambda layout: layout.name)
@pytest.mark.parametrize("command", SAMPLED_COMMANDS, ids=lambda command: command.name)
def test_a_real_reader_sees_the_old_flags_or_the_new(
    command: Command, layout: Layout, program: str, tmp_path: Path
) -> None:
    image = tmp_path / "disk.img"
    trial = run_trial(command, layout, "healthy", image)
    read = PROGRAMS[program]
    new = read(image)
    image.write_bytes(build(layout.spec(command.flags)))
    old = read(image)
    assert old != new
    step = max(1, len(trial.states) // SAMPLE)
    for crash in trial.states[::step]:
        put_table(image, trial.medium.overlaid(crash.changed))
        assert read(image) in (old, new), crash.how
