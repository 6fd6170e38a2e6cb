"""Health checks: which there are, and that each ends within its limits, whatever it does."""

import os
import time
from pathlib import Path

import pytest

from tests.helpers.processes import wait_until_gone
from updog.checks import Check, find_checks, run_check
from updog.errors import UpdogError
from updog.health import Checked, Limits


@pytest.fixture
def etc(tmp_path: Path) -> Path:
    return tmp_path / "etc"


@pytest.fixture
def usr(tmp_path: Path) -> Path:
    return tmp_path / "usr"


def put(directory: Path, name: str, script: str = "exit 0") -> Path:
    path = directory / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


def run(path: Path, *, timeout_seconds: float = 20, retries: int = 0) -> Checked:
    limits = Limits(timeout_seconds=timeout_seconds, retries=retries, retry_after_seconds=0.01)
    return run_check(Check(name=path.name, path=path, is_required=True), limits)


def found(*directories: Path) -> list[tuple[str, bool]]:
    return [(check.name, check.is_required) for check in find_checks(directories)]


class TestFinding:
    def test_checks_are_run_in_the_order_of_their_names(self, etc: Path, usr: Path) -> None:
        put(usr, "required.d/30-c")
        put(etc, "20-b.sh")
        put(usr, "10-a")
        put(etc, "wanted.d/25-w")
        assert found(etc, usr) == [
            ("10-a", True),
            ("20-b.sh", True),
            ("25-w", False),
            ("30-c", True),
        ]

    def test_the_operators_check_takes_the_place_of_one_with_the_same_name(
        self, etc: Path, usr: Path
    ) -> None:
        put(usr, "required.d/10-a")
        own = put(etc, "wanted.d/10-a")
        (check,) = find_checks([etc, usr])
        assert (check.path, check.is_required) == (own, False)

    def test_a_name_that_is_both_required_and_wanted_is_required(self, usr: Path) -> None:
        put(usr, "wanted.d/10-a")
        put(usr, "required.d/10-a")
        assert found(usr) == [("10-a", True)]

    def test_a_link_to_dev_null_masks_a_check(self, etc: Path, usr: Path) -> None:
        put(usr, "required.d/10-a")
        put(usr, "required.d/20-b")
        etc.mkdir()
        (etc / "10-a").symlink_to("/dev/null")
        assert found(etc, usr) == [("20-b", True)]

    def test_an_empty_file_masks_a_check(self, etc: Path, usr: Path) -> None:
        put(usr, "10-a")
        etc.mkdir()
        (etc / "10-a").touch()
        assert found(etc, usr) == []

    def test_what_editors_and_package_managers_leave_behind_is_no_check(self, etc: Path) -> None:
        for name in (".hidden", "a~", "a.dpkg-old", "a.dpkg-dist", "a.rpmsave", "a.bak"):
            put(etc, name)
        assert found(etc) == []

    def test_a_link_that_leads_nowhere_is_a_check_that_fails(self, etc: Path) -> None:
        etc.mkdir()
        (etc / "10-gone").symlink_to("/nowhere/at/all")
        assert found(etc) == [("10-gone", True)]
        assert run(etc / "10-gone").failure == "cannot be started: No such file or directory"

    def test_without_a_directory_there_are_no_checks(self, etc: Path) -> None:
        assert found(etc) == []

    @pytest.mark.parametrize("place", ["", "required.d"])
    @pytest.mark.parametrize("kind", ["link", "file"])
    def test_what_should_be_a_directory_and_is_none_does_not_count_as_no_checks(
        self, etc: Path, place: str, kind: str
    ) -> None:
        path = etc / place
        path.parent.mkdir(parents=True, exist_ok=True)
        if kind == "link":
            path.symlink_to("/not/mounted")
        else:
            path.write_text("exit 1\n")
        with pytest.raises(UpdogError, match="cannot read the health checks in"):
            find_checks([etc])

    @pytest.mark.root
    def test_a_mask_that_others_could_have_made_is_refused(self, etc: Path, usr: Path) -> None:
        put(usr, "10-a")
        etc.mkdir()
        (etc / "10-a").symlink_to("/dev/null")
        etc.chmod(0o777)
        with pytest.raises(UpdogError, match=r"the mask of a health check .*chmod go-w"):
            find_checks([etc, usr])


