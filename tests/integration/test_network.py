"""The network settings through the installed commands."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.helpers.certificates import Authority
from tests.helpers.http_server import Server, serving
from tests.helpers.machine import Machine

IMAGES = {"hash": "*-root.verity.*", "root": "*-root.ext4.*", "boot": "*-boot.ext4.*"}


@contextmanager
def a_spoilt_mirror_first(machine: Machine, directory: Path, *, role: str) -> Iterator[Server]:
    """Let a machine ask first a copy of the repository in which the images of a role are wrong."""
    copy = directory / "copy"
    shutil.copytree(machine.repository, copy)
    spoilt = list((copy / "targets").glob(IMAGES[role]))
    assert spoilt
    for path in spoilt:
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
    with serving(copy) as mirror:
        machine.configure(
            f'targets_base_url = "{machine.server.url}/targets"',
            f'targets_base_url = ["{mirror.url}/targets", "{machine.server.url}/targets"]',
        )
        yield mirror


@pytest.mark.parametrize(
    ("command", "role"), [("update", "hash"), ("update", "root"), ("prepare", "boot")]
)
def test_a_mirror_with_a_wrong_image_does_not_stop_an_update(
    machine: Machine, tmp_path: Path, role: str, command: str
) -> None:
    with a_spoilt_mirror_first(machine, tmp_path, role=role) as mirror:
        run = machine.updog(command, "--now").succeeded()
    (warning,) = [line for line in run.stderr.splitlines() if line.startswith("Mirror ")]
    assert f" {mirror.url}/targets/" in warning
    assert warning.endswith("; trying the next mirror")
    if command == "update":
        machine.reboot()
        assert machine.status()["running"]["version"] == "1.1.0"


def test_version_and_seed_are_reported_if_that_is_wanted(machine: Machine) -> None:
    machine.updog("check-update").succeeded()
    assert not any("?" in request.target for request in machine.server.requests)
    machine.server.requests.clear()
    machine.config.write_text(
        machine.config.read_text() + "\n[network]\nreport_version_and_seed = true\n"
    )
    run = machine.updog("check-update", "--log-level", "debug").succeeded()
    assert {request.target.partition("?")[2] for request in machine.server.requests} == {
        "version=1.0.0&seed=1311"
    }
    assert "seed=" not in run.stderr


def test_a_proxy_of_the_environment_is_used_and_excepted(machine: Machine) -> None:
    machine.configure("http://127.0.0.1", "http://updates.invalid")
    machine.environment["http_proxy"] = "http://127.0.0.1:1"
    assert "through the proxy: Connection refused" in machine.updog("check-update").failed()
    machine.configure("http://updates.invalid", "http://127.0.0.1")
    machine.environment["NO_PROXY"] = "127.0.0.1"
    machine.updog("check-update").succeeded()


def test_an_unusable_proxy_of_the_environment_is_named(machine: Machine) -> None:
    machine.environment["HTTP_PROXY"] = "socks5://user:pa55@proxy:1080"
    run = machine.updog("check-update")
    assert "environment variable HTTP_PROXY: 'proxy:1080' is no proxy" in run.failed()
    assert "pa55" not in run.stderr
    assert machine.server.requests == []


def test_a_missing_ca_file_is_named_before_anything_is_asked(machine: Machine) -> None:
    machine.config.write_text(machine.config.read_text() + '\n[network]\nca_file = "none.pem"\n')
    path = machine.directory / "none.pem"
    assert machine.updog("check-update").failed() == (
        f"updog: cannot use network.ca_file {path}: No such file or directory; nothing was fetched"
    )
    assert machine.server.requests == []


def test_an_update_comes_over_tls_by_an_own_authority(machine: Machine, tmp_path: Path) -> None:
    authority = Authority(tmp_path / "ours")
    certificate, key = authority.issue("client")
    machine.config.write_text(
        f"{machine.config.read_text()}\n[network]\n"
        f'ca_file = "{authority.certificate}"\n'
        f'client_certificate = "{certificate}"\nclient_key = "{key}"\n'
    )
    context = authority.server_context(requires_client=True)
    with serving(machine.repository, tls=context) as server:
        machine.configure(machine.server.url, server.url)
        machine.updog("update", "--now", "--reboot").succeeded()
    assert machine.status()["running"]["version"] == "1.1.0"


def test_no_password_is_printed(machine: Machine) -> None:
    machine.configure("http://127.0.0.1", "http://user:pa55@127.0.0.1")
    machine.config.write_text(
        'https_proxy = "http://user:s3cret@proxy:1"\n' + machine.config.read_text()
    )
    for arguments in (["config"], ["config", "--json"], ["status"], ["status", "--json"]):
        run = machine.updog(*arguments).succeeded()
        assert "pa55" not in run.stdout + run.stderr
        assert "s3cret" not in run.stdout + run.stderr
    assert "http://user:***@proxy:1" in machine.updog("config").stdout


def test_the_printed_config_keeps_several_mirrors(machine: Machine, tmp_path: Path) -> None:
    with a_spoilt_mirror_first(machine, tmp_path, role="root"):
        text = machine.updog("config").succeeded().stdout
    machine.config.write_text(text)
    assert machine.updog("config").succeeded().stdout == text
    assert 'targets_base_url = ["' in text
    assert 'metadata_base_url = "' in text
