"""What both kinds of file system promise alike, judged by their own checkers and readers."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from uuid import UUID

import pytest

from repo_tools import erofs, ext4, filesystems
from repo_tools.errors import FileSystemError, RepoToolsError
from repo_tools.filesystems import Kind
from repo_tools.programs import find_program
from repo_tools.tree import read_tree
from repo_tools.vouching import whole
from signpost.disk import Window
from tests.unit.repo_tools.trees import (
    CAPABILITY,
    Facts,
    a_root_tree,
    facts_of,
    give_capability,
)

MADE_AT = 1_000_000_000
UUID_OF_IMAGE = UUID(int=7)
# A file system in memory lists a directory in the order in which it was filled.
MEMORY = next((path for path in ["/dev/shm"] if os.access(path, os.W_OK)), None)


def build(kind: Kind, top: Path, image: Path) -> Path:
    tree = read_tree(top)
    if kind is Kind.EROFS:
        if shutil.which("mkfs.erofs", path="/usr/bin:/usr/sbin") is None:
            pytest.skip("mkfs.erofs is not installed (Debian: erofs-utils): no erofs image made")
        erofs.build_file_system(tree, image, erofs.Format(uuid=UUID_OF_IMAGE, made_at=MADE_AT))
        return image
    size = ext4.needed_bytes(tree)
    how = ext4.Format(size_bytes=size, uuid=UUID_OF_IMAGE, made_at=MADE_AT)
    ext4.build_file_system(tree, image, how)
    return image


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    return a_root_tree(tmp_path / "tree")


@pytest.fixture(params=list(Kind))
def kind(request: pytest.FixtureRequest) -> Kind:
    found: Kind = request.param
    return found


def unpacked(image: Path, to: Path, *, by: Callable[[Path, Path], None]) -> Path:
    to.mkdir()
    by(image, to)
    shutil.rmtree(to / "lost+found", ignore_errors=True)
    return to


def by_us(image: Path, to: Path) -> None:
    filesystems.extract_tree(whole(image), to)


def by_fsck(image: Path, to: Path) -> None:
    fsck = str(find_program("mkfs.erofs").with_name("fsck.erofs"))
    options = [f"--extract={to}", "--overwrite", "--preserve-perms"]
    subprocess.run([fsck, *options, str(image)], check=True, capture_output=True)


def without_links(facts: Facts) -> dict[str, object]:
    """Forget what is lost on the way out: how many names a file has, and debugfs' setuid."""
    return {name: (mode & ~0o4000, content) for name, (mode, _, content) in facts.items()}


def test_a_tree_comes_out_as_it_went_in(kind: Kind, tree: Path, tmp_path: Path) -> None:
    out = unpacked(build(kind, tree, tmp_path / "image"), tmp_path / "out", by=by_us)
    assert without_links(facts_of(out)) == without_links(facts_of(tree))
    if kind is Kind.EROFS:
        assert (out / "usr/bin/tool").stat().st_mode == 0o104755


def test_the_tools_of_erofs_read_the_same(tree: Path, tmp_path: Path) -> None:
    image = build(Kind.EROFS, tree, tmp_path / "image")
    out = unpacked(image, tmp_path / "out", by=by_fsck)
    assert without_links(facts_of(out)) == without_links(facts_of(tree))


def test_the_file_system_is_clean(kind: Kind, tree: Path, tmp_path: Path) -> None:
    image = build(kind, tree, tmp_path / "image")
    e2fsck = find_program("mke2fs").with_name("e2fsck")
    command = [str(e2fsck), "-f", "-n"]
    if kind is Kind.EROFS:
        command = [str(find_program("mkfs.erofs").with_name("fsck.erofs")), "--extract"]
    subprocess.run([*command, str(image)], check=True, capture_output=True)


