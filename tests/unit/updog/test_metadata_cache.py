import os
from collections.abc import Callable
from pathlib import Path

import pytest

from updog.metadata_cache import MetadataCache, read_files

OLD = {"timestamp.json": b"old", "root_history/1.root.json": b"root"}
NEW = {"timestamp.json": b"new", "root_history/1.root.json": b"root"}


def fill(directory: Path, files: dict[str, bytes]) -> None:
    (directory / "root_history").mkdir(parents=True)
    for name, content in files.items():
        (directory / name).write_bytes(content)


def a_cache(directory: Path) -> MetadataCache:
    path = directory / "metadata"
    fill(path, OLD)
    return MetadataCache(path)


def change(cache: MetadataCache) -> None:
    with cache.changing() as scratch:
        (scratch / "timestamp.json").write_bytes(b"new")


def neighbours(cache: MetadataCache) -> list[str]:
    return sorted(each.name for each in cache.path.parent.iterdir())


def test_a_change_takes_the_caches_place_and_leaves_nothing_beside_it(tmp_path: Path) -> None:
    cache = a_cache(tmp_path)
    change(cache)
    assert read_files(cache.path) == NEW
    assert neighbours(cache) == ["metadata"]


def test_the_cache_is_untouched_while_a_change_goes_on(tmp_path: Path) -> None:
    cache = a_cache(tmp_path)
    with cache.changing() as scratch:
        (scratch / "timestamp.json").write_bytes(b"new")
        assert read_files(cache.path) == OLD


def test_a_change_that_changes_nothing_writes_nothing(tmp_path: Path) -> None:
    cache = a_cache(tmp_path)
    before = cache.path.stat().st_ino
    with cache.changing():
        pass
    assert cache.path.stat().st_ino == before
    assert neighbours(cache) == ["metadata"]


def test_what_was_verified_before_a_failure_is_kept(tmp_path: Path) -> None:
    cache = a_cache(tmp_path)
    with pytest.raises(ValueError, match="half-way"), cache.changing() as scratch:  # noqa: PT012
        (scratch / "root_history/2.root.json").write_bytes(b"root 2")
        raise ValueError("half-way")
    assert read_files(cache.path) == OLD | {"root_history/2.root.json": b"root 2"}


def test_of_an_unfinished_change_only_new_roots_may_be_kept(tmp_path: Path) -> None:
    cache = a_cache(tmp_path)
    with (  # noqa: PT012
        pytest.raises(ValueError, match="half-way"),
        cache.changing(keeps_unfinished=False) as scratch,
    ):
        (scratch / "root_history/2.root.json").write_bytes(b"root 2")
        (scratch / "timestamp.json").write_bytes(b"new")
        (scratch / "snapshot.json").write_bytes(b"new")
        raise ValueError("half-way")
    assert read_files(cache.path) == OLD | {"root_history/2.root.json": b"root 2"}


def test_a_missing_cache_is_made_with_the_directories_above_it(tmp_path: Path) -> None:
    cache = MetadataCache(tmp_path / "var/cache/metadata")
    change(cache)
    assert read_files(cache.path) == {"timestamp.json": b"new"}


def test_a_link_to_the_cache_stays_a_link(tmp_path: Path) -> None:
    cache = a_cache(tmp_path)
    link = tmp_path / "link"
    link.symlink_to(cache.path)
    change(MetadataCache(link))
    assert link.is_symlink()
    assert read_files(link) == NEW


class TestCuts:
    """What a power cut can leave, in the order in which a change goes on."""

    def cut(self, tmp_path: Path, *names: str) -> MetadataCache:
        contents = {"metadata": OLD, ".metadata.old": OLD, ".metadata.new": NEW}
        for name in names:
            fill(tmp_path / name, contents[name])
        return MetadataCache(tmp_path / "metadata")

    def kept(self, cache: MetadataCache) -> dict[str, bytes]:
        """Return what the next change starts from."""
        with cache.changing() as scratch:
            found = read_files(scratch)
        assert neighbours(cache) == ["metadata"]
        assert read_files(cache.path) == found
        return found

    def test_while_the_copy_is_written(self, tmp_path: Path) -> None:
        cache = self.cut(tmp_path, "metadata")
        fill(tmp_path / ".metadata.new", {"timestamp.json": b""})
        assert self.kept(cache) == OLD

    def test_after_the_copy_was_written(self, tmp_path: Path) -> None:
        assert self.kept(self.cut(tmp_path, "metadata", ".metadata.new")) == OLD

    def test_after_the_cache_was_renamed_away(self, tmp_path: Path) -> None:
        assert self.kept(self.cut(tmp_path, ".metadata.old", ".metadata.new")) == NEW

    def test_after_the_copy_took_its_place(self, tmp_path: Path) -> None:
        cache = self.cut(tmp_path, "metadata", ".metadata.old")
        assert self.kept(cache) == OLD

    def test_while_the_old_one_was_removed(self, tmp_path: Path) -> None:
        cache = self.cut(tmp_path, "metadata")
        (tmp_path / ".metadata.old").mkdir()
        assert self.kept(cache) == OLD

    def test_a_copy_that_was_lost_gives_way_to_the_old_cache(self, tmp_path: Path) -> None:
        assert self.kept(self.cut(tmp_path, ".metadata.old")) == OLD


def a_fifo(path: Path) -> None:
    os.mkfifo(path)


def a_large_file(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(5_000_001)


@pytest.mark.parametrize(
    "make",
    [Path.mkdir, a_fifo, a_large_file, lambda path: path.symlink_to("/dev/zero")],
    ids=["directory", "fifo", "large", "link"],
)
def test_what_is_no_metadata_file_is_left_behind(
    tmp_path: Path, make: Callable[[Path], None]
) -> None:
    cache = a_cache(tmp_path)
    make(cache.path / "snapshot.json")
    (cache.path / "tmp1234").write_bytes(b"left by a killed writer")
    with cache.changing() as scratch:
        assert read_files(scratch) == OLD
        (scratch / "snapshot.json").write_bytes(b"snapshot")
    assert read_files(cache.path) == OLD | {"snapshot.json": b"snapshot"}


@pytest.mark.parametrize(
    "make",
    [lambda path: path.write_bytes(b"garbage"), a_fifo, lambda path: path.symlink_to("nowhere")],
    ids=["file", "fifo", "dangling link"],
)
def test_something_else_in_the_caches_place_heals(
    tmp_path: Path, make: Callable[[Path], None]
) -> None:
    make(tmp_path / "metadata")
    cache = MetadataCache(tmp_path / "metadata")
    change(cache)
    assert read_files(cache.path) == {"timestamp.json": b"new"}
