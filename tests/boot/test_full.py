"""Every other way in which an update ends, in real machines: `make boot-test-full`."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import pytest

from repo_tools.sources import Release
from tests.boot.conftest import Lab, boots, chosen
from tests.boot.disks import Judge
from tests.boot.emulator import BIOS, uefi
from tests.boot.releases import FACTORY, Behaviour

pytestmark = [pytest.mark.qemu, pytest.mark.slow]

ROLLED_BACK = {"A": "1/0/1", "B": "2/0/0"}


@pytest.mark.parametrize(
    ("behaviour", "complaint"),
    [
        (Behaviour.KERNEL_IS_BROKEN, "kexec_file_load"),
        (Behaviour.BOOT_DOES_NOT_MOUNT, "ext4 on /dev/vda8: Invalid argument"),
    ],
)
def test_a_set_that_does_not_load_makes_room_for_the_old_one_at_once(
    lab: Lab, behaviour: Behaviour, complaint: str
) -> None:
    lab.install(lab.workshop.release("1.1.0", behaviour))

    said = lab.boot("stay")

    assert chosen(said) == ["B", "A"]
    assert f"stage-1: set B does not load: {complaint}" in said.text
    assert boots(said) == ["A 1.0.0"]
    assert lab.judge.flags() == ROLLED_BACK
    assert "rolled back  1.1.0  set B" in said.text


def test_a_health_check_that_hangs_until_the_deadline_brings_the_old_system_back(lab: Lab) -> None:
    lab.install(lab.workshop.release("1.1.0", Behaviour.HEALTH_HANGS))

    said = lab.boot("stay")

    assert boots(said) == ["B 1.1.0", "A 1.0.0"]
    assert "MARK deadline" in said.text
    assert lab.judge.flags() == ROLLED_BACK


def test_a_system_that_never_marks_success_is_left_after_a_power_cut(lab: Lab) -> None:
    lab.install(lab.workshop.release("1.1.0", Behaviour.NEVER_MARKS))

    with lab.machine("stay") as machine:
        machine.wait_for("MARK waits")
        machine.cut_power()
    assert lab.judge.flags() == ROLLED_BACK

    assert boots(lab.boot("stay")) == ["A 1.0.0"]


def test_rolling_back_by_hand_and_restarting_enters_the_other_set(lab: Lab) -> None:
    lab.install(lab.workshop.release("1.1.0"))

    said = lab.boot("rollback")

    assert boots(said) == ["B 1.1.0", "A 1.0.0"]
    assert lab.judge.flags() == {"A": "2/0/1", "B": "1/0/1"}


@pytest.mark.parametrize("copy", ["primary", "backup"])
def test_a_copy_of_the_table_destroyed_between_boots_is_repaired(lab: Lab, copy: str) -> None:
    lab.install(lab.workshop.release("1.1.0"))
    judge = lab.judge
    judge.destroy(judge.commit_sector() if copy == "primary" else judge.backup_header())
    assert not judge.has_two_good_copies()

    said = lab.boot("stay")

    assert f"stage-1: repaired the partition table: {copy} copy" in said.text
    assert boots(said) == ["B 1.1.0"]
    assert judge.has_two_good_copies()
    assert judge.flags() == {"A": "1/0/1", "B": "2/0/1"}


def test_a_disk_that_holds_nothing_bootable_says_so_and_the_machine_restarts(lab: Lab) -> None:
    lab.install(lab.workshop.release("1.1.0", Behaviour.KERNEL_IS_BROKEN))
    judge = lab.judge
    boot_a = judge.partitions("A")[0].first_lba * 512
    judge.destroy(range(boot_a + 1024, boot_a + 2048))

    with lab.machine("stay") as machine:
        machine.wait_for("stage-1: nothing boots. Restarting in 3 s")
        machine.wait_for("stage-1: set A, marked successful", times=2)
        assert chosen(machine)[:3] == ["B", "A", "A"]
        assert "no other set can boot (priority/tries/successful: A 1/0/1, B 2/0/0)" in machine.text


@pytest.mark.parametrize("kind", ["UEFI", "BIOS"])
def test_firmware_starts_stage_1_from_the_disk(lab: Lab, kind: str) -> None:
    lab.install(lab.workshop.release("1.1.0"))
    firmware = uefi(lab.directory) if kind == "UEFI" else BIOS

    said = replace(lab, firmware=firmware).boot("stay")

    assert chosen(said) == ["B"]
    assert boots(said) == ["B 1.1.0"]
    assert lab.judge.flags() == {"A": "1/0/1", "B": "2/0/1"}


@dataclass(frozen=True, slots=True)
class Moment:
    """When the power is cut: a range of the disk's bytes has changed so many times."""

    name: str
    place: Callable[[Judge, Release], range]
    times: int = 1


def _image(role: str, share: float) -> Callable[[Judge, Release], range]:
    return lambda judge, release: judge.image_bytes("B", role, release, share)


def _backup(judge: Judge, _: Release) -> range:
    return judge.backup_entries()


def _commit(judge: Judge, _: Release) -> range:
    return judge.commit_sector()


MOMENTS = (
    Moment("the hash image has begun", _image("hash", 0)),
    Moment("the root image has begun", _image("root", 0)),
    Moment("half of the root image is written", _image("root", 0.5)),
    Moment("the boot image is nearly written", _image("boot", 0.9)),
    Moment("marking valid: in the backup copy", _backup),
    Moment("marking valid: committed", _commit),
    Moment("the upgrade: in the backup copy", _backup, times=2),
    Moment("the upgrade: committed", _commit, times=2),
    Moment("stage-1 spends the try: in the backup copy", _backup, times=3),
    Moment("stage-1 spends the try: committed", _commit, times=3),
)


@pytest.mark.parametrize("moment", MOMENTS, ids=lambda moment: moment.name)
def test_a_power_cut_at_any_moment_of_an_update_leaves_a_whole_set(
    lab: Lab, moment: Moment
) -> None:
    releases = {"A": lab.workshop.release(FACTORY), "B": lab.workshop.release("1.1.0")}
    lab.offer(releases["B"])
    judge = lab.judge

    with lab.machine("update") as machine:
        machine.wait_for("MARK updating")
        lab.cut_when_written(
            machine, moment.place(judge, releases["B"]), times=moment.times, timeout_seconds=180
        )

    following = judge.next()
    assert following is not None
    assert judge.holds(following, releases[following]), f"set {following} is not whole"
    said = lab.boot("stay")
    assert boots(said) == [f"{following} {releases[following].version}"]
    assert judge.has_two_good_copies()
