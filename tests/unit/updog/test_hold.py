"""What holds updates back: the agent's own hold, other programs' files, and what is told."""

from datetime import UTC, timedelta
from pathlib import Path

import pytest

from tests.helpers.events import NOON
from updog.config import Paths
from updog.errors import UpdogError
from updog.hold import Hold, hold_words
from updog.hold_files import find_hold, hold_path, hold_updates, read_own_hold, release_updates


@pytest.fixture
def paths(directory: Path) -> Paths:
    return Paths(state=directory / "state", holds=(directory / "etc", directory / "run"))


def put(directory: Path, text: str = "") -> Path:
    directory.mkdir(exist_ok=True)
    path = directory / "backup"
    path.write_text(text)
    return path


def test_nothing_holds_updates_back_at_first(paths: Paths) -> None:
    assert find_hold(paths, now=NOON) is None


def test_a_hold_lasts_until_it_is_released(paths: Paths) -> None:
    hold_updates(paths.state, until=None, reason="trade fair")
    held = find_hold(paths, now=NOON + timedelta(days=10_000))
    assert held is not None
    assert hold_words(held) == "for good: trade fair; `updog release` ends that"
    assert release_updates(paths.state) == held
    assert find_hold(paths, now=NOON) is None
    assert release_updates(paths.state) is None


def test_a_hold_ends_by_itself_at_its_time(paths: Paths) -> None:
    until = NOON + timedelta(hours=1)
    hold_updates(paths.state, until=until, reason="")
    held = find_hold(paths, now=until - timedelta(microseconds=1))
    assert held is not None
    assert hold_words(held, zone=UTC) == (
        "until Tue 2030-01-01 13:00 UTC; `updog release` ends that"
    )
    assert find_hold(paths, now=until) is None


def test_any_file_of_another_program_holds_updates_back(paths: Paths) -> None:
    path = put(paths.holds[1], "backup runs\nsince noon\n")
    held = find_hold(paths, now=NOON)
    assert held is not None
    assert hold_words(held) == (f"by {path}: backup runs; it lasts as long as that file is there")


def test_an_empty_file_holds_too_and_a_hidden_one_does_not(paths: Paths) -> None:
    put(paths.holds[0])
    assert find_hold(paths, now=NOON) is not None
    (paths.holds[0] / "backup").rename(paths.holds[0] / ".backup")
    assert find_hold(paths, now=NOON) is None


def test_of_several_holds_the_one_that_lasts_longest_is_told(paths: Paths) -> None:
    hold_updates(paths.state, until=NOON + timedelta(days=1), reason="own")
    path = put(paths.holds[0], "other")
    held = find_hold(paths, now=NOON)
    assert held is not None
    assert held.path == str(path)


def test_a_file_in_place_of_a_directory_of_holds_holds_too(paths: Paths) -> None:
    paths.holds[0].write_text("trade fair\n")
    held = find_hold(paths, now=NOON)
    assert held is not None
    assert held.path == str(paths.holds[0])


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{}",
        b'{"until": 5, "reason": ""}',
        b'{"until": "9999-12-31T23:59:59-14:00", "reason": ""}',
        b"[" * 50_000,
    ],
)
def test_a_hold_that_cannot_be_read_holds_all_the_same(paths: Paths, data: bytes) -> None:
    paths.state.mkdir()
    hold_path(paths.state).write_bytes(data)
    held = find_hold(paths, now=NOON)
    assert held is not None
    assert held.until is None


def test_a_hold_that_cannot_be_written_is_an_error(directory: Path) -> None:
    (directory / "state").touch()
    with pytest.raises(UpdogError, match="nothing was changed"):
        hold_updates(directory / "state", until=None, reason="")
    assert read_own_hold(directory / "state") is None


def test_no_reason_reaches_a_terminal_as_it_is() -> None:
    hold = Hold(path="/run/updog/hold.d/\x1b[2J", reason="\x1b[2J")
    assert hold_words(hold).isprintable()
