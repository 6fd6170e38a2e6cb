"""Whatever a publisher does and wherever it stops: a client sees the old repository or the new one.

The interpreter tells of every file that is about to be opened for writing, renamed, linked or
removed below the publisher's directory. At each of these moments a client that knows nothing but
the first root reads all that is served, to the last byte; or the process is killed there; or the
operation fails as on a full disk. `EXPLORE=all` does it at every moment of long sequences.
"""

import errno
import os
import random
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from repo_tools.errors import RepoToolsError
from repo_tools.repository import PublishedRepository
from repo_tools.rescheduling import reached
from tests.helpers.shop import (
    Client,
    Publisher,
    build_small_images,
    make_publisher,
    read_everything,
)
from updog.manifest import Manifest
from updog.metadata import Repository
from updog.transport import Transport

EXPLORES = os.environ.get("EXPLORE") == "all"
SEQUENCES = range(8 if EXPLORES else 1)
COMMANDS_A_SEQUENCE = 20 if EXPLORES else 8
OBSERVED_SHARE = 1.0 if EXPLORES else 0.5
"""Of the moments in ordinary runs; the last one, before which all is still old, always is."""

Command = tuple[str | Path, ...]
_CHANGING_EVENTS = {"os.rename", "os.remove", "os.link"}
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC


@dataclass(slots=True)
class Interpreter:
    """The moments before this process changes a file below a directory."""

    below: str = ""
    act: Callable[[Path], None] | None = None

    def hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self.act is None or not self._changes(event, arguments):
            return
        path, act = Path(os.fsdecode(arguments[0])), self.act
        self.act = None  # what is done at this moment is no moment itself
        try:
            act(path)
        finally:
            self.act = act

    def _changes(self, event: str, arguments: tuple[Any, ...]) -> bool:
        is_write = event == "open" and isinstance(arguments[2], int) and arguments[2] & _WRITING
        if not is_write and event not in _CHANGING_EVENTS:
            return False
        name = arguments[0]
        return isinstance(name, str | bytes | Path) and os.fsdecode(name).startswith(self.below)

    @contextmanager
    def doing(self, act: Callable[[Path], None], *, below: Path) -> Iterator[None]:
        """Do something at each moment."""
        self.below, self.act = str(below), act
        try:
            yield
        finally:
            self.act = None


INTERPRETER = Interpreter()
sys.addaudithook(INTERPRETER.hear)


@dataclass(slots=True, kw_only=True)
class Observer:
    """Clients that start at many moments, and one that started early and reads late."""

    client: Client
    transport: Transport
    chance: random.Random
    seen: list[Manifest] = field(default_factory=list)
    early: Repository | None = None
    moments: int = 0

    def look(self, path: Path) -> None:
        self.moments += 1
        if self.chance.random() < OBSERVED_SHARE or path.name.startswith("timestamp"):
            self.see()

    def see(self) -> Manifest:
        started = self.client.start(self.transport)
        self.early = self.early or started
        manifest = read_everything(started)
        self.seen.append(manifest)
        return manifest


