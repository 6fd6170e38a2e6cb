"""One attack: an honest publisher, an attacker who controls the server, a machine, and a judge.

    def test_...(scene: Scene) -> None:
        scene.attacker.steal("timestamp")
        ...
        assert "expired" in scene.refuses("check-update")

`refuses`, `stops` and `is_immune` run the installed command against the attacker's server and judge
what is left: the machine's disk, the metadata cache, the words. Each ends by handing the server
back to the publisher and asking the machine for an honest update, which must work.
"""

import re
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from securesystemslib.signer import Signer
from tuf.api.metadata import Metadata

from repo_tools.keys import KeyDirectory
from tests.attacks.bench import Bench, copy_repository, put
from tests.helpers.http_server import Server
from tests.helpers.machine import Machine, Run
from updog.metadata_cache import read_files

CLEARED = (0, 0, False)
HEALTHY = (1, 0, True)
OFFER = "playground 1.1.0\n"

_MOST_WORDS = 800
"""Characters of an error: it is to be read, and an attacker may have written part of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Before:
    """What a machine was before an attack."""

    disk: str
    cache: dict[str, bytes]
    versions: dict[str, int]


@dataclass(kw_only=True)
class Scene:
    """A machine whose cache is warm, and those who fight for it. `offer`: what is honest."""

    machine: Machine
    offer: str = OFFER
    keys: KeyDirectory = field(init=False)

    def __post_init__(self) -> None:
        self.keys = KeyDirectory(path=self.machine.directory / "keys")
        self.temporary.mkdir()
        self.machine.environment |= {"TMPDIR": str(self.temporary), "UPDOG_LOG_FORMAT": "human"}

    @property
    def server(self) -> Server:
        return self.machine.server

    @property
    def cache(self) -> Path:
        return self.machine.directory / "metadata"

    @property
    def temporary(self) -> Path:
        return self.machine.directory / "temporary"

    @cached_property
    def attacker(self) -> Bench:
        """A copy of the repository as it is now, in the hands of someone without keys."""
        copy = copy_repository(self.machine.repository, self.machine.directory / "attacked")
        return Bench(copy, publisher_keys=self.keys)

    @cached_property
    def publisher(self) -> Bench:
        """The repository itself, in the hands of someone with all keys."""
        bench = Bench(self.machine.repository, publisher_keys=self.keys)
        bench.steal("root", "timestamp", "snapshot", "targets")
        return bench

    def publish_again(self) -> None:
        """Publish every role once more, in its next version, and let the machine see it."""
        self.publisher.publish({"note.txt": b"one more"})
        self.machine.updog("check-update").succeeded()

    def attack_what_is_served_now(self) -> None:
        """Give the attacker a fresh copy of the repository; stolen keys stay stolen."""
        for part in ("metadata", "targets"):
            for path in (self.machine.repository / part).iterdir():
                put(self.attacker.directory / part / path.name, path.read_bytes())

    # Verdicts

    def refuses(self, *command: str) -> str:
        """Require what `rejects` does, and that the attack leaves no trace once it is over."""
        line = self.rejects(*command)
        self.recovers()
        return line

    def rejects(self, *command: str) -> str:
        """Require that a command fails and leaves everything as it was; return its one line."""
        before = self.look()
        run = self.under_attack(*(command or ("check-update",)))
        line = self.judge_words(run)
        assert self.machine.disk_digest() == before.disk
        self.judge_cache(before)
        self.judge_leftovers()
        return line

    def stops(self, *command: str) -> str:
        """Require what `halts` does, and that the update succeeds once the attack is over."""
        line = self.halts(*command)
        self.recovers_fully()
        return line

    def halts(self, *command: str) -> str:
        """Require that an update fails with the inactive set cleared, the other one untouched."""
        before, running = self.look(), self.machine.set_digest("A")
        line = self.judge_words(self.under_attack(*(command or ("update", "--now"))))
        assert "Set B is cleared and will not boot; set A is untouched" in line
        assert self.machine.flags() == {"A": HEALTHY, "B": CLEARED}
        assert self.machine.set_digest("A") == running
        self.judge_cache(before)
        self.judge_leftovers()
        return line

    def is_immune(self) -> Run:
        """Require that a machine finds the honest offer in spite of an attack."""
        before = self.look()
        run = self.under_attack("check-update").succeeded()
        assert run.stdout == self.offer
        assert self.machine.disk_digest() == before.disk
        self.judge_cache(before)
        self.judge_leftovers()
        return run

    # Steps of verdicts

    def look(self) -> Before:
        """Remember what an attack may not change."""
        return Before(
            disk=self.machine.disk_digest(),
            cache=read_files(self.cache),
            versions=self.versions(),
        )

    def under_attack(self, *command: str) -> Run:
        """Run updog while the attacker's repository is served, if there is one."""
        if "attacker" in self.__dict__:
            self.server.directory = self.attacker.directory
        return self.machine.updog(*command)

    def judge_words(self, run: Run) -> str:
        """Require one clear line that no terminal and no log stumbles over."""
        line = run.failed()
        assert run.stdout == ""
        assert re.fullmatch(r"[ -~]+", line), line
        assert all(each.isprintable() for each in run.stderr.splitlines())
        assert len(line) <= _MOST_WORDS, line
        return line

    def judge_cache(self, before: Before) -> None:
        """Require that the cache holds what it held, or something newer that is signed."""
        after = read_files(self.cache)
        assert before.cache.keys() <= after.keys(), "the cache lost a file"
        changed = {name for name, content in after.items() if before.cache.get(name) != content}
        require_vouched(after, changed)
        for role, version in self.versions().items():
            assert version >= before.versions[role], role

    def judge_leftovers(self) -> None:
        """Require that no file was left half-way, anywhere."""
        assert leftovers(self.machine.directory) == []
        assert list(self.temporary.iterdir()) == []

    def versions(self) -> dict[str, int]:
        """Return the versions of the roles in the cache."""
        files = read_files(self.cache)
        roles = {
            role: parse(files[f"{role}.json"]) for role in ("timestamp", "snapshot", "targets")
        }
        roles["root"] = newest_root(files)
        return {role: metadata.signed.version for role, metadata in roles.items()}

    def end_attack(self) -> None:
        """Give the server back to the publisher, who replaces the keys that were stolen."""
        self.server.behave()
        self.server.directory = self.machine.repository
        stolen = [role for role in self._attackers_keys if role != "root"]
        if stolen:
            self.publisher.rotate(*stolen)
            self.publisher.publish({"note.txt": b"the keys were replaced"})

    @property
    def _attackers_keys(self) -> dict[str, list[Signer]]:
        return self.attacker.keys if "attacker" in self.__dict__ else {}

    def recovers(self) -> None:
        """Require that the machine is offered the honest update once the attack is over."""
        self.end_attack()
        assert self.machine.updog("check-update").succeeded().stdout == self.offer

    def recovers_fully(self) -> None:
        """Require that the machine takes the honest update once the attack is over."""
        self.end_attack()
        self.machine.updog("update", "--now").succeeded()
        assert self.machine.flags() == {"A": HEALTHY, "B": (2, 1, False)}


def require_vouched(files: dict[str, bytes], changed: set[str]) -> None:
    """Require, by python-tuf alone, that the newest root vouches for the files that changed."""
    root = newest_root(files)
    for name in changed:
        role = name.removesuffix(".json").rpartition(".")[2].rpartition("/")[2]
        metadata = parse(files[name])
        root.signed.verify_delegate(role, metadata.signed_bytes, metadata.signatures)


def newest_root(files: dict[str, bytes]) -> "Metadata[Any]":
    roots = [parse(content) for name, content in files.items() if name.startswith("root_history/")]
    return max(roots, key=lambda root: root.signed.version)


def parse(content: bytes) -> "Metadata[Any]":
    return Metadata.from_bytes(content)


def leftovers(directory: Path) -> list[str]:
    """Return what lies in the agent's directories that only a cut may leave."""
    agents = [directory / name for name in ("metadata", "migrations", "state")]
    within = [path for each in agents for path in each.rglob("*")]
    beside = [path for path in directory.glob(".*") if path.name != ".playground"]
    partial = re.compile(r"^\.|^tmp|\.(new|old|part|tmp|temporary)$")
    return sorted({str(path) for path in (*within, *beside) if partial.search(path.name)})
