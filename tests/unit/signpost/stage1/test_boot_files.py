import os
from pathlib import Path
from uuid import UUID

import pytest

from signpost.stage1.boot_files import BootFiles, find_boot_files, make_command_line
from signpost.stage1.errors import LoadError

GUID = UUID("12345678-9abc-def0-1234-56789abcdef0")


def a_boot(tmp_path: Path, **files: bytes) -> str:
    for name, data in {"vmlinuz": b"kernel", "cmdline": b"root=%U\n", **files}.items():
        (tmp_path / name.replace("_", ".")).write_bytes(data)
    return str(tmp_path)


def test_a_boot_gives_kernel_initrd_and_a_command_line_for_its_own_partition(
    tmp_path: Path,
) -> None:
    directory = a_boot(tmp_path, initrd_img=b"initrd")
    assert find_boot_files(directory, GUID) == BootFiles(
        kernel=f"{directory}/vmlinuz",
        initrd=f"{directory}/initrd.img",
        command_line=f"root={GUID}",
    )


def test_a_kernel_may_do_without_an_initrd(tmp_path: Path) -> None:
    assert find_boot_files(a_boot(tmp_path), GUID).initrd is None


@pytest.mark.parametrize("name", ["vmlinuz", "cmdline"])
def test_a_boot_without_kernel_or_command_line_is_refused(tmp_path: Path, name: str) -> None:
    directory = a_boot(tmp_path)
    (tmp_path / name).unlink()
    with pytest.raises(LoadError, match=f"holds no {name}"):
        find_boot_files(directory, GUID)


def test_a_directory_in_place_of_the_kernel_is_no_kernel(tmp_path: Path) -> None:
    directory = a_boot(tmp_path)
    (tmp_path / "vmlinuz").unlink()
    (tmp_path / "vmlinuz").mkdir()
    with pytest.raises(LoadError, match="holds no vmlinuz"):
        find_boot_files(directory, GUID)


@pytest.mark.parametrize("name", ["vmlinuz", "cmdline", "initrd.img"])
@pytest.mark.parametrize("kind", ["directory", "pipe", "device", "link to nothing"])
def test_what_is_no_file_is_refused_and_never_waited_for(
    tmp_path: Path, name: str, kind: str
) -> None:
    directory = a_boot(tmp_path)
    path = tmp_path / name
    path.unlink(missing_ok=True)
    match kind:
        case "directory":
            path.mkdir()
        case "pipe":
            os.mkfifo(path)
        case "device":
            path.symlink_to("/dev/zero")
        case _:
            path.symlink_to("/nowhere/at/all")
    with pytest.raises(LoadError, match=name):
        find_boot_files(directory, GUID)


def test_a_link_to_a_file_beside_it_is_that_file(tmp_path: Path) -> None:
    directory = a_boot(tmp_path, initrd_img=b"initrd")
    (tmp_path / "vmlinuz").rename(tmp_path / "vmlinuz-6.1")
    (tmp_path / "vmlinuz").symlink_to("vmlinuz-6.1")
    assert find_boot_files(directory, GUID).kernel == f"{directory}/vmlinuz"


def test_the_guid_stands_wherever_the_placeholder_stood() -> None:
    assert make_command_line(b"a=%U/1 b=%U/2", GUID) == f"a={GUID}/1 b={GUID}/2"


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b" \n", id="blank"),
        pytest.param(b"one\ntwo", id="two lines"),
        pytest.param(b"a\0b", id="zero byte"),
        pytest.param("ö".encode(), id="no ascii"),
    ],
)
def test_a_command_line_that_the_kernel_would_misread_is_refused(text: bytes) -> None:
    with pytest.raises(LoadError, match="its cmdline is n"):
        make_command_line(text, GUID)


def test_a_command_line_that_the_kernel_would_cut_is_refused_by_its_final_length() -> None:
    assert len(make_command_line(b"x" * 2047, GUID)) == 2047
    with pytest.raises(LoadError, match="2048 bytes"):
        make_command_line(b"x" * 2012 + b"%U", GUID)
