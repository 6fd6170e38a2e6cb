"""Events survive cuts and strangers, and the boot flags say what became of an update."""

import json
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from semver import Version

from signpost import state as boot
from signpost.sets import SetName
from signpost.state import BootState
from tests.helpers.events import NOON, a_state, an_activated_update, an_event
from updog.errors import UpdogError
from updog.history import (
    Event,
    EventKind,
    History,
    event_facts,
    known_version,
    quarantined,
    settle,
    staged_version,
)

LATER = NOON + timedelta(days=3)

small = st.integers(0, 99)
versions = st.builds(
    Version, major=small, minor=small, patch=small, prerelease=st.sampled_from([None, "rc.1"])
)
moments = st.datetimes(
    min_value=datetime(2000, 1, 1),  # noqa: DTZ001 -- hypothesis adds the time zone
    max_value=datetime(2100, 1, 1),  # noqa: DTZ001
    timezones=st.sampled_from([UTC, timezone(timedelta(hours=-9, minutes=-30))]),
).map(lambda moment: moment.replace(microsecond=0))
events = st.builds(
    Event,
    time=moments,
    kind=st.sampled_from(EventKind),
    version=versions,
    set=st.sampled_from(SetName),
    running=st.none() | versions,
    bytes=st.none() | st.integers(0, 1 << 50),
    seconds=st.none() | st.floats(0, 1e6),
    error=st.none() | st.text(max_size=50),
)


def a_history(directory: Path, *recorded: Event) -> History:
    history = History(directory / "history.jsonl")
    for event in recorded:
        history.append(event)
    return history


class TestFile:
    def test_a_machine_to_which_nothing_has_happened_has_no_history(self, tmp_path: Path) -> None:
        assert a_history(tmp_path).events() == ()
        assert list(tmp_path.iterdir()) == []

    @given(recorded=st.lists(events, max_size=6))
    @settings(max_examples=40, deadline=None)
    def test_events_read_back_as_they_were_recorded(
        self, tmp_path_factory: pytest.TempPathFactory, recorded: list[Event]
    ) -> None:
        directory = tmp_path_factory.mktemp("history")
        assert a_history(directory, *recorded).events() == tuple(recorded)

    def test_an_event_is_one_line_of_json(self, tmp_path: Path) -> None:
        a_history(
            tmp_path,
            an_event(EventKind.STARTED, running="1.0.0"),
            an_event(EventKind.FAILED, error="line one\nline two \u2028 \x00", size=0, seconds=0.0),
        )
        lines = (tmp_path / "history.jsonl").read_text(encoding="ascii").splitlines()
        common = {"time": "2030-01-01T12:00:00+00:00", "version": "1.1.0", "set": "B"}
        assert [json.loads(line) for line in lines] == [
            {**common, "event": "started", "running": "1.0.0"},
            {
                **common,
                "event": "failed",
                "bytes": 0,
                "seconds": 0.0,
                "error": "line one\nline two \u2028 \x00",
            },
        ]

    def test_the_words_for_events_stay_as_they_are_on_disks(self) -> None:
        assert [kind.value for kind in EventKind] == [
            "started",
            "installed",
            "activated",
            "reverted",
            "booted",
            "rolled back",
            "failed",
        ]

    def test_facts_that_an_event_does_not_have_are_left_out(self) -> None:
        assert set(event_facts(an_event())) == {"time", "event", "version", "set"}

    def test_no_descriptor_is_left_behind(self, tmp_path: Path) -> None:
        before = len(list(Path("/proc/self/fd").iterdir()))
        a_history(tmp_path, an_event(), an_event()).events()
        assert len(list(Path("/proc/self/fd").iterdir())) == before

    def test_the_directory_is_made(self, tmp_path: Path) -> None:
        history = History(tmp_path / "var" / "lib" / "updog" / "history.jsonl")
        history.append(an_event())
        assert history.events() == (an_event(),)

    def test_a_full_medium_is_reported(self) -> None:
        with pytest.raises(
            UpdogError, match=r"^cannot write history /dev/full: No space left on device$"
        ):
            History(Path("/dev/full")).append(an_event())

    def test_a_medium_that_cannot_be_flushed_is_reported(self) -> None:
        with pytest.raises(UpdogError, match=r"^cannot write history /dev/null: Invalid argument$"):
            History(Path("/dev/null")).append(an_event())

    def test_something_else_in_its_place_is_reported(self, tmp_path: Path) -> None:
        history = History(tmp_path)
        with pytest.raises(UpdogError, match=f"^cannot read history {tmp_path}: Is a directory$"):
            history.events()
        with pytest.raises(UpdogError, match=f"^cannot write history {tmp_path}: Is a directory$"):
            history.append(an_event())


