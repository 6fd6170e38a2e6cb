"""SIGKILL at every call by which a refresh changes the cache: the old or the new is left."""

import re
import shutil
import signal
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.attacks.scene import Scene
from tests.helpers.machine import BIN
from updog.metadata_cache import MetadataCache

_CALL = re.compile(r"\d+ +(?P<name>\w+)\((?P<arguments>.*)")


@pytest.mark.parametrize(
    "names",
    ["mkdir,write", "rename,symlink,unlink", "unlinkat"],
)
def test_a_refresh_that_is_killed_leaves_the_old_cache_or_the_new(
    scene: Scene, tmp_path: Path, names: str
) -> None:
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed: no refresh is killed while it writes")
    scene.publisher.rotate("snapshot")
    scene.publisher.publish({"note.txt": b"one more"})
    older = shutil.copytree(scene.cache, tmp_path / "older", symlinks=True)
    old = scene.versions()
    calls = list(changing_calls(traced(scene, tmp_path / "calls", names)))
    new = scene.versions()
    assert len(calls) >= 5
    for name, number in calls:
        restore(scene, older)
        kill_at(scene, name, number)
        assert recovered_versions(scene) in (old, new)
    restore(scene, older)
    kill_at(scene, *calls[-1])
    scene.recovers()
    assert scene.versions() == new
    scene.judge_leftovers()


def traced(scene: Scene, log: Path, names: str) -> list[str]:
    """Let a run come to its end and return the calls of some names that it made, and rmdir."""
    done = strace(scene, "-o", str(log), "-e", f"trace={names},rmdir")
    assert done == 0
    return log.read_text().splitlines()


def changing_calls(lines: list[str]) -> Iterator[tuple[str, int]]:
    """Yield the calls on the cache with their numbers, up to the removal of the old one."""
    counted: Counter[str] = Counter()
    for line in lines:
        if match := _CALL.match(line):
            counted[match["name"]] += 1
            if "/.metadata." in match["arguments"]:
                yield match["name"], counted[match["name"]]
            if match["name"] == "rmdir":
                return


def kill_at(scene: Scene, name: str, number: int) -> None:
    """Kill a run as it enters a call for the nth time."""
    rule = f"inject={name}:signal=KILL:when={number}"
    assert strace(scene, "-o", "/dev/null", "-e", f"trace={name}", "-e", rule) == -signal.SIGKILL


def strace(scene: Scene, *options: str) -> int:
    # No compiled modules are written: that would be among the calls that are counted.
    environment = scene.machine.full_environment() | {"PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run(
        ["strace", "-f", "-y", *options, str(BIN / "updog"), "check-update"],
        env=environment,
        capture_output=True,
        timeout=120,
        check=False,
    ).returncode


def restore(scene: Scene, older: Path) -> None:
    for path in (scene.cache, *scene.machine.directory.glob(".metadata.*")):
        shutil.rmtree(path, ignore_errors=True)
    for path in scene.temporary.iterdir():
        path.unlink()
    shutil.copytree(older, scene.cache, symlinks=True)


def recovered_versions(scene: Scene) -> dict[str, int]:
    """Do what the next run begins with, and return what it then trusts."""
    with MetadataCache(scene.cache).changing():
        pass
    return scene.versions()
