"""What is too old to be believed, when a floor starts anew, and what damage to its file does."""

import json
import os
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from updog.errors import UpdogError
from updog.floor import (
    ROLES,
    AcceptedRole,
    DamagedFloor,
    Floor,
    find_rollback,
    is_clock_behind,
    raised,
    read_floor,
    write_floor,
)

NOON = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)


def a_role(name: str, version: int = 5, *, keys: tuple[str, ...] = ()) -> AcceptedRole:
    return AcceptedRole(version=version, key_ids=frozenset(keys or (f"{name} key",)))


def a_floor(**roles: AcceptedRole) -> Floor:
    return Floor(accepted_at=NOON, **({name: a_role(name) for name in ROLES} | roles))


def a_floor_of(accepted_at: datetime) -> Floor:
    return replace(a_floor(), accepted_at=accepted_at)


def refused(**offered: AcceptedRole) -> bool:
    return find_rollback(a_floor(), a_floor(**offered)) is not None


class TestVersions:
    @pytest.mark.parametrize("role", ROLES)
    def test_a_role_may_stay_or_rise_and_not_fall(self, role: str) -> None:
        assert not refused(**{role: a_role(role, 5)})
        assert not refused(**{role: a_role(role, 6)})
        assert refused(**{role: a_role(role, 4)})

    def test_a_refusal_names_the_role_both_versions_and_the_time(self) -> None:
        assert find_rollback(a_floor(), a_floor(targets=a_role("targets", 2))) == (
            "it offers version 2 of targets, but version 5 was accepted on 2026-11-21 12:00 UTC"
        )


NEW_ROOT = a_role("root", 6)
ANEW = {
    "timestamp": {"timestamp", "snapshot"},
    "snapshot": {"timestamp", "snapshot", "targets"},
    "targets": {"targets"},
    "root": set(),
}


class TestFastForwardRecovery:
    @pytest.mark.parametrize("rotated", ROLES)
    @pytest.mark.parametrize("lowered", ["timestamp", "snapshot", "targets"])
    def test_withdrawn_keys_free_the_roles_that_they_could_have_raised(
        self, rotated: str, lowered: str
    ) -> None:
        offered = {"root": NEW_ROOT, lowered: a_role(lowered, 1)}
        offered[rotated] = replace(
            offered.get(rotated, a_role(rotated)), key_ids=frozenset({"new key"})
        )
        assert refused(**offered) == (lowered not in ANEW[rotated])

    @pytest.mark.parametrize("rotated", ROLES)
    def test_the_root_never_starts_anew(self, rotated: str) -> None:
        offered = {"root": a_role("root", 4), rotated: a_role(rotated, 4, keys=("new key",))}
        assert refused(**offered)

    @pytest.mark.parametrize("role", ["timestamp", "snapshot", "targets"])
    def test_other_keys_without_a_newer_root_free_nothing(self, role: str) -> None:
        assert refused(**{role: a_role(role, 4, keys=("new key",))})

    @pytest.mark.parametrize("role", ["timestamp", "snapshot", "targets"])
    def test_a_key_that_is_merely_added_frees_nothing(self, role: str) -> None:
        keys = (f"{role} key", "new key")
        assert refused(root=NEW_ROOT, **{role: a_role(role, 4, keys=keys)})

    def test_one_of_two_keys_that_is_withdrawn_frees_the_role(self) -> None:
        floor = a_floor(targets=a_role("targets", 5, keys=("stolen", "kept")))
        offered = a_floor(root=NEW_ROOT, targets=a_role("targets", 1, keys=("kept",)))
        assert find_rollback(floor, offered) is None


class TestClock:
    @pytest.mark.parametrize(
        ("back", "is_behind"),
        [
            (timedelta(0), False),
            (timedelta(days=1), False),
            (timedelta(days=1, microseconds=1), True),
            (timedelta(days=9000), True),
            (timedelta(days=-9000), False),
        ],
    )
    def test_a_day_back_is_let_pass_and_no_more(self, back: timedelta, is_behind: bool) -> None:
        assert is_clock_behind(a_floor(), NOON - back) is is_behind

    def test_small_steps_back_do_not_add_up(self) -> None:
        floor = a_floor()
        for hours in (20, 24, 24):
            floor = raised(floor, a_floor_of(NOON - timedelta(hours=hours)))
        assert floor.accepted_at == NOON

    def test_the_time_rises_with_the_clock(self) -> None:
        later = NOON + timedelta(hours=1)
        assert raised(a_floor(), a_floor_of(later)).accepted_at == later
        assert raised(None, a_floor()) == a_floor()


