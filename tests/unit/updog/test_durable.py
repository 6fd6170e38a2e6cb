"""Files and directories that are replaced are the old one or the new, whatever comes in between."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from updog.durable import WholeDirectory, make_directory, replacing


class Recorder:
    """What reaches the medium, in order: each call is noted and then made."""

    def __init__(self, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.directory = directory
        self.steps: list[str] = []
        monkeypatch.setattr(os, "fsync", self.flushing(os.fsync))
        monkeypatch.setattr(os, "rename", self.renaming(os.rename))
        monkeypatch.setattr(os, "replace", self.renaming(os.replace))

    def flushing(self, fsync: Callable[[int], None]) -> Callable[[int], None]:
        def flush(descriptor: int) -> None:
            path = Path(f"/proc/self/fd/{descriptor}").readlink()
            content = f" {path.read_text()}" if path.is_file() else " " + ",".join(names(path))
            self.steps.append(f"flush {path.relative_to(self.directory)}{content}")
            fsync(descriptor)

        return flush

    def renaming(self, rename: Callable[[Path, Path], None]) -> Callable[[Path, Path], None]:
        def move(source: Path, target: Path) -> None:
            self.steps.append(f"rename {Path(source).name} {Path(target).name}")
            rename(source, target)

        return move


@pytest.fixture
def recorder(directory: Path, monkeypatch: pytest.MonkeyPatch) -> Recorder:
    return Recorder(directory, monkeypatch)


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

    def test_the_content_is_on_the_medium_before_its_name_and_the_name_at_the_end(
        self, directory: Path, recorder: Recorder
    ) -> None:
        (directory / "file").write_bytes(b"old")
        with replacing(directory / "file") as file:
            file.write(b"new")
        assert recorder.steps == [
            "flush .file.part new",
            "rename .file.part file",
            "flush . file",
        ]

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


class TestNewDirectories:
    def test_the_name_of_each_is_on_the_medium_before_anything_is_put_into_it(
        self, directory: Path, recorder: Recorder
    ) -> None:
        make_directory(directory / "one" / "two")
        assert recorder.steps == ["flush . one", "flush one two"]

    def test_one_that_is_there_already_is_left_alone(
        self, directory: Path, recorder: Recorder
    ) -> None:
        make_directory(directory)
        assert recorder.steps == []

    def test_something_else_in_its_place_is_not_removed(self, directory: Path) -> None:
        (directory / "one").write_bytes(b"a file")
        with pytest.raises(OSError, match=r"exists|directory"):
            make_directory(directory / "one" / "two")
        assert (directory / "one").read_bytes() == b"a file"

    def test_a_whole_directory_is_not_lost_with_the_one_that_it_lies_in(
        self, directory: Path, recorder: Recorder
    ) -> None:
        WholeDirectory(directory / "cache" / "place").begin()
        assert recorder.steps == ["flush . cache"]


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

    def test_all_of_it_is_on_the_medium_before_the_swap_and_the_swap_before_the_old_one_goes(
        self, directory: Path, recorder: Recorder
    ) -> None:
        whole = self.leave(directory, "place")
        scratch = whole.begin()
        (scratch / "inner").mkdir()
        (scratch / "inner" / "file").write_text("deep")
        (scratch / "content").write_text("new")
        recorder.steps.clear()
        whole.publish()
        assert sorted(recorder.steps[:4]) == [
            "flush .place.new content,inner",
            "flush .place.new/content new",
            "flush .place.new/inner file",
            "flush .place.new/inner/file deep",
        ]
        assert recorder.steps[4:] == [
            "rename place .place.old",
            "rename .place.new place",
            "flush . .place.old,place",
        ]
