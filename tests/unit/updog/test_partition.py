"""A window is written, flushed and read back, and not one byte outside it changes."""

import errno
import mmap
import os
import re
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import updog
from signpost.disk import Window
from tests.helpers.loop_device import failing_device, loop_device
from updog.errors import PartitionError
from updog.partition import (
    OpenPartition,
    describe,
    open_for_reading,
    open_for_writing,
)

MIB = 1 << 20
FILLING = b"\xa5"
"""What an image file holds where nobody has written."""


def a_window(
    directory: Path, *, before: int = 4096, length: int = 4096, after: int = 4096
) -> Window:
    """Return a window into a new image file, with neighbours before and after it."""
    path = directory / "disk.img"
    path.write_bytes(FILLING * (before + length + after))
    return Window(path=path, offset_bytes=before, length_bytes=length)


def window_of(path: Path, length: int, *, offset: int = 0) -> Window:
    return Window(path=path, offset_bytes=offset, length_bytes=length)


def refusal_to_open(window: Window) -> str:
    """Return the text with which a window is refused, for reading as for writing."""
    said = set()
    for opened in (open_for_writing, open_for_reading):
        with pytest.raises(PartitionError) as caught, opened(window):
            pass
        said.add(str(caught.value))
    assert len(said) == 1
    return said.pop()


@contextmanager
def open_file_as_partition(path: Path, mode: int) -> Iterator[OpenPartition]:
    """Treat a special file, which would be refused, as a partition, for the errors that it gives.

    /dev/full has no room for anything, and /proc/self/mem cannot be read or written at address 0.
    """
    descriptor = os.open(path, mode)
    try:
        yield OpenPartition(Window(path=path, offset_bytes=0, length_bytes=4096), descriptor)
    finally:
        os.close(descriptor)


def open_descriptors() -> set[str]:
    return set(os.listdir("/proc/self/fd"))  # noqa: PTH208 -- Path.iterdir would hold one more