@pytest.fixture(scope="session")
def builds(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    directory = tmp_path_factory.mktemp("builds")
    return [build_small_images(directory / name, name) for name in ("one", "two", "three")]


@pytest.fixture
def publisher(tmp_path: Path, builds: list[Path]) -> Publisher:
    publisher = make_publisher(tmp_path / "publisher")
    with (publisher.directory / "publisher.toml").open("a") as file:
        # Something to refresh a second after it was signed.
        file.write('[refresh]\ntimestamp = "604799 seconds"\n')
    publisher.add("1.0.0", builds[0], "--publish")
    return publisher


def an_observer(publisher: Publisher, transport: Transport, chance: random.Random) -> Observer:
    client = Client(
        repository=publisher.repository,
        trusted_root=publisher.trusted_root,
        scratch=publisher.directory.parent / "clients",
    )
    return Observer(client=client, transport=transport, chance=chance)


def commands(chance: random.Random, publisher: Publisher, builds: list[Path]) -> Iterator[Command]:
    """Yield commands as careless people type them; many will be refused."""
    first = publisher.release_words(builds[1])
    yield ("release", "add", "1.1.0", *first, "--waves", "emergency", "--publish")
    yield ("release", "add", "1.2.0", *publisher.release_words(builds[2]), "--waves", "slow")
    yield ("waves", "pause", "1.1.0", "--publish")
    yield ("publish",)
    while True:
        release = publisher.release_words(chance.choice(builds))
        version = f"1.{chance.randrange(1, 5)}.{chance.randrange(2)}"
        at_once = chance.choice([("--publish",), ("--publish",), ()])
        waves = chance.choice(["default", "emergency", "slow"])
        yield chance.choice(
            [
                ("release", "add", version, *release, "--waves", waves, *at_once),
                ("release", "add", version, *release, "--compression", "lz4", *at_once),
                ("release", "withdraw", version, *at_once),
                ("release", "discard"),
                ("max-version", "set", version, *at_once),
                ("migrations", "set", "1.0.0", version, builds[0] / "root.verity", *at_once),
                ("waves", "set", waves, *at_once),
                ("waves", "pause", *at_once),
                ("waves", "resume", *at_once),
                ("waves", "accelerate", "--by", "30m", *at_once),
                ("waves", "accelerate", "--to", "emergency", *at_once),
                ("publish",),
                ("publish",),
                ("refresh",),
            ]
        )


def observed(publisher: Publisher, observer: Observer, command: Command) -> None:
    """Run a command under the eyes of clients."""
    before = observer.see()
    observer.seen, observer.early = [], observer.client.start(observer.transport)
    with INTERPRETER.doing(observer.look, below=publisher.directory):
        done = publisher.run(*command)
    assert done.exception is None or isinstance(done.exception, RepoToolsError | SystemExit)
    after = observer.see()
    switched = observer.seen.index(after)
    assert all(each == before for each in observer.seen[:switched])
    assert all(each == after for each in observer.seen[switched:])
    assert read_everything(observer.early) == before
    assert_nobody_loses(before, after)


def assert_nobody_loses(before: Manifest, after: Manifest) -> None:
    """No command above may take back what a host was granted by the waves of a release."""
    now = datetime.now(UTC)
    old = {(each.variant, each.arch, each.version): each.waves for each in before.updates}
    for update in after.updates:
        waves = old.get((update.variant, update.arch, update.version))
        if waves is not None:
            assert reached(update.waves, now) >= reached(waves, now)


@pytest.mark.parametrize("seed", SEQUENCES)
def test_clients_see_the_old_repository_or_the_new_one(
    publisher: Publisher, builds: list[Path], seed: int
) -> None:
    chance = random.Random(seed)
    with Transport() as transport:
        observer = an_observer(publisher, transport, chance)
        words = commands(chance, publisher, builds)
        for command, _ in zip(words, range(COMMANDS_A_SEQUENCE), strict=False):
            observed(publisher, observer, command)
    assert observer.moments > COMMANDS_A_SEQUENCE
    assert PublishedRepository(publisher.repository).versions["timestamp"] > 1


def copied(publisher: Publisher, name: str) -> Publisher:
    """Copy a publisher, for another course of events."""
    directory = publisher.directory.with_name(name)
    shutil.copytree(publisher.directory, directory)
    return Publisher(directory=directory)


def moments_of(publisher: Publisher, command: Command, count: int) -> list[int]:
    """Return the moments of a command, counted from 1: a sample, or with `EXPLORE=all` each."""
    moments: list[Path] = []
    copy = copied(publisher, "counted")
    with INTERPRETER.doing(moments.append, below=copy.directory):
        copy.do(*command)
    every = range(1, len(moments) + 1)
    return list(every) if EXPLORES else sorted(random.Random(7).sample(every, count))


RELEASE: Command = ("release", "add", "1.1.0")


def test_a_publish_that_is_killed_at_any_moment_is_replaced_by_the_next(
    publisher: Publisher, builds: list[Path]
) -> None:
    command: Command = (*RELEASE, *publisher.release_words(builds[1]), "--publish")
    before = after = publisher.manifest
    with Transport() as transport:
        for number in moments_of(publisher, command, 5):
            copy = copied(publisher, str(number))
            observer = an_observer(copy, transport, random.Random(1))
            killed(copy, command, at=number)
            found = observer.see()
            copy.do(*command)
            after = observer.see()
            assert found in (before, after)
            assert [str(each.version) for each in after.updates] == ["1.1.0", "1.0.0"]
            assert not list(copy.repository.rglob("*.partial"))
    assert before != after


def killed(publisher: Publisher, command: Command, *, at: int) -> None:
    """Run a command in a child that ends, without a word, before its n-th change of a file."""
    child = os.fork()
    if child == 0:
        moments = []

        def die(path: Path) -> None:
            moments.append(path)
            if len(moments) == at:
                os._exit(9)

        with INTERPRETER.doing(die, below=publisher.directory):
            publisher.run(*command)
        os._exit(0)
    os.waitpid(child, 0)


def test_a_full_disk_leaves_the_repository_as_it_was(
    publisher: Publisher, builds: list[Path]
) -> None:
    command: Command = (*RELEASE, *publisher.release_words(builds[1]), "--publish")
    for number in moments_of(publisher, command, 8):
        before = publisher.files()
        moments: list[Path] = []

        def fail(path: Path, number: int = number, moments: list[Path] = moments) -> None:
            moments.append(path)
            if len(moments) == number:
                raise OSError(errno.ENOSPC, "No space left on device", str(path))

        with INTERPRETER.doing(fail, below=publisher.directory):
            done = publisher.run(*command)
        assert len(moments) >= number
        assert isinstance(done.exception, RepoToolsError | OSError), moments
        assert "No space left on device" in str(done.exception)
        assert publisher.files() == before, moments[number - 1]
    publisher.do(*command)
