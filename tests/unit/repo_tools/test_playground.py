import json
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import pytest

from repo_tools.draft import read_catalogue
from repo_tools.playground.place import Playground
from repo_tools.repository import PublishedRepository
from signpost.sets import SetName
from tests.unit.repo_tools.machines import copied, flags, run, window
from updog.host import read_host
from updog.manifest import Manifest
from updog.waves import ready_at


def playground_command(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return run("repo-tools", "playground", *arguments)


def manifest_of(playground: Playground) -> Manifest:
    return read_catalogue(PublishedRepository(playground.repository)).manifest


def test_the_machine_runs_the_first_release_from_set_a(fresh_playground: Playground) -> None:
    assert str(read_host(fresh_playground.os_release).version) == "1.0.0"
    assert fresh_playground.active_set.read_text() == "A\n"
    assert flags(fresh_playground, SetName.A) == "1/0/1"
    assert flags(fresh_playground, SetName.B) == "0/0/0"


@pytest.mark.parametrize(
    ("role", "image"), [("boot", "boot.ext4"), ("root", "root.ext4"), ("hash", "root.verity")]
)
def test_set_a_holds_the_images_as_they_were_built(
    fresh_playground: Playground, role: str, image: str
) -> None:
    built = (fresh_playground.releases / "1.0.0" / image).read_bytes()
    where = window(fresh_playground, SetName.A, role)
    with where.path.open("rb") as disk:
        disk.seek(where.offset_bytes)
        assert disk.read(len(built)) == built


def test_the_root_image_is_a_system_of_some_size(fresh_playground: Playground) -> None:
    size = (fresh_playground.releases / "1.0.0" / "root.ext4").stat().st_size
    assert 8 << 20 < size < 48 << 20


def test_a_part_of_the_system_differs_from_release_to_release(
    fresh_playground: Playground,
) -> None:
    old, new = (
        (fresh_playground.releases / version / "root.ext4").read_bytes()
        for version in ("1.0.0", "1.1.0")
    )
    blocks = range(0, min(len(old), len(new)), 4096)
    changed = sum(old[at : at + 4096] != new[at : at + 4096] for at in blocks)
    assert 0.01 < changed / len(blocks) < 0.9


def test_two_releases_are_published_and_the_bad_one_is_held_back(
    fresh_playground: Playground,
) -> None:
    bad, good = manifest_of(fresh_playground).updates
    assert (str(bad.version), str(bad.max_version)) == ("1.2.0", "1.1.0")
    assert (str(good.version), str(good.max_version)) == ("1.1.0", "1.1.0")


def test_the_good_releases_wave_has_reached_the_machine(fresh_playground: Playground) -> None:
    _, good = manifest_of(fresh_playground).updates
    ready = ready_at(good.waves, fresh_playground.read_config().seed)
    assert ready is not None
    assert ready < datetime.now(UTC)


def test_both_codecs_are_in_use(fresh_playground: Playground) -> None:
    suffixes = {Path(update.images.root).suffix for update in manifest_of(fresh_playground).updates}
    assert suffixes == {".zst", ".lz4"}


def test_the_configuration_needs_nothing_outside_the_playground(
    fresh_playground: Playground, tmp_path: Path
) -> None:
    moved = copied(fresh_playground, tmp_path / "moved")
    config = moved.read_config()
    paths = (config.paths.trusted_root, config.paths.os_release, config.disk.path)
    assert paths == (moved.trusted_root, moved.os_release, moved.disk)
    assert Path(config.reboot.command[0]).is_absolute()
    assert (config.seed, config.metadata_base_url) == (
        1311,
        ("http://127.0.0.1:1/metadata",),
    )


def test_a_release_is_built_published_and_let_go(playground: Playground) -> None:
    done = playground_command("release", playground.directory, "1.3.0", "--compression", "lz4")
    assert done.returncode == 0, done.stderr
    updates = manifest_of(playground).updates
    assert [str(update.version) for update in updates] == ["1.3.0", "1.2.0", "1.1.0"]
    assert {str(update.max_version) for update in updates} == {"1.3.0"}
    assert updates[0].images.root.endswith("-root.ext4.lz4")


def test_a_release_may_be_held_back_and_come_in_waves(
    playground: Playground, tmp_path: Path
) -> None:
    waves = tmp_path / "waves.toml"
    waves.write_text("[[waves]]\nstart_after = '1 day'\nfleet_percentage = 100\n")
    options = ("--hold-back", "--waves", waves, "--health", "fail", "--json")
    done = playground_command("release", playground.directory, "1.3.0", *options)
    facts = json.loads(done.stdout)
    assert facts["max_version"] == "1.1.0"
    assert facts["updates"][-1] == {"version": "1.3.0", "held_back": True, "waves": 1}


@pytest.mark.parametrize("version", ["1.0.0", "1.2.0"])
def test_a_version_is_never_published_twice(playground: Playground, version: str) -> None:
    before = manifest_of(playground)
    done = playground_command("release", playground.directory, version)
    assert done.returncode == 1
    assert done.stderr == f"repo-tools: there is a {version} already: choose a new version\n"
    assert manifest_of(playground) == before


def test_a_raised_limit_lets_a_held_back_release_go(playground: Playground) -> None:
    done = playground_command("max-version", playground.directory, "1.2.0")
    assert done.stdout == "Limit      machines may go up to 1.2.0\n"
    assert {str(each.max_version) for each in manifest_of(playground).updates} == {"1.2.0"}


def test_status_says_what_runs_and_what_is_published(fresh_playground: Playground) -> None:
    where, command = fresh_playground.directory, "repo-tools playground"
    done = playground_command("status", where)
    lines = done.stdout.splitlines()
    assert lines[:5] == [
        "Machine    runs 1.0.0 (playground) from set A",
        "Published  1.1.0, in 7 waves",
        f"Published  1.2.0, held back (`{command} max-version {where} 1.2.0` lets it go)",
        "Limit      machines may go up to 1.1.0",
        f"Server     http://127.0.0.1:1 is silent: `{command} serve {where}`",
    ]


def test_status_of_a_machine_that_is_off_says_so(playground: Playground) -> None:
    playground.active_set.unlink()
    text = playground_command("status", playground.directory).stdout
    facts = json.loads(playground_command("status", playground.directory, "--json").stdout)
    assert text.startswith("Machine    off: it did not boot\n")
    assert facts["running"] is None


def test_a_directory_that_holds_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("precious")
    done = playground_command("create", tmp_path, "--force")
    assert done.returncode == 1
    assert done.stderr == (
        f"repo-tools: cannot make a playground in {tmp_path}: it is not empty and no playground; "
        "nothing was changed\n"
    )
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_a_playground_is_not_replaced_unasked(playground: Playground) -> None:
    done = playground_command("create", playground.directory)
    assert done.returncode == 1
    assert "is a playground already: --force replaces it" in done.stderr
    assert playground.disk.exists()


def test_a_replaced_playground_has_new_keys_and_keeps_what_is_not_its_own(
    playground: Playground,
) -> None:
    notes = playground.directory / "notes"
    notes.touch()
    old_root = playground.trusted_root.read_bytes()
    done = playground_command("create", playground.directory, "--force", "--disk-size", "192MiB")
    assert done.returncode == 0, done.stderr
    assert notes.exists()
    assert playground.trusted_root.read_bytes() != old_root


def test_a_disk_that_is_too_small_is_refused(tmp_path: Path) -> None:
    done = playground_command("create", tmp_path / "p", "--disk-size", "1MiB")
    assert done.returncode == 1
    assert done.stderr == "repo-tools: a disk of 1 MiB is too small: at least 192 MiB\n"
    assert not (tmp_path / "p").exists()


def test_a_playground_whose_creation_was_interrupted_is_told_from_a_whole_one(
    playground: Playground,
) -> None:
    playground.config.unlink()
    where = playground.directory
    assert playground_command("status", where).stderr == (
        f"repo-tools: {where} was never finished: "
        f"`repo-tools playground create {where} --force` makes it anew\n"
    )


@pytest.mark.parametrize("command", ["boot", "serve", "status"])
def test_a_directory_that_is_no_playground_is_named(tmp_path: Path, command: str) -> None:
    done = playground_command(command, tmp_path)
    assert done.returncode == 1
    assert done.stderr == (
        f"repo-tools: no playground in {tmp_path}: "
        f"`repo-tools playground create {tmp_path}` makes one\n"
    )
