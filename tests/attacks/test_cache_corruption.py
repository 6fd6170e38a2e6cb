"""Damage to the metadata cache, to every file of it and in every way: the next run heals it."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.attacks.scene import Scene
from tests.helpers.http_server import status
from updog.metadata_cache import read_files

Damage = Callable[[Path, Path], None]
"""`damage(path, older)` spoils a file of the cache; `older` is what it was two publishings ago."""


def make_directory(path: Path, _older: Path) -> None:
    remove(path)
    path.mkdir()


def remove_directory_above(path: Path, _older: Path) -> None:
    shutil.rmtree(path.parent)


DAMAGES: dict[str, Damage] = {
    "empty": lambda path, _older: truncate(path, 0),
    "truncated": lambda path, _older: truncate(path, path.stat().st_size // 2),
    "garbage": lambda path, _older: overwrite(path, bytes(range(256)) * 16),
    "older": lambda path, older: overwrite(path, older.read_bytes()),
    "a directory": make_directory,
    "missing": lambda path, _older: remove(path),
    "all around it missing": remove_directory_above,
}


def truncate(path: Path, length: int) -> None:
    overwrite(path, path.read_bytes()[:length])


def overwrite(path: Path, content: bytes) -> None:
    remove(path)
    path.write_bytes(content)


def remove(path: Path) -> None:
    """Remove what stands there: root.json, which nobody reads, stays as it was last spoilt."""
    if path.is_dir() and not path.is_symlink():
        path.rmdir()
    else:
        path.unlink(missing_ok=True)


FILES = ["timestamp.json", "snapshot.json", "targets.json", "root.json", "root_history/2.root.json"]


@pytest.mark.parametrize("name", FILES)
def test_a_damaged_file_of_the_cache_heals(scene: Scene, tmp_path: Path, name: str) -> None:
    older = tmp_path / "older"
    shutil.copytree(scene.cache, older)
    shutil.copy(older / "root.json", older / "root_history" / "2.root.json")
    scene.publisher.rotate("snapshot")
    scene.publish_again()
    healthy, versions = read_files(scene.cache), scene.versions()
    for damage in DAMAGES.values():
        damage(scene.cache / name, older / name)
        assert scene.machine.updog("check-update").succeeded().stdout == scene.offer
        assert read_files(scene.cache) == healthy
        assert scene.versions() == versions
        scene.judge_leftovers()


def test_a_damaged_cache_is_not_believed_while_the_server_is_away(scene: Scene) -> None:
    truncate(scene.cache / "timestamp.json", 100)
    before = scene.machine.disk_digest()
    scene.server.always("*", status(404))
    line = scene.judge_words(scene.machine.updog("check-update"))
    assert "timestamp.json: the server answered 404" in line
    assert scene.machine.disk_digest() == before
    scene.recovers()
