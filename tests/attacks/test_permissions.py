"""Files that other users may write to, or lead elsewhere: root does not decide by them."""

import os
from pathlib import Path

import pytest

from tests.attacks.scene import Scene

pytestmark = pytest.mark.root

NOBODY = 65534

TABLES = """
[network]
ca_file = "tls/ca.pem"
client_certificate = "tls/client.pem"
client_key = "tls/client.key"
"""

GUARDED = [
    "updog.toml",
    "root.json",
    "metadata",
    "metadata/timestamp.json",
    "migrations",
    "state",
    "state/metadata-floor.json",
    "run/os-release",
    "run/boot-id",
    "run/active-set",
    "disk.img",
    "tls/ca.pem",
    "tls/client.pem",
    "tls/client.key",
]


def add_tls_files(scene: Scene) -> None:
    """Name certificates and a key, each of which is judged before any is read."""
    (scene.machine.directory / "tls").mkdir()
    for name in ("ca.pem", "client.pem", "client.key"):
        (scene.machine.directory / "tls" / name).touch(0o644)
    scene.machine.config.write_text(scene.machine.config.read_text() + TABLES)


def make_migrations(scene: Scene) -> Path:
    path = scene.machine.directory / "migrations"
    path.mkdir(exist_ok=True)
    return path


def only_refusal(scene: Scene, *command: str) -> str:
    """Require that a command refuses and leaves the disk and the machine's files alone."""
    before = scene.machine.disk_digest()
    line = scene.judge_words(scene.machine.updog(*command))
    assert scene.machine.disk_digest() == before
    return line


@pytest.mark.parametrize("name", GUARDED)
@pytest.mark.parametrize("command", [("check-update",), ("migrations", "verify"), ("verify",)])
def test_a_file_that_everybody_can_write_is_refused(
    scene: Scene, name: str, command: tuple[str, ...]
) -> None:
    make_migrations(scene)
    if name.startswith("tls/"):
        add_tls_files(scene)
    path = scene.machine.directory / name
    mode = path.stat().st_mode & 0o7777
    path.chmod(mode | 0o002)
    assert f"everybody can change it; run `chmod go-w {path}`" in only_refusal(scene, *command)
    path.chmod(mode)
    if command == ("check-update",) and not name.startswith("tls/"):
        scene.recovers()


@pytest.mark.parametrize("name", ["root.json", "metadata", "run/active-set"])
@pytest.mark.parametrize("command", [("check-update",), ("migrations", "verify"), ("verify",)])
def test_a_link_in_the_middle_of_a_chain_that_is_anothers_is_refused(
    scene: Scene, name: str, command: tuple[str, ...]
) -> None:
    named, evil = scene.machine.directory / name, scene.machine.directory / "evil"
    real = named.rename(named.with_name(f"{named.name}-real"))
    evil.mkdir()
    (evil / "r").symlink_to(real)
    named.symlink_to(evil / "r")
    scene.machine.updog(*command).succeeded()
    os.chown(evil / "r", NOBODY, NOBODY, follow_symlinks=False)
    line = only_refusal(scene, *command)
    assert f"{evil}/r belongs to user {NOBODY}" in line
    assert f"run `chown -h root {evil}/r`" in line


def test_a_link_among_the_migrations_is_judged_with_what_it_leads_to(scene: Scene) -> None:
    targets = make_migrations(scene) / "targets"
    targets.mkdir()
    elsewhere = scene.machine.directory / "elsewhere"
    elsewhere.touch()
    elsewhere.chmod(0o666)
    (targets / "first.lz4").symlink_to(elsewhere)
    assert f"chmod go-w {elsewhere}" in only_refusal(scene, "migrations", "verify")


def test_a_reboot_command_that_everybody_can_write_is_not_run(scene: Scene, tmp_path: Path) -> None:
    program, trace = tmp_path / "reboot", tmp_path / "trace"
    program.write_text(f"#!/bin/sh\ntouch {trace}\n")
    program.chmod(0o757)
    text = scene.machine.config.read_text()
    scene.machine.config.write_text(text[: text.index("command = ")] + f'command = ["{program}"]\n')
    line = scene.machine.updog("update", "--now", "--reboot").failed()
    assert f"refused to use the reboot command {program} as root" in line
    assert not trace.exists()
    program.chmod(0o755)
    scene.machine.updog("update-revert").succeeded()
    scene.machine.updog("update", "--now", "--reboot").succeeded()
    assert trace.exists()
