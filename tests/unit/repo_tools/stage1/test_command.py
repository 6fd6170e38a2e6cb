"""`repo-tools image stage1` where a part is missing; that what it makes boots, tests/boot sees."""

import os
from pathlib import Path

import pytest

from repo_tools.errors import RepoToolsError
from repo_tools.stage1.esp import write_boot_code
from signpost.disk import Location, read
from signpost.gpt import Mbr
from signpost.sets import EFI_SYSTEM
from tests.unit.repo_tools.machines import run


def test_a_missing_kernel_is_one_line_and_nothing_is_made(tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = run("repo-tools", "image", "stage1", str(out), "--kernel", "none", "--modules", "none")
    assert done.returncode == 1
    assert done.stderr == "repo-tools: cannot read the kernel none: No such file or directory\n"
    assert not out.exists()


def test_a_system_without_python_is_one_line_that_says_what_to_give(tmp_path: Path) -> None:
    (tmp_path / "vmlinuz").write_bytes(b"kernel")
    done = run(
        *("repo-tools", "image", "stage1", str(tmp_path / "out"), "--system", str(tmp_path)),
        *("--kernel", str(tmp_path / "vmlinuz"), "--modules", str(tmp_path)),
    )
    assert done.returncode == 1
    assert done.stderr.startswith(f"repo-tools: no Python 3.11 or newer in {tmp_path}/usr/bin")
    assert done.stderr.count("\n") == 1


class TestDisk:
    @pytest.fixture
    def loader(self, tmp_path: Path) -> Path:
        esp = tmp_path / "esp.img"
        esp.write_bytes(b"a file system" * 1000)
        os.truncate(esp, (7 << 20) + 512)
        (tmp_path / "gptmbr.bin").write_bytes(b"boot code")
        return esp

    def test_a_disk_gets_the_room_the_content_and_the_mark_that_firmware_needs(
        self, tmp_path: Path, loader: Path
    ) -> None:
        disk = tmp_path / "disk.img"
        done = run(
            *("repo-tools", "image", "disk", str(disk), "--size-mib", "256"),
            *("--esp", str(loader), "--boot-code", str(tmp_path / "gptmbr.bin")),
        )
        assert done.returncode == 0, done.stderr
        table = read(Location(path=disk)).table
        efi = next(p for p in table.partitions if p.type_guid == EFI_SYSTEM)
        data = disk.read_bytes()
        start = efi.first_lba * 512
        assert efi.sectors * 512 == 8 << 20
        assert data[start : start + (7 << 20) + 512] == loader.read_bytes()
        assert efi.attributes == 1 << 2
        assert data.startswith(b"boot code\0")
        assert (table.mbr, table.faults) == (Mbr.PROTECTIVE, ())

    def test_boot_code_without_what_it_starts_is_wrong_usage(self, tmp_path: Path) -> None:
        disk = tmp_path / "disk.img"
        done = run("repo-tools", "image", "disk", str(disk), "--boot-code", "gptmbr.bin")
        assert done.returncode == 2
        assert "--boot-code needs --esp" in done.stderr
        assert not disk.exists()

    def test_a_missing_image_is_one_line_and_makes_no_disk(self, tmp_path: Path) -> None:
        disk = tmp_path / "disk.img"
        done = run("repo-tools", "image", "disk", str(disk), "--esp", "none")
        assert done.returncode == 1
        assert "No such file or directory (none)" in done.stderr
        assert not disk.exists()


class TestBootCode:
    def test_only_the_code_of_lba_0_is_replaced(self, tmp_path: Path) -> None:
        disk, code = tmp_path / "disk.img", tmp_path / "gptmbr.bin"
        disk.write_bytes(b"\xff" * 1024)
        code.write_bytes(b"code")
        write_boot_code(disk, code)
        assert disk.read_bytes() == b"code" + bytes(436) + b"\xff" * (1024 - 440)

    @pytest.mark.parametrize("length", [0, 441])
    def test_what_cannot_be_boot_code_is_refused(self, tmp_path: Path, length: int) -> None:
        disk, code = tmp_path / "disk.img", tmp_path / "gptmbr.bin"
        disk.write_bytes(bytes(1024))
        code.write_bytes(b"x" * length)
        with pytest.raises(RepoToolsError, match="no boot code"):
            write_boot_code(disk, code)
        assert disk.read_bytes() == bytes(1024)
