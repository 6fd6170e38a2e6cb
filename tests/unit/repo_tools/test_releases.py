from datetime import UTC, datetime, timedelta

import pytest
from msgspec.structs import replace
from semver import Version

from repo_tools.catalogue import Catalogue
from repo_tools.errors import RepoToolsError
from repo_tools.releases import (
    Selection,
    is_offered,
    known_versions,
    landings,
    limit,
    select,
    with_max_version,
    with_migrations,
    with_release,
    with_update,
    with_withdrawal,
    without_withdrawal,
)
from tests.helpers.updates import a_manifest, an_update
from updog.manifest import Manifest, Update
from updog.migrations import find_chain
from updog.waves import SEEDS, Wave

EVERYWHERE = Selection()
NOW = datetime.now(UTC)
V1_0, V1_1, V1_2, V1_3 = (Version(1, minor, 0) for minor in range(4))


def with_versions(*versions: str) -> Manifest:
    manifest = a_manifest()
    for version in versions:
        manifest = with_update(manifest, an_update(version), follows=V1_0)
    return manifest


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


def in_catalogue(*updates: Update) -> Catalogue:
    catalogue = Catalogue()
    for update in updates:
        catalogue = with_release(catalogue, update, follows=V1_0)
    return catalogue


def limits(catalogue: Catalogue) -> dict[str, str]:
    return {str(each.version): str(each.max_version) for each in catalogue.manifest.updates}


def test_the_limit_is_the_same_in_every_update_and_rises_with_each_release() -> None:
    catalogue = in_catalogue(an_update("1.1.0"), an_update("1.2.0"))
    assert limits(catalogue) == {"1.2.0": "1.2.0", "1.1.0": "1.2.0"}
    catalogue = with_max_version(catalogue, V1_1, EVERYWHERE)
    assert limits(catalogue) == {"1.2.0": "1.1.0", "1.1.0": "1.1.0"}
    assert limit(catalogue.manifest.updates) == V1_1


def test_an_older_branch_does_not_lower_the_limit() -> None:
    catalogue = in_catalogue(an_update("1.3.0"), an_update("1.2.1"))
    assert set(limits(catalogue).values()) == {"1.3.0"}


def test_a_release_that_is_held_back_leaves_the_limit_where_it_is() -> None:
    first = with_release(Catalogue(), an_update("1.1.0"), hold_back=True)
    assert not is_offered(first.manifest.updates[0])
    second = with_release(in_catalogue(an_update("1.1.0")), an_update("1.2.0"), hold_back=True)
    assert limits(second) == {"1.2.0": "1.1.0", "1.1.0": "1.1.0"}


def test_variants_have_limits_of_their_own() -> None:
    catalogue = in_catalogue(
        an_update("1.1.0"), an_update("1.2.0", variant="metal"), an_update("1.1.0", variant="metal")
    )
    assert [(each.variant, str(each.max_version)) for each in catalogue.manifest.updates] == [
        ("metal", "1.2.0"),
        ("aws-k8s-1.30", "1.1.0"),
        ("metal", "1.2.0"),
    ]
    changed = with_max_version(catalogue, V1_1, Selection(variant="metal"))
    assert {each.max_version for each in changed.manifest.updates} == {V1_1}


def test_a_limit_that_leaves_machines_nothing_is_refused() -> None:
    with pytest.raises(RepoToolsError, match=r"would be left at or below 1\.0\.0"):
        with_max_version(in_catalogue(an_update("1.1.0")), V1_0, EVERYWHERE)


def test_without_an_update_there_is_no_limit_to_set() -> None:
    assert limit(()) is None
    with pytest.raises(RepoToolsError, match="add a release first"):
        with_max_version(Catalogue(), V1_1, EVERYWHERE)


def test_versions_are_known_from_updates_and_steps() -> None:
    assert known_versions(with_versions("1.1.0")) == {V1_0, V1_1}


def test_a_publisher_without_migrations_gets_no_steps() -> None:
    manifest = with_update(with_update(a_manifest(), an_update("1.1.0")), an_update("1.2.0"))
    assert manifest.migrations == {}


def test_the_first_migrations_tie_all_versions_together() -> None:
    manifest = a_manifest(an_update("1.2.0"), an_update("1.1.0"))
    changed = with_update(manifest, an_update("1.3.0"), migrations=("m.lz4",))
    assert changed.migrations == {(V1_1, V1_2): (), (V1_2, V1_3): ("m.lz4",)}
    with pytest.raises(RepoToolsError, match="name it by --follows"):
        with_update(a_manifest(), an_update("1.3.0"), migrations=("m.lz4",))


def test_a_repair_of_an_old_version_passes_the_migrations_above_it_on() -> None:
    manifest = with_update(with_versions("1.1.0"), an_update("1.2.0"), migrations=("m.lz4",))
    changed = with_update(manifest, an_update("1.1.1"))
    repaired = Version(1, 1, 1)
    assert changed.migrations[repaired, V1_2] == changed.migrations[V1_1, V1_2] == ("m.lz4",)
    assert changed.migrations[V1_1, repaired] == ()
    assert find_chain(changed, running=V1_1, goal=V1_2) == ("m.lz4",)


def test_migrations_of_a_step_are_replaced_and_lead_upwards() -> None:
    changed = with_migrations(with_versions("1.1.0"), V1_0, V1_1, names=("m.lz4",))
    assert changed.migrations[V1_0, V1_1] == ("m.lz4",)
    with pytest.raises(RepoToolsError, match="a step leads upwards"):
        with_migrations(changed, V1_1, V1_0, names=())


