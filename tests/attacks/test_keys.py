"""Key compromise and rotation: what some stolen keys can do, and that new ones end it."""

import pytest
from tuf.api.metadata import Key

from tests.attacks.bench import ONLINE, a_stranger
from tests.attacks.scene import Scene


def test_one_stolen_root_key_of_two_replaces_nothing(scene: Scene) -> None:
    attacker = scene.attacker
    attacker.steal("root", *ONLINE)
    one = attacker.keys["root"][:1]
    attacker.rotate(*ONLINE)
    attacker.sign_again("root", one)
    assert "root was signed by 1/2 keys" in scene.refuses()


def test_one_stolen_root_key_listed_twice_still_counts_once(scene: Scene) -> None:
    """The same key material under a second key id must not reach a threshold of two."""
    attacker = scene.attacker
    attacker.steal("root")
    one = attacker.keys["root"][0]
    with attacker.forging("root", signers=[one]) as root:
        twin = Key.from_dict("ab" * 32, one.public_key.to_dict())
        root.add_key(twin, "root")
    content = attacker.load("root")
    content.signatures["ab" * 32] = type(content.signatures[one.public_key.keyid])(
        "ab" * 32, content.signatures[one.public_key.keyid].signature
    )
    attacker.write("root", content)
    assert "root was signed by 1/2 keys" in scene.refuses()


def test_a_new_root_that_only_its_own_keys_sign_is_refused(scene: Scene) -> None:
    attacker = scene.attacker
    attacker.make_keys("root")
    attacker.rotate("root")
    assert "root was signed by 0/2 keys" in scene.refuses()


def test_a_new_root_that_its_own_keys_do_not_sign_is_refused(scene: Scene) -> None:
    attacker = scene.attacker
    attacker.steal("root")
    former = list(attacker.keys["root"])
    attacker.rotate("root")
    attacker.sign_again("root", former)
    assert "root was signed by 0/1 keys" in scene.refuses()


@pytest.mark.parametrize("role", ONLINE)
def test_a_stolen_key_is_worthless_once_the_publisher_has_replaced_it(
    scene: Scene, role: str
) -> None:
    """The thief has the other keys still, the new ones too, which makes it the harder case."""
    publisher, attacker = scene.publisher, scene.attacker
    attacker.steal(role)
    publisher.rotate(role)
    publisher.publish({"note.txt": b"new keys"})
    scene.machine.updog("check-update").succeeded()
    scene.attack_what_is_served_now()
    attacker.keys = publisher.keys | {role: attacker.keys[role]}
    attacker.publish({"manifest.json": b'{"updates": []}'})
    assert f"{role} was signed by 0/1 keys" in scene.refuses()


def test_all_keys_can_be_replaced_at_once(scene: Scene) -> None:
    scene.publisher.rotate("root", *ONLINE)
    scene.publisher.publish({"note.txt": b"new keys"})
    scene.machine.updog("update", "--now").succeeded()
    assert scene.versions()["root"] == 2


def test_a_machine_that_was_off_for_many_rotations_follows_them_all(scene: Scene) -> None:
    for _ in range(5):
        scene.publisher.rotate("root", "timestamp")
    scene.publisher.publish({"note.txt": b"new keys"})
    scene.machine.updog("check-update").succeeded()
    assert scene.versions()["root"] == 6


def test_a_root_that_is_withheld_leaves_the_new_timestamp_unvouched(scene: Scene) -> None:
    scene.publisher.rotate("timestamp")
    scene.publisher.publish({"note.txt": b"new keys"})
    (scene.attacker.metadata / "2.root.json").unlink()
    assert "timestamp was signed by 0/1 keys" in scene.refuses()


def test_the_timestamp_key_alone_cannot_offer_anything(scene: Scene) -> None:
    attacker = scene.attacker
    attacker.steal("timestamp")
    attacker.keys["targets"] = attacker.keys["snapshot"] = [a_stranger()]
    attacker.publish({"manifest.json": b'{"updates": []}'})
    assert "snapshot was signed by 0/1 keys" in scene.refuses()
