"""Migrations are kept as a whole with what proves them, and each change to them is noticed."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
from semver import Version

from tests.helpers.tuf_repository import TufPublisher, in_days
from updog.errors import ImageError, TrustError, UpdogError
from updog.kept_migrations import KeptMigrations, forget, keep, verify
from updog.manifest import Manifest, serialise
from updog.metadata import Repository
from updog.transport import Transport

V1, V2, V3 = (Version.parse(text) for text in ("1.0.0", "1.1.0", "1.2.0"))
MIGRATIONS = {"to-1.1.lz4": b"one " * 5000, "to-1.2-a.lz4": b"two", "to-1.2-b.lz4": b"three"}
STEPS: Mapping[tuple[Version, Version], tuple[str, ...]] = {
    (V1, V2): ("to-1.1.lz4",),
    (V2, V3): ("to-1.2-a.lz4", "to-1.2-b.lz4"),
}


@dataclass(frozen=True, kw_only=True)
class World:
    """A signed repository as a machine sees it, and the place to keep migrations in."""

    publisher: TufPublisher
    repository: Repository
    directory: Path

    @property
    def targets(self) -> Path:
        return self.directory / "targets"

    def keep(self, *names: str, running: Version = V1, goal: Version = V3) -> None:
        keep(self.repository, names or MIGRATIONS, self.directory, running=running, goal=goal)

    def kept(self) -> dict[str, bytes]:
        """Return the migrations that are kept."""
        if not self.targets.exists():
            return {}
        return {
            path.name: path.read_bytes()
            for path in self.targets.iterdir()
            if path.name != "manifest.json"
        }

    def verify(self) -> KeptMigrations:
        found = verify(self.publisher.root_bytes, self.directory)
        assert found is not None
        return found

    def faults(self) -> dict[str, str | None]:
        return {each.name: each.fault for each in self.verify().verdicts}

    def refusal(self) -> str:
        with pytest.raises(TrustError) as caught:
            self.verify()
        start = f"the migrations in {self.directory} cannot be proven: "
        assert str(caught.value).startswith(start)
        return str(caught.value).removeprefix(start)

    def neighbours(self) -> list[str]:
        return sorted(path.name for path in self.directory.parent.iterdir())


@pytest.fixture
def world(directory: Path) -> Iterator[World]:
    publisher = TufPublisher(directory / "repository")
    publisher.add("manifest.json", serialise(Manifest(updates=(), migrations=STEPS)))
    for name, content in MIGRATIONS.items():
        publisher.add(name, content)
    publisher.publish()
    with Transport() as transport:
        repository = Repository(
            trusted_root=publisher.root_bytes,
            cache=directory / "cache",
            metadata_base_url=f"file://{directory}/repository/metadata",
            targets_base_url=f"file://{directory}/repository/targets",
            transport=transport,
        )
        repository.refresh()
        yield World(
            publisher=publisher,
            repository=repository,
            directory=directory / "var" / "lib" / "migrations",
        )


class TestKeeping:
    def test_migrations_are_kept_and_nothing_is_left_beside_them(self, world: World) -> None:
        world.keep()
        assert world.kept() == MIGRATIONS
        assert world.neighbours() == ["migrations"]

    def test_a_migration_that_several_steps_name_is_kept_once(self, world: World) -> None:
        world.keep("to-1.1.lz4", "to-1.1.lz4")
        assert list(world.kept()) == ["to-1.1.lz4"]

    def test_what_an_earlier_update_left_is_replaced(self, world: World) -> None:
        world.keep()
        world.keep("to-1.1.lz4")
        assert list(world.kept()) == ["to-1.1.lz4"]

    def test_what_a_cut_left_half_done_is_not_kept(self, world: World) -> None:
        scratch = world.directory.with_name(".migrations.new")
        (scratch / "targets").mkdir(parents=True)
        (scratch / "targets" / "half").touch()
        world.keep()
        assert world.kept() == MIGRATIONS
        assert world.neighbours() == ["migrations"]

    @pytest.mark.parametrize("names", [("to-1.1.lz4", "unknown.lz4"), ("to-1.2-a.lz4",)])
    def test_a_failure_leaves_the_kept_ones_alone_and_nothing_beside_them(
        self, world: World, names: tuple[str, ...]
    ) -> None:
        world.keep("to-1.1.lz4")
        (tampered,) = world.publisher.targets.glob("*to-1.2-a.lz4")
        tampered.write_bytes(b"owt")
        with pytest.raises((ImageError, TrustError)):
            world.keep(*names)
        assert list(world.kept()) == ["to-1.1.lz4"]
        assert world.neighbours() == ["migrations"]

    def test_no_descriptor_is_left_behind(self, world: World) -> None:
        before = len(list(Path("/proc/self/fd").iterdir()))
        world.keep()
        world.verify()
        assert len(list(Path("/proc/self/fd").iterdir())) == before

    def test_a_place_that_cannot_be_used_is_named(self, world: World, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        with pytest.raises(UpdogError) as caught:
            keep(world.repository, MIGRATIONS, tmp_path / "file" / "kept", running=V1, goal=V3)
        assert str(caught.value) == (
            f"cannot keep the migrations in {tmp_path}/file/kept: Not a directory; make room there "
            "or set paths.migrations"
        )

    def test_an_update_without_migrations_forgets_those_of_an_earlier_one(
        self, world: World
    ) -> None:
        world.keep()
        forget(world.directory)
        assert verify(world.publisher.root_bytes, world.directory) is None
        forget(world.directory)

    def test_there_may_be_nothing_to_forget(self, world: World) -> None:
        forget(world.directory)
        assert not world.directory.exists()


class TestVerifying:
    def test_good_ones_are_proven_in_the_order_of_running(self, world: World) -> None:
        world.keep()
        found = world.verify()
        assert [each.name for each in found.verdicts] == list(MIGRATIONS)
        assert (found.running, found.goal, found.unproven) == (V1, V3, ())

    def test_those_of_a_downgrade_come_backwards(self, world: World) -> None:
        world.keep(running=V3, goal=V1)
        assert [each.name for each in world.verify().verdicts] == list(MIGRATIONS)[::-1]
        assert world.verify().unproven == ()

    def test_a_missing_one_is_named(self, world: World) -> None:
        world.keep()
        (world.targets / "to-1.2-a.lz4").unlink()
        assert world.faults() == {
            "to-1.1.lz4": None,
            "to-1.2-a.lz4": "missing",
            "to-1.2-b.lz4": None,
        }
        assert world.verify().unproven == ("to-1.2-a.lz4",)

    @pytest.mark.parametrize(
        ("content", "why"),
        [
            (b"owt", "changed: its sha256 is not the one that was signed"),
            (b"two!", "changed: it holds 4 bytes, 3 were signed"),
            (b"", "changed: it holds 0 bytes, 3 were signed"),
        ],
    )
    def test_a_changed_one_is_named(self, world: World, content: bytes, why: str) -> None:
        world.keep()
        (world.targets / "to-1.2-a.lz4").write_bytes(content)
        assert world.faults()["to-1.2-a.lz4"] == why

    @pytest.mark.parametrize("make", [os.mkfifo, Path.mkdir, lambda p: p.symlink_to("/dev/zero")])
    def test_one_that_is_no_file_is_not_waited_for(
        self, world: World, make: Callable[[Path], None]
    ) -> None:
        world.keep()
        (world.targets / "to-1.2-a.lz4").unlink()
        make(world.targets / "to-1.2-a.lz4")
        assert world.verify().unproven == ("to-1.2-a.lz4",)

    def test_one_that_is_no_part_of_the_way_is_named(self, world: World) -> None:
        world.keep()
        (world.targets / "evil.lz4").write_bytes(b"evil")
        assert world.faults() == dict.fromkeys(MIGRATIONS) | {
            "evil.lz4": "not listed: it is no part of the way between these versions"
        }

    def test_one_that_the_manifest_names_but_nobody_signed_is_named(self, world: World) -> None:
        steps = {(V1, V3): ("unsigned.lz4",)}
        world.publisher.add("manifest.json", serialise(Manifest(updates=(), migrations=steps)))
        world.publisher.publish()
        world.repository.refresh()
        world.keep("to-1.1.lz4")
        fault = world.faults()["unsigned.lz4"]
        assert fault is not None
        assert fault.startswith("not listed: target 'unsigned.lz4' is not listed by the metadata")

    def test_other_versions_need_other_migrations(self, world: World) -> None:
        world.keep("to-1.1.lz4", goal=V2)
        (world.directory / "versions.json").write_text('{"from": "1.0.0", "to": "1.2.0"}')
        assert world.verify().unproven == ("to-1.2-a.lz4", "to-1.2-b.lz4")

    def test_metadata_that_has_expired_still_proves_them(self, world: World) -> None:
        world.publisher.expires = in_days(1)
        world.publisher.publish()
        world.repository.refresh()
        world.keep()
        late = TufPublisher(world.directory.parent / "late")
        late.expires = in_days(-1000)
        late.add("manifest.json", (world.targets / "manifest.json").read_bytes())
        for name, content in MIGRATIONS.items():
            late.add(name, content)
        late.publish()
        for name in ("timestamp", "snapshot", "targets"):
            (source,) = late.metadata.glob(f"*{name}.json")
            shutil.copy(source, world.directory / "metadata" / f"{name}.json")
        assert world.verify().unproven == ()

    def test_a_newer_shipped_root_of_the_next_system_proves_them_too(self, world: World) -> None:
        world.publisher.rotate("root", "root 2")
        world.publisher.publish()
        world.repository.refresh()
        world.keep()
        assert world.verify().unproven == ()

    def test_none_kept_are_no_failure(self, world: World) -> None:
        assert verify(world.publisher.root_bytes, world.directory) is None
        world.directory.mkdir(parents=True)
        assert verify(world.publisher.root_bytes, world.directory) is None


class TestNothingCanBeProven:
    @pytest.mark.parametrize("name", ["timestamp", "snapshot", "targets"])
    def test_without_the_metadata(self, world: World, name: str) -> None:
        world.keep()
        (world.directory / "metadata" / f"{name}.json").unlink()
        assert world.refusal().endswith(f"{name}.json: No such file or directory")

    def test_with_metadata_of_a_stranger(self, world: World) -> None:
        world.keep()
        stranger = TufPublisher(world.directory.parent / "other")
        stranger.rotate("targets", "stranger")
        with pytest.raises(TrustError, match="targets was signed by 0/1 keys"):
            verify(stranger.root_bytes, world.directory)

    def test_with_a_root_that_has_replaced_the_online_keys(self, world: World) -> None:
        world.keep()
        world.publisher.add_key("timestamp", "timestamp 2")
        assert world.verify().unproven == ()
        world.publisher.rotate("timestamp", "timestamp 3")
        assert world.refusal() == (
            f"the metadata in {world.directory}/metadata proves nothing: timestamp was signed by "
            "0/1 keys; if the root that came with this system has replaced the online keys, do not "
            "run them: its publisher must keep listing the old ones in the root of the release "
            "that migrations lead to"
        )

    def test_over_a_link_to_another_directory(self, world: World) -> None:
        world.keep()
        elsewhere = world.directory.parent / "elsewhere"
        world.targets.rename(elsewhere)
        world.targets.symlink_to(elsewhere)
        assert world.refusal() == f"{world.targets} is a link"

    def test_with_a_changed_manifest(self, world: World) -> None:
        world.keep()
        (world.targets / "manifest.json").write_bytes(
            serialise(Manifest(updates=(), migrations={}))
        )
        assert world.refusal().startswith(f"{world.targets}/manifest.json is changed: it holds")

    def test_without_the_manifest(self, world: World) -> None:
        world.keep()
        (world.targets / "manifest.json").unlink()
        assert world.refusal() == f"{world.targets}/manifest.json is missing"

    @pytest.mark.parametrize("content", [b"", b"[]", b'{"from": "1", "to": "2"}', b"\xff"])
    def test_without_the_versions(self, world: World, content: bytes) -> None:
        world.keep()
        (world.directory / "versions.json").write_bytes(content)
        assert world.refusal().startswith(f"{world.directory}/versions.json: ")

    def test_with_a_file_in_the_directorys_place(self, world: World) -> None:
        world.directory.parent.mkdir(parents=True)
        world.directory.touch()
        assert world.refusal() == "Not a directory"


def test_a_cut_while_they_are_replaced_leaves_the_new_ones_to_be_proven(world: World) -> None:
    world.keep("to-1.1.lz4", goal=V2)
    old, new = (world.directory.with_name(f".migrations.{which}") for which in ("old", "new"))
    world.directory.rename(old)
    world.keep()
    world.directory.rename(new)
    shutil.copytree(new, old, dirs_exist_ok=True)
    assert world.verify().goal == V3
    world.keep("to-1.1.lz4", goal=V2)
    assert world.neighbours() == ["migrations"]


def test_proving_imports_nothing_of_the_network() -> None:
    code = (
        "import sys, updog.commands.migrations\n"
        "print(*{'requests', 'urllib3', 'http.client', 'updog.transport'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout == "\n"