def withdrawn(catalogue: Catalogue, version: str) -> Catalogue:
    return with_withdrawal(catalogue, update_of(catalogue, version), NOW)


def update_of(catalogue: Catalogue, version: str) -> Update:
    return next(each for each in catalogue.manifest.updates if str(each.version) == version)


def where_from(catalogue: Catalogue, version: str) -> list[tuple[int, str | None]]:
    found = landings(catalogue, update_of(catalogue, version), NOW)
    assert [each.first for each in found] == [0, *(each.end for each in found[:-1])]
    assert found[-1].end == SEEDS
    return [(each.end, str(each.version) if each.version else None) for each in found]


def test_machines_that_run_a_withdrawn_version_come_back() -> None:
    catalogue = in_catalogue(an_update("1.1.0"), an_update("1.2.0"))
    assert where_from(catalogue, "1.2.0") == [(SEEDS, None)]
    catalogue = withdrawn(catalogue, "1.2.0")
    assert where_from(catalogue, "1.2.0") == [(SEEDS, "1.1.0")]
    assert limits(catalogue) == {"1.2.0": "1.1.0", "1.1.0": "1.1.0"}


def test_a_withdrawn_version_stays_withdrawn_when_a_later_release_raises_the_limit() -> None:
    rollout = (Wave(bound=0, starts_at=NOW), Wave(bound=1024, starts_at=NOW + timedelta(hours=1)))
    catalogue = withdrawn(in_catalogue(an_update("1.1.0"), an_update("1.2.0")), "1.2.0")
    catalogue = with_release(catalogue, replace(an_update("1.3.0"), waves=rollout))
    assert limits(catalogue) == {"1.3.0": "1.3.0", "1.2.0": "1.1.0", "1.1.0": "1.3.0"}
    # Whoever is not let into 1.3.0 yet is not sent to 1.2.0 instead, nor from 1.3.0 to 1.1.0.
    assert where_from(catalogue, "1.1.0") == [(1, "1.3.0"), (SEEDS, None)]
    assert where_from(catalogue, "1.3.0") == [(1, None), (SEEDS, None)]
    catalogue = with_max_version(catalogue, Version(2, 0, 0), EVERYWHERE)
    assert not is_offered(update_of(catalogue, "1.2.0"))


def test_a_version_below_the_newest_is_withdrawn_without_touching_the_newest() -> None:
    catalogue = in_catalogue(an_update("1.1.0"), an_update("1.2.0"))
    catalogue = withdrawn(catalogue, "1.1.0")
    assert limits(catalogue) == {"1.2.0": "1.2.0", "1.1.0": "0.0.0-0"}
    assert where_from(catalogue, "1.1.0") == [(SEEDS, "1.2.0")]


def test_the_last_version_that_is_offered_cannot_be_withdrawn() -> None:
    catalogue = in_catalogue(an_update("1.1.0"), an_update("1.2.0"))
    with pytest.raises(RepoToolsError, match="nothing to land on"):
        withdrawn(withdrawn(catalogue, "1.2.0"), "1.1.0")


def test_a_version_is_not_withdrawn_where_no_migrations_lead_back() -> None:
    catalogue = in_catalogue(an_update("1.1.0"), an_update("1.2.0"))
    steps = {(V1_0, V1_1): ("m.lz4",)}
    gap = catalogue.with_manifest(replace(catalogue.manifest, migrations=steps))
    with pytest.raises(RepoToolsError, match=r"1\.2\.0 could not go to 1\.1\.0: .* no migrations"):
        withdrawn(gap, "1.2.0")


def test_a_withdrawal_can_be_undone() -> None:
    before = in_catalogue(an_update("1.1.0"), an_update("1.2.0"))
    after = without_withdrawal(
        withdrawn(before, "1.2.0"), update_of(withdrawn(before, "1.2.0"), "1.2.0")
    )
    assert after.manifest == before.manifest
    assert not after.is_withdrawn(update_of(after, "1.2.0"))


def test_machines_that_wait_for_their_wave_are_told_of() -> None:
    rollout = (Wave(bound=0, starts_at=NOW), Wave(bound=1024, starts_at=NOW + timedelta(hours=1)))
    catalogue = in_catalogue(replace(an_update("1.1.0"), waves=rollout), an_update("1.2.0"))
    first, second = landings(
        withdrawn(catalogue, "1.2.0"), update_of(withdrawn(catalogue, "1.2.0"), "1.2.0"), NOW
    )
    assert (first.end, first.version, first.at) == (1, V1_1, None)
    assert (second.version, second.at) == (None, NOW + timedelta(hours=1))
    assert second.share == (SEEDS - 1) / SEEDS


def test_updates_are_selected_by_version_variant_and_architecture() -> None:
    manifest = in_catalogue(
        an_update("1.2.0"), an_update("1.1.0"), an_update("1.1.0", variant="metal")
    ).manifest
    assert [str(each.version) for each in select(manifest, EVERYWHERE)] == ["1.2.0"]
    assert len(select(manifest, Selection(version=V1_1))) == 2
    assert len(select(manifest, Selection(version=V1_1, variant="metal"))) == 1
    with pytest.raises(RepoToolsError, match=r"no release is 1\.3\.0 metal; there are: 1\.1\.0"):
        select(manifest, Selection(version=V1_3, variant="metal"))
