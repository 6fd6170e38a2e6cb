import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from uuid import UUID

import pytest

from repo_tools.errors import FileSystemError, RepoToolsError
from repo_tools.ext4 import (
    Format,
    build_file_system,
    complaints,
    extract_tree,
    needed_bytes,
    read_file,
)
from repo_tools.programs import find_program
from repo_tools.tree import read_tree

MADE_AT = 1_767_225_600


def a_format(size_bytes: int = 4 << 20) -> Format:
    return Format(size_bytes=size_bytes, uuid=UUID(int=7), made_at=MADE_AT)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    top = tmp_path / "tree"
    inner = top / 'a "quoted" name' / "inner"
    inner.mkdir(parents=True)
    inner.chmod(0o700)
    (inner / "data").write_bytes(os.urandom(20_000))
    (top / "run me").write_text("#!/bin/sh\n")
    (top / "run me").chmod(0o755)
    (top / "empty").touch(mode=0o644)
    (top / "link").symlink_to("run me")
    return top


def facts_of(top: Path) -> dict[str, tuple[int, bytes | str]]:
    return {
        str(path.relative_to(top)): (
            path.lstat().st_mode,
            str(path.readlink()) if path.is_symlink() else path.read_bytes(),
        )
        for path in top.rglob("*")
        if not path.is_dir() or path.is_symlink()
    }


def test_a_tree_comes_out_as_it_went_in(tree: Path, tmp_path: Path) -> None:
    image, out = tmp_path / "image", tmp_path / "out"
    out.mkdir()
    build_file_system(read_tree(tree), image, a_format())
    extract_tree(image, out)
    (out / "lost+found").rmdir()
    assert facts_of(out) == facts_of(tree)
    assert (out / 'a "quoted" name' / "inner").stat().st_mode & 0o777 == 0o700


def test_the_file_system_is_clean(tree: Path, tmp_path: Path) -> None:
    image = tmp_path / "image"
    build_file_system(read_tree(tree), image, a_format())
    e2fsck = find_program("debugfs").with_name("e2fsck")
    subprocess.run([e2fsck, "-f", "-n", image], check=True, capture_output=True)


@pytest.mark.parametrize("backwards", [False, True])
def test_the_same_tree_gives_the_same_bytes_whenever_and_wherever_it_is_copied(
    tree: Path, tmp_path: Path, *, backwards: bool
) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    build_file_system(read_tree(tree), first, a_format())
    with tempfile.TemporaryDirectory(dir=SHARED_MEMORY) as copy:
        Path(copy).chmod(tree.stat().st_mode)
        copy_in_order(tree, Path(copy), backwards=backwards)
        build_file_system(read_tree(Path(copy)), second, a_format())
    assert first.read_bytes() == second.read_bytes()


# A file system in memory lists a directory in the order in which it was filled.
SHARED_MEMORY = next((path for path in ["/dev/shm"] if os.access(path, os.W_OK)), None)


def copy_in_order(tree: Path, to: Path, *, backwards: bool) -> None:
    for path in sorted(tree.iterdir(), reverse=backwards):
        copied = to / path.name
        if path.is_dir():
            shutil.copytree(path, copied)
        else:
            shutil.copy(path, copied, follow_symlinks=False)
        os.utime(copied, (1, 1), follow_symlinks=False)


def test_every_file_belongs_to_root_and_has_the_given_time(tree: Path, tmp_path: Path) -> None:
    image = tmp_path / "image"
    build_file_system(read_tree(tree), image, a_format())
    shown = subprocess.run(
        [find_program("debugfs"), "-R", "stat empty", image],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    assert "User:     0   Group:     0" in shown
    assert shown.count(f"0x{MADE_AT:08x}") == 4


def test_a_file_is_read_at_an_offset(tree: Path, tmp_path: Path) -> None:
    image, disk = tmp_path / "image", tmp_path / "disk"
    build_file_system(read_tree(tree), image, a_format())
    disk.write_bytes(bytes(1 << 20) + image.read_bytes())
    assert read_file(disk, "/run me", offset_bytes=1 << 20) == b"#!/bin/sh\n"


def test_the_estimated_size_holds_the_tree(tree: Path, tmp_path: Path) -> None:
    for number in range(300):
        (tree / f"file {number}").write_bytes(b"x" * (number * 50))
    build_file_system(read_tree(tree), tmp_path / "image", a_format(needed_bytes(read_tree(tree))))


def test_a_tree_that_does_not_fit_is_refused(tree: Path, tmp_path: Path) -> None:
    (tree / "big").write_bytes(os.urandom(2 << 20))
    with pytest.raises(RepoToolsError, match=r"cannot fill .*/image: write: Could not"):
        build_file_system(read_tree(tree), tmp_path / "image", a_format(1 << 20))


def test_a_socket_is_refused(tree: Path, tmp_path: Path) -> None:
    os.mkfifo(tree / "pipe")
    with pytest.raises(RepoToolsError, match="pipe is no file, directory or link"):
        build_file_system(read_tree(tree), tmp_path / "image", a_format())


def test_a_name_that_would_be_a_command_is_refused(tree: Path, tmp_path: Path) -> None:
    (tree / "a\nwrite b").touch()
    with pytest.raises(RepoToolsError, match="control characters in a name"):
        build_file_system(read_tree(tree), tmp_path / "image", a_format())


def test_the_errors_of_debugfs_are_told_from_its_chatter() -> None:
    written = (
        "debugfs 1.47.0 (5-Feb-2023)\n"
        "rdump: Operation not permitted while changing ownership of /x//usr\n"
        "dump_file: Operation not permitted while changing ownership of /x//etc/os-release\n"
        "write: Could not allocate block in ext2 filesystem \n"
    )
    assert complaints(written) == ("write: Could not allocate block in ext2 filesystem",)


def test_a_missing_file_is_named(tree: Path, tmp_path: Path) -> None:
    image = tmp_path / "image"
    build_file_system(read_tree(tree), image, a_format())
    with pytest.raises(FileSystemError, match=r"cannot read .*/image: /cmdline: File not found"):
        read_file(image, "/cmdline")


def test_bytes_that_are_no_file_system_are_refused(tmp_path: Path) -> None:
    image = tmp_path / "image"
    image.write_bytes(bytes(1 << 20))
    with pytest.raises(FileSystemError, match=r"at byte 4096: .*Bad magic number"):
        read_file(image, "/x", offset_bytes=4096)
    with pytest.raises(FileSystemError, match="Bad magic number"):
        extract_tree(image, tmp_path)
