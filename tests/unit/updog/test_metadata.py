import json
import logging
import os
import re
import shutil
import socket
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import structlog
import structlog.testing

from tests.helpers.http_server import Misbehaviour, Server, chunked, cut, instead, serving, status
from tests.helpers.tuf_repository import TufPublisher, in_days
from updog.errors import ImageError, TransportError, TrustError, UpdogError
from updog.metadata import Repository, RoleVersions, Target, read_versions
from updog.metadata_cache import read_files
from updog.patience import Limits
from updog.proof import prove
from updog.transport import Transport

CONTENT = bytes(range(256)) * 16


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """A publisher, the server of its repository, and a machine that trusts its first root."""

    publisher: TufPublisher
    server: Server
    transport: Transport
    trusted_root: bytes
    cache: Path
    floor: Path

    def machine(self, **changes: Any) -> Repository:
        """Return the repository as seen by a machine that has just started."""
        settings: dict[str, Any] = {
            "trusted_root": self.trusted_root,
            "cache": self.cache,
            "floor": self.floor,
            "metadata_base_url": f"{self.server.url}/metadata",
            "targets_base_url": f"{self.server.url}/targets/",
            "transport": self.transport,
        }
        return Repository(**settings | changes)

    def refreshed(self) -> Repository:
        machine = self.machine()
        machine.refresh()
        return machine

    def distrust(self) -> str:
        """Return why a refresh is refused, without the words that each refusal begins with."""
        with pytest.raises(TrustError) as caught:
            self.machine().refresh()
        start = f"cannot trust the metadata at {self.server.url}/metadata: "
        assert str(caught.value).startswith(start)
        return str(caught.value).removeprefix(start)

    def target_path(self, name: str) -> str:
        """Return the path of a target on the server."""
        (file,) = self.publisher.targets.glob(f"*{name}")
        return f"/targets/{file.name}"


@pytest.fixture
def world(request: pytest.FixtureRequest, directory: Path) -> Iterator[World]:
    publisher = TufPublisher(
        directory / "repository", consistent_snapshot=getattr(request, "param", True)
    )
    publisher.add("image.zst", CONTENT)
    publisher.publish()
    limits = Limits(attempts=2, first_pause_seconds=0)
    with serving(directory / "repository") as server, Transport(limits=limits) as transport:
        yield World(
            publisher=publisher,
            server=server,
            transport=transport,
            trusted_root=publisher.root_bytes,
            cache=directory / "cache" / "metadata",
            floor=directory / "state" / "floor.json",
        )


both_kinds = pytest.mark.parametrize(
    "world", [True, False], ids=["consistent", "inconsistent"], indirect=True
)


@both_kinds
class TestRefresh:
    def test_a_good_repository_is_trusted(self, world: World) -> None:
        machine = world.refreshed()
        assert machine.versions == RoleVersions(
            root=1, timestamp=1, snapshot=1, targets=1, timestamp_expires=world.publisher.expires
        )

    def test_a_second_refresh_sees_what_was_published_meanwhile(self, world: World) -> None:
        world.refreshed()
        world.publisher.publish()
        assert world.refreshed().versions.timestamp == 2

    def test_a_second_refresh_fetches_only_what_changed(self, world: World) -> None:
        world.refreshed()
        world.server.requests.clear()
        world.refreshed()
        asked = [request.target for request in world.server.requests]
        assert asked == ["/metadata/2.root.json", "/metadata/timestamp.json"]

    def test_new_keys_are_followed_from_root_to_root(self, world: World) -> None:
        world.publisher.rotate("root", "root 2")
        world.publisher.rotate("timestamp", "timestamp 2")
        world.publisher.publish()
        assert world.refreshed().versions.root == 3
        assert world.refreshed().versions.root == 3

    def test_a_repository_in_a_directory_is_trusted_too(self, world: World) -> None:
        directory = world.publisher.metadata.parent
        machine = world.machine(
            metadata_base_url=(directory / "metadata").as_uri(),
            targets_base_url=(directory / "targets").as_uri(),
        )
        machine.refresh()
        assert machine.read(machine.target("image.zst"), max_length=10_000) == CONTENT

    def test_before_it_nothing_is_trusted(self, world: World) -> None:
        with pytest.raises(TrustError, match="was not refreshed yet"):
            world.machine().target("image.zst")

    def test_no_query_is_ever_logged(self, world: World, caplog: pytest.LogCaptureFixture) -> None:
        world.server.misbehave(
            "/metadata/timestamp.json",
            status(302, location="/metadata/moved.json?signature=s3cret"),
        )
        (world.publisher.metadata / "moved.json").write_bytes(
            (world.publisher.metadata / "timestamp.json").read_bytes()
        )
        with caplog.at_level(logging.DEBUG):
            world.refreshed()
        assert any("s3cret" in request.target for request in world.server.requests)
        assert "s3cret" not in caplog.text


