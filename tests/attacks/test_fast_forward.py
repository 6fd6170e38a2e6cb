"""Fast-forward attacks: versions so high that the publisher's own would look old for ever."""

import pytest

from tests.attacks.bench import ONLINE
from tests.attacks.scene import Scene

_HIGH = 2**31 - 1


def fast_forward(scene: Scene, *roles: str) -> None:
    """Let the machine see roles in a version far ahead, signed with stolen keys."""
    attacker = scene.attacker
    attacker.steal(*roles)
    for role in [each for each in ("targets", "snapshot", "timestamp") if each in roles]:
        with attacker.forging(role) as signed:
            signed.version = _HIGH
            if role == "snapshot":
                signed.meta["targets.json"].version = attacker.load("targets").signed.version
                signed.meta["targets.json"].length = signed.meta["targets.json"].hashes = None
            if role == "timestamp":
                signed.snapshot_meta.version = attacker.load("snapshot").signed.version
                signed.snapshot_meta.length = signed.snapshot_meta.hashes = None
    scene.is_immune()
    scene.server.directory = scene.machine.repository


@pytest.mark.parametrize("roles", [("timestamp",), ("snapshot", "timestamp"), ONLINE], ids="+".join)
def test_new_keys_bring_a_machine_back_from_far_ahead(scene: Scene, roles: tuple[str, ...]) -> None:
    fast_forward(scene, *roles)
    assert "older than what this machine has seen" in scene.machine.updog("check-update").failed()
    scene.recovers()
    assert scene.versions() == {"root": 2, "timestamp": 2, "snapshot": 2, "targets": 2}


def test_the_attackers_far_ahead_metadata_is_refused_after_the_recovery(scene: Scene) -> None:
    fast_forward(scene, *ONLINE)
    scene.recovers()
    assert "timestamp was signed by 0/1 keys" in scene.refuses()


def test_a_root_far_ahead_is_not_reachable_without_the_steps_between(scene: Scene) -> None:
    """Even all root keys cannot skip a version: roots are walked one by one."""
    scene.attacker.steal("root", *ONLINE)
    with scene.attacker.forging("root") as root:
        root.version = 2
    content = scene.attacker.load("root")
    content.signed.version = _HIGH
    scene.attacker.write("root", content)
    (scene.attacker.metadata / f"{_HIGH}.root.json").rename(scene.attacker.metadata / "2.root.json")
    assert "root" in scene.refuses()