class TestRunning:
    def test_exit_0_passes_and_what_it_printed_is_kept(self, etc: Path) -> None:
        checked = run(put(etc, "a", "echo all; echo well >&2"))
        assert checked.passed
        assert (checked.exit_code, checked.output, checked.attempts) == (0, "all\nwell", 1)

    def test_another_exit_code_fails(self, etc: Path) -> None:
        checked = run(put(etc, "a", "echo no route; exit 7"))
        assert (checked.failure, checked.exit_code) == ("exit 7", 7)
        assert checked.output == "no route"

    def test_a_check_that_a_signal_ends_fails(self, etc: Path) -> None:
        checked = run(put(etc, "a", "kill -SEGV $$"))
        assert (checked.failure, checked.exit_code) == ("ended by SIGSEGV", None)

    def test_a_failing_check_is_tried_again_until_it_passes(self, etc: Path) -> None:
        count = etc / "count"
        script = f'echo x >> {count}; [ "$(wc -l < {count})" -ge 3 ]'
        checked = run(put(etc, "a", script), retries=5)
        assert checked.passed
        assert checked.attempts == 3

    def test_retries_run_out(self, etc: Path) -> None:
        checked = run(put(etc, "a", "exit 1"), retries=2)
        assert (checked.failure, checked.attempts) == ("exit 1", 3)

    def test_one_that_hangs_is_ended_with_all_that_it_started(self, etc: Path) -> None:
        pid = etc / "pid"
        script = f"trap '' TERM; sleep 300 & echo $! > {pid}; echo waiting; wait"
        started = time.monotonic()
        checked = run(put(etc, "a", script), timeout_seconds=0.5)
        assert checked.failure == "did not end in 0.5 s"
        assert (checked.exit_code, checked.output) == (None, "waiting")
        assert time.monotonic() - started < 10
        wait_until_gone(int(pid.read_text()))

    def test_what_a_check_leaves_running_does_not_hold_the_others_up(self, etc: Path) -> None:
        pid = etc / "pid"
        script = f"sleep 300 & echo $! > {pid}; echo done"
        started = time.monotonic()
        checked = run(put(etc, "a", script))
        assert (checked.passed, checked.output) == (True, "done")
        assert time.monotonic() - started < 10
        wait_until_gone(int(pid.read_text()))

    def test_closing_its_output_is_not_the_end_of_a_check(self, etc: Path) -> None:
        checked = run(put(etc, "a", "exec >&- 2>&-; sleep 0.2; exit 3"))
        assert checked.failure == "exit 3"

    def test_of_a_long_output_the_end_is_kept(self, etc: Path) -> None:
        checked = run(put(etc, "a", "seq 1 200000; echo the end; exit 1"))
        assert len(checked.output) <= 4096
        assert checked.output.endswith("\n200000\nthe end")

    def test_output_that_is_no_text_is_kept_as_far_as_it_is(self, etc: Path) -> None:
        checked = run(put(etc, "a", r"printf 'a\377b'"))
        assert checked.output == "a\N{REPLACEMENT CHARACTER}b"

    def test_a_check_gets_no_input_and_nothing_of_the_environment(
        self, etc: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("LD_PRELOAD", "evil.so")
        checked = run(put(etc, "a", "cat; env | sort; pwd"))
        assert "LD_PRELOAD" not in checked.output
        assert checked.output.endswith("\n/")

    def test_one_that_is_not_executable_fails_and_says_what_to_do(self, etc: Path) -> None:
        path = put(etc, "a")
        path.chmod(0o644)
        checked = run(path, retries=3)
        assert checked.attempts == 1
        assert checked.failure == (
            "cannot be started: Permission denied; `chmod +x` makes it a check, a link to "
            "/dev/null masks it"
        )

    @pytest.mark.root
    def test_one_that_others_can_change_is_not_run(self, etc: Path) -> None:
        path = put(etc, "a", f"touch {etc}/ran")
        path.chmod(0o757)
        failure = run(path).failure
        assert failure is not None
        assert failure.startswith(f"refused to use the health check {path} as root: ")
        assert not (etc / "ran").exists()

    @pytest.mark.root
    def test_one_that_belongs_to_another_user_is_not_run(self, etc: Path) -> None:
        path = put(etc, "a", f"touch {etc}/ran")
        os.chown(path, 1234, 0)
        assert "belongs to user 1234" in (run(path).failure or "")
        assert not (etc / "ran").exists()