class TestDamagedFile:
    def test_a_line_that_was_torn_anywhere_costs_only_itself(self, tmp_path: Path) -> None:
        first, torn, later = (an_event(version=v) for v in ("1.0.0", "1.1.0", "1.2.0"))
        history, path = a_history(tmp_path, first), tmp_path / "history.jsonl"
        begins = path.stat().st_size
        history.append(torn)
        content = path.read_bytes()
        for end in range(begins, len(content)):
            path.write_bytes(content[:end])
            is_whole = end == len(content) - 1
            survivors = (first, torn) if is_whole else (first,)
            assert history.events() == survivors
            history.append(later)
            assert history.events() == (*survivors, later)
            assert history.damage() is None

    def test_the_first_line_of_all_may_be_torn(self, tmp_path: Path) -> None:
        (tmp_path / "history.jsonl").write_bytes(b'{"time": "20')
        assert a_history(tmp_path, an_event()).events() == (an_event(),)

    @pytest.mark.parametrize(
        "line",
        [
            b"",
            b"   ",
            b"\0" * 512,
            b"\xff\xfe garbage",
            b"not json",
            b"null",
            b"[]",
            b'"a string"',
            b"17",
            b"{}",
        ],
    )
    def test_a_line_that_is_no_event_is_passed_over(self, tmp_path: Path, line: bytes) -> None:
        history = a_history(tmp_path, an_event())
        with (tmp_path / "history.jsonl").open("ab") as file:
            file.write(line + b"\n")
        history.append(an_event(version="1.2.0"))
        assert history.events() == (an_event(), an_event(version="1.2.0"))

    @pytest.mark.parametrize(
        "strange",
        [
            {"event": "defragmented"},
            {"event": None},
            {"set": "C"},
            {"set": 1},
            {"version": "one"},
            {"version": 1},
            {"time": "yesterday"},
            {"time": 1893499200},
            {"running": "one"},
            {"bytes": "many"},
            {"seconds": "few"},
            {"error": 5},
        ],
    )
    def test_an_event_of_a_later_version_of_updog_is_passed_over(
        self, tmp_path: Path, strange: dict[str, object]
    ) -> None:
        history = a_history(tmp_path, an_event())
        with (tmp_path / "history.jsonl").open("a") as file:
            file.write(json.dumps(event_facts(an_event()) | strange) + "\n")
        assert history.events() == (an_event(),)

    @pytest.mark.parametrize("missing", ["time", "event", "version", "set"])
    def test_an_event_without_its_essentials_is_passed_over(
        self, tmp_path: Path, missing: str
    ) -> None:
        facts = {name: fact for name, fact in event_facts(an_event()).items() if name != missing}
        (tmp_path / "history.jsonl").write_text(json.dumps(facts) + "\n")
        assert a_history(tmp_path).events() == ()

    def test_lines_that_cannot_be_read_are_counted_and_the_first_is_numbered(
        self, tmp_path: Path
    ) -> None:
        path = tmp_path / "history.jsonl"
        history = a_history(tmp_path, an_event())
        with path.open("ab") as file:
            file.write(b"one\n{}\n")
        history.append(an_event())
        assert history.damage() == (
            f"2 of 4 lines of {path} cannot be read, the first is 2: "
            "earlier rollbacks may be forgotten"
        )

    @pytest.mark.parametrize("torn", [b"", b'{"time": "20'])
    def test_a_last_line_that_was_torn_is_no_damage(self, tmp_path: Path, torn: bytes) -> None:
        history = a_history(tmp_path, an_event(), an_event())
        with (tmp_path / "history.jsonl").open("ab") as file:
            file.write(torn)
        assert history.damage() is None

    def test_what_does_not_exist_is_not_damaged(self, tmp_path: Path) -> None:
        assert a_history(tmp_path).damage() is None

    def test_facts_that_a_later_version_adds_are_ignored(self, tmp_path: Path) -> None:
        facts = event_facts(an_event()) | {"mirror": "b"}
        (tmp_path / "history.jsonl").write_text(json.dumps(facts) + "\n")
        assert a_history(tmp_path).events() == (an_event(),)


