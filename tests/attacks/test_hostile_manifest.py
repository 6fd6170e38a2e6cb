"""Manifests of every shape, signed with stolen keys: refused in words, or taken for what they say.

What the agent makes of a manifest is tested in bulk where it is parsed; here a few of each kind go
the whole way, from a signed target to the last word.
"""

import json
from typing import Any

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.attacks.bench import ONLINE
from tests.attacks.scene import Scene

leaves = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=20),
    st.sampled_from(
        ["1.1.0", "99999999999999999999.0.0", "playground", "x86_64", "(1.0.0, 1.1.0)"]
    ),
)
values = st.recursive(
    leaves, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner)
)


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return the paths of everything in a document."""
    inner = value if isinstance(value, dict) else {}
    if isinstance(value, list):
        inner = dict(enumerate(value))
    return [path, *(each for key in inner for each in places(inner[key], (*path, key)))]


def with_value(document: Any, path: tuple[Any, ...], value: Any) -> Any:
    """Return a document with something else in one place."""
    if not path:
        return value
    copy = document.copy()
    copy[path[0]] = with_value(document[path[0]], path[1:], value)
    return copy


def test_no_manifest_makes_a_machine_fall_silent_or_touch_its_disk(scene: Scene) -> None:
    attacker = scene.attacker
    honest = json.loads(attacker.target_path("manifest.json").read_bytes())
    attacker.steal(*ONLINE)
    before = scene.machine.disk_digest()

    @settings(
        max_examples=15,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(path=st.sampled_from(places(honest)), value=values)
    def attack(path: tuple[Any, ...], value: Any) -> None:
        content = json.dumps(with_value(honest, path, value)).encode()
        attacker.publish({"manifest.json": content})
        run = scene.under_attack("check-update")
        if run.code == 1:
            scene.judge_words(run)
        else:
            assert run.code in {0, 3}
            assert (run.code == 0) == bool(run.stdout)

    attack()
    assert scene.machine.disk_digest() == before
    scene.judge_leftovers()
    scene.recovers()
