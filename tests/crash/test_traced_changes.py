"""What the recorder of system calls takes for durable, of programs that flush too little."""

import os
import random
import sys
from math import inf
from pathlib import Path

import pytest

from tests.crash.recorded import Content, Recording, replay, scan
from tests.crash.tracing import parse, trace, why_no_traces
from tests.crash.tree_states import tree_states

needs_traces = pytest.mark.skipif(why_no_traces() is not None, reason=str(why_no_traces()))


def recorded(directory: Path, program: str) -> Recording:
    """Record a program that finds `disk`, of four sectors, and `tree`, with a file of "old"."""
    disk, tree = directory / "disk", directory / "tree"
    disk.write_bytes(bytes(2048))
    tree.mkdir()
    (tree / "file").write_bytes(b"old")
    before = scan(tree)
    calls = trace(
        [sys.executable, "-c", f"import os, threading\n{program}"],
        directory / "log",
        environment=os.environ,
        directory=directory,
    )
    return replay(calls, disk=disk, tree=tree, before=before)


def trees(recording: Recording) -> list[dict[str, Content]]:
    """Return what a cut at the end can leave."""
    return list(tree_states(recording, inf, most=100, chance=random.Random(0)))


def flushed_sectors(recording: Recording) -> list[int]:
    return [w.offset // 512 for w in recording.writes if w.is_durable(inf)]


def test_a_call_that_others_overlap_has_a_beginning_and_an_end() -> None:
    lines = [
        r'1 pwrite64(3<\x2f\x61>, "\x41", 1, 512 <unfinished ...>',
        r"2 fsync(3<\x2f\x61>) = 0",
        r"2 fsync(9) = -1 EBADF (Bad file descriptor)",
        r"1 <... pwrite64 resumed>)  = 1",
        "1 +++ exited with 0 +++",
    ]
    flush, write = parse(iter(lines))
    assert (write.began, write.ended, flush.began, flush.ended) == (0, 3, 1, 1)
    assert (write.data(1), write.number(3), write.place(0)) == (b"A", 512, "/a")


@needs_traces
def test_a_flush_through_another_opening_of_the_disk_does_not_count(tmp_path: Path) -> None:
    recording = recorded(
        tmp_path,
        """if True:
        one, two = (os.open("disk", os.O_RDWR) for _ in range(2))
        same = os.open(f"/proc/self/fd/{one}", os.O_RDWR)
        os.pwrite(one, b"1" * 512, 0)
        os.pwrite(same, b"2" * 512, 512)
        os.pwrite(two, b"3" * 512, 1024)
        os.fsync(one)
        os.pwrite(one, b"4" * 512, 1536)
        """,
    )
    assert flushed_sectors(recording) == [0, 1]


@needs_traces
def test_what_is_written_without_a_flush_may_be_lost_torn_or_empty(tmp_path: Path) -> None:
    recording = recorded(tmp_path, """open("tree/new", "wb").write(b"12345678")""")
    files = [tree.get("new") for tree in trees(recording)]
    assert {None, b"", b"1234", b"12345678", bytes(8)} <= set(files)


@needs_traces
def test_a_flushed_file_may_lose_its_name_until_its_directory_is_flushed(tmp_path: Path) -> None:
    program = """if True:
        file = os.open("tree/.part", os.O_WRONLY | os.O_CREAT)
        os.write(file, b"new")
        os.fsync(file)
        os.rename(os.path.abspath("tree/.part"), os.path.abspath("tree/file"))
        """
    (tmp_path / "one").mkdir()
    found = trees(recorded(tmp_path / "one", program))
    assert {"file": b"old"} in found
    assert {"file": b"old", ".part": b"new"} in found
    assert {"file": b"new"} in found
    (tmp_path / "two").mkdir()
    flushing = f'{program}os.fsync(os.open("tree", os.O_RDONLY))'
    assert trees(recorded(tmp_path / "two", flushing)) == [{"file": b"new"}]


@needs_traces
def test_a_way_of_writing_that_is_not_recorded_fails(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="writev is not recorded"):
        recorded(tmp_path, """os.writev(os.open("tree/file", os.O_WRONLY), [b"new"])""")