def describe(kind: Kind, image: Path, name: str) -> str:
    command = [str(find_program("debugfs")), "-R", f"stat {name}", str(image)]
    if kind is Kind.EROFS:
        dump = find_program("mkfs.erofs").with_name("dump.erofs")
        command = [str(dump), f"--path={name}", str(image)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return " ".join(done.stdout.split())


def test_all_files_are_roots_and_keep_their_modes_and_names(
    kind: Kind, tree: Path, tmp_path: Path
) -> None:
    if os.geteuid() == 0:
        os.chown(tree / "usr/bin/tool", 1000, 1000)
        (tree / "usr/bin/tool").chmod(0o4755)
    image = build(kind, tree, tmp_path / "image")
    tool, linked = (describe(kind, image, name) for name in ("/usr/bin/tool", "/usr/lib/4097"))
    assert "Links: 121 " in linked
    if kind is Kind.EXT4:
        assert "Mode: 04755 " in tool
        assert "User: 0 Group: 0 " in tool
        assert tool.count(f"0x{MADE_AT:08x}") == 4
    else:
        # dump.erofs does not show setuid.
        assert "Uid: 0 Gid: 0 Access: 0755/" in tool
        assert "2001-09-09 01:46:40" in tool


@pytest.mark.root
def test_a_capability_goes_into_the_image(kind: Kind, tree: Path, tmp_path: Path) -> None:
    give_capability(tree / "usr/bin/tool")
    image = build(kind, tree, tmp_path / "image")
    assert CAPABILITY in image.read_bytes()
    if kind is Kind.EXT4:
        assert "security.capability (20)" in describe(kind, image, "/usr/bin/tool")


@pytest.mark.root
def test_other_attributes_stay_behind(kind: Kind, tree: Path, tmp_path: Path) -> None:
    os.setxattr(tree / "usr/bin/tool", "trusted.note", b"host-only value")
    assert b"host-only value" not in build(kind, tree, tmp_path / "image").read_bytes()


@pytest.mark.root
def test_erofs_refuses_capabilities_beside_other_attributes(tree: Path, tmp_path: Path) -> None:
    give_capability(tree / "usr/bin/tool")
    os.setxattr(tree / "nothing", "trusted.note", b"x")
    with pytest.raises(RepoToolsError, match=r"nothing has the attribute trusted\.note.*or build"):
        build(Kind.EROFS, tree, tmp_path / "image")


@pytest.mark.parametrize("backwards", [False, True])
def test_the_order_of_directories_and_holes_on_the_host_make_no_difference(
    kind: Kind, tree: Path, tmp_path: Path, *, backwards: bool
) -> None:
    # Often enough for mkfs.erofs to store each value once, in the order in which it comes by.
    for number in range(12):
        (tree / f"program {number}").touch(mode=0o755)
        if os.geteuid() == 0:
            give_capability(tree / f"program {number}", bytes([1, 0, 0, 2, number % 3]) + bytes(15))
    first = build(kind, tree, tmp_path / "first")
    with tempfile.TemporaryDirectory(dir=MEMORY) as directory:
        copy = Path(directory, "copy")
        copy_in_order(tree, copy, backwards=backwards)
        second = build(kind, copy, tmp_path / "second")
    assert first.read_bytes() == second.read_bytes()


def copy_in_order(tree: Path, to: Path, *, backwards: bool) -> None:
    """Copy a tree, name by name, with a hole in place of the zeros in it and other times."""
    to.mkdir()
    to.chmod(0o755)
    hole = to / "zeros"
    for path in sorted(tree.rglob("*"), reverse=backwards):
        copied = to / path.relative_to(tree)
        copied.parent.mkdir(parents=True, exist_ok=True)
        if path.is_symlink():
            copied.symlink_to(path.readlink())
        elif path.is_dir():
            copied.mkdir(exist_ok=True)
            copied.chmod(path.stat().st_mode)
        elif path.stat().st_nlink > 1 and (to / "first link").exists():
            copied.hardlink_to(to / "first link")
        else:
            shutil.copy2(path, copied)
            os.utime(copied, (1, 1))
            if path.stat().st_nlink > 1:
                (to / "first link").hardlink_to(copied)
    (to / "first link").unlink()
    hole.write_bytes(b"")
    with hole.open("r+b") as file:
        file.seek(3 << 12)
        file.write(b"end")


def test_files_are_read_by_their_names_and_through_links(
    kind: Kind, tree: Path, tmp_path: Path
) -> None:
    disk = tmp_path / "disk"
    image = build(kind, tree, tmp_path / "image")
    disk.write_bytes(bytes(1 << 20) + image.read_bytes())
    window = Window(path=disk, offset_bytes=1 << 20, length_bytes=image.stat().st_size)
    assert filesystems.read_file(window, "/usr/lib/os-release").startswith(b'NAME="T"')
    assert filesystems.list_directory(window, "/usr/lib")["4097"] == 4097
    assert "nothing" in filesystems.list_directory(window, "/")
    head = filesystems.read_head(window)
    assert filesystems.identity(head) == (image.stat().st_size, UUID_OF_IMAGE)


def test_a_missing_file_is_named(kind: Kind, tree: Path, tmp_path: Path) -> None:
    window = whole(build(kind, tree, tmp_path / "image"))
    with pytest.raises(FileSystemError, match="/etc/none: File not found"):
        filesystems.read_file(window, "/etc/none")


def test_a_damaged_erofs_is_refused_and_never_hangs(tmp_path: Path) -> None:
    top = tmp_path / "tree"
    (top / "etc").mkdir(parents=True, mode=0o755)
    (top / "etc/file").write_bytes(b"x" * 5000)
    (top / "link").symlink_to("etc/file")
    good = build(Kind.EROFS, top, tmp_path / "image").read_bytes()
    verdicts = set()
    for at in range(1024, 1500):
        for change in (0x01, 0x80, 0xFF):
            data = bytearray(good)
            data[at] ^= change
            verdicts.add(verdict(bytes(data)))
    assert verdicts == {"read", "refused"}


def verdict(data: bytes) -> str:
    try:
        system = erofs.FileSystem(lambda offset, length: data[offset : offset + length])
        for name in system.list_directory("/"):
            system.list_directory(f"/{name}")
        system.read_file("/link")
    except FileSystemError:
        return "refused"
    return "read"


def test_an_empty_tree_is_an_image_too(kind: Kind, tmp_path: Path) -> None:
    top = tmp_path / "empty"
    top.mkdir(mode=0o755)
    out = unpacked(build(kind, top, tmp_path / "image"), tmp_path / "out", by=by_us)
    assert facts_of(out) == {}


def test_erofs_refuses_the_names_that_its_tool_would_drop(tree: Path, tmp_path: Path) -> None:
    (tree / "etc/lost+found.conf").touch()
    with pytest.raises(RepoToolsError, match=r"lost\+found\.conf: mkfs\.erofs leaves out"):
        build(Kind.EROFS, tree, tmp_path / "image")
    image = build(Kind.EXT4, tree, tmp_path / "image")
    assert "lost+found.conf" in filesystems.list_directory(whole(image), "/etc")


def test_a_tree_of_many_directories_fits(kind: Kind, tmp_path: Path) -> None:
    top = tmp_path / "tree"
    top.mkdir(mode=0o755)
    for number in range(1200):
        (top / f"{number % 30}" / f"{number}").mkdir(parents=True)
    image = build(kind, top, tmp_path / "image")
    assert len(filesystems.list_directory(whole(image), "/7")) == 40


def test_the_root_directory_keeps_its_mode(kind: Kind, tree: Path, tmp_path: Path) -> None:
    tree.chmod(0o775)
    shown = describe(kind, build(kind, tree, tmp_path / "image"), "/")
    assert "0775" in shown


def test_a_directory_of_many_long_names_fits(kind: Kind, tmp_path: Path) -> None:
    top = tmp_path / "tree"
    top.mkdir(mode=0o755)
    for number in range(600):
        (top / f"{number:0250}").symlink_to("x" * (number % 120 + 1))
    image = build(kind, top, tmp_path / "image")
    assert len(filesystems.list_directory(whole(image), "/").keys() - {"lost+found"}) == 600
