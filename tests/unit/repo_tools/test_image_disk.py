"""`repo-tools image disk` and `image inspect`, as installed."""

import hashlib
import json
import os
import shutil
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from repo_tools.layout import MEBIBYTE, write_image
from repo_tools.programs import find_own_command
from signpost.disk import Location, change, read
from signpost.flags import BootFlags
from signpost.sets import SetName
from tests.unit.repo_tools.machines import damage, run
from tests.unit.repo_tools.test_image_build import wait_for
from tests.unit.repo_tools.trees import a_root_tree


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A set of images for all tests, which change none of them."""
    place = tmp_path_factory.mktemp("images")
    a_root_tree(place / "tree")
    (place / "kernel").write_bytes(b"kernel" * 1000)
    how = ("--kernel", place / "kernel", "--compression", "lz4")
    done = run("repo-tools", "image", "build", place / "tree", place / "images", *how)
    assert done.returncode == 0, done.stderr
    return place / "images"


@pytest.fixture
def images(shared: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(shared, tmp_path / "images"))


@pytest.fixture
def disk(shared: Path, tmp_path: Path) -> Path:
    path = tmp_path / "disk.img"
    done = run("repo-tools", "image", "disk", path, "--size-mib", "256", "--set-a", shared)
    assert done.returncode == 0, done.stderr
    return path


def inspected(path: Path) -> Any:
    done = run("repo-tools", "image", "inspect", path, "--json")
    assert (done.returncode, done.stderr) == (0, "")
    return json.loads(done.stdout)


def told(path: Path) -> str:
    done = run("repo-tools", "image", "inspect", path)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def refused(*command: str | Path) -> str:
    done = run("repo-tools", "image", *command)
    assert (done.returncode, done.stdout) == (1, "")
    assert len(done.stderr.splitlines()) == 1
    return done.stderr.removeprefix("repo-tools: ").strip()


def test_set_a_holds_the_images_and_boots_next(disk: Path, shared: Path) -> None:
    facts = inspected(disk)
    built = json.loads((shared / "images.json").read_text())
    assert (facts["kind"], facts["next"], facts["faults"]) == ("disk", "A", [])
    assert facts["has_spare_array"]
    assert [len(facts["partitions"]), facts["length"]] == [13, 256 * MEBIBYTE]
    a, b = facts["sets"]["A"], facts["sets"]["B"]
    assert (a["flags"], b["flags"], a["verified"], b["verified"]) == ("1/0/1", "0/0/0", True, None)
    assert [b["boot"], b["root"], b["hash"]] == [None, None, None]
    assert a["root"]["os_release"] == {"NAME": "T", "VARIANT_ID": "t", "VERSION_ID": "1.1.0"}
    assert a["hash"]["root_digest"] == a["boot"]["root_digest"] == built["root_digest"]


def test_the_bytes_of_the_partitions_are_those_of_the_images(disk: Path, shared: Path) -> None:
    found = read(Location(path=disk))
    names = ("boot.ext4", "root.ext4", "root.verity")
    for name, partition in zip(names, found.sets[SetName.A].partitions, strict=True):
        window = found.window(partition)
        image = (shared / name).read_bytes()
        with disk.open("rb") as file:
            file.seek(window.offset_bytes)
            assert file.read(len(image)) == image


def test_a_person_reads_what_is_on_a_disk(disk: Path) -> None:
    text = told(disk)
    assert "GPT: both copies good" in text
    assert "Set A    priority/tries/successful 1/0/1, boots next" in text
    assert "NAME=T, VARIANT_ID=t, VERSION_ID=1.1.0" in text
    assert "verity every block of the root matches" in text


def damage_root(disk: Path) -> str:
    found = read(Location(path=disk))
    damage(found.window(found.sets[SetName.A].root), 64 << 10)
    return "block 16 of the root image is corrupted"


def damage_tree(disk: Path) -> str:
    found = read(Location(path=disk))
    damage(found.window(found.sets[SetName.A].hash), 4096)
    return "the hash image has the root digest"


def damage_superblock(disk: Path) -> str:
    found = read(Location(path=disk))
    damage(found.window(found.sets[SetName.A].hash), 0)
    return "the hash image holds no dm-verity superblock"


def damage_boot(disk: Path) -> str:
    found = read(Location(path=disk))
    damage(found.window(found.sets[SetName.A].boot), 1024 + 56)
    return "Bad magic number"


@pytest.mark.parametrize("spoil", [damage_root, damage_tree, damage_superblock, damage_boot])
def test_a_root_that_is_not_vouched_for_is_told(spoil: Callable[[Path], str], disk: Path) -> None:
    reason = spoil(disk)
    found = inspected(disk)["sets"]["A"]
    assert found["verified"] is False
    assert reason in found["reason"]
    assert f"verity NO: {found['reason']}" in told(disk)


def test_inspecting_changes_nothing(disk: Path) -> None:
    before = disk.stat()
    told(disk)
    after = disk.stat()
    assert (after.st_mtime_ns, after.st_blocks) == (before.st_mtime_ns, before.st_blocks)


def test_a_bad_copy_of_the_table_is_told(disk: Path) -> None:
    with disk.open("r+b") as file:
        file.seek(512 + 60)
        file.write(b"x")
    assert "primary copy" in inspected(disk)["faults"][0]


def test_flags_of_an_update_under_way_are_shown(disk: Path) -> None:
    flags = BootFlags(priority=2, tries=1, successful=False)
    change(Location(path=disk), lambda state: state.with_flags(SetName.B, flags))
    facts = inspected(disk)
    assert (facts["next"], facts["sets"]["B"]["flags"]) == ("B", "2/1/0")


def test_each_image_is_told_by_what_is_in_it(shared: Path, tmp_path: Path) -> None:
    kinds = {}
    for number, name in enumerate(["boot.ext4", "root.ext4", "root.verity"]):
        image = Path(shutil.copy(shared / name, tmp_path / str(number)))
        kinds[name] = inspected(image)["kind"]
        assert kinds[name] in told(image)
    assert list(kinds.values()) == ["boot image", "root image", "hash image"]


def test_a_boot_image_shows_its_files_and_what_it_vouches_for(shared: Path) -> None:
    facts = inspected(shared / "boot.ext4")
    built = json.loads((shared / "images.json").read_text())
    assert facts["files"] == {"lost+found": 0, "cmdline": 315, "vmlinuz": 6000}
    assert (facts["root_digest"], facts["salt"]) == (built["root_digest"], built["salt"])
    assert facts["command_line"].startswith("console=ttyS0 panic=1 root=/dev/dm-0")


def test_a_hash_image_shows_its_levels(shared: Path) -> None:
    facts = inspected(shared / "root.verity")
    blocks = (shared / "root.ext4").stat().st_size // 4096
    assert (facts["data_blocks"], facts["levels"]) == (blocks, [-(-blocks // 128), 1])
    assert facts["length"] == (shared / "root.verity").stat().st_size


def test_a_compressed_image_shows_length_and_digest_of_its_content(
    shared: Path, tmp_path: Path
) -> None:
    image = shared / "root.verity"
    packed = Path(shutil.copy(shared / "root.verity.lz4", tmp_path / "nameless"))
    facts = inspected(packed)
    assert (facts["codec"], facts["content"]) == ("lz4", "a hash image")
    assert facts["content_sha256"] == hashlib.sha256(image.read_bytes()).hexdigest()
    assert facts["content_length"] == image.stat().st_size
    assert facts["sha256"] == hashlib.sha256(packed.read_bytes()).hexdigest()
    packed.write_bytes(packed.read_bytes()[:-20])
    assert "the compressed image ends in the middle" in refused("inspect", packed)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "it is empty, or nothing that is made here"),
        (b"text", "it is empty, or nothing that is made here"),
        (b"verity\0\0" + bytes(100), "too few for a dm-verity superblock"),
        (bytes(512) + b"EFI PART" + bytes(300), "no room for a GUID partition table"),
        (bytes(1080) + b"\x53\xef" + bytes(3000), "it is empty|cannot read the file system"),
        (bytes(1024) + b"\xe2\xe1\xf5\xe0" + bytes(3000), "the erofs superblock is damaged"),
    ],
)
def test_what_is_nothing_of_that_is_one_line(content: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(content)
    said = refused("inspect", path)
    assert any(one in said for one in message.split("|")), said


def test_a_missing_file_is_one_line(tmp_path: Path) -> None:
    assert "No such file or directory" in refused("inspect", tmp_path / "none")


def test_an_empty_disk_has_no_set_to_boot_from(tmp_path: Path) -> None:
    done = run("repo-tools", "image", "disk", tmp_path / "d.img", "--size-mib", "192")
    assert done.returncode == 0
    assert "empty; it cannot boot" in done.stdout
    assert inspected(tmp_path / "d.img")["sets"]["A"]["boot"] is None


def test_images_that_do_not_belong_together_are_refused(images: Path, tmp_path: Path) -> None:
    with (images / "root.ext4").open("r+b") as file:
        file.seek(8192)
        file.write(b"x")
    said = refused("disk", tmp_path / "d.img", "--set-a", images)
    assert "block 2 of the root image is corrupted" in said
    assert not list(tmp_path.glob("*d.img*"))


def test_a_set_that_is_not_whole_is_refused(images: Path, tmp_path: Path) -> None:
    (images / "root.verity").unlink()
    said = refused("disk", tmp_path / "d.img", "--set-a", images)
    assert "must hold one file root.verity, and holds none" in said


def test_an_image_may_fill_its_partition_and_not_exceed_it_by_a_byte(tmp_path: Path) -> None:
    disk, image = tmp_path / "d.img", tmp_path / "image"
    assert run("repo-tools", "image", "disk", disk, "--size-mib", "192").returncode == 0
    found = read(Location(path=disk))
    window = found.window(found.sets[SetName.A].hash)
    image.write_bytes(b"x" * window.length_bytes)
    write_image(image, window)
    assert read(Location(path=disk)).table.faults == ()
    image.write_bytes(b"x" * (window.length_bytes + 1))
    with pytest.raises(Exception, match=f"has {window.length_bytes + 1} bytes, its partition"):
        write_image(image, window)


def test_images_too_large_for_the_disk_are_refused(images: Path, tmp_path: Path) -> None:
    with (images / "boot.ext4").open("r+b") as file:
        file.truncate((8 << 20) + 1)
    said = refused("disk", tmp_path / "d.img", "--size-mib", "256", "--set-a", images)
    assert (
        "the boot image has 8388609 bytes, its partition on a disk of 256 MiB only 8388608" in said
    )
    assert not list(tmp_path.glob("*d.img*"))


def test_a_file_that_is_there_is_replaced_only_if_told_so(tmp_path: Path) -> None:
    path = tmp_path / "d.img"
    path.write_bytes(b"precious")
    assert "d.img exists: --force replaces it" in refused("disk", path, "--size-mib", "192")
    assert path.read_bytes() == b"precious"
    assert run("repo-tools", "image", "disk", path, "--size-mib", "192", "--force").returncode == 0
    assert inspected(path)["kind"] == "disk"


def test_a_device_is_never_replaced() -> None:
    said = refused("disk", "/dev/null", "--size-mib", "192", "--force")
    assert "/dev/null exists and is no regular file" in said


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_command_leaves_no_half_disk(
    sent: signal.Signals, shared: Path, tmp_path: Path
) -> None:
    path = tmp_path / "d.img"
    command = [str(find_own_command("repo-tools")), "image", "disk", str(path)]
    command += ["--set-a", str(shared)]
    with subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=dict(os.environ)
    ) as making:
        wait_for(tmp_path, ".d.img.*/d.img", making)
        making.send_signal(sent)
        _, said = making.communicate(timeout=30)
    assert making.returncode == 1
    assert said.decode() == (
        f"repo-tools: cannot make the disk {path}: interrupted; nothing there was changed\n"
    )
    assert list(tmp_path.iterdir()) == []
