import os
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


def test_the_estimated_size_holds_the_tree(tree: Path, tmp_path: Path) -> None:
    for number in range(300):
        (tree / f"file {number}").write_bytes(b"x" * (number * 50))
    build_file_system(read_tree(tree), tmp_path / "image", a_format(needed_bytes(read_tree(tree))))


def test_a_tree_that_does_not_fit_is_refused(tree: Path, tmp_path: Path) -> None:
    (tree / "big").write_bytes(os.urandom(2 << 20))
    with pytest.raises(RepoToolsError, match=r"cannot fill .*/image: write: Could not"):
        build_file_system(read_tree(tree), tmp_path / "image", a_format(1 << 20))


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


def test_bytes_that_are_no_file_system_are_refused(tmp_path: Path) -> None:
    image = tmp_path / "image"
    image.write_bytes(bytes(1 << 20))
    with pytest.raises(FileSystemError, match=r"at byte 4096: .*Bad magic number"):
        read_file(image, "/x", offset_bytes=4096)
    with pytest.raises(FileSystemError, match="Bad magic number"):
        extract_tree(image, tmp_path)
