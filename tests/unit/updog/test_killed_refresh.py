"""A refresh that is killed anywhere leaves what the next one can go on from, and nothing older."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.dying_refresh import Place
from tests.helpers.tuf_repository import TufPublisher


def publish(publisher: TufPublisher, directory: Path) -> None:
    publisher.publish()
    shutil.copytree(publisher.metadata.parent, directory)


@pytest.fixture
def place(directory: Path) -> Place:
    """Return three states of one repository; from the last but one on, with other keys."""
    publisher = TufPublisher(directory / "publisher")
    (directory / "root.json").write_bytes(publisher.root_bytes)
    publish(publisher, directory / "older")
    publish(publisher, directory / "old")
    publisher.rotate("root", "root 2")
    publisher.add_key("timestamp", "timestamp 2")
    publish(publisher, directory / "new")
    return Place(directory)


def deaths(place: Place) -> int:
    done = subprocess.run(
        [sys.executable, "-m", "tests.helpers.dying_refresh", str(place.directory)],
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


def test_a_refresh_that_is_killed_at_any_call_leaves_the_old_metadata_or_the_new(
    place: Place,
) -> None:
    place.restore()
    place.refresh("old")
    shutil.copytree(place.cache, place.directory / "cache", symlinks=True)
    shutil.copy(place.floor, place.directory / "floor.json")
    assert deaths(place) > 25


def test_a_first_refresh_that_is_killed_at_any_call_leaves_nothing_or_the_new(
    place: Place,
) -> None:
    assert deaths(place) > 25
