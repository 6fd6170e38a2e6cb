"""The clock of the machine, set forth and back by whoever controls its time server."""

from tests.attacks.scene import Scene
from tests.helpers.fake_clock import clock_moved


def test_a_clock_that_is_far_ahead_stops_updates_and_spoils_nothing(scene: Scene) -> None:
    scene.machine.environment |= (moved := clock_moved(days=400))
    line = scene.judge_words(scene.machine.updog("check-update"))
    assert "is expired" in line
    assert "unless this machine's clock is wrong" in line
    for name in moved:
        del scene.machine.environment[name]
    scene.recovers()


def test_a_clock_that_was_ahead_by_days_locks_no_machine_out(scene: Scene) -> None:
    """One lie of a time server, within the metadata's validity; then the clock is right again."""
    scene.machine.environment |= (moved := clock_moved(days=6))
    scene.is_immune()
    for name in moved:
        del scene.machine.environment[name]
    scene.is_immune()
    scene.publish_again()
    scene.recovers_fully()
