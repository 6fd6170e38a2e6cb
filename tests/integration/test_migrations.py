"""Migrations of a real update: kept when its set is written, proven without a network."""

import re
import shutil
from datetime import UTC, datetime
from pathlib import Path

import pytest
from msgspec.structs import replace
from semver import Version

from repo_tools.draft import read_catalogue
from repo_tools.playground.place import find_playground
from repo_tools.repository import publishing
from tests.helpers.machine import Machine
from updog.manifest import serialise

CONTENT = b"moves the settings " * 1000
STEP = (Version.parse("1.0.0"), Version.parse("1.1.0"))


def publish(machine: Machine, *names: str) -> None:
    """Let the way from 1.0.0 to 1.1.0 lead over these migrations."""
    keys = find_playground(machine.directory).keys
    with publishing(machine.repository, keys, now=datetime.now(UTC)) as publication:
        manifest = read_catalogue(publication).manifest
        for name in names:
            publication.add_bytes(name, CONTENT)
        changed = replace(manifest, migrations={**manifest.migrations, STEP: names})
        publication.add_bytes("manifest.json", serialise(changed))


def kept(machine: Machine) -> Path:
    return machine.directory / "migrations" / "targets"


@pytest.fixture
def migrating(machine: Machine) -> Machine:
    publish(machine, "first.lz4", "second.lz4")
    return machine


def test_they_are_kept_with_the_update_and_proven_offline(migrating: Machine) -> None:
    run = migrating.updog("update", "--now").succeeded()
    assert "Migrations 2 kept for the reboot" in run.stderr
    shutil.rmtree(migrating.repository)
    run = migrating.updog("migrations", "verify").succeeded()
    assert run.stdout.splitlines() == [
        "Migrations 1.0.0 -> 1.1.0: 2 kept",
        "  first.lz4   ok, as signed",
        "  second.lz4  ok, as signed",
    ]


def test_a_staged_update_has_its_damaged_migrations_fetched_anew(migrating: Machine) -> None:
    migrating.updog("update", "--now").succeeded()
    (kept(migrating) / "first.lz4").write_bytes(b"changed")
    (kept(migrating) / "second.lz4").unlink()
    run = migrating.updog("migrations", "verify")
    assert run.failed() == (
        "updog: first.lz4, second.lz4: not proven, do not run any of the migrations in "
        f"{migrating.directory}/migrations; before the reboot, `updog update` fetches them anew"
    )
    assert run.stdout.splitlines()[1:] == [
        "  first.lz4   changed: it holds 7 bytes, 19000 were signed",
        "  second.lz4  missing",
    ]
    migrating.updog("update", "--now").succeeded()
    assert migrating.updog("migrations", "verify", "--json").succeeded().json() == {
        "from": "1.0.0",
        "to": "1.1.0",
        "proven": True,
        "migrations": [
            {"name": "first.lz4", "fault": None},
            {"name": "second.lz4", "fault": None},
        ],
    }


@pytest.mark.parametrize(("running", "fits"), [("1.0.0", True), ("1.1.0", True), ("1.2.0", False)])
def test_those_between_two_other_versions_are_not_to_be_run(
    migrating: Machine, running: str, fits: bool
) -> None:
    """Nobody has signed between which two versions they are needed."""
    migrating.updog("update", "--now").succeeded()
    os_release = migrating.directory / "run" / "os-release"
    os_release.write_text(
        re.sub("(?m)^VERSION_ID=.*$", f"VERSION_ID={running}", os_release.read_text())
    )
    run = migrating.updog("migrations", "verify")
    if fits:
        run.succeeded()
    else:
        assert run.failed() == (
            f"updog: the migrations in {migrating.directory}/migrations lead from 1.0.0 to 1.1.0, "
            "but 1.2.0 runs here: do not run any of them; the next update replaces or removes them"
        )


def test_an_update_that_needs_none_removes_those_of_an_earlier_one(migrating: Machine) -> None:
    migrating.updog("update", "--now").succeeded()
    publish(migrating)
    migrating.updog("update", "--now").succeeded()
    run = migrating.updog("migrations", "verify").succeeded()
    assert run.stdout == f"No migrations are kept in {migrating.directory}/migrations.\n"
    assert migrating.updog("migrations", "verify", "--json").succeeded().json() is None


def test_a_rehearsal_leaves_those_of_a_staged_update_alone(migrating: Machine) -> None:
    migrating.updog("update", "--now").succeeded()
    publish(migrating)
    migrating.updog("prepare", "--now").succeeded()
    assert (kept(migrating) / "first.lz4").read_bytes() == CONTENT


def test_a_rehearsal_reads_them_to_their_end(migrating: Machine) -> None:
    (path,) = (migrating.repository / "targets").glob("*second.lz4")
    path.write_bytes(bytes(len(CONTENT)))
    line = migrating.updog("prepare", "--now").failed()
    assert "second.lz4 is not what was signed" in line
    assert line.endswith("nothing was changed")


def test_one_that_is_not_as_signed_stops_the_update(migrating: Machine) -> None:
    before = migrating.set_digest("A")
    (path,) = (migrating.repository / "targets").glob("*second.lz4")
    path.write_bytes(bytes(len(CONTENT)))
    line = migrating.updog("update", "--now").failed()
    assert "second.lz4 is not what was signed" in line
    assert "set A is untouched" in line
    assert migrating.set_digest("A") == before
    assert migrating.flags()["B"] == (0, 0, False)
    assert not kept(migrating).exists()


def test_an_update_that_is_refused_leaves_those_of_a_staged_one(migrating: Machine) -> None:
    migrating.updog("update", "--now").succeeded()
    publish(migrating)
    migrating.playground("max-version", "1.2.0").succeeded()
    for path in (migrating.repository / "targets").glob("*-1.2.0-*root*"):
        path.unlink()
    assert "root" in migrating.updog("update", "--now").failed()
    assert migrating.flags()["B"] == (2, 1, False)
    assert (kept(migrating) / "first.lz4").read_bytes() == CONTENT