def mirrored(state: BootState) -> BootState:
    """Return a state with A and B in each other's place."""
    return BootState(
        flags={name.other: flags for name, flags in state.flags.items()},
        active=state.active.other if state.active else None,
        ever_succeeded=state.ever_succeeded,
    )


each_set = pytest.mark.parametrize("name", SetName)


def outcome(state: BootState, name: SetName, *more: Event) -> EventKind | None:
    """Return what became of an update in set `name`; `state` describes one in set B."""
    state = state if name is SetName.B else mirrored(state)
    event = settle([*an_activated_update(name=name), *more], state, now=LATER)
    return event.kind if event else None


class TestWhatBecameOfAnUpdate:
    @each_set
    @pytest.mark.parametrize("tries", [1, 2, 15])
    def test_it_waits_while_the_next_boot_will_try_it(self, name: SetName, tries: int) -> None:
        assert outcome(a_state("1/0/1", f"2/{tries}/0"), name) is None

    @each_set
    def test_it_was_booted_when_it_runs_and_is_marked_successful(self, name: SetName) -> None:
        assert outcome(a_state("1/0/1", "2/0/1", active=SetName.B), name) is EventKind.BOOTED

    @each_set
    @pytest.mark.parametrize("priority", [1, 2, 15])
    def test_it_was_booted_when_it_is_marked_successful_though_the_other_set_runs(
        self, name: SetName, priority: int
    ) -> None:
        assert outcome(a_state("2/0/1", f"{priority}/0/1"), name) is EventKind.BOOTED

    @each_set
    @pytest.mark.parametrize("priority", [1, 2, 15])
    def test_it_was_rolled_back_when_its_try_is_spent_and_it_does_not_run(
        self, name: SetName, priority: int
    ) -> None:
        state = a_state("1/0/1", f"{priority}/0/0")
        assert outcome(state, name) is EventKind.ROLLED_BACK

    @each_set
    @pytest.mark.parametrize("gone", ["0/1/0", "0/0/0", "0/15/0"])
    def test_it_was_reverted_when_it_lost_its_priority(self, name: SetName, gone: str) -> None:
        assert outcome(a_state("2/0/1", gone), name) is EventKind.REVERTED

    @each_set
    @pytest.mark.parametrize("theirs", ["2/1/0", "2/0/0", "0/0/0", "2/0/1"])
    def test_nobody_knows_where_it_is_not_known_what_runs(self, name: SetName, theirs: str) -> None:
        assert outcome(a_state("1/0/1", theirs, active=None), name) is None

    def test_nobody_knows_where_its_set_is_gone(self) -> None:
        assert outcome(a_state("1/0/1", None), SetName.B) is None

    @each_set
    def test_the_outcome_tells_when_it_was_noticed_and_of_which_version_and_set(
        self, name: SetName
    ) -> None:
        state = a_state("1/0/1", "2/0/0")
        state = state if name is SetName.B else mirrored(state)
        found = settle(an_activated_update("1.2.0-rc.1", name=name), state, now=LATER)
        assert found == an_event(EventKind.ROLLED_BACK, "1.2.0-rc.1", name=name, time=LATER)

    @pytest.mark.parametrize("theirs", ["2/0/0", "2/0/1", "0/1/0"])
    def test_an_outcome_is_noticed_once(self, theirs: str) -> None:
        state, told = a_state("1/0/1", theirs), list(an_activated_update())
        found = settle(told, state, now=LATER)
        assert found is not None
        assert settle([*told, found], state, now=LATER) is None

    def test_a_failed_command_since_then_hides_nothing(self) -> None:
        failed = an_event(EventKind.FAILED, "1.2.0", error="cannot fetch")
        state = a_state("1/0/1", "2/0/0")
        assert outcome(state, SetName.B, failed, failed) is EventKind.ROLLED_BACK

    @pytest.mark.parametrize(
        ("theirs", "expected"),
        [
            ("2/0/0", EventKind.ROLLED_BACK),
            ("2/0/1", EventKind.BOOTED),
            ("2/1/0", None),
            ("0/1/0", None),
            ("0/0/0", None),
        ],
    )
    def test_an_activation_that_a_power_cut_kept_from_the_history_is_noticed_by_the_flags(
        self, theirs: str, expected: EventKind | None
    ) -> None:
        installed = an_event(EventKind.INSTALLED)
        assert outcome(a_state("1/0/1", theirs), SetName.B, installed) is expected

    def test_it_is_on_trial_while_it_runs_without_the_mark(self) -> None:
        state = a_state("1/0/1", "2/0/0", active=SetName.B)
        assert outcome(state, SetName.B, *an_activated_update("1.1.0")) is None

    @pytest.mark.parametrize("kind", [EventKind.REVERTED, EventKind.BOOTED, EventKind.ROLLED_BACK])
    @pytest.mark.parametrize("theirs", ["2/0/0", "2/0/1", "0/1/0", "0/0/0"])
    def test_there_is_nothing_to_notice_after_anything_but_an_activation(
        self, kind: EventKind, theirs: str
    ) -> None:
        assert outcome(a_state("1/0/1", theirs), SetName.B, an_event(kind)) is None

    @pytest.mark.parametrize("told", [(), (an_event(EventKind.FAILED),)])
    def test_there_is_nothing_to_notice_where_nothing_was_activated(
        self, told: tuple[Event, ...]
    ) -> None:
        assert settle(told, a_state("1/0/1", "2/0/0"), now=LATER) is None

    def test_only_the_last_activation_counts(self) -> None:
        told = (*an_activated_update("1.1.0"), *an_activated_update("1.2.0"))
        found = settle(told, a_state("1/0/1", "2/0/0"), now=LATER)
        assert found is not None
        assert found.version == Version(1, 2, 0)


