import signal
import subprocess
from pathlib import Path

import pytest

from repo_tools.faults import Faults
from repo_tools.programs import find_own_command
from repo_tools.server import serving as serving_with_faults
from tests.helpers.http_server import serving
from tests.helpers.small_repository import SmallRepository
from tests.helpers.tuf_repository import in_days
from tests.unit.repo_tools.machines import run
from tests.unit.repo_tools.onlookers import a_client_at_every_moment
from tests.unit.repo_tools.reading import Outcome, files, repo_tools, started, wait_for


@pytest.fixture
def small(tmp_path: Path) -> SmallRepository:
    repository = SmallRepository(directory=tmp_path / "repository")
    repository.release("1.1.0")
    repository.publish()
    return repository


@pytest.fixture
def mirror(tmp_path: Path) -> Path:
    return tmp_path / "mirror"


def clone(small: SmallRepository, mirror: Path, source: str | None = None) -> Outcome:
    return repo_tools("clone", source or small.directory, mirror, "--root", small.root)


def test_a_mirror_is_the_repository_file_by_file(small: SmallRepository, mirror: Path) -> None:
    outcome = clone(small, mirror).succeeded()
    assert files(mirror) == files(small.directory)
    assert outcome.lines[0].startswith("Fetched    4 of 4 targets, ")
    assert outcome.lines[1] == "Metadata   timestamp v1: 4 files"


def test_a_second_run_fetches_what_is_new_only(small: SmallRepository, mirror: Path) -> None:
    with serving(small.directory) as server:
        clone(small, mirror, server.url).succeeded()
        server.requests.clear()
        again = clone(small, mirror, server.url).succeeded()
        assert again.lines[1] == "Metadata   timestamp v1: is what it was"
        assert not [each for each in server.requests if each.target.startswith("/targets")]
        small.release("1.2.0", follows="1.1.0")
        small.publish()
        clone(small, mirror, server.url).succeeded()
        asked = [each.target for each in server.requests if each.target.startswith("/targets")]
    assert {each.partition(".")[2] for each in asked} == {
        *("manifest.json", "1.2.0-boot.zst", "1.2.0-root.zst", "1.2.0-hash.zst")
    }
    assert files(small.directory).items() <= files(mirror).items()


def test_a_file_of_the_mirror_that_was_damaged_is_fetched_again(
    small: SmallRepository, mirror: Path
) -> None:
    clone(small, mirror).succeeded()
    damaged = mirror / "targets" / small.target_file("1.1.0-boot.zst").name
    damaged.write_bytes(b"x" * damaged.stat().st_size)
    clone(small, mirror).succeeded()
    assert files(mirror) == files(small.directory)


def test_an_interrupted_file_goes_on_where_it_ended(small: SmallRepository, mirror: Path) -> None:
    whole = small.target_file("1.1.0-root.zst")
    (mirror / "targets").mkdir(parents=True)
    half = whole.stat().st_size // 2
    (mirror / "targets" / f".{whole.name}.partial").write_bytes(whole.read_bytes()[:half])
    with serving(small.directory) as server:
        clone(small, mirror, server.url).succeeded()
        (asked,) = server.asked_for(f"/targets/{whole.name}")
    assert asked.headers["Range"] == f"bytes={half}-"
    assert files(mirror) == files(small.directory)


@pytest.mark.parametrize("extra", [-1, 0, 1, 1000])
def test_a_whole_or_too_long_beginning_is_dealt_with(
    small: SmallRepository, mirror: Path, extra: int
) -> None:
    whole = small.target_file("1.1.0-root.zst")
    content = whole.read_bytes()
    (mirror / "targets").mkdir(parents=True)
    left = content[:extra] if extra < 0 else content + bytes(extra)
    (mirror / "targets" / f".{whole.name}.partial").write_bytes(left)
    clone(small, mirror).succeeded()
    assert files(mirror) == files(small.directory)


def test_a_beginning_that_nobody_needs_any_more_is_removed(
    small: SmallRepository, mirror: Path
) -> None:
    (mirror / "targets").mkdir(parents=True)
    (mirror / "targets" / ".0123.gone.partial").write_bytes(b"x")
    clone(small, mirror).succeeded()
    assert files(mirror) == files(small.directory)


