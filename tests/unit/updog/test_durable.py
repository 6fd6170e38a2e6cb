"""Files and directories that are replaced are the old one or the new, whatever comes in between."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from updog.durable import WholeDirectory, replacing


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


class TestFiles:
    def test_the_new_content_stands_there_at_the_end_and_not_before(self, directory: Path) -> None:
        path = directory / "file"
        path.write_bytes(b"old")
        with replacing(path) as file:
            file.write(b"new")
            file.flush()
            assert path.read_bytes() == b"old"
        assert path.read_bytes() == b"new"
        assert names(directory) == ["file"]

    @pytest.mark.parametrize("failure", [ValueError, KeyboardInterrupt, OSError])
    def test_a_failure_leaves_the_old_content_and_nothing_beside_it(
        self, directory: Path, failure: type[BaseException]
    ) -> None:
        path = directory / "file"
        path.write_bytes(b"old")
        with pytest.raises(failure), replacing(path) as file:  # noqa: PT012
            file.write(b"new")
            raise failure
        assert path.read_bytes() == b"old"
        assert names(directory) == ["file"]

    @pytest.mark.parametrize(
        "leave",
        [Path.touch, os.mkfifo, lambda path: path.symlink_to("/dev/full"), Path.mkdir],
    )
    def test_what_a_killed_run_left_is_replaced(
        self, directory: Path, leave: Callable[[Path], None]
    ) -> None:
        leave(directory / ".file.part")
        with replacing(directory / "file") as file:
            file.write(b"new")
        assert (directory / "file").read_bytes() == b"new"
        assert names(directory) == ["file"]

    def test_a_directory_in_the_files_place_is_not_removed(self, directory: Path) -> None:
        (directory / "file" / "inner").mkdir(parents=True)
        with pytest.raises(OSError, match="directory"), replacing(directory / "file") as file:
            file.write(b"new")
        assert (directory / "file" / "inner").is_dir()
        assert names(directory) == ["file"]


class TestDirectories:
    """What a cut can leave, in the order in which a replacement goes on."""

    def leave(self, directory: Path, *left: str) -> WholeDirectory:
        contents = {"place": "old", ".place.old": "old", ".place.new": "new"}
        for name in left:
            (directory / name).mkdir()
            (directory / name / "content").write_text(contents[name])
        return WholeDirectory(directory / "place")

    @pytest.mark.parametrize(
        ("left", "content"),
        [
            (("place",), "old"),
            (("place", ".place.new"), "old"),
            ((".place.old", ".place.new"), "new"),
            (("place", ".place.old"), "old"),
            ((".place.old",), "old"),
        ],
    )
    def test_a_reader_finds_the_old_content_or_the_new_and_a_writer_puts_it_in_place(
        self, directory: Path, left: tuple[str, ...], content: str
    ) -> None:
        whole = self.leave(directory, *left)
        assert (whole.current / "content").read_text() == content
        assert list(whole.begin().iterdir()) == []
        assert (directory / "place" / "content").read_text() == content
        whole.discard()
        assert names(directory) == ["place"]

    def test_a_scratch_copy_without_an_old_directory_was_never_finished(
        self, directory: Path
    ) -> None:
        whole = self.leave(directory, ".place.new")
        assert not whole.current.exists()

    def test_what_is_published_takes_the_place(self, directory: Path) -> None:
        whole = self.leave(directory, "place")
        (whole.begin() / "content").write_text("new")
        whole.publish()
        assert (directory / "place" / "content").read_text() == "new"
        assert names(directory) == ["place"]
