"""Freeze attacks: the machine is kept from learning that there is something newer."""

import re

import pytest

from tests.attacks.bench import ONLINE, in_the_past
from tests.attacks.scene import Scene
from tests.helpers.http_server import status


@pytest.mark.parametrize("role", ["timestamp", "snapshot", "targets"])
def test_metadata_that_has_expired_is_refused(scene: Scene, role: str) -> None:
    scene.attacker.steal(*ONLINE)
    if role == "targets":
        with scene.attacker.forging("targets") as targets:
            targets.expires = in_the_past()
        scene.attacker.lead_to_targets()
    if role == "snapshot":
        with scene.attacker.forging("snapshot") as snapshot:
            snapshot.expires = in_the_past()
        scene.attacker.lead_to_snapshot()
    if role == "timestamp":
        with scene.attacker.forging("timestamp") as timestamp:
            timestamp.expires = in_the_past()
    line = scene.refuses()
    assert re.search(rf"\b{role}(\.json)? is expired", line)
    assert "the publisher must renew it, unless this machine's clock is wrong" in line


def test_an_expired_root_is_refused_but_one_that_was_followed_by_another_is_not(
    scene: Scene,
) -> None:
    """Client workflow 5.3.10: only the last root of the chain must be valid now."""
    publisher = scene.publisher
    with publisher.forging("root") as root:
        valid, root.expires = root.expires, in_the_past()
    assert "root.json is expired" in scene.judge_words(scene.machine.updog("check-update"))
    with publisher.forging("root") as root:
        root.expires = valid
    scene.recovers()


def test_a_timestamp_that_is_withheld_is_an_error_and_not_no_update(scene: Scene) -> None:
    for code in (403, 404):
        scene.server.always("/metadata/timestamp.json", status(code))
        assert f"timestamp.json: the server answered {code}" in scene.rejects()
    scene.recovers()
