"""Events survive cuts, strangers and rotations."""

import json
import os
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.helpers.events import NOON, an_activated_update, an_event, any_event
from updog.errors import UpdogError
from updog.history import Event, EventKind, essence, event_facts
from updog.history_file import History


def a_history(directory: Path, *recorded: Event) -> History:
    history = History(directory / "history.jsonl")
    for event in recorded:
        history.append(event)
    return history


class TestFile:
    def test_a_machine_to_which_nothing_has_happened_has_no_history(self, tmp_path: Path) -> None:
        assert a_history(tmp_path).events() == ()
        assert list(tmp_path.iterdir()) == []

    @given(recorded=st.lists(any_event, max_size=6))
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

    def test_the_first_event_is_not_lost_with_the_name_of_the_file(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        flushed: list[str] = []
        fsync = os.fsync

        def flush(descriptor: int) -> None:
            flushed.append(Path(f"/proc/self/fd/{descriptor}").readlink().name)
            fsync(descriptor)

        monkeypatch.setattr(os, "fsync", flush)
        a_history(tmp_path / "state", an_event(EventKind.STARTED), an_event(EventKind.FAILED))
        assert flushed == [tmp_path.name, "history.jsonl", "state", "history.jsonl"]

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
        with pytest.raises(
            UpdogError, match=f"^cannot read history {tmp_path}: Is a directory; .*move it away"
        ):
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


class TestRotation:
    SHORT = 2000

    def rotating(self, directory: Path) -> History:
        return History(directory / "history.jsonl", rotation_bytes=self.SHORT)

    def test_a_long_file_is_rotated_and_nothing_that_counts_is_lost(self, tmp_path: Path) -> None:
        history, told = self.rotating(tmp_path), []
        for number in range(60):
            told.append(an_event(EventKind.ROLLED_BACK if number == 3 else EventKind.FAILED))
            history.append(told[-1])
            assert essence(history.events()) == essence(told)
            assert (tmp_path / "history.jsonl").stat().st_size < self.SHORT + 200
        assert (tmp_path / "history.jsonl.1").stat().st_size < self.SHORT + 200
        assert sorted(each.name for each in tmp_path.iterdir()) == [
            "history.jsonl",
            "history.jsonl.1",
        ]

    def test_all_events_are_those_of_both_files_each_once(self, tmp_path: Path) -> None:
        history = self.rotating(tmp_path)
        told = [
            an_event(EventKind.STARTED, f"1.{number}.0", time=NOON + timedelta(hours=number))
            for number in range(25)
        ]
        for event in told:
            history.append(event)
        assert (tmp_path / "history.jsonl.1").exists()
        assert list(history.all_events()) == told
        assert len(history.events()) < len(told)

    def test_an_unrotated_history_is_all_there_is(self, tmp_path: Path) -> None:
        history = a_history(tmp_path, an_event(), an_event(version="1.2.0"))
        assert history.all_events() == history.events()

    def test_lines_that_cannot_be_read_do_not_stand_in_the_way(self, tmp_path: Path) -> None:
        path = tmp_path / "history.jsonl"
        history = a_history(tmp_path, an_event(EventKind.ROLLED_BACK))
        with path.open("ab") as file:
            file.write(b"garbage\n" * 1000 + b'{"time": "20')
        self.rotating(tmp_path).append(an_event())
        assert history.events() == (an_event(EventKind.ROLLED_BACK), an_event())
        assert history.damage() is None
        assert (tmp_path / "history.jsonl.1").read_bytes().count(b"garbage\n") == 1000

    @pytest.mark.parametrize("junk", [b"", b'{"torn', b"x" * 5000])
    def test_what_a_cut_left_of_a_new_file_does_no_harm(self, tmp_path: Path, junk: bytes) -> None:
        for name in (".history.jsonl.new", ".history.jsonl.1.new"):
            (tmp_path / name).write_bytes(junk)
        history = self.rotating(tmp_path)
        told = [an_event(version=f"1.{number}.0") for number in range(30)]
        for event in told:
            history.append(event)
        assert essence(history.events()) == essence(told)

    def test_a_cut_at_any_step_loses_nothing_that_counts(self, tmp_path: Path) -> None:
        told = [
            an_event(EventKind.ROLLED_BACK, "1.0.9"),
            *(an_event(EventKind.FAILED, error=str(number)) for number in range(30)),
            *an_activated_update(boot_id="one"),
        ]
        later = an_event(EventKind.REVERTED)
        steps = 0
        while True:
            directory = tmp_path / str(steps)
            a_history(directory, *told)
            was_cut = append_and_stop_at(steps, directory, later, rotation_bytes=self.SHORT)
            survivors = essence(self.rotating(directory).events())
            assert survivors in (essence(told), essence([*told, later]))
            shown = self.rotating(directory).all_events()
            assert shown[: len(told)] == tuple(told)
            self.rotating(directory).append(later)
            assert essence(self.rotating(directory).events()) == essence([*told, later])
            if not was_cut:
                break
            steps += 1
        assert survivors == essence([*told, later])
        assert steps >= 6  # two files written anew and renamed, a directory opened for each, a line


_STOPPING = """
import json, os, sys
from pathlib import Path
from updog.history import parse_event
from updog.history_file import History

directory, left = sys.argv[1], int(sys.argv[2])
history = History(Path(directory) / "history.jsonl", rotation_bytes=int(sys.argv[4]))
event = parse_event(sys.argv[3].encode())

def stop(name, arguments):
    global left
    if name not in ("open", "os.rename") or not str(arguments[0]).startswith(directory):
        return
    empties = name == "open" and arguments[2] & os.O_TRUNC
    if empties and left == 1:
        left = -1  # what the open does, and no more
        os.close(os.open(arguments[0], os.O_WRONLY | os.O_CREAT | os.O_TRUNC))
        os._exit(99)
    if left == 0:
        os._exit(99)
    left -= 2 if empties else 1

sys.addaudithook(stop)
history.append(event)
"""


def append_and_stop_at(step: int, directory: Path, event: Event, *, rotation_bytes: int) -> bool:
    """Append in a process that ends before its n-th step in the directory; tell if it came there.

    A step opens, empties or renames a file, as the interpreter's audit events report it.
    """
    facts = json.dumps(event_facts(event))
    done = subprocess.run(
        [sys.executable, "-c", _STOPPING, str(directory), str(step), facts, str(rotation_bytes)],
        env={**os.environ, "PYTHONPATH": str(Path.cwd())},
        check=False,
        timeout=60,
    )
    assert done.returncode in (0, 99)
    return done.returncode == 99


class TestChecks:
    def test_an_hourly_check_that_finds_the_same_adds_nothing_but_its_moment(
        self, tmp_path: Path
    ) -> None:
        history = a_history(tmp_path)
        checks = [
            an_event(EventKind.CHECKED, outcome="running", time=NOON + timedelta(hours=hour))
            for hour in range(5)
        ]
        for check in checks:
            history.note_check(check)
        assert history.events() == (checks[0],)
        assert history.last_check() == checks[-1]

    def test_another_answer_is_added(self, tmp_path: Path) -> None:
        history = a_history(tmp_path)
        checks = [
            an_event(EventKind.CHECKED, outcome=outcome)
            for outcome in ("running", "failed", "failed", "running")
        ]
        for check in checks:
            history.note_check(check)
        assert [event.outcome for event in history.events()] == ["running", "failed", "running"]

    def test_no_check_is_known_at_first_nor_where_the_file_was_torn(self, tmp_path: Path) -> None:
        assert a_history(tmp_path).last_check() is None
        (tmp_path / "checked.json").write_bytes(b'{"time"')
        assert a_history(tmp_path).last_check() is None