def test_a_wrong_beginning_is_thrown_away(small: SmallRepository, mirror: Path) -> None:
    whole = small.target_file("1.1.0-root.zst")
    (mirror / "targets").mkdir(parents=True)
    (mirror / "targets" / f".{whole.name}.partial").write_bytes(bytes(5000))
    clone(small, mirror).succeeded()
    assert files(mirror) == files(small.directory)


def test_a_client_sees_the_old_mirror_or_the_new_at_every_moment(
    small: SmallRepository, mirror: Path, tmp_path: Path
) -> None:
    clone(small, mirror).succeeded()
    small.publisher.rotate("root", "another")
    small.release("1.2.0", follows="1.1.0")
    small.publish()
    with a_client_at_every_moment(small, mirror, tmp_path) as seen:
        clone(small, mirror).succeeded()
    assert len(seen) == 4 + 4 + 1
    assert seen == [1] * (len(seen) - 1) + [2]


def test_keys_that_are_replaced_cost_a_client_one_moment_and_no_more(
    small: SmallRepository, mirror: Path, tmp_path: Path
) -> None:
    clone(small, mirror).succeeded()
    small.publisher.rotate("timestamp", "another")
    small.release("1.2.0", follows="1.1.0")
    small.publish()
    with a_client_at_every_moment(small, mirror, tmp_path) as seen:
        clone(small, mirror).succeeded()
    assert seen == [1] * (len(seen) - 2) + [None, 2]


def test_older_metadata_is_not_taken(small: SmallRepository, mirror: Path, tmp_path: Path) -> None:
    clone(small, mirror).succeeded()
    older = tmp_path / "older"
    repo_tools("clone", mirror, older, "--root", small.root).succeeded()
    small.publish()
    clone(small, mirror).succeeded()
    before = files(mirror)
    line = repo_tools("clone", older, mirror, "--root", small.root).failed()
    assert f"{mirror} holds newer metadata than this: it offers version 1 of timestamp" in line
    assert line.endswith("; nothing was changed")
    assert files(mirror) == before


def test_other_metadata_of_the_same_version_is_not_taken(
    small: SmallRepository, mirror: Path
) -> None:
    clone(small, mirror).succeeded()
    before = files(mirror)
    small.publisher.go_back_to(0)
    small.publish(timestamp_expires=in_days(3))
    line = clone(small, mirror).failed()
    assert "timestamp.json is another version 1 of timestamp than this one" in line
    assert files(mirror) == before


def test_versions_may_begin_anew_with_new_keys(small: SmallRepository, mirror: Path) -> None:
    for _ in range(3):
        small.publish()
    clone(small, mirror).succeeded()
    for role in ("timestamp", "snapshot", "targets"):
        small.publisher.rotate(role, f"new {role}")
    small.publisher.go_back_to(0)
    small.publish()
    clone(small, mirror).succeeded()
    repo_tools("validate", mirror, "--root", small.root).succeeded()


def test_a_damaged_mirror_is_healed(small: SmallRepository, mirror: Path) -> None:
    clone(small, mirror).succeeded()
    for name in ("timestamp.json", "1.snapshot.json"):
        (mirror / "metadata" / name).write_bytes(b"{")
        clone(small, mirror).succeeded()
        assert files(mirror) == files(small.directory)


def test_bytes_that_were_not_signed_change_nothing_for_clients(
    small: SmallRepository, mirror: Path
) -> None:
    clone(small, mirror).succeeded()
    before = files(mirror / "metadata")
    small.release("1.2.0", follows="1.1.0")
    small.publish()
    small.spoil("1.2.0-root.zst")
    line = clone(small, mirror).failed()
    assert line.startswith(f"cannot clone {small.directory} into {mirror}: ")
    assert "1.2.0-root.zst is not what was signed" in line
    assert line.endswith(
        "clients of it see what they saw before; what was fetched is kept, run "
        "the command again to go on"
    )
    assert files(mirror / "metadata") == before
    assert not list((mirror / "targets").glob(".*1.2.0-root*"))


@pytest.mark.parametrize("part", ["metadata", "targets"])
def test_a_missing_file_is_named_and_nothing_is_left_of_a_new_mirror(
    small: SmallRepository, mirror: Path, part: str
) -> None:
    for path in (small.directory / part).iterdir():
        if "root" in path.name and part == "metadata":
            continue
        path.unlink()
    line = clone(small, mirror).failed()
    assert "timestamp.json is missing" in line or "No such file" in line
    assert files(mirror) == {}


