"""This machine as updates see it: variant, version and architecture.

Decides by os-release(5) and the kernel's word for the architecture; refuses a machine that it
cannot name rather than guess.
"""

import platform
import shlex
from pathlib import Path

import msgspec
from semver import Version

from updog.errors import ConfigError
from updog.files import read_small_text
from updog.names import is_identifier, quoted
from updog.versions import parse_strict_version

_ARCHES = {"x86_64": "x86_64", "amd64": "x86_64", "aarch64": "aarch64", "arm64": "aarch64"}
"""The architectures that updates are made for, by every name that systems call them."""

_MOST_BYTES = 1 << 20


class Host(msgspec.Struct, frozen=True, kw_only=True):
    """What runs here."""

    variant: str
    version: Version
    arch: str


def read_host(os_release: Path, *, arch: str | None = None) -> Host:
    """Read variant and version of the running system.

    Args:
        os_release: A file in the format of os-release(5) with VARIANT_ID and VERSION_ID.
        arch: The machine's architecture; None asks the kernel.

    Raises:
        ConfigError: The file cannot be read or lacks a field, or the architecture is unknown.
    """
    fields = _read_fields(os_release)
    return Host(
        variant=_variant(_field(fields, "VARIANT_ID", os_release), os_release),
        version=_version(_field(fields, "VERSION_ID", os_release), os_release),
        arch=_arch(arch or platform.machine()),
    )


def _read_fields(os_release: Path) -> dict[str, str]:
    try:
        text = read_small_text(os_release, limit_bytes=_MOST_BYTES)
        return dict(_parse_line(line) for line in text.splitlines() if _is_assignment(line))
    except OSError as err:
        raise ConfigError(
            f"cannot read what runs here from {os_release}: {err.strerror}; set paths.os_release"
        ) from err
    except ValueError as err:
        raise ConfigError(f"cannot read what runs here from {os_release}: {err}") from err


def _is_assignment(line: str) -> bool:
    return "=" in line and not line.lstrip().startswith("#")


def _parse_line(line: str) -> tuple[str, str]:
    """Split `KEY="value"`, quoted as in a shell."""
    key, _, value = line.strip().partition("=")
    return key, "".join(shlex.split(value))


def _field(fields: dict[str, str], key: str, os_release: Path) -> str:
    if not fields.get(key):
        raise ConfigError(
            f"{os_release} holds no {key}: cannot tell which updates fit this machine"
        )
    return fields[key]


def _variant(text: str, os_release: Path) -> str:
    if not is_identifier(text):
        raise ConfigError(
            f"VARIANT_ID in {os_release} is {quoted(text)}; "
            "a variant is made of letters, digits, dots, underscores and dashes"
        )
    return text


def _version(text: str, os_release: Path) -> Version:
    try:
        return parse_strict_version(text)
    except ValueError as err:
        raise ConfigError(
            f"VERSION_ID in {os_release} is {quoted(text)}; a version looks like 1.2.0 (semver.org)"
        ) from err


def _arch(machine: str) -> str:
    if machine not in _ARCHES:
        raise ConfigError(
            f"unknown architecture {quoted(machine)}: updates are made for x86_64 and aarch64"
        )
    return _ARCHES[machine]
