"""Small files are read to their end; whatever is none is refused without waiting for it."""

import os
from pathlib import Path

import pytest

from updog.files import read_small_file, read_small_text


def test_a_file_is_read_up_to_the_limit_and_not_beyond(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(bytes(1024))
    assert read_small_file(path, limit_bytes=1024) == bytes(1024)
    path.write_bytes(bytes(1025))
    with pytest.raises(ValueError, match="it holds more than 1 KiB"):
        read_small_file(path, limit_bytes=1024)


def test_a_pipe_without_a_writer_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ValueError, match="it is no regular file"):
        read_small_file(tmp_path / "pipe", limit_bytes=1024)


def test_a_device_is_refused() -> None:
    with pytest.raises(ValueError, match="it is no regular file"):
        read_small_file(Path("/dev/zero"), limit_bytes=1024)


def test_a_directory_and_a_missing_file_are_the_systems_errors(tmp_path: Path) -> None:
    with pytest.raises(IsADirectoryError):
        read_small_file(tmp_path, limit_bytes=1024)
    with pytest.raises(FileNotFoundError):
        read_small_file(tmp_path / "none", limit_bytes=1024)


def test_a_text_in_another_encoding_is_named_by_its_line(tmp_path: Path) -> None:
    path = tmp_path / "text"
    path.write_bytes("a\n\u00e9\n".encode())
    assert read_small_text(path, limit_bytes=1024) == "a\n\u00e9\n"
    path.write_bytes("a\n\u00e9\n".encode("latin-1"))
    with pytest.raises(ValueError, match="it is not UTF-8 text: line 2 holds other bytes"):
        read_small_text(path, limit_bytes=1024)