class TestWholeStories:
    """The boot loader's rule and signpost's transitions, played in memory."""

    def _upgraded(self, name: SetName) -> BootState:
        factory = a_state("1/0/1", "0/0/0")
        state = factory if name is SetName.B else mirrored(factory)
        for step in (boot.clear_inactive, boot.mark_inactive_valid, boot.upgrade_to_inactive):
            state = step(state)
        return state

    def _outcome(self, state: BootState, name: SetName) -> EventKind | None:
        found = settle(an_activated_update(name=name), state, now=LATER)
        return found.kind if found else None

    @each_set
    def test_an_update_waits_until_the_reboot(self, name: SetName) -> None:
        assert self._outcome(self._upgraded(name), name) is None

    @each_set
    def test_an_update_that_passes_its_health_check_was_booted(self, name: SetName) -> None:
        state = boot.mark_successful_boot(boot.select_boot(self._upgraded(name)))
        assert state.active is name
        assert self._outcome(state, name) is EventKind.BOOTED
        assert self._outcome(boot.select_boot(state), name) is EventKind.BOOTED

    @each_set
    def test_an_update_that_never_marks_itself_was_rolled_back(self, name: SetName) -> None:
        state = boot.select_boot(boot.select_boot(self._upgraded(name)))
        assert state.active is name.other
        assert self._outcome(state, name) is EventKind.ROLLED_BACK

    @each_set
    def test_an_upgrade_that_signpost_cancelled_was_reverted(self, name: SetName) -> None:
        state = boot.select_boot(boot.cancel_upgrade(self._upgraded(name)))
        assert self._outcome(state, name) is EventKind.REVERTED


