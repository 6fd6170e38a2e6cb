"""What counts is on the medium, not in the page cache of a real device."""

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from signpost import disk, state
from signpost.disk import Location
from signpost.sets import SetName
from tests.helpers.gpt_builder import Flags, an_ab_disk, build
from tests.helpers.gpt_readers import Medium, uefi_reader
from tests.helpers.loop_device import loop_device

pytestmark = [pytest.mark.loop]

STAGED = an_ab_disk(b=Flags(0, 1, 0))
UPGRADED = (Flags(1, 0, 1), Flags(2, 1, 0))


@pytest.fixture
def medium(tmp_path: Path) -> Path:
    path = tmp_path / "medium.img"
    path.write_bytes(build(STAGED))
    return path


@pytest.fixture
def node(medium: Path) -> Iterator[Path]:
    with loop_device(medium, "--direct-io=on") as node:
        yield node


@contextmanager
def cached(node: Path) -> Iterator[None]:
    """Keep what a device holds now in the page cache, as long as it stays open."""
    descriptor = os.open(node, os.O_RDONLY)
    try:
        while os.read(descriptor, 1 << 20):
            pass
        yield
    finally:
        os.close(descriptor)


def flags_on(medium: Path) -> tuple[Flags, ...]:
    seen = uefi_reader(Medium.of_file(medium, 512))
    assert seen is not None
    return seen.boot_flags


def test_a_change_starts_from_the_medium_and_not_from_older_pages(node: Path, medium: Path) -> None:
    with cached(node):
        with medium.open("r+b") as file:
            file.write(build(an_ab_disk(b=Flags(1, 0, 1))))
            os.fsync(file.fileno())
        done = disk.change(Location(path=node, active=SetName.A), state.mark_inactive_valid)
    assert done.before.state.flags[SetName.B].successful
    assert flags_on(medium) == (Flags(1, 0, 1), Flags(1, 1, 1))


def test_a_device_without_a_way_around_the_cache_is_written_through_it(
    node: Path, medium: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = fcntl.fcntl
    refused: list[int] = []

    def refuse(descriptor: int, command: int, flags: int = 0) -> int:
        if command == fcntl.F_SETFL and flags & os.O_DIRECT:
            refused.append(flags)
            raise OSError(errno.EINVAL, "Invalid argument")
        return real(descriptor, command, flags)

    monkeypatch.setattr(fcntl, "fcntl", refuse)
    disk.change(Location(path=node, active=SetName.A), state.upgrade_to_inactive)
    assert refused
    assert flags_on(medium) == UPGRADED


def test_a_device_that_refuses_its_way_around_the_cache_is_written_through_it(
    node: Path, medium: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.pwrite
    refused: list[int] = []

    def refuse(descriptor: int, data: bytes, offset: int) -> int:
        if fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_DIRECT:
            refused.append(offset)
            raise OSError(errno.EINVAL, "Invalid argument")
        return real(descriptor, data, offset)

    monkeypatch.setattr(os, "pwrite", refuse)
    disk.change(Location(path=node, active=SetName.A), state.upgrade_to_inactive)
    assert refused
    assert flags_on(medium) == UPGRADED
