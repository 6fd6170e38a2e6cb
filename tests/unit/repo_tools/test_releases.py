from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from semver import Version

from repo_tools.cmdline import VerityTable
from repo_tools.errors import RepoToolsError
from repo_tools.images import Codec, SystemImages
from repo_tools.keys import KeyDirectory
from repo_tools.releases import (
    Release,
    add_release,
    known_versions,
    limit,
    read_manifest,
    set_max_version,
    with_max_version,
    with_update,
)
from repo_tools.repository import PublishedRepository, create_repository, publishing
from tests.helpers.updates import a_manifest, an_update
from updog.manifest import Manifest
from updog.waves import Wave

NOW = datetime.now(UTC)
V1_0, V1_1, V1_2, V1_3 = (Version(1, minor, 0) for minor in range(4))


def with_versions(*versions: str) -> Manifest:
    manifest = a_manifest()
    for version in versions:
        manifest = with_update(manifest, an_update(version), follows=V1_0)
    return manifest


def a_release(directory: Path, version: Version = V1_1) -> Release:
    paths = [directory / name for name in ("boot", "root", "hash")]
    for path in paths:
        path.write_bytes(path.name.encode() * 1000)
    return Release(
        variant="playground",
        arch="x86_64",
        version=version,
        images=SystemImages(
            boot=paths[0],
            root=paths[1],
            hash=paths[2],
            table=VerityTable(data_blocks=1, root_digest=b"\xab\xcd\xef\x01" * 8, salt=b""),
        ),
    )


def test_versions_form_one_chain_of_steps() -> None:
    assert set(with_versions("1.1.0", "1.2.0").migrations) == {(V1_0, V1_1), (V1_1, V1_2)}


def test_a_version_in_between_is_tied_to_both_neighbours() -> None:
    steps = with_versions("1.1.0", "1.3.0", "1.2.0").migrations
    assert set(steps) == {(V1_0, V1_1), (V1_1, V1_3), (V1_1, V1_2), (V1_2, V1_3)}


def test_existing_migrations_are_kept() -> None:
    old = replace(a_manifest(), migrations={(V1_0, V1_1): ("migrate_x.lz4",)})
    new = with_update(old, an_update("1.1.0"), follows=None)
    assert new.migrations == {(V1_0, V1_1): ("migrate_x.lz4",)}


def test_the_highest_version_stands_first() -> None:
    updates = with_versions("1.2.0", "1.3.0", "1.1.0").updates
    assert [update.version for update in updates] == [V1_3, V1_2, V1_1]


def test_a_version_is_published_once_for_each_variant() -> None:
    manifest = with_versions("1.1.0")
    with pytest.raises(RepoToolsError, match=r"1\.1\.0 is published already"):
        with_update(manifest, an_update("1.1.0"), follows=None)
    other = with_update(manifest, an_update("1.1.0", variant="metal"), follows=None)
    assert len(other.updates) == 2


def test_the_limit_is_the_same_in_every_update() -> None:
    manifest = with_max_version(with_versions("1.1.0", "1.2.0"), V1_1)
    assert {update.max_version for update in manifest.updates} == {V1_1}
    assert limit(manifest) == V1_1


def test_without_an_update_there_is_no_limit_to_set() -> None:
    assert limit(a_manifest()) is None
    with pytest.raises(RepoToolsError, match="publish a release first"):
        with_max_version(a_manifest(), V1_1)


def test_versions_are_known_from_updates_and_steps() -> None:
    assert known_versions(with_versions("1.1.0")) == {V1_0, V1_1}


def test_a_published_release_can_be_read_back(tmp_path: Path) -> None:
    keys = KeyDirectory(path=tmp_path / "keys")
    keys.generate()
    create_repository(tmp_path / "repository", keys, now=NOW)
    waves = (Wave(bound=0, starts_at=datetime(2026, 1, 1, tzinfo=UTC)),)
    with publishing(tmp_path / "repository", keys, now=NOW) as publication:
        add_release(publication, a_release(tmp_path), waves=waves, codec=Codec.LZ4, follows=V1_0)
        add_release(publication, a_release(tmp_path, V1_2), waves=(), codec=Codec.ZSTD)
    manifest = read_manifest(PublishedRepository(tmp_path / "repository"))
    held_back, good = manifest.updates
    assert (good.waves, good.max_version, held_back.max_version) == (waves, V1_1, V1_1)
    assert good.images.root == "playground-x86_64-1.1.0-abcdef01-root.ext4.lz4"
    assert held_back.images.hash == "playground-x86_64-1.2.0-abcdef01-root.verity.zst"
    with publishing(tmp_path / "repository", keys, now=NOW) as publication:
        assert limit(set_max_version(publication, V1_2)) == V1_2
