import os
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest

from repo_tools.durable import create_durably, place_durably, write_durably


def test_a_reader_of_the_old_file_keeps_it(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_durably(path, b"old")
    with path.open("rb") as reader:
        write_durably(path, b"new")
        assert reader.read() == b"old"
    assert path.read_bytes() == b"new"
    assert [each.name for each in tmp_path.iterdir()] == ["file"]


def test_what_an_interrupted_write_left_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "file.partial").write_bytes(b"half of something longer")
    write_durably(tmp_path / "file", b"whole")
    assert (tmp_path / "file").read_bytes() == b"whole"


def test_a_file_is_flushed_before_it_gets_its_name_and_the_name_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    temporary, path = tmp_path / "temporary", tmp_path / "file"
    temporary.write_bytes(b"x")
    flushed = []

    def record(descriptor: int) -> None:
        flushed.append((Path(f"/proc/self/fd/{descriptor}").readlink(), path.exists()))

    monkeypatch.setattr(os, "fsync", record)
    place_durably(temporary, path)
    assert flushed == [(temporary, False), (tmp_path, True)]


def test_a_new_file_never_takes_the_place_of_another(tmp_path: Path) -> None:
    path = tmp_path / "file"
    create_durably(path, b"first", mode=0o600)
    with pytest.raises(FileExistsError):
        create_durably(path, b"second")
    assert (path.read_bytes(), path.stat().st_mode & 0o777) == (b"first", 0o600)
    assert [each.name for each in tmp_path.iterdir()] == ["file"]


def test_of_two_who_make_a_file_at_once_one_does(tmp_path: Path) -> None:
    path = tmp_path / "file"

    def make(number: int) -> int | None:
        with suppress(FileExistsError):
            create_durably(path, b"%d" % number * 100_000)
            return number
        return None

    with ThreadPoolExecutor(8) as threads:
        (winner,) = [each for each in threads.map(make, range(1, 9)) if each]
    assert path.read_bytes() == b"%d" % winner * 100_000
    assert [each.name for each in tmp_path.iterdir()] == ["file"]


def test_a_new_file_is_flushed_before_it_gets_its_name_and_the_name_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    flushed = []

    def record(descriptor: int) -> None:
        target = Path(f"/proc/self/fd/{descriptor}").readlink()
        flushed.append((target == tmp_path, path.exists()))

    monkeypatch.setattr(os, "fsync", record)
    create_durably(path, b"x")
    assert flushed == [(False, False), (True, True)]
