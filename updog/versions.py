"""What a version is, and which versions a version lock admits.

Decides about version numbers alone; which update is taken is `updog.choice`'s business.
"""

import itertools
import re
from dataclasses import dataclass
from enum import StrEnum

from semver import Version

from updog.names import quoted

_LONGEST_VERSION = 100

# Semver demands three numbers; in a range people write `>=1.2`, and mean 1.2.0.
_SHORT_VERSION = re.compile(r"(0|[1-9][0-9]*)(\.(0|[1-9][0-9]*))?", re.ASCII)

_BOUND = re.compile(r"\s*(>=|<=|>|<)\s*(\S+)\s*")


class Operator(StrEnum):
    """How a bound of a range compares."""

    EQUAL = "=="
    AT_LEAST = ">="
    ABOVE = ">"
    AT_MOST = "<="
    BELOW = "<"


@dataclass(frozen=True, slots=True, kw_only=True)
class Bound:
    """One condition on a version."""

    operator: Operator
    version: Version

    def admits(self, version: Version) -> bool:
        """Tell whether `version` meets this condition."""
        match self.operator:
            case Operator.EQUAL:
                return names(self.version, version)
            case Operator.AT_LEAST:
                return version >= self.version
            case Operator.ABOVE:
                return version > self.version
            case Operator.AT_MOST:
                return version <= self.version
            case Operator.BELOW:
                return version < self.version and not _is_prerelease_of(version, self.version)


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionLock:
    """The versions that the operator lets this machine run: all of them when there is no bound."""

    text: str = "latest"
    bounds: tuple[Bound, ...] = ()

    def admits(self, version: Version) -> bool:
        """Tell whether `version` meets every bound."""
        return all(bound.admits(version) for bound in self.bounds)

    def __str__(self) -> str:
        return self.text


def names(wanted: Version, version: Version) -> bool:
    """Tell whether somebody who names `wanted` means `version`.

    Precedence ignores build metadata, but who writes `1.2.0+5` means that build and no other; who
    writes `1.2.0` takes whichever is listed.
    """
    return version == wanted and wanted.build in (None, version.build)


LATEST = VersionLock()
"""No lock: every version is admitted."""


def parse_version(text: str) -> Version:
    """Read a semantic version, which people may write with a `v` before it.

    Raises:
        ValueError: The text is none; the message says so and how to write one.
    """
    return parse_strict_version(text.removeprefix("v"))


def parse_strict_version(text: str) -> Version:
    """Read a semantic version (semver.org, 2.0.0) of at most 100 characters.

    Raises:
        ValueError: The text is none; the message says so and how to write one.
    """
    try:
        return Version.parse(text if len(text) <= _LONGEST_VERSION else "")
    except ValueError as err:
        # Not the library's text: it repeats what it was given, control characters and all.
        raise ValueError(f"{quoted(text)} is not a version; write it like 1.2.0") from err


def parse_version_lock(text: str) -> VersionLock:
    """Read `latest`, an exact version (`1.2.0`, `v1.2.0`) or a range (`>=1.2,<1.4`).

    Raises:
        ValueError: The text is none of these; the message says so and what to write.
    """
    if text == "latest":
        return LATEST
    if text.lstrip().startswith((">", "<")):
        bounds = tuple(_parse_bound(part) for part in text.split(","))
        _refuse_empty(text, bounds)
        return VersionLock(text=text, bounds=bounds)
    exact = Bound(operator=Operator.EQUAL, version=_parse_exact(text))
    return VersionLock(text=str(exact.version), bounds=(exact,))


def _refuse_empty(text: str, bounds: tuple[Bound, ...]) -> None:
    """Refuse a range that no version can be in: a machine would never move again."""
    lower = [each for each in bounds if each.operator in {Operator.AT_LEAST, Operator.ABOVE}]
    upper = [each for each in bounds if each.operator in {Operator.AT_MOST, Operator.BELOW}]
    for low, high in itertools.product(lower, upper):
        is_point = low.operator is Operator.AT_LEAST and high.operator is Operator.AT_MOST
        if low.version > high.version or (low.version == high.version and not is_point):
            raise ValueError(f"{quoted(text)} admits no version; write a range like >=1.2,<1.4")


def _parse_exact(text: str) -> Version:
    try:
        return parse_version(text)
    except ValueError as err:
        raise ValueError(
            f"{quoted(text)} locks no version; write latest, one version like 1.2.0, "
            "or a range like >=1.2,<1.4"
        ) from err


def _parse_bound(text: str) -> Bound:
    match = _BOUND.fullmatch(text)
    if match is None:
        raise ValueError(f"{quoted(text)} is no bound of a range; write a range like >=1.2,<1.4")
    operator = Operator(match[1])
    return Bound(operator=operator, version=_parse_bound_version(match[2], operator))


def _parse_bound_version(text: str, operator: Operator) -> Version:
    short = _SHORT_VERSION.fullmatch(text)
    if short is None:
        return parse_version(text)
    if operator in {Operator.ABOVE, Operator.AT_MOST}:
        # `<=1.4` may mean with or without 1.4.1: make the writer choose.
        full = text + ".0" * (2 - text.count("."))
        raise ValueError(f"{operator}{text} is ambiguous; write all three numbers, like {full}")
    return Version.parse(text, optional_minor_and_patch=True)


def _is_prerelease_of(version: Version, release: Version) -> bool:
    """Tell whether `version` leads up to `release`: 1.4.0-rc.1 is below it, not meant by <1.4."""
    return release.prerelease is None and version.finalize_version() == release.finalize_version()
