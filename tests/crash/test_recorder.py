"""The recorder is honest: strace sees the installed command make the same writes and flushes."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import patch

import pytest

from signpost import disk, state
from signpost.disk import Location
from signpost.sets import SetName
from tests.crash.explorer import crash_states, recording
from tests.crash.tracing import trace, why_no_traces
from tests.helpers.gpt_builder import FACTORY_A, Flags, an_ab_disk, build
from tests.helpers.machine import BIN

FIRST, SECOND, THIRD = b"1" * 512, b"2" * 512, b"3" * 512


@pytest.fixture
def files(tmp_path: Path) -> Iterator[tuple[int, int]]:
    """Two open files of four sectors."""
    for name in ("disk", "other"):
        (tmp_path / name).write_bytes(bytes(2048))
    descriptors = [os.open(tmp_path / name, os.O_RDWR) for name in ("disk", "other")]
    yield descriptors[0], descriptors[1]
    for descriptor in descriptors:
        os.close(descriptor)


def test_a_writer_that_flushes_another_file_is_found_out(files: tuple[int, int]) -> None:
    disk_file, other = files
    with recording(512) as epochs:
        for lba, content in enumerate((FIRST, SECOND)):
            os.pwrite(disk_file, content, lba * 512)
            os.fsync(other)
    assert epochs == [((0, FIRST), (1, SECOND))]


def test_a_command_whose_steps_flush_another_file_is_found_out(
    tmp_path: Path, files: tuple[int, int]
) -> None:
    image = tmp_path / "disk.img"
    image.write_bytes(build(an_ab_disk(a=FACTORY_A, b=Flags(0, 1, 0))))
    with recording(512) as epochs, recording_of_flushes_elsewhere(files[1]):
        disk.change(Location(path=image, active=SetName.A), state.upgrade_to_inactive)
    assert len(epochs) == 1, "the writes were taken for flushed"


@contextmanager
def recording_of_flushes_elsewhere(other: int) -> Iterator[None]:
    """Turn every flush, as the recorder sees it, into one of another file."""
    fsync, fdatasync = os.fsync, os.fdatasync
    with (
        patch("os.fsync", lambda _descriptor: fsync(other)),
        patch("os.fdatasync", lambda _descriptor: fdatasync(other)),
    ):
        yield


def test_a_flush_through_another_descriptor_of_the_file_counts(
    tmp_path: Path, files: tuple[int, int]
) -> None:
    again = os.open(tmp_path / "disk", os.O_RDWR)
    with recording(512) as epochs:
        os.pwrite(files[0], FIRST, 0)
        os.fdatasync(again)
        os.pwrite(files[0], SECOND, 512)
    os.close(again)
    assert epochs == [((0, FIRST),), ((1, SECOND),)]


@pytest.mark.parametrize(
    "write",
    [
        lambda one, _: os.write(one, FIRST),
        lambda one, _: os.writev(one, [FIRST]),
        lambda one, _: os.pwritev(one, [FIRST], 0),
        lambda one, two: os.sendfile(one, two, 0, 512),
    ],
)
def test_a_way_of_writing_that_is_not_recorded_fails(
    files: tuple[int, int], write: Callable[[int, int], int]
) -> None:
    with recording(512), pytest.raises(AssertionError, match="is not recorded"):
        write(*files)


def test_a_sector_written_twice_may_be_left_with_either_content() -> None:
    epoch = ((0, FIRST), (1, SECOND), (0, THIRD))
    states = list(crash_states([epoch], sector_size=512, original=lambda _: bytes(512)))
    changed = [dict(one.changed) for one in states]
    assert {0: FIRST} in changed
    assert {0: FIRST, 1: SECOND} in changed
    assert {0: THIRD, 1: SECOND} in changed


def recorded(image: Path) -> list[list[int]]:
    with recording(512) as epochs:
        disk.change(Location(path=image, active=SetName.A), state.upgrade_to_inactive)
    return [[lba for lba, _ in epoch] for epoch in epochs]


def traced(image: Path, log: Path) -> list[list[int]]:
    arguments = ("--disk", str(image), "--active", "A", "upgrade-to-inactive")
    calls = trace(
        [str(BIN / "signpost"), *arguments],
        log,
        environment=os.environ,
        directory=image.parent,
    )
    epochs: list[list[int]] = []
    pending: list[int] = []
    for call in calls:
        if call.name == "pwrite64":
            first, count = call.number(3) // 512, call.number(2) // 512
            pending += range(first, first + count)
        elif call.name in ("fsync", "fdatasync") and pending:
            epochs.append(pending)
            pending = []
    assert not pending, "the command ended with unflushed writes"
    return epochs


@pytest.mark.skipif(why_no_traces() is not None, reason=str(why_no_traces()))
def test_the_installed_command_writes_and_flushes_what_the_recorder_says(tmp_path: Path) -> None:
    content = build(an_ab_disk(a=FACTORY_A, b=Flags(0, 1, 0)))
    (tmp_path / "one.img").write_bytes(content)
    (tmp_path / "two.img").write_bytes(content)
    epochs = recorded(tmp_path / "one.img")
    assert len(epochs) == 4
    assert traced(tmp_path / "two.img", tmp_path / "log") == epochs
    assert (tmp_path / "one.img").read_bytes() == (tmp_path / "two.img").read_bytes()


def test_the_last_write_of_a_flip_is_one_sector(tmp_path: Path) -> None:
    image = tmp_path / "disk.img"
    image.write_bytes(build(an_ab_disk(a=FACTORY_A, b=Flags(0, 1, 0))))
    assert recorded(image)[-1] == [1]
