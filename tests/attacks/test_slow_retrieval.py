"""Slow retrieval: a server that keeps a machine waiting, a byte at a time.

The machine's patience is a matter of minutes, so its clock is made to run sixty times as fast.
"""

import pytest

from tests.attacks.scene import Scene
from tests.helpers.fake_clock import fast_clock
from tests.helpers.http_server import Handler, Misbehaviour, drip

TIMES = 60


def silence(*, after_header: bool) -> Misbehaviour:
    """Keep the connection open and say nothing."""

    def behave(handler: Handler, body: bytes) -> None:
        if after_header:
            handler.head(200, {"Content-Length": str(len(body))})
        handler.rfile.read(1)  # until the client hangs up

    return behave


@pytest.mark.parametrize("after_header", [False, True], ids=["no answer", "no body"])
def test_a_server_that_falls_silent_is_left(scene: Scene, *, after_header: bool) -> None:
    scene.machine.environment |= fast_clock(TIMES)
    scene.server.always("/metadata/timestamp.json", silence(after_header=after_header))
    assert "no data for 30 s" in scene.refuses()


@pytest.mark.parametrize("command", [("check-update",), ("prepare", "--now")], ids=" ".join)
def test_a_server_that_drips_is_left(scene: Scene, command: tuple[str, ...]) -> None:
    scene.machine.environment |= fast_clock(TIMES)
    dripping = drip(pause_seconds=0.1, count=100_000)
    for pattern in ("/metadata/timestamp.json", "/targets/*root.ext4.zst"):
        scene.server.always(pattern, dripping)
    line = scene.refuses(*command)
    assert "it took more than 300 s" in line or "less than 1024 bytes a second" in line
