"""Manifests of the cloned system and this project's: nothing is lost, and each reads the other's.

`read_strictly` is a model of what the cloned system deserialises, field by field, with its types:
it knows no field of ours and demands all of its own.
"""

import json
import re
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace
from semver import Version

from repo_tools.catalogue import Catalogue, identity, parse_catalogue, serialise_catalogue
from repo_tools.errors import RepoToolsError
from repo_tools.releases import with_release, with_withdrawal
from repo_tools.rescheduling import pause, paused_waves
from tests.helpers.updates import an_update
from updog.waves import Wave

NOW = datetime(2026, 3, 1, 8, 30, 15, 250_000, tzinfo=UTC)

CLONED = b"""{"updates": [{"variant": "aws-k8s-1.30", "arch": "x86_64", "version": "1.26.1",
   "max_version": "1.26.1",
   "waves": {"0": "2024-10-24T19:00:00Z", "20": "2024-10-24T22:00:00Z",
             "102": "2024-10-25T18:00:00Z"},
   "images": {"boot": "bottlerocket-aws-k8s-1.30-x86_64-1.26.1-943d9a41-boot.ext4.lz4",
              "root": "bottlerocket-aws-k8s-1.30-x86_64-1.26.1-943d9a41-root.ext4.lz4",
              "hash": "bottlerocket-aws-k8s-1.30-x86_64-1.26.1-943d9a41-root.verity.lz4"}}],
 "migrations": {"(1.25.0, 1.26.0)": ["migrate_v1.26.0_x.lz4"], "(1.26.0, 1.26.1)": []}}
"""


class StrictImages(msgspec.Struct):
    boot: str
    root: str
    hash: str


class StrictUpdate(msgspec.Struct):
    """All fields are required there, `waves` among them."""

    variant: str
    arch: str
    version: str
    max_version: str
    waves: dict[str, str]
    images: StrictImages


class StrictManifest(msgspec.Struct):
    updates: list[StrictUpdate]
    migrations: dict[str, list[str]]


SEMVER = re.compile(r"\d+\.\d+\.\d+(-[0-9A-Za-z.-]+)?(\+[0-9A-Za-z.-]+)?")
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?(Z|[+-]\d\d:\d\d)")
STEP = re.compile(r"\((?P<start>[^ ,()]+), (?P<end>[^ ,()]+)\)")


def read_strictly(data: bytes) -> StrictManifest:
    """Deserialise as the cloned system does: versions, times and keys included."""
    manifest = msgspec.json.decode(data, type=StrictManifest)
    for update in manifest.updates:
        assert SEMVER.fullmatch(update.version)
        assert SEMVER.fullmatch(update.max_version)
        bounds = [int(bound) for bound in update.waves]
        assert all(str(bound) in update.waves and 0 <= bound <= 2048 for bound in bounds)
        assert all(TIME.fullmatch(time) for time in update.waves.values())
        in_order = sorted(update.waves, key=int)
        times = [datetime.fromisoformat(update.waves[bound]) for bound in in_order]
        assert times == sorted(times)
    for key in manifest.migrations:
        step = STEP.fullmatch(key)
        assert step is not None
        assert Version.parse(step["start"]) < Version.parse(step["end"])
    return manifest


def test_a_manifest_of_the_cloned_system_is_written_back_as_it_was() -> None:
    catalogue = parse_catalogue(CLONED)
    assert json.loads(serialise_catalogue(catalogue)) == json.loads(CLONED)
    assert read_strictly(serialise_catalogue(catalogue)) == read_strictly(CLONED)


def test_a_release_can_be_added_to_it() -> None:
    update = an_update("1.27.0", variant="aws-k8s-1.30")
    catalogue = with_release(parse_catalogue(CLONED), update, migrations=("m.lz4",))
    strict = read_strictly(serialise_catalogue(catalogue))
    assert [each.version for each in strict.updates] == ["1.27.0", "1.26.1"]
    assert {each.max_version for each in strict.updates} == {"1.27.0"}
    assert strict.migrations == {
        "(1.25.0, 1.26.0)": ["migrate_v1.26.0_x.lz4"],
        "(1.26.0, 1.26.1)": [],
        "(1.26.1, 1.27.0)": ["m.lz4"],
    }


