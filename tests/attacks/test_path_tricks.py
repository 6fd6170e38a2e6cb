"""Names that are meant to leave the place that they are put in, or to mean something on the way.

All of it is signed with stolen keys: without them no name is looked at.
"""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.attacks.bench import ONLINE
from tests.attacks.scene import Scene
from tests.helpers.http_server import instead
from tests.helpers.tuf_repository import signer

NAMES = [
    *("../../../escaped", "/escaped", "..", ".hidden", "", "a\\b", "%2e%2e%2fescaped"),
    *("file:///etc/passwd", "-rf", "a\nb", "a\x00b", "a\x1b[2Jb", "a\u202eb", "x" * 5000),
]

Manifest = dict[str, Any]

PLACES: dict[str, Callable[[Manifest, str], None]] = {
    "boot image": lambda manifest, name: put_image(manifest, "boot", name),
    "root image": lambda manifest, name: put_image(manifest, "root", name),
    "hash image": lambda manifest, name: put_image(manifest, "hash", name),
    "migration": lambda manifest, name: manifest["migrations"].update({"(1.0.0, 1.1.0)": [name]}),
    "variant": lambda manifest, name: manifest["updates"][0].update(variant=name),
    "architecture": lambda manifest, name: manifest["updates"][0].update(arch=name),
    "version": lambda manifest, name: manifest["updates"][0].update(version=name),
    "step": lambda manifest, name: manifest["migrations"].update({f"({name}, 1.1.0)": []}),
}


def put_image(manifest: Manifest, role: str, name: str) -> None:
    manifest["updates"][0]["images"][role] = name


def test_a_tricky_name_in_a_manifest_is_refused(scene: Scene) -> None:
    attacker, before = scene.attacker, scene.machine.disk_digest()
    honest = attacker.target_path("manifest.json").read_bytes()
    attacker.steal(*ONLINE)
    with nothing_else_changed(scene):
        for place, name in tricky():
            manifest = json.loads(honest)
            PLACES[place](manifest, name)
            attacker.publish({"manifest.json": json.dumps(manifest).encode()})
            assert "manifest.json: " in scene.judge_words(scene.under_attack("check-update"))
    assert scene.machine.disk_digest() == before
    scene.recovers()


def tricky() -> list[tuple[str, str]]:
    """Combine: one rule refuses names at most places, so all are tried at one of those only."""
    everywhere = [(place, name) for place in PLACES for name in ("../../../escaped", "a\nb")]
    return everywhere + [("root image", name) for name in NAMES[1:]]


@pytest.mark.parametrize("name", ["../../escaped", "a\nb"])
def test_a_tricky_name_of_a_delegated_role_stays_within_the_cache(scene: Scene, name: str) -> None:
    attacker = scene.attacker
    attacker.steal(*ONLINE)
    scene.server.always(
        "/metadata/1.*", instead(attacker.delegate_manifest(name, signer("delegate")))
    )
    with nothing_else_changed(scene):
        assert scene.under_attack("check-update").code in {0, 1}
    assert {path.parent for path in scene.cache.rglob("*.json")} <= {
        scene.cache,
        scene.cache / "root_history",
    }
    scene.recovers()


@contextmanager
def nothing_else_changed(scene: Scene) -> Iterator[None]:
    """Require that files appear, and disappear, in the agent's own directories only."""
    before = everything_else(scene)
    yield
    assert everything_else(scene) == before


def everything_else(scene: Scene) -> set[str]:
    own = {scene.cache, scene.machine.directory / "state", scene.attacker.directory}
    return {
        str(path)
        for path in scene.machine.directory.parent.rglob("*")
        if not own.intersection((path, *path.parents))
    }