class TestWriting:
    def test_what_is_written_stands_in_the_window_and_nowhere_else(self, tmp_path: Path) -> None:
        window = a_window(tmp_path, before=1000, length=300, after=77)
        with open_for_writing(window) as partition:
            partition.write(0, b"first")
            partition.write(295, b"last.")
        content = b"first" + FILLING * 290 + b"last."
        assert window.path.read_bytes() == FILLING * 1000 + content + FILLING * 77

    def test_a_window_can_be_filled_to_its_last_byte(self, tmp_path: Path) -> None:
        window = a_window(tmp_path, before=512, length=4096, after=512)
        with open_for_writing(window) as partition:
            partition.write(0, b"x" * 4096)
            partition.write(4096, b"")
        assert window.path.read_bytes() == FILLING * 512 + b"x" * 4096 + FILLING * 512

    @pytest.mark.parametrize(
        ("offset", "length"), [(0, 4097), (1, 4096), (4095, 2), (4096, 1), (5000, 1), (1 << 40, 1)]
    )
    def test_a_byte_behind_the_window_is_refused_and_nothing_is_written(
        self, tmp_path: Path, offset: int, length: int
    ) -> None:
        window = a_window(tmp_path)
        with (
            open_for_writing(window) as partition,
            pytest.raises(PartitionError, match=r"holds 4096 bytes, the image is larger$"),
        ):
            partition.write(offset, b"x" * length)
        assert window.path.read_bytes() == FILLING * 12288

    @given(data=st.data())
    @settings(max_examples=60, deadline=None)
    def test_any_writes_leave_the_neighbours_alone(
        self, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
    ) -> None:
        before, length, after = (data.draw(st.integers(0, 9000)) for _ in range(3))
        window = a_window(
            tmp_path_factory.mktemp("image"), before=before, length=length, after=after
        )
        expected = bytearray(FILLING * length)
        with open_for_writing(window) as partition:
            for _ in range(data.draw(st.integers(0, 5))):
                offset, piece = data.draw(st.integers(0, 10000)), data.draw(st.binary(max_size=99))
                if offset + len(piece) <= length:
                    partition.write(offset, piece)
                    expected[offset : offset + len(piece)] = piece
                else:
                    with pytest.raises(PartitionError):
                        partition.write(offset, piece)
            assert partition.read(0, length) == expected
        assert window.path.read_bytes() == FILLING * before + expected + FILLING * after

    def test_a_view_is_written_like_bytes(self, tmp_path: Path) -> None:
        with open_for_writing(a_window(tmp_path)) as partition:
            partition.write(0, memoryview(b"abcdef")[2:4])
            assert partition.read(0, 4) == b"cd" + FILLING * 2

    def test_a_full_medium_is_reported(self) -> None:
        with (
            open_file_as_partition(Path("/dev/full"), os.O_WRONLY) as partition,
            pytest.raises(
                PartitionError, match=r"^cannot write to /dev/full: No space left on device"
            ) as caught,
        ):
            partition.write(0, b"x")
        assert isinstance(caught.value.__cause__, OSError)
        assert caught.value.__cause__.errno == errno.ENOSPC

    def test_a_failing_medium_is_reported(self) -> None:
        with (
            open_file_as_partition(Path("/proc/self/mem"), os.O_RDWR) as partition,
            pytest.raises(
                PartitionError, match=r"^cannot write to /proc/self/mem: Input/output error"
            ),
        ):
            partition.write(0, b"x")

    def test_a_write_that_the_system_did_in_part_is_gone_on_with(self, tmp_path: Path) -> None:
        window = a_window(tmp_path, before=0, length=8192, after=0)
        done = subprocess.run(
            [sys.executable, "-c", WRITE_UNDER_A_FILE_SIZE_LIMIT, str(window.path)],
            env={"PYTHONPATH": str(Path(updog.__file__).parents[1])},
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout == f"cannot write to {window.path}: File too large\n"
        assert window.path.read_bytes() == b"x" * 5000 + FILLING * 3192

    def test_a_device_that_takes_nothing_is_an_error_and_no_endless_loop(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        answers = iter([100, 0])
        monkeypatch.setattr(os, "pwrite", lambda *_: next(answers))
        with (
            open_for_writing(a_window(tmp_path)) as partition,
            pytest.raises(PartitionError, match=r"^cannot write to .*: .*takes no more bytes$"),
        ):
            partition.write(0, b"x" * 4096)

    def test_a_partition_opened_for_reading_cannot_be_written(self, tmp_path: Path) -> None:
        window = a_window(tmp_path)
        with (
            open_for_reading(window) as partition,
            pytest.raises(PartitionError, match="cannot write"),
        ):
            partition.write(0, b"x")
        assert window.path.read_bytes() == FILLING * 12288


WRITE_UNDER_A_FILE_SIZE_LIMIT = """
import resource, sys
from pathlib import Path
from signpost.disk import Window
from updog.errors import PartitionError
from updog.partition import open_for_writing

resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))
with open_for_writing(Window(path=Path(sys.argv[1]), offset_bytes=0, length_bytes=8192)) as one:
    try:
        one.write(0, b"x" * 8192)
    except PartitionError as err:
        print(err)
"""


def an_aligned_buffer(content: bytes) -> memoryview:
    """Return a buffer that a device can take from, or fill, without the page cache."""
    buffer = memoryview(mmap.mmap(-1, max(1, len(content))))[: len(content)]
    buffer[:] = content
    return buffer


class TestPastTheCache:
    @given(data=st.data())
    @settings(max_examples=60, deadline=None)
    def test_any_writes_of_aligned_buffers_leave_the_neighbours_alone(
        self, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
    ) -> None:
        before = data.draw(st.sampled_from([0, 512, 4096, 8192]))
        offset = data.draw(st.sampled_from([0, 1, 512, 4096, 8192]))
        content = os.urandom(data.draw(st.integers(0, 40_000)))
        after = data.draw(st.integers(0, 9000))
        window = a_window(
            tmp_path_factory.mktemp("image"),
            before=before,
            length=offset + len(content),
            after=after,
        )
        with open_for_writing(window) as partition:
            partition.write(offset, an_aligned_buffer(content))
            back = an_aligned_buffer(bytes(len(content)))
            partition.read_into(offset, back)
        assert back == content
        expected = FILLING * (before + offset) + content + FILLING * after
        assert window.path.read_bytes() == expected

    @pytest.mark.loop
    def test_what_is_read_into_an_aligned_buffer_comes_from_the_device(
        self, tmp_path: Path
    ) -> None:
        backing = tmp_path / "disk.img"
        backing.write_bytes(FILLING * MIB)
        with (
            loop_device(backing) as node,
            open_for_reading(window_of(node, MIB)) as partition,
        ):
            assert partition.read(0, MIB) == FILLING * MIB
            backing.write_bytes(b"o" * MIB)
            assert partition.read(0, MIB) == FILLING * MIB, "the cache was not asked"
            buffer = an_aligned_buffer(bytes(MIB))
            partition.read_into(0, buffer)
            assert buffer == b"o" * MIB

    def test_a_device_that_does_not_let_us_past_its_cache_is_written_through_it(
        self, tmp_path: Path
    ) -> None:
        window = a_window(tmp_path, before=0, length=8192, after=0)
        direct = os.open("/proc/self/fd", os.O_RDONLY | os.O_DIRECTORY)
        descriptor = os.open(window.path, os.O_RDWR)
        real = os.pwrite
        try:
            partition = OpenPartition(window, descriptor, direct)
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(os, "pwrite", refuse_with(errno.EINVAL, direct, real))
                partition.write(0, an_aligned_buffer(b"x" * 5000))
        finally:
            os.close(direct)
            os.close(descriptor)
        assert window.path.read_bytes() == b"x" * 5000 + FILLING * 3192


def refuse_with(number: int, refused: int, write: Callable[..., int]) -> Callable[..., int]:
    """Return a pwrite that fails for one descriptor."""

    def pwrite(descriptor: int, data: memoryview, position: int) -> int:
        if descriptor == refused:
            raise OSError(number, os.strerror(number))
        return write(descriptor, data, position)

    return pwrite


class TestFlushing:
    def test_a_flush_that_fails_is_reported(self) -> None:
        with (
            open_file_as_partition(Path("/dev/full"), os.O_WRONLY) as partition,
            pytest.raises(PartitionError, match=r"^cannot flush /dev/full: Invalid argument"),
        ):
            partition.flush()

    @pytest.mark.loop
    def test_a_device_that_fails_shows_when_it_is_flushed(self) -> None:
        with failing_device(MIB) as node, open_for_writing(window_of(node, MIB)) as partition:
            partition.write(0, b"x" * 4096)
            with pytest.raises(PartitionError, match=f"^cannot flush {node}: Input/output error"):
                partition.flush()

    @pytest.mark.loop
    def test_a_device_that_fails_shows_after_32_mib_and_not_at_the_end(self) -> None:
        window_bytes = 40 * MIB
        with (
            failing_device(window_bytes) as node,
            open_for_writing(window_of(node, window_bytes)) as partition,
        ):
            for number in range(31):
                partition.write(number * MIB, bytes(MIB))
            with pytest.raises(PartitionError, match=f"^cannot flush {node}"):
                partition.write(31 * MIB, bytes(MIB))


class TestReading:
    @pytest.mark.parametrize("offset", [0, 1, 511, 4095, 4096])
    def test_exactly_the_wanted_range_of_the_window_is_read(
        self, tmp_path: Path, offset: int
    ) -> None:
        window = a_window(tmp_path, before=100, length=4096, after=100)
        content = bytes(range(256)) * 16
        with open_for_writing(window) as partition:
            partition.write(0, content)
        with open_for_reading(window) as partition:
            assert partition.read(offset, 4096 - offset) == content[offset:]
            assert partition.read(offset, 0) == b""

    @pytest.mark.parametrize(("offset", "length"), [(-1, 1), (-5, 2), (0, 4097), (4096, 1)])
    def test_no_neighbour_is_read(self, tmp_path: Path, offset: int, length: int) -> None:
        with (
            open_for_reading(a_window(tmp_path)) as partition,
            pytest.raises(PartitionError, match=f"has no bytes {offset} to {offset + length}$"),
        ):
            partition.read(offset, length)

    def test_a_medium_that_ends_early_is_reported(self, tmp_path: Path) -> None:
        window = a_window(tmp_path, before=0, length=4096, after=0)
        with open_for_reading(window) as partition:
            os.truncate(window.path, 1000)
            assert partition.read(0, 1000) == FILLING * 1000
            with pytest.raises(PartitionError, match=r"disk\.img ends before its byte 4096$"):
                partition.read(900, 3196)

    def test_a_medium_that_cannot_be_read_is_reported(self) -> None:
        with (
            open_file_as_partition(Path("/proc/self/mem"), os.O_RDONLY) as partition,
            pytest.raises(
                PartitionError, match=r"^cannot read /proc/self/mem: Input/output error$"
            ),
        ):
            partition.read(0, 1)

    @pytest.mark.loop
    @pytest.mark.parametrize("offset", [0, 8192, MIB])
    def test_after_forgetting_the_medium_is_asked_and_not_the_cache(
        self, tmp_path: Path, offset: int
    ) -> None:
        backing = tmp_path / "disk.img"
        backing.write_bytes(bytes(3 * MIB))
        with (
            loop_device(backing) as node,
            open_for_writing(window_of(node, MIB, offset=offset)) as partition,
        ):
            partition.write(0, b"x" * MIB)
            partition.flush()
            backing.write_bytes(b"o" * 3 * MIB)
            assert partition.read(0, MIB) == b"x" * MIB
            partition.forget_cached()
            assert partition.read(0, MIB) == b"o" * MIB


def test_a_system_that_takes_no_advice_about_its_cache_is_no_error() -> None:
    reader, writer = os.pipe()  # POSIX: advice about a pipe is ESPIPE
    try:
        window = Window(path=Path("pipe"), offset_bytes=0, length_bytes=4096)
        OpenPartition(window, reader).forget_cached()
    finally:
        os.close(reader)
        os.close(writer)


class TestOpening:
    def test_opening_changes_nothing(self, tmp_path: Path) -> None:
        window = a_window(tmp_path)
        for opened in (open_for_writing, open_for_reading):
            with opened(window):
                pass
        assert window.path.read_bytes() == FILLING * 12288

    def test_a_missing_partition_is_refused_and_not_created(self, tmp_path: Path) -> None:
        path = tmp_path / "vda4"
        said = refusal_to_open(window_of(path, 4096))
        assert said == f"cannot open {path}: No such file or directory"
        assert list(tmp_path.iterdir()) == []

    def test_a_path_through_a_file_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        said = refusal_to_open(window_of(tmp_path / "file" / "vda4", 4096))
        assert said.endswith("/file/vda4: Not a directory")

    def test_a_directory_is_refused(self, tmp_path: Path) -> None:
        said = refusal_to_open(window_of(tmp_path, 0))
        assert said == f"{tmp_path} is neither a block device nor an image file"

    def test_a_fifo_is_refused_without_waiting_for_its_other_end(self, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "fifo")
        said = refusal_to_open(window_of(tmp_path / "fifo", 4096))
        assert said == f"{tmp_path}/fifo is neither a block device nor an image file"

    def test_a_socket_is_refused(self, tmp_path: Path) -> None:
        with socket.socket(socket.AF_UNIX) as one:
            one.bind(str(tmp_path / "socket"))
            said = refusal_to_open(window_of(tmp_path / "socket", 4096))
        assert said == f"{tmp_path}/socket is neither a block device nor an image file"

    def test_a_character_device_is_refused(self) -> None:
        said = refusal_to_open(window_of(Path("/dev/zero"), 4096))
        assert said == "/dev/zero is neither a block device nor an image file"

    def test_a_link_to_an_image_file_is_followed(self, tmp_path: Path) -> None:
        window = a_window(tmp_path)
        (tmp_path / "link").symlink_to(window.path)
        with open_for_reading(window_of(tmp_path / "link", 4096)) as partition:
            assert partition.read(0, 3) == FILLING * 3

    @pytest.mark.parametrize(("offset", "length"), [(0, 4097), (1, 4096), (4097, 0), (1 << 40, 1)])
    def test_a_window_that_reaches_behind_the_end_is_refused_and_does_not_grow_the_file(
        self, tmp_path: Path, offset: int, length: int
    ) -> None:
        window = a_window(tmp_path, before=0, length=4096, after=0)
        too_long = window_of(window.path, length, offset=offset)
        said = refusal_to_open(too_long)
        assert said == (
            f"{describe(too_long)} should hold {length} bytes, but {window.path} ends at byte 4096"
        )
        assert window.path.stat().st_size == 4096

    def test_a_window_may_end_where_the_file_ends(self, tmp_path: Path) -> None:
        window = a_window(tmp_path, before=4096, length=4096, after=0)
        with open_for_writing(window) as partition:
            partition.write(4095, b"x")
        assert window.path.read_bytes() == FILLING * 8191 + b"x"

    def test_no_descriptor_is_left_behind(self, tmp_path: Path) -> None:
        window = a_window(tmp_path)
        before = open_descriptors()
        with pytest.raises(ZeroDivisionError), open_for_writing(window):
            raise ZeroDivisionError
        refusal_to_open(window_of(window.path, 1 << 30))
        assert open_descriptors() == before

    def test_a_partition_is_named_by_its_path_and_a_window_by_its_offset_too(self) -> None:
        assert describe(window_of(Path("/dev/vda4"), 4096)) == "/dev/vda4"
        assert describe(window_of(Path("disk.img"), 4096, offset=512)) == "disk.img at byte 512"


@pytest.mark.loop
class TestBlockDevices:
    def test_a_device_that_is_open_for_writing_is_refused_to_others(self, tmp_path: Path) -> None:
        with loop_device(a_window(tmp_path).path) as node:
            window = window_of(node, 4096)
            with (
                open_for_writing(window),
                pytest.raises(
                    PartitionError, match=f"^cannot open {node}: .* another program holds it"
                ),
                open_for_writing(window),
            ):
                pass
            with open_for_writing(window) as partition:
                assert partition.read(0, 1) == FILLING

    def test_windows_into_one_device_are_open_at_the_same_time(self, tmp_path: Path) -> None:
        backing = tmp_path / "disk.img"
        backing.write_bytes(bytes(3 * MIB))
        with (
            loop_device(backing) as node,
            open_for_writing(window_of(node, MIB, offset=MIB)) as first,
            open_for_writing(window_of(node, MIB, offset=2 * MIB)) as second,
        ):
            first.write(0, b"first")
            second.write(0, b"second")
            first.flush()
            second.flush()
        content = backing.read_bytes()
        assert content == bytes(MIB) + b"first".ljust(MIB, b"\0") + b"second".ljust(MIB, b"\0")

    def test_a_device_that_is_written_can_be_looked_at(self, tmp_path: Path) -> None:
        with loop_device(a_window(tmp_path).path) as node:
            window = window_of(node, 4096)
            with open_for_writing(window) as writing, open_for_reading(window) as looking:
                writing.write(0, b"seen")
                assert looking.read(0, 4) == b"seen"

    def test_what_is_flushed_has_reached_the_medium_and_no_neighbour(self, tmp_path: Path) -> None:
        path = a_window(tmp_path).path
        with loop_device(path) as node, open_for_writing(window_of(node, 4096, offset=4096)) as one:
            one.write(1, b"x" * 4094)
            one.flush()
            expected = FILLING + b"x" * 4094 + FILLING
            assert path.read_bytes() == FILLING * 4096 + expected + FILLING * 4096

    def test_a_device_that_is_too_short_is_refused(self, tmp_path: Path) -> None:
        with loop_device(a_window(tmp_path).path) as node:
            said = refusal_to_open(window_of(node, 12289))
            assert said == f"{node} should hold 12289 bytes, but {node} ends at byte 12288"

    def test_a_write_protected_device_is_not_written(self, tmp_path: Path) -> None:
        path = a_window(tmp_path).path
        with loop_device(path, "--read-only") as node:
            with (
                pytest.raises(PartitionError, match=re.escape(str(node))),
                open_for_writing(window_of(node, 4096)) as partition,
            ):
                partition.write(0, b"x")
            with open_for_reading(window_of(node, 4096)) as partition:
                assert partition.read(0, 1) == FILLING
        assert path.read_bytes() == FILLING * 12288