versions = st.integers(1, 2**53)
roles = st.builds(
    AcceptedRole, version=versions, key_ids=st.frozensets(st.text("0123456789abcdef", max_size=64))
)
floors = st.builds(
    Floor,
    accepted_at=st.datetimes(timezones=st.just(UTC)),
    root=roles,
    timestamp=roles,
    snapshot=roles,
    targets=roles,
)


@given(floor=floors, offered=floors)
def test_what_was_accepted_is_accepted_again_and_nothing_below(
    floor: Floor, offered: Floor
) -> None:
    assert find_rollback(floor, floor) is None
    if offered.root.version < floor.root.version:
        assert find_rollback(floor, offered) is not None


class TestFile:
    @pytest.fixture
    def path(self, tmp_path: Path) -> Path:
        return tmp_path / "state" / "floor.json"

    def test_what_is_written_is_read_back(self, path: Path) -> None:
        write_floor(path, a_floor())
        assert read_floor(path) == a_floor()
        assert [each.name for each in path.parent.iterdir()] == [path.name]

    def test_a_missing_file_is_no_floor(self, path: Path) -> None:
        assert read_floor(path) is None

    def test_what_a_newer_version_of_the_program_adds_is_passed_over(self, path: Path) -> None:
        write_floor(path, a_floor())
        document = json.loads(path.read_bytes())
        document["future"] = document["root"]["future"] = {"more": 1}
        path.write_text(json.dumps(document))
        assert read_floor(path) == a_floor()

    def test_every_truncation_is_noticed(self, path: Path) -> None:
        write_floor(path, a_floor())
        whole = path.read_bytes()
        for length in range(len(whole.rstrip())):
            path.write_bytes(whole[:length])
            with pytest.raises(DamagedFloor):
                read_floor(path)

    @pytest.mark.parametrize(
        "content",
        [
            b"\x00\xff",
            b"[]",
            b"{}",
            b"[" * 100_000,
            b'"' + b"x" * (1 << 20) + b'"',
        ],
    )
    def test_what_is_no_floor_is_noticed(self, path: Path, content: bytes) -> None:
        path.parent.mkdir()
        path.write_bytes(content)
        with pytest.raises(DamagedFloor):
            read_floor(path)

    @pytest.mark.parametrize(
        ("key", "value"),
        [
            ("root", {"version": 0, "key_ids": []}),
            ("root", {"version": True, "key_ids": []}),
            ("root", {"version": 1.5, "key_ids": []}),
            ("root", {"version": 1}),
            ("accepted_at", "2026-11-21T12:00:00"),
            ("accepted_at", "9999-12-31T23:59:59-12:00"),
            ("accepted_at", 3),
        ],
    )
    def test_a_value_that_no_floor_holds_is_noticed(
        self, path: Path, key: str, value: object
    ) -> None:
        write_floor(path, a_floor())
        path.write_text(json.dumps(json.loads(path.read_bytes()) | {key: value}))
        with pytest.raises(DamagedFloor):
            read_floor(path)

    def directory(self, path: Path) -> None:
        (path / "inner").mkdir(parents=True)

    def link(self, path: Path) -> None:
        path.symlink_to("/dev/zero")

    @pytest.mark.parametrize("make", [directory, lambda _, path: os.mkfifo(path), link])
    def test_what_is_no_file_is_noticed_and_replaced(
        self, path: Path, make: Callable[[object, Path], None]
    ) -> None:
        path.parent.mkdir()
        make(self, path)
        with pytest.raises(DamagedFloor):
            read_floor(path)
        write_floor(path, a_floor())
        assert read_floor(path) == a_floor()
        assert not path.is_symlink()

    def test_what_a_cut_left_beside_it_is_taken_over(self, path: Path) -> None:
        path.parent.mkdir()
        (path.parent / ".floor.json.part").write_bytes(b"half")
        write_floor(path, a_floor())
        assert [each.name for each in path.parent.iterdir()] == [path.name]

    def test_a_place_that_cannot_be_written_is_named(self, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        path = tmp_path / "file" / "floor.json"
        with pytest.raises(UpdogError) as caught:
            write_floor(path, a_floor())
        assert str(caught.value) == (
            f"cannot note in {path} which metadata was accepted: File exists; nothing is accepted "
            "without, make room there or set paths.state"
        )
