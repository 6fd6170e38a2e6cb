"""Rollback attacks: metadata that was signed once, served again to a machine that saw newer."""

from tests.attacks.bench import Bench
from tests.attacks.scene import Scene


def replay(scene: Scene, *roles: str) -> Bench:
    """Let the attacker keep what is served now; then publish every role once more."""
    attacker = scene.attacker
    attacker.steal(*roles)
    scene.publish_again()
    return attacker


def test_yesterdays_repository_is_refused(scene: Scene) -> None:
    replay(scene)
    line = scene.refuses()
    assert "New timestamp version 1 must be >= 2" in line
    assert "older than what this machine has seen: a stale mirror, or a replay" in line


def test_an_old_snapshot_under_a_new_timestamp_is_refused(scene: Scene) -> None:
    attacker = replay(scene, "timestamp")
    with attacker.forging("timestamp") as timestamp:
        timestamp.version = 3
    assert "New snapshot version must be >= 2, got version 1" in scene.refuses()


def test_old_targets_under_a_new_snapshot_are_refused(scene: Scene) -> None:
    attacker = replay(scene, "timestamp", "snapshot")
    with attacker.forging("snapshot") as snapshot:
        snapshot.version = 3
    with attacker.forging("timestamp") as timestamp:
        timestamp.version, timestamp.snapshot_meta.version = 3, 3
        timestamp.snapshot_meta.length = timestamp.snapshot_meta.hashes = None
    assert "Expected targets.json version 1, got 2" in scene.refuses()


def test_a_snapshot_that_forgets_the_targets_is_refused(scene: Scene) -> None:
    attacker = scene.attacker
    attacker.steal("timestamp", "snapshot")
    with attacker.forging("snapshot") as snapshot:
        del snapshot.meta["targets.json"]
    attacker.lead_to_snapshot()
    assert "targets" in scene.refuses()


def test_every_command_that_asks_the_repository_refuses_a_replay(scene: Scene) -> None:
    replay(scene)
    for command in ("check-update", "update", "update-image", "prepare", "explain"):
        assert "older than what this machine has seen" in scene.rejects(command)
    scene.recovers()