class TestDistrust:
    def test_a_signature_by_another_key(self, world: World) -> None:
        world.publisher.sign_with("timestamp", "stranger")
        world.publisher.publish()
        assert world.distrust() == (
            "timestamp was signed by 0/1 keys (after timestamp.json); it is not from this "
            "machine's publisher: check metadata_base_url"
        )

    def test_a_changed_byte(self, world: World) -> None:
        path = world.publisher.metadata / "timestamp.json"
        path.write_bytes(path.read_bytes().replace(b'"version":1', b'"version":9'))
        assert "timestamp was signed by 0/1 keys" in world.distrust()

    def test_an_expired_timestamp(self, world: World) -> None:
        world.publisher.publish(timestamp_expires=in_days(-1))
        assert world.distrust() == (
            "timestamp.json is expired (after timestamp.json); the publisher must renew it, "
            "unless this machine's clock is wrong"
        )

    def test_an_expired_targets_role(self, world: World) -> None:
        world.publisher.expires = in_days(-1)
        world.publisher.publish(timestamp_expires=in_days(1))
        assert "is expired" in world.distrust()

    def test_an_older_repository(self, world: World) -> None:
        world.publisher.go_back_to(4)
        world.publisher.publish()
        world.refreshed()
        world.publisher.go_back_to(2)
        world.publisher.publish()
        assert world.distrust() == (
            "New timestamp version 3 must be >= 5 (after timestamp.json); it is older than what "
            "this machine has seen: a stale mirror, or a replay. Only if the publisher has begun "
            f"anew on purpose, remove {world.floor} and {world.cache}"
        )
        versions = read_versions(world.trusted_root, world.cache)
        assert versions is not None
        assert versions.timestamp == 5

    def test_metadata_that_does_not_match_what_refers_to_it(self, world: World) -> None:
        (newest,) = world.publisher.metadata.glob("*targets.json")
        old = newest.read_bytes()
        world.publisher.publish()
        for path in world.publisher.metadata.glob("*targets.json"):
            path.write_bytes(old)
        assert "Expected targets v2, got v1." in world.distrust()

    def test_what_is_no_metadata(self, world: World) -> None:
        (world.publisher.metadata / "timestamp.json").write_text("<html>\x1b[2J</html>")
        assert world.distrust() == (
            "Failed to deserialize JSON (after timestamp.json); no TUF repository is served "
            "there, or a broken one: check metadata_base_url"
        )

    def test_endless_metadata(self, world: World) -> None:
        world.server.misbehave("/metadata/timestamp.json", chunked(bytes(20_000)))
        assert world.distrust() == (
            "timestamp.json: Downloaded 20000 bytes exceeding the maximum allowed length of 16384"
        )

    def test_a_trusted_root_that_is_none(self, world: World) -> None:
        with pytest.raises(TrustError) as caught:
            world.machine(trusted_root=b"{}").refresh()
        assert str(caught.value) == (
            "the trusted root of this machine is no root metadata: Failed to deserialize JSON; "
            "install the publisher's root.json at paths.trusted_root"
        )

    def test_a_new_root_that_the_old_keys_did_not_sign(self, world: World) -> None:
        world.publisher.sign_with("root", "stranger")
        world.publisher.rotate("timestamp", "timestamp 2")
        assert "root was signed by 0/1 keys" in world.distrust()


class TestFailedFetches:
    def failure(self, machine: Repository) -> TransportError:
        with pytest.raises(TransportError) as caught:
            machine.refresh()
        return caught.value

    def test_a_server_that_is_not_there(self, world: World) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            url = f"http://127.0.0.1:{free.getsockname()[1]}"
        assert str(self.failure(world.machine(metadata_base_url=url))) == (
            f"cannot fetch {url}/2.root.json: Connection refused, 2 times in a row; try again later"
        )

    def test_an_address_without_a_repository(self, world: World) -> None:
        url = f"{world.server.url}/elsewhere"
        assert str(self.failure(world.machine(metadata_base_url=url))) == (
            f"cannot fetch {url}/timestamp.json: the server answered 404 Not Found; "
            "check metadata_base_url"
        )

    def test_an_error_while_roots_are_looked_for_is_not_taken_for_their_end(
        self, world: World
    ) -> None:
        world.server.misbehave("/metadata/2.root.json", status(503), status(503))
        assert self.failure(world.machine()).status == 503

    def test_a_body_that_breaks_in_the_middle_is_continued(self, world: World) -> None:
        world.server.misbehave("/metadata/timestamp.json", cut(after_bytes=100))
        assert world.refreshed().versions.timestamp == 1

    def test_a_body_that_breaks_for_good_is_told(self, world: World) -> None:
        world.server.misbehave("/metadata/timestamp.json", *[cut(after_bytes=1)] * 2)
        assert self.failure(world.machine()).reason.startswith("the connection broke off")

    def test_a_cache_that_cannot_be_written(self, world: World) -> None:
        blocked = world.cache.parent.parent / "file"
        blocked.touch()
        with pytest.raises(UpdogError) as caught:
            world.machine(cache=blocked / "cache").refresh()
        assert str(caught.value) == (
            f"cannot keep metadata in {blocked}/cache: Not a directory; "
            "make room there or set paths.metadata_cache"
        )


def empty(path: Path) -> None:
    path.write_bytes(b"")


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:100])


def spoil(path: Path) -> None:
    path.write_bytes(b"\x00garbage")


def make_directory(path: Path) -> None:
    path.unlink()
    (path / "inner").mkdir(parents=True)


def make_fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def make_endless(path: Path) -> None:
    path.unlink()
    path.symlink_to("/dev/zero")


def link_nowhere(path: Path) -> None:
    path.unlink()
    path.symlink_to("nowhere")


def nest(path: Path) -> None:
    path.write_bytes(b"[" * 1_000_000)


def enlarge(path: Path) -> None:
    with path.open("ab") as file:
        file.truncate(5_000_001)


def forbid(path: Path) -> None:
    path.chmod(0)


KEPT = ["timestamp", "snapshot", "targets", "images", "root_history/1.root", "root_history/2.root"]


@pytest.fixture
def kept(world: World) -> World:
    """Return a world in which every kind of file is cached, in its second version."""
    world.publisher.add("images-1.zst", CONTENT, delegate="images")
    world.publisher.publish()
    world.refreshed().target("images-1.zst")
    world.publisher.rotate("snapshot", "snapshot 2")
    world.publisher.raise_delegate("images")
    world.publisher.publish()
    world.refreshed().target("images-1.zst")
    return world


def heals(world: World, expected: RoleVersions) -> bool:
    """Refresh, and tell whether all is as before the damage: online, offline, delegated roles."""
    machine = world.refreshed()
    machine.target("images-1.zst")
    proven = prove(world.trusted_root, world.cache)
    proven.target("images-1.zst")
    return machine.versions == proven.versions == expected