def test_an_expired_repository_is_not_cloned(small: SmallRepository, mirror: Path) -> None:
    small.publish(timestamp_expires=in_days(-1))
    assert "timestamp expired on " in clone(small, mirror).failed()
    assert not mirror.exists()


def test_a_file_in_the_place_of_the_mirror_stays(small: SmallRepository, mirror: Path) -> None:
    mirror.write_text("mine")
    assert clone(small, mirror).failed() == f"{mirror} is not a directory; nothing was changed"
    assert mirror.read_text() == "mine"


def test_two_writers_at_once_are_refused(small: SmallRepository, mirror: Path) -> None:
    clone(small, mirror).succeeded()
    small.publish()
    holder = subprocess.Popen(
        ["flock", str(mirror / "metadata"), "sh", "-c", "echo held; cat"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert holder.stdin is not None
    assert holder.stdout is not None
    with holder:
        assert holder.stdout.readline() == b"held\n"
        assert f"another writer is at work on {mirror}" in clone(small, mirror).failed()
        holder.stdin.close()
    clone(small, mirror).succeeded()


def test_a_full_disk_is_one_line_and_a_later_run_goes_on(
    small: SmallRepository, mirror: Path
) -> None:
    # A limit to the size of files fails writes as a full disk does, without one.
    command = 'ulimit -f 100; exec "$@"'
    arguments = ["clone", str(small.directory), str(mirror), "--root", str(small.root)]
    program = str(find_own_command("repo-tools"))
    done = subprocess.run(
        ["bash", "-c", command, "-", program, *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.startswith(
        f"repo-tools: cannot clone {small.directory} into {mirror}: File too large"
    )
    assert done.stderr.count("\n") == 1
    assert not (mirror / "metadata" / "timestamp.json").exists()
    clone(small, mirror).succeeded()
    assert files(mirror) == files(small.directory)


def test_ctrl_c_is_one_line_and_a_later_run_goes_on(small: SmallRepository, mirror: Path) -> None:
    slow = Faults(bytes_per_second=100_000, pattern="targets/*")
    with serving_with_faults(small.directory, faults=slow) as server:
        process = started("clone", server.url, mirror, "--root", small.root)
        wait_for(lambda: any(path.stat().st_size for path in partials(mirror)))
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=30)
    assert process.returncode == 1
    assert stderr.startswith(f"repo-tools: cannot clone {server.url} into {mirror}: interrupted; ")
    assert stderr.count("\n") == 1
    with serving(small.directory) as again:
        clone(small, mirror, again.url).succeeded()
        assert any("Range" in each.headers for each in again.requests)
    assert files(mirror) == files(small.directory)


def test_a_killed_run_is_finished_by_the_next(small: SmallRepository, mirror: Path) -> None:
    slow = Faults(bytes_per_second=300_000, pattern="targets/*")
    with serving_with_faults(small.directory, faults=slow) as server:
        process = started("clone", server.url, mirror, "--root", small.root)
        wait_for(lambda: any(path.stat().st_size for path in partials(mirror)))
        process.kill()
        process.communicate(timeout=30)
    clone(small, mirror).succeeded()
    assert files(mirror) == files(small.directory)


def test_a_bad_server_costs_time_only_and_is_told_of_on_stderr(
    small: SmallRepository, mirror: Path
) -> None:
    bad = Faults(close_after_bytes=400_000, pattern="targets/*")
    with serving_with_faults(small.directory, faults=bad) as server:
        done = repo_tools("clone", server.url, mirror, "--root", small.root, "--json").succeeded()
    assert files(mirror) == files(small.directory)
    assert len(done.json()["fetched"]) == 4
    assert all(line.startswith("Download interrupted ") for line in done.stderr.splitlines())
    assert done.stderr.count("\n") == 2


def partials(mirror: Path) -> list[Path]:
    return list((mirror / "targets").glob(".*.partial")) if mirror.exists() else []


def test_the_help_says_what_is_needed(mirror: Path, small: SmallRepository) -> None:
    done = run("repo-tools", "clone", small.directory, mirror)
    assert done.returncode == 2
    assert "Missing option '--root'" in done.stderr
