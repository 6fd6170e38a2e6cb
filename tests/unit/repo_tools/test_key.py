"""`repo-tools key`, and one whole ceremony by the installed commands."""

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from tuf.api.metadata import Metadata

from repo_tools.keyfiles import KeyKind, generate, write_keys
from repo_tools.programs import find_own_command
from tests.helpers.publisher import PublisherDirectory, a_publisher, tools
from tests.helpers.soft_hsm import PIN, SoftHsm, why_no_hsm


@pytest.fixture(autouse=True)
def _nothing_around(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("REPO_TOOLS_PASSPHRASE", "REPO_TOOLS_PIN", "REPO_TOOLS_PUBLISHER"):
        monkeypatch.delenv(name, raising=False)


def a_passphrase_file(tmp_path: Path) -> Path:
    path = tmp_path / "passphrase"
    path.write_text("geheim\n")
    path.chmod(0o600)
    return path


@pytest.mark.parametrize("kind", ["ed25519", "ecdsa", "rsa"])
def test_a_key_is_made_with_its_public_half(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "keys" / "ann.pem"
    passphrase = ("--passphrase-file", a_passphrase_file(tmp_path))
    done = tools("key", "generate", path, "--type", kind, *passphrase, "--json")
    assert done.code == 0, done.failure
    (made,) = done.json
    assert (made["private"], made["public"]) == (str(path), str(path.with_suffix(".pub")))
    assert load_pem_private_key(path.read_bytes(), b"geheim") is not None
    assert (path.stat().st_mode & 0o777, path.parent.stat().st_mode & 0o777) == (0o600, 0o700)
    (listed,) = tools("key", "list", path, "--json").json
    assert (listed["keyid"], listed["encrypted"]) == (made["keyid"], True)
    assert listed["kind"].startswith(kind)


def test_an_rsa_key_has_the_bits_that_were_said(tmp_path: Path) -> None:
    tools("key", "generate", tmp_path / "a.pem", "--type", "rsa", "--bits", "3200", "--unencrypted")
    (listed,) = tools("key", "list", tmp_path / "a.pem", "--json").json
    assert (listed["kind"], listed["encrypted"]) == ("rsa 3200", False)
    assert tools("key", "generate", tmp_path / "b.pem", "--bits", "2048").code == 2


def test_an_unencrypted_key_must_be_said(tmp_path: Path) -> None:
    done = tools("key", "generate", tmp_path / "ann.pem")
    assert (done.code, list(tmp_path.iterdir())) == (1, [])
    assert "a new key needs a passphrase; give its passphrase by" in done.failure
    assert "or say --unencrypted" in done.failure
    both = ("--unencrypted", "--passphrase-file", tmp_path / "x")
    assert tools("key", "generate", tmp_path / "ann.pem", *both).code == 2


def test_keys_are_never_replaced(tmp_path: Path) -> None:
    tools("key", "generate", tmp_path / "ann.pem", "--unencrypted")
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    done = tools("key", "generate", tmp_path / "bob.pem", tmp_path / "ann.pem", "--unencrypted")
    assert "ann.pem exists already; keys are never replaced, and none was made" in done.failure
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize("names", [("a.pem", "a.pem"), ("a.pem", "a.key"), ("a.pub",)])
def test_names_that_would_be_one_file_are_wrong_usage(
    tmp_path: Path, names: tuple[str, ...]
) -> None:
    done = tools("key", "generate", *(tmp_path / name for name in names), "--unencrypted")
    assert (done.code, list(tmp_path.iterdir())) == (2, [])


def test_a_dry_run_makes_no_key(tmp_path: Path) -> None:
    done = tools("key", "generate", tmp_path / "ann.pem", "--dry-run")
    assert (done.code, list(tmp_path.iterdir())) == (0, [])
    assert done.printed.startswith("Would make")


def test_a_directory_that_cannot_be_written_is_told_in_a_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    done = tools("key", "generate", tmp_path / "file" / "ann.pem", "--unencrypted")
    assert done.failure.startswith("cannot make keys in")
    assert done.failure.endswith("no key was made")


def test_the_list_says_which_keys_are_where(tmp_path: Path) -> None:
    publisher = a_publisher(tmp_path, roots=("ann", "bob"))
    (tmp_path / "publisher.toml").write_text('[keys]\ntargets = ["file:keys/online.pem"]\n')
    online, *elsewhere = tools("key", "list", "--publisher", tmp_path, "--json").json
    assert online["uri"] == f"file:{publisher.key('online')}"
    assert online["roles"] == ["targets", "snapshot", "timestamp"]
    assert [(each["uri"], each["roles"]) for each in elsewhere] == [(None, ["root"])] * 2
    text = tools("key", "list", "--publisher", tmp_path).printed
    assert "online.pem, not encrypted" in text
    assert "elsewhere" in text


def test_a_key_that_cannot_be_used_is_listed_and_fails(tmp_path: Path) -> None:
    tools("key", "generate", tmp_path / "ann.pem", "--unencrypted")
    (tmp_path / "ann.pem").chmod(0o644)
    done = tools("key", "list", tmp_path / "ann.pem", tmp_path / "ann.pub")
    assert (done.code, done.failure) == (1, "1 of 2 keys cannot be used")
    assert "can be read by others (mode 0644): chmod 600 it" in done.printed


def test_a_wrong_passphrase_signs_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    publisher = PublisherDirectory(path=tmp_path)
    publisher.make_keys(["bob", "online"])
    write_keys([(publisher.key("ann"), generate(KeyKind.ED25519))], passphrase="geheim")  # noqa: S106
    publisher.create(["ann", "bob"])
    before = publisher.state()
    monkeypatch.setenv("REPO_TOOLS_PASSPHRASE", "wrong")
    done = publisher.sign("bob", "ann")
    assert "wrong passphrase for file:" in done.failure
    assert publisher.state() == before
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    monkeypatch.delenv("REPO_TOOLS_PASSPHRASE")
    assert "ann.pem is encrypted; give its passphrase by" in publisher.sign("ann").failure
    assert publisher.state() == before


def test_a_ceremony_by_the_installed_commands(tmp_path: Path) -> None:
    """Ann signs with a passphrase, Bob with a device, the CI system with a variable."""
    if reason := why_no_hsm():
        pytest.skip(reason)
    write_keys([(tmp_path / "bob.pem", generate(KeyKind.ECDSA))], passphrase=None)
    device = SoftHsm(directory=tmp_path / "device")
    device.create("bob")
    device.add_key("bob", tmp_path / "bob.pem", number=2)
    environment = {"PATH": os.environ["PATH"], "REPO_TOOLS_PIN": PIN, **device.environment}

    def run(*arguments: str) -> None:
        command = [str(find_own_command("repo-tools")), *arguments]
        done = subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr

    a_passphrase_file(tmp_path)
    opened = ("--passphrase-file", "passphrase")
    run("key", "generate", "ann.pem", *opened)
    run("key", "generate", "online.pem", "--type", "ecdsa", "--unencrypted")
    environment["CI_KEY"] = (tmp_path / "online.pem").read_text()
    keys = ["root=ann.pem", "root=hsm:2?label=bob", "targets=envvar:CI_KEY"]
    keys += ["snapshot=online.pub", "timestamp=online.pem"]
    run("root", "create", *(each for key in keys for each in ("--key", key)))
    run("root", "sign", "--yes", *opened)
    placed = tmp_path / "repository" / "metadata" / "1.root.json"
    assert len(Metadata.from_file(str(placed)).signatures) == 2
    run("key", "list")
