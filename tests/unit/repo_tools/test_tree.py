import os
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from repo_tools.errors import RepoToolsError
from repo_tools.tree import EMPTY, of_any_namespace, read_tree
from tests.helpers.accounts import as_somebody_ordinary
from tests.unit.repo_tools.trees import CAPABILITY, a_root_tree, give_capability


def names(top: Path) -> list[str]:
    return [entry.name for entry in read_tree(top).entries]


def test_a_directory_comes_before_its_content_and_names_are_in_order(tmp_path: Path) -> None:
    for name in ("b", "b.d/x", "b.d", "a/z", "a"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.mkdir() if name in {"a", "b.d"} and not path.exists() else path.touch()
    assert names(tmp_path) == ["a", "a/z", "b", "b.d", "b.d/x"]


def test_the_first_of_several_names_holds_the_file(tmp_path: Path) -> None:
    (tmp_path / "b").write_text("x")
    for name in ("a", "c"):
        (tmp_path / name).hardlink_to(tmp_path / "b")
    found = [(e.name, e.first_name, e.link_count) for e in read_tree(tmp_path).entries]
    assert found == [("a", None, 3), ("b", "a", 3), ("c", "a", 3)]


def test_a_name_outside_of_the_tree_does_not_count(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "file").touch()
    (tmp_path / "outside").hardlink_to(tree / "file")
    assert read_tree(tree).entries[0].link_count == 1


def test_links_are_not_followed(tmp_path: Path) -> None:
    (tmp_path / "up").symlink_to("..")
    assert names(tmp_path) == ["up"]


@pytest.mark.root
def test_a_capability_is_taken_along_and_other_attributes_are_named(tmp_path: Path) -> None:
    (tmp_path / "program").touch()
    give_capability(tmp_path / "program")
    os.setxattr(tmp_path / "program", "trusted.note", b"x")
    tree = read_tree(tmp_path)
    assert tree.entries[0].capability == CAPABILITY
    assert tree.left_behind == {"trusted.note": str(tmp_path / "program")}


def test_a_capability_from_a_user_namespace_becomes_one_of_the_machine() -> None:
    for_user_1000 = CAPABILITY[:3] + b"\x03" + CAPABILITY[4:] + (1000).to_bytes(4, "little")
    assert of_any_namespace(for_user_1000) == of_any_namespace(CAPABILITY) == CAPABILITY


def test_a_pipe_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "it")
    with pytest.raises(RepoToolsError, match="it is no file, directory or link"):
        read_tree(tmp_path)


def test_a_socket_is_refused(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "it"))
        with pytest.raises(RepoToolsError, match="it is no file, directory or link"):
            read_tree(tmp_path)


@pytest.mark.root
def test_a_device_is_refused(tmp_path: Path) -> None:
    os.mknod(tmp_path / "it", 0o600 | stat.S_IFCHR, os.makedev(1, 3))
    with pytest.raises(RepoToolsError, match="it is no file, directory or link"):
        read_tree(tmp_path)


def test_lost_and_found_of_the_hosts_file_system_stays_behind(tmp_path: Path) -> None:
    (tmp_path / "lost+found").mkdir(mode=0)
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "lost+found").touch()
    assert names(tmp_path) == ["a", "a/lost+found"]


@pytest.mark.parametrize("hidden", ["usr/lib/deep", "usr/bin/tool"])
def test_what_cannot_be_read_is_named_and_no_hole_in_the_image(hidden: str, tmp_path: Path) -> None:
    top = a_root_tree(tmp_path / "tree")
    (top / hidden).chmod(0)
    program = "import sys; from pathlib import Path; from repo_tools.tree import read_tree\n"
    program += "from repo_tools.errors import RepoToolsError\n"
    program += "try: read_tree(Path(sys.argv[1]))\nexcept RepoToolsError as error: print(error)"
    done = subprocess.run(
        as_somebody_ordinary([sys.executable, "-c", program, str(top)]),
        check=True,
        capture_output=True,
        text=True,
    )
    (top / hidden).chmod(0o755)
    assert done.stdout == f"cannot read {top / hidden}: Permission denied\n"


@pytest.mark.parametrize("name", ["missing", "file"])
def test_a_tree_that_is_none_is_refused(name: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(RepoToolsError, match=rf"{name}(: No such file| is no directory)"):
        read_tree(tmp_path / name)


def test_files_are_added_to_the_top(tmp_path: Path) -> None:
    (tmp_path / "source").write_text("x")
    [entry] = EMPTY.with_files({"vmlinuz": tmp_path / "source"}).entries
    assert (entry.name, entry.source, entry.size_bytes) == ("vmlinuz", tmp_path / "source", 1)
    assert entry.mode == 0o100644


def test_an_added_file_does_not_replace_one_of_the_tree(tmp_path: Path) -> None:
    (tmp_path / "cmdline").touch()
    with pytest.raises(RepoToolsError, match=r"holds a cmdline already.*remove it there"):
        read_tree(tmp_path).with_files({"cmdline": tmp_path / "cmdline"})


@pytest.mark.parametrize("name", ["missing", "."])
def test_an_added_file_must_be_one(name: str, tmp_path: Path) -> None:
    with pytest.raises(RepoToolsError, match=r"missing: No such file|is no regular file"):
        EMPTY.with_files({"vmlinuz": tmp_path / name})