def test_an_update_without_waves_has_the_field_all_the_same() -> None:
    catalogue = with_release(Catalogue(), an_update("1.1.0"))
    assert read_strictly(serialise_catalogue(catalogue)).updates[0].waves == {}


def a_paused_and_withdrawn_one() -> Catalogue:
    waves = (Wave(bound=0, starts_at=NOW), Wave(bound=307, starts_at=NOW + timedelta(days=1)))
    catalogue = with_release(Catalogue(), an_update("1.1.0"), follows=Version(1, 0, 0))
    catalogue = with_release(catalogue, replace(an_update("1.2.0"), waves=waves))
    update = catalogue.manifest.updates[0]
    stopped = pause(update.waves, NOW + timedelta(hours=7, microseconds=1))
    catalogue = catalogue.with_pause(update, stopped)
    catalogue = catalogue.with_update(replace(update, waves=paused_waves(stopped)))
    return with_withdrawal(catalogue, catalogue.manifest.updates[1], NOW)


def test_what_is_ours_stands_beside_it_and_is_read_back() -> None:
    catalogue = a_paused_and_withdrawn_one()
    data = serialise_catalogue(catalogue)
    read_strictly(data)
    again = parse_catalogue(data)
    assert again == parse_catalogue(serialise_catalogue(again))
    assert again.manifest == catalogue.manifest
    for update in catalogue.manifest.updates:
        assert again.pause_of(update) == catalogue.pause_of(update)
        assert again.is_withdrawn(update) == catalogue.is_withdrawn(update)
    newer, older = again.manifest.updates
    assert again.pause_of(newer) is not None
    assert again.pause_of(older) is None
    assert again.is_withdrawn(older)


def test_fields_that_nobody_here_knows_are_kept() -> None:
    document: dict[str, Any] = json.loads(CLONED)
    document["signed_off_by"] = ["ann"]
    document["updates"][0]["notes"] = {"text": "x"}
    catalogue = parse_catalogue(json.dumps(document).encode())
    changed = with_release(catalogue, an_update("1.27.0"))
    written = json.loads(serialise_catalogue(changed))
    assert written["signed_off_by"] == ["ann"]
    assert [each.get("notes") for each in written["updates"]] == [None, {"text": "x"}]


def test_a_note_can_be_removed_again() -> None:
    catalogue = a_paused_and_withdrawn_one()
    newer, older = catalogue.manifest.updates
    catalogue = catalogue.with_pause(newer, None).with_withdrawal(older, None)
    assert all(not fields for fields in catalogue.beside.values())
    assert identity(newer) in catalogue.beside


def test_a_damaged_note_of_a_pause_is_named() -> None:
    document: dict[str, Any] = json.loads(CLONED)
    update = parse_catalogue(CLONED).manifest.updates[0]
    for damage in (1, {}, {"at": "soon", "waves": {}}, {"at": "2024-10-24T19:00:00Z", "waves": 1}):
        document["updates"][0]["paused"] = damage
        catalogue = parse_catalogue(json.dumps(document).encode())
        with pytest.raises(RepoToolsError, match=r"the note of a pause in 1\.26\.1 of aws-k8s"):
            catalogue.pause_of(update)


def test_what_no_client_would_read_is_neither_read_nor_written() -> None:
    with pytest.raises(RepoToolsError, match=r"manifest\.json: key 'updates' occurs twice"):
        parse_catalogue(b'{"updates": [], "updates": []}')
    broken = replace(an_update("1.1.0"), variant="a variant")
    with pytest.raises(RepoToolsError, match="variant"):
        serialise_catalogue(with_release(Catalogue(), broken))
