"""The publisher's commands on a real repository: releases, waves, refresh, and what is refused."""

import errno
import json
import os
import random
import shutil
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from msgspec.structs import replace
from semver import Version

from repo_tools.catalogue import Catalogue, serialise_catalogue
from repo_tools.draft import editing, read_catalogue
from repo_tools.images import Codec, compress
from repo_tools.programs import find_own_command
from repo_tools.releases import with_release
from repo_tools.repository import PublishedRepository, StagedTarget, publishing
from repo_tools.rescheduling import reached
from tests.helpers.shop import (
    ARCH,
    VARIANT,
    Client,
    Publisher,
    build_small_images,
    make_publisher,
    read_everything,
)
from tests.helpers.updates import an_update
from updog.manifest import Images
from updog.transport import Transport
from updog.waves import SEEDS


@pytest.fixture(scope="session")
def images(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    directory = tmp_path_factory.mktemp("images")
    return {name: build_small_images(directory / name, name) for name in ("first", "second")}


@pytest.fixture
def publisher(tmp_path: Path) -> Publisher:
    return make_publisher(tmp_path)


@pytest.fixture
def shop(publisher: Publisher, images: dict[str, Path]) -> Publisher:
    """A publisher of 1.1.0 for all and of 1.2.0, whose rollout has begun."""
    publisher.add("1.1.0", images["first"], "--follows", "1.0.0")
    publisher.do("publish")
    publisher.add("1.2.0", images["second"], "--waves", "emergency", "--publish")
    return publisher


def seen_by_a_machine(publisher: Publisher, scratch: Path) -> list[str]:
    client = Client(
        repository=publisher.repository, trusted_root=publisher.trusted_root, scratch=scratch
    )
    with Transport() as transport:
        manifest = read_everything(client.start(transport))
    return [str(update.version) for update in manifest.updates]


def share(publisher: Publisher, version: str, *, after: timedelta = timedelta()) -> int:
    """Return how many seeds may take a version."""
    (update,) = (each for each in publisher.manifest.updates if str(each.version) == version)
    return reached(update.waves, datetime.now(UTC) + after)


def test_a_release_is_public_after_the_publish_and_not_before(
    publisher: Publisher, images: dict[str, Path], tmp_path: Path
) -> None:
    said = publisher.add("1.1.0", images["first"])
    assert "they belong together" in said
    assert "in the draft; `repo-tools publish` makes it public" in said
    assert PublishedRepository(publisher.repository).roles.keys() == {"root"}
    assert "add 1.1.0 (shop, x86_64) for all at once" in publisher.do("release", "list")
    publisher.do("publish", "--dry-run")
    assert PublishedRepository(publisher.repository).roles.keys() == {"root"}
    publisher.do("publish")
    assert seen_by_a_machine(publisher, tmp_path / "client") == ["1.1.0"]
    assert "nothing waits in the draft" in publisher.do("publish")
    assert PublishedRepository(publisher.repository).versions["timestamp"] == 1


def test_the_same_release_twice_is_nothing_to_do_and_another_is_refused(
    shop: Publisher, images: dict[str, Path]
) -> None:
    before = shop.files()
    said = shop.add("1.1.0", images["first"], "--compression", "lz4", "--publish")
    assert "is there already with the same images" in said
    assert shop.files() == before
    words = shop.release_words(images["second"])
    assert "published already with another" in shop.refusal("release", "add", "1.1.0", *words)


def test_the_same_release_is_known_where_nobody_signed_what_it_unpacks_to(
    publisher: Publisher, images: dict[str, Path]
) -> None:
    names = {"boot": "boot.ext4", "root": "root.ext4", "hash": "root.verity"}
    with publishing(publisher.repository, publisher.keys, now=datetime.now(UTC)) as publication:
        for name in names.values():
            path = publication.staging_path(f"{name}.lz4")
            packed = compress(images["first"] / name, path, Codec.LZ4)
            target = StagedTarget(
                name=f"{name}.lz4", path=path, length=packed.length, sha256=packed.sha256
            )
            publication.add(target)
        update = replace(
            an_update("1.1.0", variant=VARIANT, arch=ARCH),
            images=Images(**{role: f"{name}.lz4" for role, name in names.items()}),
        )
        catalogue = with_release(Catalogue(), update)
        publication.add_bytes("manifest.json", serialise_catalogue(catalogue))
    assert "is there already" in publisher.add("1.1.0", images["first"])
    words = publisher.release_words(images["second"])
    assert "published already with another" in publisher.refusal("release", "add", "1.1.0", *words)


def test_a_drafted_release_is_replaced_by_a_newer_build_of_it(
    publisher: Publisher, images: dict[str, Path]
) -> None:
    publisher.add("1.1.0", images["first"])
    publisher.add("1.1.0", images["second"])
    assert publisher.do("release", "list").count("add 1.1.0") == 1


def test_a_drafted_release_that_is_published_at_once_leaves_the_draft(
    publisher: Publisher, images: dict[str, Path]
) -> None:
    publisher.add("1.1.0", images["first"])
    publisher.do("migrations", "set", "1.0.0", "1.1.0")
    publisher.add("1.1.0", images["first"], "--publish")
    assert [str(each.version) for each in publisher.manifest.updates] == ["1.1.0"]
    listed = publisher.do("release", "list")
    assert "add 1.1.0" not in listed
    assert "migrate from 1.0.0 to 1.1.0 by none" in listed


def test_two_commands_at_one_draft_are_one_line(publisher: Publisher) -> None:
    with editing(publisher.directory / "draft"):
        assert "another command changes the draft" in publisher.refusal("publish")


def test_images_that_do_not_belong_together_are_refused(
    publisher: Publisher, images: dict[str, Path]
) -> None:
    first, second = images["first"], images["second"]
    words = ["release", "add", "1.1.0", *publisher.release_words(first)]
    other_tree: list[str | Path] = ["--hash", second / "root.verity"]
    assert "do not belong together" in publisher.refusal(*words, *other_tree)
    other_boot: list[str | Path] = ["--boot", second / "boot.ext4"]
    assert "do not belong together: the hash image has the root digest" in publisher.refusal(
        *words, *other_boot
    )
    assert "Images" in publisher.do(*words, *other_boot, "--trust-boot", "--dry-run")
    assert "no image" in publisher.refusal(*words, "--root", first / "nothing")


def test_a_root_image_that_is_longer_than_its_tree_is_refused(
    publisher: Publisher, images: dict[str, Path], tmp_path: Path
) -> None:
    longer = tmp_path / "root.ext4"
    longer.write_bytes((images["first"] / "root.ext4").read_bytes() + bytes(4096))
    words = [*publisher.release_words(images["first"]), "--root", longer]
    assert "do not belong together" in publisher.refusal("release", "add", "1.1.0", *words)
    longer.write_bytes((images["first"] / "root.ext4").read_bytes()[:-4096])
    assert "do not belong together" in publisher.refusal("release", "add", "1.1.0", *words)


def test_an_image_larger_than_its_partition_is_refused(
    publisher: Publisher, images: dict[str, Path], tmp_path: Path
) -> None:
    large = tmp_path / "boot.ext4"
    large.write_bytes((images["first"] / "boot.ext4").read_bytes() + bytes(8 << 20))
    words = [*publisher.release_words(images["first"]), "--boot", large, "--disk-mib", "256"]
    assert "the boot image has 11534336 bytes, its partition on a disk of 256 MiB only 8388608" in (
        publisher.refusal("release", "add", "1.1.0", *words)
    )


def test_a_root_image_that_calls_itself_another_release_is_refused(
    publisher: Publisher, tmp_path: Path
) -> None:
    os_release = "VARIANT_ID=shop\nVERSION_ID=1.2.0\n"
    images = build_small_images(tmp_path / "build", os_release, name="etc/os-release")
    said = publisher.refusal("release", "add", "1.1.0", *publisher.release_words(images))
    assert "says that it is shop 1.2.0, not shop 1.1.0" in said
    assert "they belong together" in publisher.add("1.2.0", images)


def test_an_image_that_changed_after_it_was_added_is_not_published(
    publisher: Publisher, images: dict[str, Path], tmp_path: Path
) -> None:
    copies = tmp_path / "copies"
    copies.mkdir()
    for path in images["first"].iterdir():
        if path.is_file():
            (copies / path.name).write_bytes(path.read_bytes())
    publisher.add("1.1.0", copies)
    (copies / "root.ext4").write_bytes(bytes(4096))
    for options in ((), ("--dry-run",)):
        assert "has changed since it was added" in publisher.refusal("publish", *options)
    (copies / "root.ext4").unlink()
    for options in ((), ("--dry-run",)):
        assert "is gone: put it back" in publisher.refusal("publish", *options)


def test_a_migration_that_is_nowhere_is_refused_before_it_blocks_the_draft(shop: Publisher) -> None:
    said = shop.refusal("migrations", "set", "1.1.0", "1.2.0", "mistyped")
    assert "mistyped is neither a file nor a migration that is published" in said
    assert "nothing waits" in shop.do("publish")


def test_migrations_are_published_with_their_step(shop: Publisher, tmp_path: Path) -> None:
    plain = tmp_path / "migrate_v1.2.0_settings"
    plain.write_text("moves the settings")
    shop.do("migrations", "set", "1.1.0", "1.2.0", plain)
    shop.do("publish")
    step = (Version(1, 1, 0), Version(1, 2, 0))
    assert shop.manifest.migrations[step] == ("migrate_v1.2.0_settings.lz4",)
    shop.do("migrations", "set", "1.1.0", "1.2.0", "migrate_v1.2.0_settings.lz4", "--publish")
    assert seen_by_a_machine(shop, tmp_path / "client") == ["1.2.0", "1.1.0"]
    assert "other.lz4 is neither a file nor a migration that is published" in shop.refusal(
        "migrations", "set", "1.1.0", "1.2.0", "other.lz4", "--publish"
    )


def test_a_withdrawn_release_says_where_machines_land(shop: Publisher) -> None:
    said = shop.do("release", "withdraw", "1.2.0", "--publish")
    assert "shop x86_64: 100.0% go back from 1.2.0 to 1.1.0" in said
    assert "1.2.0            withdrawn" in shop.do("release", "list")
    assert "is withdrawn already" in shop.refusal("release", "withdraw", "1.2.0")
    assert "nothing to land on" in shop.refusal("release", "withdraw", "1.1.0")
    shop.do("release", "withdraw", "1.2.0", "--undo", "--publish")
    assert {str(each.max_version) for each in shop.manifest.updates} == {"1.2.0"}


def test_a_limit_that_takes_machines_back_says_so(shop: Publisher) -> None:
    said = shop.do("max-version", "set", "1.1.0", "--dry-run")
    assert "nothing was changed (--dry-run)" in said
    assert "go back from 1.2.0 to 1.1.0" in said
    assert "would be left at or below 1.0.0" in shop.refusal("max-version", "set", "1.0.0")
    shop.do("max-version", "set", "1.1.0", "--publish")
    assert {str(each.max_version) for each in shop.manifest.updates} == {"1.1.0"}


def test_a_pause_holds_until_it_is_resumed(shop: Publisher) -> None:
    day = timedelta(days=1)
    assert share(shop, "1.2.0", after=day) == SEEDS
    assert "paused at" in shop.do("waves", "pause", "--publish")
    held = share(shop, "1.2.0")
    assert 0 < held < 40
    assert share(shop, "1.2.0", after=day) == held
    assert "is paused already" in shop.refusal("waves", "pause")
    assert "is paused: `waves resume` it first" in shop.refusal("waves", "accelerate", "--by", "1h")
    assert "paused at" in shop.do("waves", "show", "1.2.0")
    shop.do("waves", "resume", "--publish")
    assert share(shop, "1.2.0") >= held
    assert share(shop, "1.2.0", after=day) == SEEDS
    assert "is not paused" in shop.refusal("waves", "resume")
    assert (
        read_catalogue(PublishedRepository(shop.repository)).beside[VARIANT, ARCH, Version(1, 2, 0)]
        == {}
    )


def test_a_pause_in_the_draft_stops_the_rollout_where_it_is_at_the_publish(
    shop: Publisher,
) -> None:
    shop.do("waves", "pause")
    (change,) = json.loads((shop.directory / "draft" / "draft.json").read_text())["changes"]
    assert change == {"change": "pause waves", "version": "1.2.0", "variant": None, "arch": None}
    assert share(shop, "1.2.0", after=timedelta(days=1)) == SEEDS
    shop.do("publish")
    assert share(shop, "1.2.0", after=timedelta(days=1)) < SEEDS


def test_publishing_one_change_at_once_leaves_the_rest_of_the_draft(
    shop: Publisher, images: dict[str, Path]
) -> None:
    shop.add("1.3.0", images["first"])
    shop.do("waves", "pause", "1.2.0", "--publish")
    assert [str(each.version) for each in shop.manifest.updates] == ["1.2.0", "1.1.0"]
    assert "add 1.3.0" in shop.do("release", "list")
    shop.do("release", "discard")
    assert "nothing waits" in shop.do("release", "list")


def test_an_accelerated_rollout_comes_earlier(shop: Publisher) -> None:
    half = timedelta(hours=3)
    before = share(shop, "1.2.0", after=half)
    shop.do("waves", "accelerate", "--by", "1h", "--publish")
    assert share(shop, "1.2.0", after=half) > before
    shop.do("waves", "set", "slow", "--force", "--publish")
    shop.do("waves", "accelerate", "--to", "emergency", "--publish")
    assert share(shop, "1.2.0", after=timedelta(hours=6)) == SEEDS
    assert shop.run("waves", "accelerate").exit_code == 2
    assert shop.run("waves", "accelerate", "--by", "soon").exit_code == 2


def test_a_schedule_that_takes_hosts_back_needs_force(shop: Publisher) -> None:
    assert "--force takes it back all the same" in shop.refusal("waves", "set", "slow")
    shop.do("waves", "set", "slow", "--force", "--publish")
    assert share(shop, "1.2.0") == 0
    assert "% of the fleet may take 1.1.0 now" in shop.refusal("waves", "set", "slow", "1.1.0")


def two_waves(first: str, first_share: int, second: str, second_share: int) -> str:
    """Return two waves of a file, without its first words."""
    return (
        f'"{first}"\nfleet_percentage = {first_share}\n[[waves]]\n'
        f'start_after = "{second}"\nfleet_percentage = {second_share}'
    )


@pytest.mark.parametrize(
    ("waves", "message"),
    [
        ('"2020-01-01T00:00:00Z"\nfleet_percentage = 100', "which is past"),
        ('"1 hour"\nfleet_percentage = 99', "it must reach 100"),
        (
            two_waves("2 hours", 1, "1 hour", 100),
            "wave 2 starts before wave 1",
        ),
        (
            two_waves("1 hour", 9, "2 hours", 9),
            "must be greater than the 9 of wave 1",
        ),
    ],
)
def test_a_wave_file_that_makes_no_sense_is_refused(
    shop: Publisher, tmp_path: Path, waves: str, message: str
) -> None:
    path = tmp_path / "waves.toml"
    path.write_text(f"[[waves]]\nstart_after = {waves}\n")
    assert message in shop.refusal("waves", "set", path)


def test_a_wave_file_that_is_nowhere_names_those_that_ship(shop: Publisher) -> None:
    said = shop.refusal("waves", "set", "fast")
    assert "those that come with repo-tools are default, accelerated, emergency, slow" in said


def test_waves_are_shown_as_a_table_and_as_json(shop: Publisher) -> None:
    table = shop.do("waves", "show").splitlines()
    assert table[1].split() == ["wave", "seeds", "reaches", "begins", "ends", "now"]
    assert [line.split()[:3] for line in table[2:]] == [
        ["1", "0-19", "1.0"],
        ["2", "20-203", "10.0"],
        ["3", "204-1023", "50.0"],
        ["4", "1024-2047", "100.0"],
    ]
    (shown,) = json.loads(shop.do("waves", "show", "--json"))
    assert shown["waves"][3]["ends_at"] is None
    assert "for the whole fleet" in shop.do("waves", "show", "1.1.0")
    assert "no release is 9.0.0; there are: 1.2.0, 1.1.0" in shop.refusal("waves", "show", "9.0.0")


@pytest.fixture
def aged(publisher: Publisher, images: dict[str, Path]) -> Publisher:
    """What was published five days ago."""
    publisher.add("1.1.0", images["first"], "--publish")
    past = datetime.now(UTC) - timedelta(days=5)
    with publishing(publisher.repository, publisher.keys, now=past):
        pass
    return publisher


def test_refresh_signs_what_is_about_to_expire_and_nothing_else(aged: Publisher) -> None:
    assert "timestamp" in aged.do("refresh", "--dry-run").lower()
    before = PublishedRepository(aged.repository).versions
    assert "signed anew, valid for 6 d 23 h" in aged.do("refresh")
    after = PublishedRepository(aged.repository).versions
    assert after == {**before, "timestamp": before["timestamp"] + 1}
    files = aged.files()
    assert "nothing has to be signed anew" in aged.do("refresh")
    assert aged.files() == files


def test_refresh_needs_no_keys_that_are_kept_offline(aged: Publisher) -> None:
    for path in aged.keys.path.glob("root-*.pem"):
        path.unlink()
    (aged.keys.path / "targets-1.pem").unlink()
    assert "signed anew" in aged.do("refresh")


def test_what_expires_is_a_table_and_a_failure(aged: Publisher) -> None:
    done = aged.run("check-expirations", "--within", "7d")
    assert done.exit_code == 1
    assert "<- `repo-tools refresh`" in done.stdout.splitlines()[-1]
    assert aged.run("check-expirations", "--within", "1d").exit_code == 0
    assert aged.run("check-expirations").exit_code == 1
    aged.do("refresh")
    assert "timestamp" in aged.do("check-expirations")
    done = aged.run("check-expirations", "--within", "400d", "--json")
    assert done.exit_code == 1
    assert [each["role"] for each in json.loads(done.stdout)["roles"] if each["soon"]] == [
        "root",
        "targets",
        "snapshot",
        "timestamp",
    ]


def test_a_monitor_is_not_fooled_by_an_expiry_that_nobody_signed(shop: Publisher) -> None:
    assert shop.run("check-expirations").exit_code == 0
    timestamp = shop.repository / "metadata" / "timestamp.json"
    document = json.loads(timestamp.read_bytes())
    document["signed"]["expires"] = "2090-01-01T00:00:00Z"
    timestamp.write_text(json.dumps(document))
    assert "timestamp.json is not signed as the root asks" in shop.refusal("check-expirations")


def test_two_publishers_at_once_are_one_line(shop: Publisher) -> None:
    with publishing(shop.repository, shop.keys, now=datetime.now(UTC)):
        assert "another command writes to" in shop.refusal("waves", "pause", "--publish")
        assert "another command writes to" in shop.refusal("refresh")


def test_keys_that_others_can_read_sign_nothing(shop: Publisher) -> None:
    (shop.keys.path / "targets-1.pem").chmod(0o644)
    assert "can be read by others" in shop.refusal("waves", "pause", "--publish")


def test_a_key_that_cannot_be_used_is_told_before_images_are_compressed(
    publisher: Publisher, images: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    (publisher.keys.path / "timestamp-1.pem").unlink()
    publisher.add("1.1.0", images["first"])
    monkeypatch.setattr("repo_tools.draft.compress", None)
    assert "timestamp-1.pem: No such file" in publisher.refusal("publish")


def test_a_damaged_draft_is_named_and_can_be_dropped(shop: Publisher) -> None:
    draft = shop.directory / "draft" / "draft.json"
    draft.write_text('{"changes": [{"change": "fly"}]}')
    assert "is not a draft of this version of repo-tools" in shop.refusal("publish")
    shop.do("release", "discard")
    assert not draft.exists()


@pytest.mark.parametrize(
    ("words", "left"),
    [
        (("waves", "pause", "--variant", VARIANT), "nothing was changed"),
        (("publish",), "all of it is published"),
    ],
)
def test_a_draft_that_cannot_be_written_is_told_with_what_clients_see(
    shop: Publisher, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], left: str
) -> None:
    shop.do("waves", "accelerate", "--by", "1h")

    def full(*_: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr("repo_tools.draft._save", full)
    done = shop.run(*words)
    assert str(done.exception).endswith(f"Read-only file system; {left}")


def test_a_change_made_public_at_once_needs_no_draft_to_be_written(
    shop: Publisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop.do("waves", "accelerate", "--by", "1h")
    monkeypatch.setattr("repo_tools.workspace.save_draft", None)
    assert "published" in shop.do("waves", "pause", "--publish")


def test_a_draft_that_a_crash_left_behind_is_not_published_twice(shop: Publisher) -> None:
    shop.do("waves", "accelerate", "--by", "1h")
    draft = shop.directory / "draft" / "draft.json"
    left_behind = draft.read_bytes()
    shop.do("publish")
    draft.write_bytes(left_behind)
    assert "nothing waits" in shop.do("publish")
    assert not draft.exists()


def test_nor_after_another_change_was_made_public_at_once(shop: Publisher) -> None:
    shop.do("waves", "accelerate", "--by", "1h")
    draft = shop.directory / "draft" / "draft.json"
    left_behind = draft.read_bytes()
    shop.do("publish")
    draft.write_bytes(left_behind)
    shop.do("waves", "pause", "--publish")
    assert "nothing waits" in shop.do("publish")


def test_a_draft_still_fits_after_somebody_else_has_published(
    shop: Publisher, images: dict[str, Path]
) -> None:
    shop.add("1.3.0", images["first"])
    aside = (shop.directory / "draft").rename(shop.directory / "aside")
    shop.do("release", "withdraw", "1.2.0", "--publish")
    (shop.directory / "draft").rmdir()
    aside.rename(shop.directory / "draft")
    shop.do("publish")
    limits = {str(each.version): str(each.max_version) for each in shop.manifest.updates}
    assert limits == {"1.3.0": "1.3.0", "1.2.0": "1.1.0", "1.1.0": "1.3.0"}


def test_the_installed_command_fails_in_one_line(shop: Publisher) -> None:
    done = subprocess.run(
        [find_own_command("repo-tools"), "waves", "resume", "--publisher", shop.directory],
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": os.environ["PATH"]},
    )
    assert done.returncode == 1
    assert done.stderr == (
        "repo-tools: cannot resume the rollout of 1.2.0: 1.2.0 of shop for x86_64 is not paused: "
        "nothing to resume\n"
    )


@pytest.fixture
def small_disk(publisher: Publisher, tmp_path: Path) -> Iterator[Path]:
    """A repository on a disk of 256 KiB."""
    served = publisher.repository.rename(tmp_path / "aside")
    publisher.repository.mkdir()
    disk = str(publisher.repository)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", disk], check=True)
    try:
        shutil.copytree(served, disk, dirs_exist_ok=True)
        yield publisher.repository
    finally:
        subprocess.run(["umount", disk], check=True)


@pytest.mark.root
@pytest.mark.usefixtures("small_disk")
def test_a_disk_that_is_too_small_is_said_and_left_as_it_was(
    publisher: Publisher, images: dict[str, Path], tmp_path: Path
) -> None:
    publisher.add("1.0.0", images["first"], "--publish")
    content = random.Random(7).randbytes(1 << 20).hex()
    publisher.add("1.1.0", build_small_images(tmp_path / "large", content))
    said = publisher.refusal("publish")
    assert "No space left on device" in said
    assert said.endswith("the repository is as it was; run it again")
    assert seen_by_a_machine(publisher, tmp_path / "client") == ["1.0.0"]