class TestCache:
    @pytest.mark.parametrize("name", KEPT)
    @pytest.mark.parametrize(
        "damage",
        [empty, truncate, spoil, nest, enlarge, forbid, Path.unlink, make_directory, make_fifo,
         make_endless, link_nowhere],
    )  # fmt: skip
    def test_every_damage_to_a_file_heals(
        self, kept: World, name: str, damage: Callable[[Path], None]
    ) -> None:
        expected = kept.refreshed().versions
        damage(kept.cache / f"{name}.json")
        assert heals(kept, expected)

    @pytest.mark.parametrize("make", [Path.touch, spoil, Path.mkdir, os.mkfifo])
    def test_what_stands_in_the_place_of_the_link_to_the_newest_root_does_no_harm(
        self, kept: World, make: Callable[[Path], None]
    ) -> None:
        expected = kept.refreshed().versions
        (kept.cache / "root.json").unlink(missing_ok=True)
        make(kept.cache / "root.json")
        assert heals(kept, expected)

    @pytest.mark.parametrize("name", KEPT)
    def test_every_truncation_heals(self, kept: World, name: str) -> None:
        expected = kept.refreshed().versions
        path = kept.cache / f"{name}.json"
        whole = path.read_bytes()
        places = [match.start() for match in re.finditer(rb'[{}\[\],:"]', whole)]
        # Every structural place of a file is one of some hundred; of each kind some are enough.
        for length in places[:: max(1, len(places) // 40)]:
            path.write_bytes(whole[:length])
            assert heals(kept, expected)

    @pytest.mark.parametrize("name", ["timestamp", "snapshot", "targets", "images"])
    def test_an_older_version_that_was_valid_once_heals(self, kept: World, name: str) -> None:
        path = kept.cache / f"{name}.json"
        old = path.read_bytes()
        kept.publisher.raise_delegate("images")
        kept.publisher.publish()
        expected = kept.refreshed().versions
        path.write_bytes(old)
        assert heals(kept, expected)

    @pytest.mark.parametrize("name", KEPT)
    @pytest.mark.parametrize("other", KEPT)
    def test_one_file_in_the_place_of_another_heals(
        self, kept: World, name: str, other: str
    ) -> None:
        expected = kept.refreshed().versions
        shutil.copy(kept.cache / f"{other}.json", kept.cache / f"{name}.json.new")
        (kept.cache / f"{name}.json.new").rename(kept.cache / f"{name}.json")
        assert heals(kept, expected)

    @pytest.mark.parametrize("damage", [spoil, make_fifo, make_endless, Path.touch])
    def test_damage_to_the_directory_of_roots_heals(
        self, kept: World, damage: Callable[[Path], None]
    ) -> None:
        expected = kept.refreshed().versions
        shutil.rmtree(kept.cache / "root_history")
        (kept.cache / "root_history").touch()
        damage(kept.cache / "root_history")
        assert heals(kept, expected)

    @pytest.mark.parametrize("damage", [shutil.rmtree, lambda path: path.rename(f"{path}.gone")])
    def test_a_lost_cache_heals(self, world: World, damage: Callable[[Path], None]) -> None:
        world.refreshed()
        damage(world.cache)
        assert world.refreshed().versions.root == 1

    def test_a_file_in_the_caches_place_heals(self, world: World) -> None:
        world.cache.parent.mkdir()
        world.cache.write_bytes(b"garbage")
        assert world.refreshed().versions.root == 1

    def test_a_root_that_was_seen_is_kept_though_the_refresh_fails(self, world: World) -> None:
        world.refreshed()
        world.publisher.rotate("timestamp", "timestamp 2")
        world.publisher.publish(timestamp_expires=in_days(-1))
        assert "is expired" in world.distrust()
        assert (world.cache / "root_history/2.root.json").is_file()

    def test_it_can_be_read_without_a_network(self, world: World) -> None:
        expected = world.refreshed().versions
        assert read_versions(world.trusted_root, world.cache) == expected

    def test_it_can_be_read_after_it_expired(self, world: World) -> None:
        world.refreshed()
        publisher = TufPublisher(world.cache.parent.parent / "other")
        publisher.expires = in_days(-1)
        publisher.publish()
        for name in ("timestamp", "snapshot", "targets"):
            (source,) = publisher.metadata.glob(f"*{name}.json")
            shutil.copy(source, world.cache / f"{name}.json")
        versions = read_versions(world.trusted_root, world.cache)
        assert versions is not None
        assert versions.timestamp_expires == publisher.expires

    def test_a_snapshot_that_was_signed_again_in_the_same_version_heals(self, world: World) -> None:
        world.refreshed()
        world.publisher.resign_snapshot()
        for _ in range(2):
            assert world.refreshed().versions.timestamp == 2
        (newest,) = world.publisher.metadata.glob("*snapshot.json")
        assert (world.cache / "snapshot.json").read_bytes() == newest.read_bytes()

    def test_a_missing_one_reads_as_none(self, world: World) -> None:
        assert read_versions(world.trusted_root, world.cache) is None

    @pytest.mark.parametrize("name", ["timestamp", "snapshot", "targets"])
    def test_a_damaged_one_reads_as_none(self, world: World, name: str) -> None:
        world.refreshed()
        spoil(world.cache / f"{name}.json")
        assert read_versions(world.trusted_root, world.cache) is None

    def test_one_of_another_publisher_reads_as_none(self, world: World) -> None:
        world.refreshed()
        world.publisher.sign_with("timestamp", "stranger")
        world.publisher.publish()
        shutil.copy(world.publisher.metadata / "timestamp.json", world.cache)
        assert read_versions(world.trusted_root, world.cache) is None


def cached(world: World) -> dict[str, bytes]:
    return read_files(world.cache)


class TestFloor:
    """What is accepted once is the least from then on, though the cache be lost."""

    def lose_cache(self, world: World) -> None:
        shutil.rmtree(world.cache)

    def accept(self, world: World, version: int) -> None:
        world.publisher.go_back_to(version - 1)
        world.publisher.publish()
        world.refreshed()

    def note(self, world: World, *, ahead: timedelta) -> datetime:
        """Write the floor as if it had been accepted some time from now."""
        facts = json.loads(world.floor.read_bytes())
        when = datetime.now(UTC) + ahead
        world.floor.write_text(json.dumps(facts | {"accepted_at": when.isoformat()}))
        return when

    def accepted_at(self, world: World) -> datetime:
        return datetime.fromisoformat(json.loads(world.floor.read_bytes())["accepted_at"])

    def test_an_older_repository_is_refused_though_the_cache_was_lost(self, world: World) -> None:
        self.accept(world, 5)
        self.lose_cache(world)
        when = self.accepted_at(world).strftime("%Y-%m-%d %H:%M UTC")
        world.publisher.go_back_to(2)
        world.publisher.publish()
        assert world.distrust() == (
            f"it offers version 3 of timestamp, but version 5 was accepted on {when}; it is older "
            "than what this machine has seen: a stale mirror, or a replay. Only if the publisher "
            f"has begun anew on purpose, remove {world.floor} and {world.cache}"
        )
        assert not world.cache.exists()

    @pytest.mark.parametrize("role", ["snapshot", "targets"])
    def test_so_is_a_newer_timestamp_over_older_roles(self, world: World, role: str) -> None:
        self.accept(world, 5)
        self.lose_cache(world)
        world.publisher.go_back_to(2, role)
        world.publisher.publish()
        assert f"it offers version 3 of {role}, but version 5" in world.distrust()

    def test_withdrawn_roots_do_not_come_back(self, world: World) -> None:
        withdrawn = {path: path.read_bytes() for path in world.publisher.metadata.iterdir()}
        world.publisher.rotate("timestamp", "timestamp 2")
        world.publisher.publish()
        world.refreshed()
        self.lose_cache(world)
        shutil.rmtree(world.publisher.metadata)
        world.publisher.metadata.mkdir()
        for path, content in withdrawn.items():
            path.write_bytes(content)
        assert "it offers version 1 of root, but version 2" in world.distrust()

    def test_what_is_refused_leaves_the_cache_and_the_floor_as_they_were(
        self, world: World
    ) -> None:
        world.publisher.rotate("timestamp", "timestamp 2")
        self.accept(world, 5)
        (world.cache / "timestamp.json").unlink()
        (world.cache / "snapshot.json").unlink()
        before = cached(world), world.floor.read_bytes()
        world.publisher.go_back_to(2)
        world.publisher.publish()
        assert "it offers version 3 of timestamp" in world.distrust()
        assert (cached(world), world.floor.read_bytes()) == before

    def test_the_way_out_that_is_named_leads_out(self, world: World) -> None:
        self.accept(world, 5)
        world.publisher.go_back_to(2)
        world.publisher.publish()
        assert "remove" in world.distrust()
        world.floor.unlink()
        self.lose_cache(world)
        assert world.refreshed().versions.timestamp == 3

    @pytest.mark.parametrize(
        ("rotated", "lowered"),
        [
            ("timestamp", ("timestamp", "snapshot")),
            ("snapshot", ("timestamp", "snapshot", "targets")),
            ("targets", ("targets",)),
        ],
    )
    def test_new_keys_recover_from_versions_that_stolen_ones_have_signed(
        self, world: World, rotated: str, lowered: tuple[str, ...]
    ) -> None:
        self.accept(world, 1_000_000)
        self.lose_cache(world)
        world.publisher.rotate(rotated, f"{rotated} 2")
        world.publisher.go_back_to(2, *lowered)
        world.publisher.publish()
        assert getattr(world.refreshed().versions, rotated) == 3
        world.publisher.go_back_to(1, *lowered)
        world.publisher.publish()
        self.lose_cache(world)
        assert "it offers version 2" in world.distrust()

    def test_the_floor_lies_beside_the_cache_unless_another_place_is_given(
        self, world: World
    ) -> None:
        world.machine(floor=None).refresh()
        assert world.cache.with_name("metadata.floor.json").is_file()

    @pytest.mark.parametrize(
        "damage", [empty, truncate, spoil, make_directory, make_fifo, make_endless]
    )
    def test_a_damaged_one_is_told_and_the_cache_stands_in(
        self, world: World, damage: Callable[[Path], None]
    ) -> None:
        self.accept(world, 5)
        good = world.floor.read_bytes()
        damage(world.floor)
        world.publisher.go_back_to(2)
        world.publisher.publish()
        assert "New timestamp version 3 must be >= 5" in world.distrust()
        world.publisher.go_back_to(4)
        world.publisher.publish()
        with structlog.testing.capture_logs() as logs:
            world.refreshed()
        (warning,) = (each for each in logs if each["log_level"] == "warning")
        assert warning["summary"].startswith(f"{world.floor} cannot be used: ")
        new, old = (json.loads(each) for each in (world.floor.read_bytes(), good))
        assert new | {"accepted_at": None} == old | {"accepted_at": None}

    def test_one_that_cannot_be_written_forbids_to_accept(self, world: World) -> None:
        world.floor.parent.write_bytes(b"a file")
        machine = world.machine()
        with pytest.raises(UpdogError, match=r"cannot note in .* which metadata was accepted"):
            machine.refresh()
        with pytest.raises(TrustError, match="was not refreshed yet"):
            machine.target("image.zst")

    def test_what_had_expired_at_the_last_acceptance_is_refused_after_a_step_back(
        self, world: World
    ) -> None:
        """A clock that is set back must not bring to life what has expired."""
        world.refreshed()
        when = self.note(world, ahead=timedelta(days=7, hours=1))
        before = world.floor.read_bytes()
        assert re.fullmatch(
            r"this machine's clock says \d{4}-\d\d-\d\d \d\d:\d\d UTC, but metadata was accepted "
            rf"on {when:%Y-%m-%d %H:%M} UTC already, and this root expired on "
            rf"{world.publisher.expires:%Y-%m-%d %H:%M} UTC; set the clock\. If it is right now "
            r"and was wrong then, wait for the publisher to sign anew, or lower accepted_at in "
            rf"{re.escape(str(world.floor))}, and leave the versions there",
            world.distrust(),
        )
        assert world.floor.read_bytes() == before

    @pytest.mark.parametrize("days", [1.1, 6])
    def test_a_clock_that_ran_ahead_within_the_validity_locks_nobody_out(
        self, world: World, days: float
    ) -> None:
        world.refreshed()
        when = self.note(world, ahead=timedelta(days=days))
        with structlog.testing.capture_logs() as logs:
            world.refreshed()
        assert self.accepted_at(world) == when
        (warning,) = (each["summary"] for each in logs if each["log_level"] == "warning")
        assert "is judged by the latter" in warning

    @pytest.mark.parametrize("role", ["timestamp", "snapshot and targets"])
    def test_each_role_is_judged_by_the_last_acceptance(self, world: World, role: str) -> None:
        world.refreshed()
        self.note(world, ahead=timedelta(days=3))
        if role == "timestamp":
            world.publisher.publish(timestamp_expires=in_days(2))
        else:
            world.publisher.expires = in_days(2)
            world.publisher.publish(timestamp_expires=in_days(7))
            role = "snapshot"
        assert f"this {role} expired on" in world.distrust()

    def test_after_a_step_back_older_versions_are_refused_as_ever(self, world: World) -> None:
        self.accept(world, 5)
        self.lose_cache(world)
        self.note(world, ahead=timedelta(days=6))
        world.publisher.go_back_to(2)
        world.publisher.publish()
        assert "it offers version 3 of timestamp, but version 5" in world.distrust()

    def test_to_lower_the_time_alone_leads_out_and_keeps_the_versions(self, world: World) -> None:
        self.accept(world, 5)
        self.note(world, ahead=timedelta(days=30))
        assert "lower accepted_at" in world.distrust()
        self.note(world, ahead=timedelta(0))
        world.refreshed()
        self.lose_cache(world)
        world.publisher.go_back_to(2)
        world.publisher.publish()
        assert "it offers version 3" in world.distrust()

    def test_a_smaller_step_back_is_let_pass_and_remembered(self, world: World) -> None:
        world.refreshed()
        when = self.note(world, ahead=timedelta(hours=23))
        world.refreshed()
        assert self.accepted_at(world) == when

    def test_a_run_that_was_killed_before_the_cache_was_written_does_no_harm(
        self, world: World
    ) -> None:
        self.accept(world, 5)
        old = world.cache.with_name("old")
        shutil.copytree(world.cache, old, symlinks=True)
        self.accept(world, 6)
        self.lose_cache(world)
        old.rename(world.cache)
        assert world.refreshed().versions.timestamp == 6

    def test_a_run_that_was_killed_before_the_floor_was_written_does_no_harm(
        self, world: World
    ) -> None:
        self.accept(world, 5)
        floor = world.floor.read_bytes()
        self.accept(world, 6)
        world.floor.write_bytes(floor)
        assert world.refreshed().versions.timestamp == 6
        assert json.loads(world.floor.read_bytes())["timestamp"]["version"] == 6


class TestTargets:
    def test_a_target_is_what_was_signed(self, world: World) -> None:
        target = world.refreshed().target("image.zst")
        assert target.name == "image.zst"
        assert target.length == len(CONTENT)
        assert list(target.digests) == ["sha256"]
        assert target.uncompressed_length is None
        assert target.uncompressed_sha256 is None

    def test_its_content_may_be_described_too(self, world: World) -> None:
        described = {"length": 12, "sha256": "ab" * 32}
        world.publisher.add("root.zst", b"x", custom={"uncompressed": described, "other": 1})
        world.publisher.publish()
        target = world.refreshed().target("root.zst")
        assert target.uncompressed_length == 12
        assert target.uncompressed_sha256 == "ab" * 32

    @pytest.mark.parametrize(
        "described",
        [3, {}, {"length": 1}, {"length": -1, "sha256": "ab" * 32},
         {"length": True, "sha256": "ab" * 32}, {"length": 1, "sha256": "AB" * 32},
         {"length": 1, "sha256": "ab" * 31}],
    )  # fmt: skip
    def test_a_broken_description_is_refused(self, world: World, described: object) -> None:
        world.publisher.add("root.zst", b"x", custom={"uncompressed": described})
        world.publisher.publish()
        with pytest.raises(TrustError) as caught:
            world.refreshed().target("root.zst")
        assert str(caught.value) == (
            "target root.zst: custom.uncompressed must hold a length and a sha256; "
            "the publisher must correct it"
        )

    def test_one_that_is_not_listed_is_refused(self, world: World) -> None:
        with pytest.raises(TrustError) as caught:
            world.refreshed().target("other.zst")
        assert str(caught.value) == (
            f"target other.zst is not listed by the metadata at {world.server.url}/metadata; "
            "the publisher must add it"
        )

    @pytest.mark.parametrize("name", ["../root.json", "a/b", ".hidden", "", "x\n"])
    def test_a_name_that_is_a_path_is_not_even_looked_up(self, world: World, name: str) -> None:
        machine = world.refreshed()
        with pytest.raises(TrustError, match="is no flat file name; it was not looked up"):
            machine.target(name)

    @pytest.mark.parametrize("algorithms", [("md5",), ("sha1", "md5"), ("sha224",)])
    def test_one_with_weak_digests_alone_is_refused(
        self, world: World, algorithms: tuple[str, ...]
    ) -> None:
        world.publisher.add("weak.zst", b"x", algorithms=algorithms)
        world.publisher.publish()
        with pytest.raises(TrustError) as caught:
            world.refreshed().target("weak.zst")
        assert str(caught.value) == (
            "target weak.zst was signed with neither a sha256 nor a sha512; "
            "the publisher must add one"
        )

    def test_strong_digests_are_kept_and_weak_ones_dropped(self, world: World) -> None:
        world.publisher.add("x", b"x", algorithms=("md5", "sha512", "sha256"))
        world.publisher.publish()
        machine = world.refreshed()
        target = machine.target("x")
        assert list(target.digests) == ["sha256", "sha512"]
        assert machine.read(target, max_length=1) == b"x"

    def test_one_of_a_delegated_role_is_found_and_the_role_is_cached(self, world: World) -> None:
        world.publisher.add("images-1.zst", CONTENT, delegate="images")
        world.publisher.publish()
        machine = world.refreshed()
        target = machine.target("images-1.zst")
        assert machine.read(target, max_length=len(CONTENT)) == CONTENT
        assert (world.cache / "images.json").is_file()


class TrustingTransport(Transport):
    """A transport that does not look at lengths: what it misses must be noticed behind it."""

    def stream(
        self,
        url: str | Sequence[str],
        *,
        length: int | None = None,
        offset: int = 0,
        deadline_seconds: float | None = None,
        on_failure: Callable[[str], None] = lambda _url: None,
    ) -> Generator[bytes, None, None]:
        del length, offset
        return super().stream(url, deadline_seconds=deadline_seconds, on_failure=on_failure)


class TestLengths:
    @pytest.mark.parametrize(
        ("served", "expected"),
        [
            (CONTENT[:-1], "holds 4095 bytes, 4096 were signed"),
            (CONTENT + b"x", "holds more than the 4096 bytes that were signed"),
            (b"", "holds 0 bytes, 4096 were signed"),
        ],
    )
    def test_a_length_that_was_not_signed_is_refused_whatever_the_transport_lets_through(
        self, world: World, served: bytes, expected: str
    ) -> None:
        path = world.target_path("image.zst")
        world.server.misbehave(path, instead(served))
        with TrustingTransport() as transport:
            machine = world.machine(transport=transport)
            machine.refresh()
            with pytest.raises(ImageError) as caught:
                list(machine.stream(machine.target("image.zst")))
        assert str(caught.value) == f"{world.server.url}{path} {expected}"


@both_kinds
class TestStreams:
    def verdict(self, machine: Repository, target: Target) -> str:
        """Read all that comes; return why it is refused in the end."""
        with pytest.raises((ImageError, TransportError)) as caught:
            list(machine.stream(target))
        return str(caught.value)

    def test_a_good_target_is_passed_on_whole(self, world: World) -> None:
        machine = world.refreshed()
        assert b"".join(machine.stream(machine.target("image.zst"))) == CONTENT

    def test_one_that_breaks_off_is_continued(self, world: World) -> None:
        path = world.target_path("image.zst")
        world.server.misbehave(path, cut(after_bytes=1000))
        machine = world.refreshed()
        assert b"".join(machine.stream(machine.target("image.zst"))) == CONTENT
        assert world.server.asked_for(path)[1].headers["Range"] == "bytes=1000-"

    def test_one_with_another_digest_is_refused_at_its_end(self, world: World) -> None:
        path = world.target_path("image.zst")
        world.server.misbehave(path, instead(bytes(len(CONTENT))))
        machine = world.refreshed()
        assert self.verdict(machine, machine.target("image.zst")) == (
            f"{world.server.url}{path} is not what was signed: its sha256 differs; "
            "do not use it, and try again later"
        )

    def test_the_second_of_two_digests_counts_as_well(self, world: World) -> None:
        machine = world.refreshed()
        good = machine.target("image.zst")
        bad = Target(
            name=good.name,
            length=good.length,
            digests=dict(good.digests) | {"sha512": "00" * 64},
            uncompressed_length=None,
            uncompressed_sha256=None,
        )
        assert "its sha512 differs" in self.verdict(machine, bad)

    def test_a_longer_one_is_refused_before_its_end(self, world: World) -> None:
        path = world.target_path("image.zst")
        world.server.misbehave(path, chunked(CONTENT + b"x"))
        machine = world.refreshed()
        text = self.verdict(machine, machine.target("image.zst"))
        assert "the server sent more than the 4096 bytes that are expected" in text

    def test_a_longer_file_is_refused_at_its_start(self, world: World) -> None:
        world.server.misbehave(world.target_path("image.zst"), instead(CONTENT + b"x"))
        machine = world.refreshed()
        text = self.verdict(machine, machine.target("image.zst"))
        assert text.endswith("the server's file holds 4097 bytes, where 4096 are expected")

    def test_a_shorter_one_is_refused(self, world: World) -> None:
        world.server.misbehave(world.target_path("image.zst"), instead(CONTENT[:-1]))
        machine = world.refreshed()
        text = self.verdict(machine, machine.target("image.zst"))
        assert text.endswith("the server's file holds 4095 bytes, where 4096 are expected")

    def test_a_missing_one_is_told(self, world: World) -> None:
        machine = world.refreshed()
        target = machine.target("image.zst")
        shutil.rmtree(world.publisher.targets)
        assert "the server answered 404 Not Found" in self.verdict(machine, target)

    def test_a_target_that_is_too_large_to_read_at_once_is_not_fetched(self, world: World) -> None:
        machine = world.refreshed()
        target = machine.target("image.zst")
        world.server.requests.clear()
        with pytest.raises(TrustError) as caught:
            machine.read(target, max_length=4095)
        assert str(caught.value) == (
            "target image.zst holds 4096 bytes, at most 4095 are accepted; nothing was fetched"
        )
        assert world.server.requests == []

    def test_a_target_may_be_read_as_a_whole(self, world: World) -> None:
        machine = world.refreshed()
        assert machine.read(machine.target("image.zst"), max_length=4096) == CONTENT


class TestSaving:
    def place(self, world: World) -> Path:
        path = world.cache.parent / "saved" / "image.zst"
        path.parent.mkdir(parents=True)
        path.write_bytes(b"what stood there")
        return path

    def names(self, path: Path) -> list[str]:
        return [each.name for each in path.parent.iterdir()]

    def test_a_target_is_saved_whole(self, world: World) -> None:
        path, machine = self.place(world), world.refreshed()
        machine.save(machine.target("image.zst"), path)
        assert path.read_bytes() == CONTENT
        assert self.names(path) == ["image.zst"]

    @pytest.mark.parametrize(
        "misbehaviour",
        [instead(bytes(len(CONTENT))), instead(CONTENT + b"x"), chunked(CONTENT[:-1]), status(404)],
        ids=["other bytes", "longer", "shorter", "missing"],
    )
    def test_what_is_not_signed_leaves_what_stood_there_and_nothing_beside_it(
        self, world: World, misbehaviour: Misbehaviour
    ) -> None:
        path, machine = self.place(world), world.refreshed()
        target = machine.target("image.zst")
        world.server.misbehave(world.target_path("image.zst"), *[misbehaviour] * 2)
        with pytest.raises((ImageError, TransportError)):
            machine.save(target, path)
        assert path.read_bytes() == b"what stood there"
        assert self.names(path) == ["image.zst"]

    def test_what_a_killed_run_left_is_replaced(self, world: World) -> None:
        path, machine = self.place(world), world.refreshed()
        path.with_name(".image.zst.part").write_bytes(bytes(10_000))
        machine.save(machine.target("image.zst"), path)
        assert path.read_bytes() == CONTENT
        assert self.names(path) == ["image.zst"]

    def test_a_place_that_cannot_be_written_is_named(self, world: World) -> None:
        machine = world.refreshed()
        path = self.place(world) / "image.zst"
        with pytest.raises(UpdogError) as caught:
            machine.save(machine.target("image.zst"), path)
        assert str(caught.value) == (
            f"cannot save target image.zst as {path}: Not a directory; nothing is left there"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Mirrored:
    """A world with a second server, of a copy of the repository that a test may spoil."""

    world: World
    mirror: Server

    def machine(self) -> Repository:
        """Return a machine that asks the spoilt copy first."""
        return self.world.machine(
            metadata_base_url=[f"{self.mirror.url}/metadata", f"{self.world.server.url}/metadata"],
            targets_base_url=[f"{self.mirror.url}/targets", f"{self.world.server.url}/targets"],
        )

    def refreshed(self) -> Repository:
        machine = self.machine()
        machine.refresh()
        return machine

    def spoil(self, name: str, content: bytes) -> None:
        """Put other bytes into each file of the copy whose name ends so."""
        for path in self.mirror.directory.rglob(f"*{name}"):
            path.write_bytes(content)


@pytest.fixture
def mirrored(world: World, directory: Path) -> Iterator[Mirrored]:
    shutil.copytree(directory / "repository", directory / "copy")
    with serving(directory / "copy") as mirror:
        yield Mirrored(world=world, mirror=mirror)


def serve_nothing(copy: Path) -> None:
    shutil.rmtree(copy / "metadata")


def serve_garbage(copy: Path) -> None:
    for path in (copy / "metadata").iterdir():
        path.write_bytes(b"<html>welcome</html>")


def serve_half(copy: Path) -> None:
    for path in (copy / "metadata").glob("*snapshot.json"):
        path.unlink()


def serve_too_much(copy: Path) -> None:
    (copy / "metadata" / "timestamp.json").write_bytes(bytes(100_000))


def serve_another_publisher(copy: Path) -> None:
    shutil.rmtree(copy)
    other = TufPublisher(copy)
    other.sign_with("timestamp", "stranger")
    other.publish()


def serve_expired(copy: Path) -> None:
    shutil.rmtree(copy)
    other = TufPublisher(copy)
    other.publish(timestamp_expires=in_days(-1))


class TestMirrorsOfMetadata:
    @pytest.mark.parametrize(
        "spoil",
        [
            serve_nothing,
            serve_garbage,
            serve_half,
            serve_too_much,
            serve_another_publisher,
            serve_expired,
        ],
    )
    def test_a_bad_one_does_not_stop_a_good_one(
        self, mirrored: Mirrored, spoil: Callable[[Path], None], capsys: pytest.CaptureFixture[str]
    ) -> None:
        spoil(mirrored.mirror.directory)
        machine = mirrored.refreshed()
        assert machine.versions.timestamp == 1
        assert machine.read(machine.target("image.zst"), max_length=10_000) == CONTENT
        told = "".join(capsys.readouterr())
        assert mirrored.mirror.url in told
        assert "trying the next mirror" in told

    def test_neither_does_one_that_is_behind(self, mirrored: Mirrored) -> None:
        mirrored.world.publisher.publish()
        mirrored.world.refreshed()
        assert mirrored.refreshed().versions.timestamp == 2

    def test_while_the_first_is_good_the_second_is_not_asked(self, mirrored: Mirrored) -> None:
        mirrored.refreshed()
        assert mirrored.world.server.requests == []

    def test_if_all_fail_each_is_named(self, mirrored: Mirrored) -> None:
        serve_nothing(mirrored.mirror.directory)
        mirrored.world.publisher.sign_with("timestamp", "stranger")
        mirrored.world.publisher.publish()
        with pytest.raises(TrustError) as caught:
            mirrored.machine().refresh()
        assert str(caught.value) == (
            f"cannot fetch {mirrored.mirror.url}/metadata/timestamp.json: the server answered 404 "
            "Not Found; check metadata_base_url; "
            f"cannot trust the metadata at {mirrored.world.server.url}/metadata: timestamp was "
            "signed by 0/1 keys (after timestamp.json); it is not from this machine's publisher: "
            "check metadata_base_url"
        )

    def test_if_none_can_be_reached_each_is_named(self, mirrored: Mirrored) -> None:
        for server in (mirrored.mirror, mirrored.world.server):
            serve_nothing(server.directory)
        with pytest.raises(TransportError) as caught:
            mirrored.machine().refresh()
        for server in (mirrored.mirror, mirrored.world.server):
            assert f"cannot fetch {server.url}/metadata/timestamp.json: " in str(caught.value)

    def test_a_root_that_a_bad_one_showed_first_is_not_forgotten(self, mirrored: Mirrored) -> None:
        mirrored.world.publisher.rotate("timestamp", "timestamp 2")
        mirrored.world.publisher.publish()
        copy = mirrored.mirror.directory / "metadata"
        shutil.copy(mirrored.world.publisher.metadata / "2.root.json", copy)
        assert mirrored.refreshed().versions.root == 2

    def half_publish(self, mirrored: Mirrored, version: int = 2) -> None:
        """Let the first mirror show a newer timestamp whose snapshot is not there."""
        newer = TufPublisher(mirrored.mirror.directory.with_name("newer"))
        newer.go_back_to(version - 1)
        newer.publish()
        path = newer.metadata / "timestamp.json"
        shutil.copy(path, mirrored.mirror.directory / "metadata" / "timestamp.json")

    def test_one_that_is_half_published_does_not_make_a_whole_one_look_old(
        self, mirrored: Mirrored
    ) -> None:
        mirrored.world.refreshed()
        self.half_publish(mirrored)
        for _ in range(2):
            assert mirrored.refreshed().versions.timestamp == 1

    def test_if_it_is_alone_what_it_has_shown_is_the_least_from_then_on(
        self, mirrored: Mirrored
    ) -> None:
        """Else whoever holds a snapshot back could have the news of it forgotten."""
        world = mirrored.world
        world.refreshed()
        self.half_publish(mirrored)
        alone = world.machine(metadata_base_url=f"{mirrored.mirror.url}/metadata")
        with pytest.raises(TransportError, match=r"2\.snapshot\.json"):
            alone.refresh()
        assert world.distrust() == (
            "New timestamp version 1 must be >= 2 (after timestamp.json); a refresh that did not "
            "end has seen newer metadata: the repository is half published, or this is a stale "
            "mirror; try again later"
        )

    def test_a_mirror_that_is_asked_for_a_role_may_not_be_older_than_the_first(
        self, mirrored: Mirrored, directory: Path
    ) -> None:
        """The second is asked only for the delegated role, after the first was accepted."""
        world = mirrored.world
        world.publisher.add("images-1.zst", CONTENT, delegate="images")
        world.publisher.publish()
        shutil.rmtree(mirrored.mirror.directory)
        shutil.copytree(directory / "repository", mirrored.mirror.directory)
        world.publisher.go_back_to(0)
        world.publisher.publish()
        mirrored.spoil("images.json", b"{}")
        machine = mirrored.refreshed()
        shutil.rmtree(world.cache)
        with pytest.raises(TrustError, match="it offers version 1 of timestamp, but version 2"):
            machine.target("images-1.zst")

    def test_a_delegated_role_is_taken_from_the_second_too(self, mirrored: Mirrored) -> None:
        mirrored.world.publisher.add("images-1.zst", CONTENT, delegate="images")
        mirrored.world.publisher.publish()
        shutil.copytree(
            mirrored.world.publisher.metadata,
            mirrored.mirror.directory / "metadata",
            dirs_exist_ok=True,
        )
        mirrored.spoil("images.json", b"{}")
        machine = mirrored.refreshed()
        assert mirrored.world.server.requests == []
        target = machine.target("images-1.zst")
        assert machine.read(target, max_length=len(CONTENT)) == CONTENT

    def test_what_is_not_listed_is_not_looked_for_at_the_second(self, mirrored: Mirrored) -> None:
        machine = mirrored.refreshed()
        with pytest.raises(TrustError, match="is not listed by the metadata at"):
            machine.target("other.zst")
        assert mirrored.world.server.requests == []


class TestMirrorsOfTargets:
    WRONG = bytes(len(CONTENT))

    def read(self, mirrored: Mirrored) -> tuple[bytes, list[bytes]]:
        """Return what a reader made of the target, and what each of its calls was given first."""
        machine, firsts = mirrored.refreshed(), []

        def read(chunks: Iterator[bytes]) -> bytes:
            firsts.append(next(chunks))
            return firsts[-1] + b"".join(chunks)

        return machine.deliver(machine.target("image.zst"), read), firsts

    def failure(self, mirrored: Mirrored) -> str:
        with pytest.raises(ImageError) as caught:
            self.read(mirrored)
        return str(caught.value)

    def test_a_good_one_is_read_once(self, mirrored: Mirrored) -> None:
        assert self.read(mirrored) == (CONTENT, [CONTENT])

    def test_wrong_bytes_are_read_anew_from_the_next(
        self, mirrored: Mirrored, capsys: pytest.CaptureFixture[str]
    ) -> None:
        mirrored.spoil("image.zst", self.WRONG)
        assert self.read(mirrored) == (CONTENT, [self.WRONG, CONTENT])
        told = "".join(capsys.readouterr())
        assert f"{mirrored.mirror.url}/targets/" in told
        assert "is not what was signed" in told

    def test_so_are_those_that_the_reader_refuses(
        self, mirrored: Mirrored, capsys: pytest.CaptureFixture[str]
    ) -> None:
        machine, calls = mirrored.refreshed(), []
        path = mirrored.world.target_path("image.zst")

        def read(chunks: Iterator[bytes]) -> bytes:
            calls.append(next(chunks))
            if len(calls) == 1:
                raise ImageError("this does not unpack")
            return calls[-1]

        assert machine.deliver(machine.target("image.zst"), read) == CONTENT
        assert len(mirrored.world.server.asked_for(path)) == 1
        told = "".join(capsys.readouterr())
        assert f"{mirrored.mirror.url}{path}: this does not unpack; trying the next" in told

    def test_a_lost_file_is_taken_from_the_next_in_one_reading(self, mirrored: Mirrored) -> None:
        shutil.rmtree(mirrored.mirror.directory / "targets")
        assert self.read(mirrored) == (CONTENT, [CONTENT])

    @pytest.mark.parametrize("kind", ["wrong", "away", "broken"])
    def test_one_that_has_failed_is_asked_last_from_then_on(
        self, mirrored: Mirrored, kind: str
    ) -> None:
        """The waits for a mirror that is silent would add up over all files."""
        machine = mirrored.refreshed()
        target = machine.target("image.zst")
        (path,) = (mirrored.mirror.directory / "targets").iterdir()
        if kind == "wrong":
            path.write_bytes(self.WRONG)
        elif kind == "away":
            path.unlink()
        else:
            mirrored.mirror.always("/targets/*", status(503))
        assert machine.read(target, max_length=len(CONTENT)) == CONTENT
        mirrored.mirror.requests.clear()
        for _ in range(2):
            assert machine.read(target, max_length=len(CONTENT)) == CONTENT
        assert mirrored.mirror.requests == []

    @pytest.mark.parametrize(
        ("misbehaviour", "is_last"), [(cut(after_bytes=1), True), (status(404), False)]
    )
    def test_one_that_did_not_answer_for_metadata_is_asked_last_for_targets_too(
        self, mirrored: Mirrored, misbehaviour: Misbehaviour, is_last: bool
    ) -> None:
        mirrored.mirror.always("/metadata/timestamp.json", misbehaviour)
        machine = mirrored.refreshed()
        mirrored.mirror.requests.clear()
        machine.read(machine.target("image.zst"), max_length=len(CONTENT))
        assert (mirrored.mirror.requests == []) == is_last

    def test_one_that_has_failed_is_asked_again_when_the_others_fail(
        self, mirrored: Mirrored
    ) -> None:
        machine = mirrored.refreshed()
        target = machine.target("image.zst")
        (path,) = (mirrored.mirror.directory / "targets").iterdir()
        path.unlink()
        assert machine.read(target, max_length=len(CONTENT)) == CONTENT
        path.write_bytes(CONTENT)
        mirrored.world.server.always("/targets/*", status(404))
        assert machine.read(target, max_length=len(CONTENT)) == CONTENT

    def test_if_all_are_wrong_each_is_named(self, mirrored: Mirrored) -> None:
        mirrored.spoil("image.zst", self.WRONG)
        path = mirrored.world.target_path("image.zst")
        (mirrored.world.publisher.targets / path.rpartition("/")[2]).write_bytes(self.WRONG)
        text = self.failure(mirrored)
        for server in (mirrored.mirror, mirrored.world.server):
            assert f"{server.url}{path} is not what was signed: its sha256 differs" in text

    def test_one_that_is_wrong_and_one_that_is_away_are_named(self, mirrored: Mirrored) -> None:
        mirrored.spoil("image.zst", self.WRONG)
        shutil.rmtree(mirrored.world.publisher.targets)
        text = self.failure(mirrored)
        assert f"{mirrored.mirror.url}/targets/" in text
        assert f"; cannot fetch {mirrored.world.server.url}/targets/" in text

    def test_what_all_mirrors_lead_to_is_said_once(self, mirrored: Mirrored) -> None:
        machine = mirrored.refreshed()

        def refuse(_chunks: Iterator[bytes]) -> None:
            raise ImageError("it does not fit")

        with pytest.raises(ImageError) as caught:
            machine.deliver(machine.target("image.zst"), refuse)
        assert str(caught.value) == "it does not fit"
