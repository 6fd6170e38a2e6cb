"""Mix-and-match attacks: files that were signed, but never together."""

import pytest

from tests.attacks.bench import put
from tests.attacks.scene import Scene


@pytest.mark.parametrize("role", ["snapshot", "targets"])
def test_a_file_of_another_publishing_under_the_new_name_is_refused(
    scene: Scene, role: str
) -> None:
    scene.publisher.publish({"note.txt": b"one more"})
    metadata = scene.attacker.metadata
    put(metadata / f"2.{role}.json", (metadata / f"1.{role}.json").read_bytes())
    line = scene.refuses()
    assert f"after 2.{role}.json" in line


def test_a_new_timestamp_over_a_repository_that_lacks_its_snapshot_is_refused(
    scene: Scene,
) -> None:
    old = scene.attacker
    scene.publisher.publish({"note.txt": b"one more"})
    put(old.path("timestamp"), scene.publisher.path("timestamp").read_bytes())
    assert "2.snapshot.json: the server answered 404" in scene.refuses()


def test_a_manifest_of_another_publishing_is_refused(scene: Scene) -> None:
    old = scene.publisher.target_path("manifest.json").read_bytes()
    scene.publisher.publish({"manifest.json": old.replace(b"102", b"103")})
    for manifest in scene.attacker.targets.glob("*.manifest.json"):
        put(manifest, old)
    assert "manifest.json is not what was signed" in scene.refuses()
