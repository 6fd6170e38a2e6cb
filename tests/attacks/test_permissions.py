"""Files that other users may write to: root does not decide by them."""

import pytest

from tests.attacks.scene import Scene

pytestmark = pytest.mark.root


@pytest.mark.parametrize(
    "name",
    ["updog.toml", "root.json", "metadata", "metadata/timestamp.json", "state", "run/os-release"],
)
def test_a_file_that_everybody_can_write_is_refused(scene: Scene, name: str) -> None:
    path = scene.machine.directory / name
    mode = path.stat().st_mode & 0o7777
    path.chmod(mode | 0o002)
    line = scene.rejects()
    assert f"everybody can change it; run `chmod go-w {path}`" in line
    path.chmod(mode)
    scene.recovers()
