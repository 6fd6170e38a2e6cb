import lzma
from pathlib import Path

import pytest

from repo_tools.errors import RepoToolsError
from repo_tools.stage1.kernel_modules import collect_modules


def a_module(depends: str = "") -> bytes:
    return b"\x7fELF\0license=GPL\0depends=" + depends.encode() + b"\0name=x\0"


def a_kernel(tmp_path: Path, modules: dict[str, str], built_in: str = "") -> Path:
    (tmp_path / "kernel").mkdir()
    (tmp_path / "modules.builtin").write_text(built_in)
    for name, depends in modules.items():
        (tmp_path / "kernel" / f"{name}.ko").write_bytes(a_module(depends))
    return tmp_path


def test_a_module_comes_after_everything_it_depends_on(tmp_path: Path) -> None:
    kernel = a_kernel(tmp_path, {"blk": "core,ring", "core": "ring", "ring": "", "other": ""})
    assert list(collect_modules(kernel, ["blk"], optional=())) == ["ring", "core", "blk"]


def test_dashes_and_underscores_are_the_same(tmp_path: Path) -> None:
    kernel = a_kernel(tmp_path, {"dm-verity": "dm-mod", "dm-mod": ""})
    assert list(collect_modules(kernel, ["dm_verity"], optional=())) == ["dm_mod", "dm_verity"]


def test_what_is_built_in_need_not_be_a_module(tmp_path: Path) -> None:
    kernel = a_kernel(tmp_path, {}, built_in="kernel/fs/ext4/ext4.ko\n")
    assert collect_modules(kernel, ["ext4"], optional=()) == {}


def test_a_module_that_was_asked_for_must_exist_a_usual_one_need_not(tmp_path: Path) -> None:
    kernel = a_kernel(tmp_path, {"virtio_blk": ""})
    assert list(collect_modules(kernel, [], optional=["nvme", "virtio_blk"])) == ["virtio_blk"]
    with pytest.raises(RepoToolsError, match="no module nvme"):
        collect_modules(kernel, ["nvme"])


def test_a_compressed_module_goes_in_uncompressed(tmp_path: Path) -> None:
    kernel = a_kernel(tmp_path, {})
    (kernel / "kernel" / "nvme.ko.xz").write_bytes(lzma.compress(a_module()))
    assert collect_modules(kernel, ["nvme"], optional=()) == {"nvme": a_module()}


def test_a_directory_without_modules_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RepoToolsError, match="holds no kernel modules"):
        collect_modules(tmp_path, [])
