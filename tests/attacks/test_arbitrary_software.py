"""Arbitrary software: whoever controls the server offers a system of their own."""

import pytest

from tests.attacks.bench import ONLINE, a_stranger, put
from tests.attacks.scene import Scene


def test_an_image_without_a_signature_is_never_bootable(scene: Scene) -> None:
    root = scene.attacker.target_path("1.1.0-*-root.ext4")
    content = bytearray(root.read_bytes())
    content[len(content) // 2] ^= 1
    put(root, bytes(content))
    assert "root.ext4.zst" in scene.stops()


def test_an_image_of_another_system_is_refused(scene: Scene) -> None:
    for part in ("boot.ext4", "root.ext4", "root.verity"):
        own = scene.attacker.target_path(f"1.2.0-*-{part}")
        put(scene.attacker.target_path(f"1.1.0-*-{part}"), own.read_bytes())
        assert part in scene.rejects("update", "--now")
    scene.recovers_fully()


def test_a_manifest_without_a_signature_is_refused(scene: Scene) -> None:
    manifest = scene.attacker.target_path("manifest.json")
    put(manifest, manifest.read_bytes().replace(b"1.2.0", b"9.9.9"))
    assert "is not what was signed" in scene.refuses()


@pytest.mark.parametrize("role", ["timestamp", "snapshot", "targets"])
def test_metadata_signed_by_a_stranger_is_refused(scene: Scene, role: str) -> None:
    """The attacker has the keys of the roles that lead to this one, but not its own."""
    scene.attacker.steal(*ONLINE)
    scene.attacker.keys[role] = [a_stranger()]
    scene.attacker.publish({"manifest.json": b'{"updates": []}'})
    line = scene.refuses()
    assert f"{role} was signed by 0/1 keys" in line
    assert "it is not from this machine's publisher" in line


def test_a_strangers_signature_under_the_publishers_key_id_is_refused(scene: Scene) -> None:
    keyid = scene.attacker.load("root").signed.roles["timestamp"].keyids[0]
    timestamp = scene.attacker.load("timestamp")
    timestamp.signed.version += 1
    forged = timestamp.sign(a_stranger())
    timestamp.signatures.clear()
    forged.keyid = keyid
    timestamp.signatures[keyid] = forged
    scene.attacker.write("timestamp", timestamp)
    assert "timestamp was signed by 0/1 keys" in scene.refuses()


def test_metadata_without_any_signature_is_refused(scene: Scene) -> None:
    with scene.attacker.forging("timestamp", signers=[]):
        pass
    assert "timestamp was signed by 0/1 keys" in scene.refuses()


def test_a_whole_repository_of_somebody_else_is_refused(scene: Scene) -> None:
    scene.attacker.make_keys("root", *ONLINE)
    scene.attacker.rotate("root", *ONLINE)
    scene.attacker.publish({"manifest.json": b'{"updates": []}'})
    assert "root was signed by 0/2 keys" in scene.refuses()
