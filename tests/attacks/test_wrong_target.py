"""Wrong-target attacks: something that was signed, in the place of something else that was."""

import json
from collections.abc import Callable

import pytest

from tests.attacks.bench import ONLINE, put
from tests.attacks.scene import Scene


def test_a_role_in_the_place_of_another_is_refused(scene: Scene) -> None:
    metadata = scene.attacker.metadata
    put(metadata / "timestamp.json", (metadata / "1.targets.json").read_bytes())
    assert "timestamp" in scene.refuses()


def test_an_older_root_in_the_place_of_a_newer_is_refused(scene: Scene) -> None:
    metadata = scene.attacker.metadata
    put(metadata / "2.root.json", (metadata / "1.root.json").read_bytes())
    assert "root version" in scene.refuses()


def test_an_image_of_the_same_length_is_never_bootable(scene: Scene) -> None:
    path = scene.attacker.target_path("1.1.0-*-boot.ext4")
    whole = path.read_bytes()
    put(path, whole[:-1] + bytes([whole[-1] ^ 1]))
    assert "boot.ext4" in scene.stops()


def test_bytes_that_are_no_image_at_all_cost_the_machine_nothing(scene: Scene) -> None:
    path = scene.attacker.target_path("1.1.0-*-boot.ext4")
    put(path, bytes(len(path.read_bytes())))
    assert "boot.ext4" in scene.refuses("update", "--now")


@pytest.mark.parametrize(
    ("role", "other", "verdict"),
    [
        ("root", "boot", Scene.stops),  # the tree does not vouch for it
        ("hash", "boot", Scene.refuses),  # it does not fit
        ("hash", "root", Scene.refuses),
        ("root", "root", Scene.stops),
    ],
)
def test_a_manifest_that_mixes_up_its_images_installs_nothing(
    scene: Scene, role: str, other: str, verdict: Callable[..., str]
) -> None:
    """Signed with stolen keys, all of them: 1.1.0 with an image of 1.2.0 in another's place."""
    scene.attacker.steal(*ONLINE)
    manifest = json.loads(scene.attacker.target_path("manifest.json").read_bytes())
    newer, update = manifest["updates"]
    update["images"][role] = newer["images"][other]
    scene.attacker.publish({"manifest.json": json.dumps(manifest).encode()})
    verdict(scene, "update", "--now")


def test_an_update_for_another_machine_is_no_update(scene: Scene) -> None:
    scene.attacker.steal(*ONLINE)
    manifest = scene.attacker.target_path("manifest.json").read_bytes()
    content = manifest.replace(b'"variant": "playground"', b'"variant": "other"')
    scene.attacker.publish({"manifest.json": content})
    before = scene.look()
    run = scene.under_attack("check-update")
    assert (run.code, run.stdout) == (3, "")
    assert scene.machine.disk_digest() == before.disk
    scene.recovers()
