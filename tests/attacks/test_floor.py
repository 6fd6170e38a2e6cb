"""The floor: what was accepted once is remembered, whatever becomes of the cache and the clock."""

import shutil
from datetime import timedelta

from tests.attacks.scene import Scene
from tests.helpers.fake_clock import clock_moved


def test_an_older_repository_is_refused_although_the_cache_is_lost(scene: Scene) -> None:
    assert scene.attacker.directory.exists()
    scene.publish_again()
    shutil.rmtree(scene.cache)
    before = scene.machine.disk_digest()
    line = scene.judge_words(scene.under_attack("check-update"))
    assert "it offers version 1 of timestamp, but version 2 was accepted" in line
    assert "metadata-floor.json" in line
    assert scene.machine.disk_digest() == before
    scene.recovers()


def test_a_clock_that_is_set_back_does_not_bring_what_has_expired_to_life(scene: Scene) -> None:
    """The machine has been ten days on; the attacker shows it last week's metadata, and clock."""
    scene.attacker.steal("timestamp")
    with scene.publisher.forging("timestamp") as timestamp:
        timestamp.expires += timedelta(days=10)
    scene.attacker.lead_to_snapshot()
    scene.attacker.lead_to_snapshot()
    scene.machine.environment |= (moved := clock_moved(days=10))
    scene.machine.updog("check-update").succeeded()
    for name in moved:
        del scene.machine.environment[name]
    line = scene.judge_words(scene.under_attack("check-update"))
    assert "clock" in line
    assert "this timestamp expired on" in line
    assert "metadata-floor.json" in line
    scene.recovers()


def test_a_clock_that_is_set_right_by_hours_is_not_in_the_way(scene: Scene) -> None:
    scene.machine.environment |= clock_moved(days=-0.5)
    scene.is_immune()