class TestVersions:
    def test_quarantined_is_what_was_rolled_back_and_nothing_else(self) -> None:
        told = [an_event(kind, f"1.{number}.0") for number, kind in enumerate(EventKind)]
        expected = list(EventKind).index(EventKind.ROLLED_BACK)
        assert quarantined(told) == {Version(1, expected, 0)}

    def test_quarantine_lasts_and_several_versions_can_be_in_it(self) -> None:
        rolled_back = [an_event(EventKind.ROLLED_BACK, v) for v in ("1.1.0", "1.2.0", "1.1.0")]
        told = [*rolled_back, *an_activated_update("1.3.0"), an_event(EventKind.BOOTED, "1.3.0")]
        assert quarantined(told) == {Version(1, 1, 0), Version(1, 2, 0)}

    def test_nothing_is_quarantined_at_first(self) -> None:
        assert quarantined([]) == frozenset()

    @pytest.mark.parametrize("theirs", ["0/1/0", "2/1/0", "2/0/0", "1/0/1"])
    def test_the_last_version_that_was_installed_into_a_set_is_staged(self, theirs: str) -> None:
        told = [an_event(version="1.1.0"), an_event(version="1.2.0")]
        assert staged_version(told, a_state(b=theirs), SetName.B) == Version(1, 2, 0)

    def test_what_was_installed_into_the_other_set_is_not_staged_in_this_one(self) -> None:
        told = [
            an_event(version="1.1.0", name=SetName.B),
            an_event(version="1.2.0", name=SetName.A),
        ]
        assert staged_version(told, a_state(b="0/1/0"), SetName.B) == Version(1, 1, 0)

    def test_an_installation_into_the_same_set_that_did_not_end_leaves_nothing_staged(
        self,
    ) -> None:
        begun = an_event(EventKind.STARTED, "1.2.0")
        assert staged_version([an_event(), begun], a_state(b="0/1/0"), SetName.B) is None

    def test_an_installation_into_the_other_set_changes_nothing_here(self) -> None:
        begun = an_event(EventKind.STARTED, "1.2.0", name=SetName.A)
        staged = staged_version([an_event(), begun], a_state(b="0/1/0"), SetName.B)
        assert staged == Version(1, 1, 0)

    def test_a_cleared_set_stages_nothing(self) -> None:
        assert staged_version([an_event()], a_state(b="0/0/0"), SetName.B) is None

    def test_a_set_that_does_not_exist_stages_nothing(self) -> None:
        assert staged_version([an_event()], a_state(b=None), SetName.B) is None

    @pytest.mark.parametrize(
        "kind", [kind for kind in EventKind if kind is not EventKind.INSTALLED]
    )
    def test_what_was_not_installed_to_the_end_is_not_staged(self, kind: EventKind) -> None:
        assert staged_version([an_event(kind)], a_state(b="0/1/0"), SetName.B) is None

    def test_a_set_holds_what_was_last_installed_into_it(self) -> None:
        told = [*an_activated_update("1.1.0"), *an_activated_update("1.2.0")]
        assert known_version(told, SetName.B) == Version(1, 2, 0)

    def test_a_set_that_ran_during_an_installation_into_the_other_holds_what_ran(self) -> None:
        assert known_version(an_activated_update(), SetName.A) == Version(1, 0, 0)

    def test_the_newest_knowledge_about_a_set_counts(self) -> None:
        into_b = an_event(EventKind.STARTED, "1.3.0", running="1.2.9")
        told = [an_event(version="1.2.0", name=SetName.A), into_b]
        assert known_version(told, SetName.A) == Version(1, 2, 9)
        assert known_version(told[::-1], SetName.A) == Version(1, 2, 0)

    @each_set
    def test_of_a_set_that_never_appeared_nothing_is_known(self, name: SetName) -> None:
        assert known_version([], name) is None
        assert known_version([an_event(EventKind.FAILED, name=name)], name) is None
