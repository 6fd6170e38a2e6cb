"""One run at a time, whatever becomes of the one that holds the lock."""

import fcntl
import os
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import updog
from updog.errors import Locked, UpdogError
from updog.lock import find_holder, only_run

HOLD_THE_LOCK = """
import sys
from pathlib import Path
from updog.lock import only_run

with only_run(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""

HAVE_A_CHILD_OUTLIVE_THE_RUN = """
import subprocess, sys
from pathlib import Path
from updog.lock import only_run

with only_run(Path(sys.argv[1])):
    subprocess.Popen(["/bin/sleep", "60"], close_fds=False, stdout=subprocess.DEVNULL)
"""

ENVIRONMENT = {"PYTHONPATH": str(Path(updog.__file__).parents[1])}


@contextmanager
def another_run(lock: Path) -> Iterator["subprocess.Popen[str]"]:
    """Hold the lock in another process until its standard input is closed or it is killed."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLD_THE_LOCK, str(lock)],
        env=ENVIRONMENT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        try:
            yield process
        finally:
            process.kill()


def refusal(lock: Path) -> Locked:
    with pytest.raises(Locked) as caught, only_run(lock):
        pass
    return caught.value


def test_a_second_run_is_told_who_is_at_work(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    with another_run(lock) as holder:
        refused = refusal(lock)
        assert str(refused) == f"process {holder.pid} is at work already; nothing was changed"
        assert refused.pid == holder.pid


def test_a_second_run_does_not_wait_nor_take_the_lock_away(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    with another_run(lock) as holder:
        assert refusal(lock).pid == refusal(lock).pid == holder.pid


def test_a_killed_run_leaves_no_lock_behind(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    with another_run(lock) as holder:
        holder.kill()
        holder.wait()
        with only_run(lock):
            assert lock.read_text() == f"{os.getpid()}\n"


def test_a_run_that_ends_leaves_no_lock_behind(tmp_path: Path) -> None:
    for _ in range(2):
        with only_run(tmp_path / "lock"):
            pass


def test_a_run_that_fails_leaves_no_lock_behind(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), only_run(tmp_path / "lock"):
        raise ZeroDivisionError
    with only_run(tmp_path / "lock"):
        pass


def test_a_child_that_outlives_the_run_does_not_hold_the_lock(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    command = [sys.executable, "-c", HAVE_A_CHILD_OUTLIVE_THE_RUN, str(lock)]
    with subprocess.Popen(command, env=ENVIRONMENT, start_new_session=True) as process:
        process.wait()
        try:
            with only_run(lock):
                pass
        finally:
            os.killpg(process.pid, 9)


def test_even_the_same_process_takes_the_lock_only_once(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    with only_run(lock):
        assert refusal(lock).pid == os.getpid()
    with only_run(lock):
        pass


@pytest.mark.parametrize("text", ["", "\n", "4242", "4242\n", "no number\n", "-1\n", "9" * 300])
def test_what_an_earlier_run_left_in_the_file_does_not_matter(tmp_path: Path, text: str) -> None:
    lock = tmp_path / "lock"
    lock.write_text(text)
    with only_run(lock):
        assert lock.read_text() == f"{os.getpid()}\n"


@pytest.mark.parametrize("text", ["", "\n", "no number\n", "-1\n", "\u00b2\n"])
def test_a_holder_that_did_not_leave_its_number_is_another_process(
    tmp_path: Path, text: str
) -> None:
    lock = tmp_path / "lock"
    with another_run(lock):
        lock.write_text(text)
        refused = refusal(lock)
    assert str(refused) == "another process is at work already; nothing was changed"
    assert refused.pid is None


def test_the_directory_is_made(tmp_path: Path) -> None:
    with only_run(tmp_path / "var" / "lib" / "updog" / "lock"):
        assert (tmp_path / "var" / "lib" / "updog" / "lock").exists()


def test_a_lock_that_cannot_be_made_is_no_other_run(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path, why in ((tmp_path / "file" / "lock", "File exists"), (tmp_path, "Is a directory")):
        with pytest.raises(UpdogError) as caught, only_run(path):
            pass
        assert type(caught.value) is UpdogError
        assert str(caught.value) == f"cannot open the lock {path}: {why}"


@pytest.mark.parametrize("make", [os.mkfifo, lambda path: path.symlink_to("/dev/null")])
def test_what_is_no_regular_file_is_no_lock(tmp_path: Path, make: Callable[[Path], None]) -> None:
    lock = tmp_path / "lock"
    make(lock)
    with pytest.raises(UpdogError) as caught, only_run(lock):
        pass
    said = f"cannot use {lock} as the lock: it is no regular file; remove it"
    assert str(caught.value) == said


def test_a_disk_without_room_for_the_number_is_no_obstacle(tmp_path: Path) -> None:
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    lock = tmp_path / "lock"
    lock.write_text("4711\n")
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, limit[1]))
    try:
        with only_run(lock):
            pass
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)


def test_the_holder_can_be_found_without_touching_the_lock(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    assert find_holder(lock) is None
    with another_run(lock) as holder:
        assert find_holder(lock) == holder.pid
    assert find_holder(lock) is None


def test_the_holder_is_found_though_it_did_not_leave_its_number(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    with another_run(lock) as holder:
        for text in ("", "no number\n", "1\n"):
            lock.write_text(text)
            assert find_holder(lock) == holder.pid


def test_a_number_that_an_earlier_run_left_is_no_holder(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    with only_run(lock):
        pass
    assert lock.read_text() == f"{os.getpid()}\n"
    assert find_holder(lock) is None


def test_who_holds_another_lock_is_no_holder(tmp_path: Path) -> None:
    (tmp_path / "lock").touch()
    with another_run(tmp_path / "other"):
        assert find_holder(tmp_path / "lock") is None
        assert find_holder(tmp_path) is None


def test_a_lock_of_another_kind_is_no_run(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    with lock.open("w") as file:
        file.write(f"{os.getpid()}\n")
        file.flush()
        fcntl.lockf(file, fcntl.LOCK_EX)
        assert find_holder(lock) is None
