"""A publisher's standing decisions, from the file `publisher.toml` in its directory.

Decides where repository and draft lie, which signers speak for which role, how long each role's
metadata stays valid, and how much of that may run down before `repo-tools refresh` signs anew.
Refuses unknown settings, a draft that would be served along with the repository, and a refresh that
would have to sign at every run. Loads no key.
"""

import difflib
import os
import tomllib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Final

from repo_tools.durations import parse_duration
from repo_tools.errors import RepoToolsError
from updog.files import read_small_text
from updog.names import quoted

FILE_NAME: Final = "publisher.toml"
_MOST_BYTES: Final = 1 << 20

ROLES: Final = ("root", "targets", "snapshot", "timestamp")
ONLINE_ROLES: Final = ROLES[1:]
"""Signed by whoever publishes. Root is signed by people who come together for it."""

DEFAULT_LIFETIMES: Final[Mapping[str, timedelta]] = {
    "root": timedelta(days=365),
    "targets": timedelta(days=90),
    "snapshot": timedelta(days=30),
    "timestamp": timedelta(days=7),
}
DEFAULT_REFRESH: Final[Mapping[str, timedelta]] = {
    "targets": timedelta(days=30),
    "snapshot": timedelta(days=10),
    "timestamp": timedelta(days=3),
}

_FILE_SCHEME = "file:"
_SETTINGS = ("repository", "draft", "keys", "lifetimes", "refresh")


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """What a publisher.toml says. All paths in it are absolute."""

    path: Path
    """The file itself."""
    repository: Path
    """Holds `metadata/` and `targets/`, as clients are served."""
    draft: Path
    """What the next publish makes public."""
    keys: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Signer URIs of each role, those of files with absolute paths; a role may have none here."""
    lifetimes: Mapping[str, timedelta] = field(default_factory=lambda: DEFAULT_LIFETIMES)
    """From signing to expiry, in whole seconds, of each role."""
    refresh: Mapping[str, timedelta] = field(default_factory=lambda: DEFAULT_REFRESH)
    """An online role that has less than this left is signed anew."""

    @property
    def directory(self) -> Path:
        """The publisher's directory, which paths in the file are relative to."""
        return self.path.parent


def load_policy(directory: Path) -> Policy:
    """Read the publisher.toml of a publisher's directory.

    Raises:
        RepoToolsError: there is none, or it breaks a rule; the text says which.
    """
    path = _absolute(directory, FILE_NAME)
    try:
        return parse_policy(read_small_text(path, limit_bytes=_MOST_BYTES), path=path)
    except FileNotFoundError as error:
        raise RepoToolsError(
            f"no {FILE_NAME} in {directory}: name the publisher's directory by --publisher DIR, "
            f"or make one with `repo-tools root create`"
        ) from error
    except OSError as error:
        raise RepoToolsError(f"cannot read {path}: {error.strerror}") from error
    except ValueError as error:
        raise RepoToolsError(f"cannot read {path}: {error}") from error


def parse_policy(text: str, *, path: Path) -> Policy:
    """Turn the text of a publisher.toml, which lies at the absolute `path`, into a policy.

    Raises:
        RepoToolsError: it breaks a rule; the text says which.
    """
    try:
        document = _Table(tomllib.loads(text), known=_SETTINGS)
        policy = Policy(
            path=path,
            repository=_absolute(path.parent, document.text("repository", "repository")),
            draft=_absolute(path.parent, document.text("draft", "draft")),
            keys=_keys(document.table("keys", known=ROLES), path.parent),
            lifetimes=document.table("lifetimes", known=ROLES).durations(DEFAULT_LIFETIMES),
            refresh=document.table("refresh", known=ONLINE_ROLES).durations(DEFAULT_REFRESH),
        )
        _refuse_served_secrets(policy)
        _refuse_restless_refresh(policy)
    except ValueError as error:  # of which TOMLDecodeError is one
        raise RepoToolsError(f"{path}: {error}") from error
    return policy


class _Table:
    """One table of the file; every complaint names the setting in full."""

    def __init__(self, values: Mapping[str, object], *, known: Collection[str], name: str = ""):
        self._values = values
        self._prefix = f"{name}." if name else ""
        for key in values:
            if key not in known:
                raise ValueError(_unknown(key, known, self._prefix))

    def text(self, key: str, default: str) -> str:
        value = self._values.get(key, default)
        if not isinstance(value, str) or not value:
            raise ValueError(f"{self._prefix}{key} must be a path, not {value!r}")
        return value

    def table(self, key: str, *, known: Collection[str]) -> "_Table":
        value = self._values.get(key, {})
        if not isinstance(value, dict):
            raise ValueError(f"{key} must be a table: write [{key}]")  # noqa: TRY004 -- of the file
        return _Table(value, known=known, name=key)

    def texts(self, key: str) -> tuple[str, ...]:
        value = self._values.get(key, [])
        if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
            raise ValueError(f'{self._prefix}{key} must be a list like ["file:keys/{key}-1.pem"]')
        return tuple(value)

    def durations(self, defaults: Mapping[str, timedelta]) -> Mapping[str, timedelta]:
        return {role: self._duration(role, default) for role, default in defaults.items()}

    def _duration(self, key: str, default: timedelta) -> timedelta:
        if key not in self._values:
            return default
        value = self._values[key]
        span = parse_duration(value) if isinstance(value, str) else None
        if not span:
            raise ValueError(
                f'{self._prefix}{key} must be a time like "7 days" or "36 hours", not {value!r}'
            )
        return span


def _unknown(key: str, known: Collection[str], prefix: str) -> str:
    if prefix == "refresh." and key == "root":
        return "refresh.root cannot be set: root is not signed online, `repo-tools root` renews it"
    nearest = difflib.get_close_matches(key, known, n=1)
    hint = f"did you mean {prefix}{nearest[0]}?" if nearest else f"there are {', '.join(known)}"
    return f"unknown setting {quoted(prefix + key)}; {hint}"


def _keys(table: _Table, directory: Path) -> Mapping[str, tuple[str, ...]]:
    return {
        role: tuple(_absolute_uri(uri, directory) for uri in table.texts(role)) for role in ROLES
    }


def _absolute(directory: Path, name: str) -> Path:
    return Path(os.path.abspath(directory / name))  # noqa: PTH100 -- resolves `..`, and no links


def _absolute_uri(uri: str, directory: Path) -> str:
    """Return a signer URI that means the same from everywhere."""
    if ":" not in uri:
        raise ValueError(f'keys: {quoted(uri)} is no signer URI; a file is "file:{uri}"')
    if not uri.startswith(_FILE_SCHEME):
        return uri
    return f"{_FILE_SCHEME}{_absolute(directory, uri.removeprefix(_FILE_SCHEME))}"


def _refuse_served_secrets(policy: Policy) -> None:
    """Everything below the repository is there for all the world to read."""
    if policy.draft.is_relative_to(policy.repository):
        raise ValueError(f"draft {policy.draft} lies in what is served: put it elsewhere")
    for uri in (uri for uris in policy.keys.values() for uri in uris):
        path = Path(uri.removeprefix(_FILE_SCHEME))
        if uri.startswith(_FILE_SCHEME) and path.is_relative_to(policy.repository):
            raise ValueError(f"key {path} lies in what is served: move it, and replace it")


def _refuse_restless_refresh(policy: Policy) -> None:
    for role, least in policy.refresh.items():
        if least >= policy.lifetimes[role]:
            raise ValueError(
                f"refresh.{role} must be less than lifetimes.{role}: "
                "what was just signed would need to be signed again"
            )
