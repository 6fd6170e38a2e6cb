from pathlib import Path

import pytest

from tests.helpers.updates import a_host
from updog.errors import ConfigError
from updog.host import read_host

OS_RELEASE = """\
# VARIANT_ID=what doesn't count
NAME="Sample OS"

VARIANT_ID=aws-k8s-1.30
VERSION_ID='1.0.0'
"""


def os_release(directory: Path, text: str = OS_RELEASE) -> Path:
    path = directory / "os-release"
    path.write_text(text)
    return path


def test_a_host_is_what_os_release_and_the_kernel_say(tmp_path: Path) -> None:
    assert read_host(os_release(tmp_path), arch="x86_64") == a_host()


@pytest.mark.parametrize(
    ("machine", "arch"),
    [("x86_64", "x86_64"), ("amd64", "x86_64"), ("aarch64", "aarch64"), ("arm64", "aarch64")],
)
def test_an_architecture_is_known_by_all_its_names(tmp_path: Path, machine: str, arch: str) -> None:
    assert read_host(os_release(tmp_path), arch=machine).arch == arch


def test_without_an_architecture_the_kernel_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("platform.machine", lambda: "arm64")
    assert read_host(os_release(tmp_path)).arch == "aarch64"


def test_an_unknown_architecture_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        read_host(os_release(tmp_path), arch="riscv64")
    assert str(caught.value) == (
        "unknown architecture 'riscv64': updates are made for x86_64 and aarch64"
    )


def test_a_missing_file_is_named_with_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "none"
    with pytest.raises(ConfigError) as caught:
        read_host(path, arch="x86_64")
    assert str(caught.value) == (
        f"cannot read what runs here from {path}: No such file or directory; set paths.os_release"
    )


@pytest.mark.parametrize("key", ["VARIANT_ID", "VERSION_ID"])
@pytest.mark.parametrize("value", [None, "", '""'])
def test_a_missing_or_empty_field_is_named(tmp_path: Path, key: str, value: str | None) -> None:
    lines = [line for line in OS_RELEASE.splitlines() if not line.startswith(key)]
    lines += [] if value is None else [f"{key}={value}"]
    path = os_release(tmp_path, "\n".join(lines))
    with pytest.raises(ConfigError) as caught:
        read_host(path, arch="x86_64")
    assert str(caught.value) == f"{path} holds no {key}: cannot tell which updates fit this machine"


def test_a_version_that_is_none_is_refused(tmp_path: Path) -> None:
    path = os_release(tmp_path, "VARIANT_ID=a\nVERSION_ID=12\n")
    with pytest.raises(ConfigError) as caught:
        read_host(path, arch="x86_64")
    assert str(caught.value) == (
        f"VERSION_ID in {path} is '12'; a version looks like 1.2.0 (semver.org)"
    )


def test_a_variant_with_a_terminal_escape_is_refused_and_not_repeated_raw(tmp_path: Path) -> None:
    path = os_release(tmp_path, "VARIANT_ID='\x1b[2J'\nVERSION_ID=1.0.0\n")
    with pytest.raises(ConfigError, match=r"VARIANT_ID in .* is '\\x1b\[2J'; a variant is made"):
        read_host(path, arch="x86_64")


@pytest.mark.parametrize("text", ["VARIANT_ID='open\n", "VARIANT_ID=\xff\n"])
def test_a_file_of_another_format_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "os-release"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(ConfigError, match=f"cannot read what runs here from {path}: "):
        read_host(path, arch="x86_64")
