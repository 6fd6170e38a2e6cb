"""What is built from a source tree, and what that does to the tree."""

import platform
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path
from zipfile import ZipFile

import pytest

MODULE = "updog/_block_hash.abi3.so"
IS_COMPILED = platform.machine() == "x86_64"
SOURCE = Path(__file__).parents[2]

WITHOUT_COMPILER = """
import sysconfig
found = sysconfig.get_config_var
sysconfig.get_config_var = lambda name: "no-such-compiler" if name == "CC" else found(name)
"""


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Return a copy of what a build takes, whatever was compiled before."""
    copy = tmp_path / "tree"
    ignore = shutil.ignore_patterns("__pycache__", "*.so")
    for name in ("updog", "signpost", "repo-tools"):
        shutil.copytree(SOURCE / name, copy / name, ignore=ignore)
    for name in ("pyproject.toml", "hatch_build.py", "README.md", "LICENSE", ".gitignore"):
        shutil.copy(SOURCE / name, copy)
    return copy


@pytest.fixture
def read_only_tree(tree: Path) -> Iterator[Path]:
    subprocess.run(["mount", "--bind", tree, tree], check=True)
    try:
        subprocess.run(["mount", "-o", "remount,bind,ro", tree], check=True)
        yield tree
    finally:
        subprocess.run(["umount", tree], check=True)


def build(tree: Path, target: str = "wheel", *, before: str = "") -> Path:
    program = f"{before}\nimport runpy\nrunpy.run_module('hatchling', run_name='__main__')"
    out = tree.with_name("out")
    command = [sys.executable, "-c", program, "build", "-t", target, "-d", str(out)]
    subprocess.run(command, cwd=tree, check=True, capture_output=True)
    [built] = out.iterdir()
    return built


def holds_module(wheel: Path) -> bool:
    with ZipFile(wheel) as archive:
        return archive.namelist().count(MODULE) == 1


def compiled_in(tree: Path) -> list[str]:
    return [path.name for path in (tree / "updog").glob("_block_hash.abi3*")]


def test_a_wheel_holds_the_module_and_the_source_tree_does_not(tree: Path) -> None:
    assert holds_module(build(tree)) == IS_COMPILED
    assert compiled_in(tree) == []


def test_what_stands_beside_the_source_is_neither_taken_nor_touched(tree: Path) -> None:
    """It may be of another machine, or in use by an editable installation."""
    (tree / MODULE).write_text("another machine's")
    (tree / ".gitignore").unlink()  # as in a container that hidden files were not copied to

    assert not holds_module(build(tree, before=WITHOUT_COMPILER))
    assert (tree / MODULE).read_text() == "another machine's"


@pytest.mark.root
def test_a_wheel_can_be_built_from_a_tree_that_cannot_be_written(read_only_tree: Path) -> None:
    assert holds_module(build(read_only_tree)) == IS_COMPILED


def test_a_source_archive_holds_nothing_compiled(tree: Path) -> None:
    with tarfile.open(build(tree, "sdist")) as archive:
        assert [name for name in archive.getnames() if name.endswith(".so")] == []
    assert compiled_in(tree) == []
