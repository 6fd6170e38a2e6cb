"""The manifest: the updates that a repository offers, and the migrations between them.

Decides whether `manifest.json` keeps the format's rules and turns it into facts that need no
further checking. Refuses what two readers could read differently: duplicate keys, a version that
is listed twice, waves out of order, names that are more than flat file names. Ignores fields that
it does not know.
"""

import json
import re
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Mapping
from datetime import UTC, datetime
from itertools import pairwise
from types import MappingProxyType
from typing import Any, TypeVar

import msgspec
from semver import Version

from updog.errors import ManifestError
from updog.names import is_identifier, is_target_name, quoted
from updog.versions import parse_strict_version
from updog.waves import SEEDS, Wave

_Raw = TypeVar("_Raw")
_Fact = TypeVar("_Fact")
_Key = TypeVar("_Key", bound=Hashable)

MANIFEST = "manifest.json"
"""The target that holds it."""

MAX_MANIFEST_BYTES = 4 << 20
"""No manifest is larger: reading one must not take a small machine's memory."""

_MAX_OBJECTS = 200_000
_MAX_DEPTH = 32
_MAX_UPDATES = 20_000
_MAX_STEPS = 20_000
_MAX_MIGRATIONS_PER_STEP = 1_000

_BOUND = re.compile(r"0|[1-9][0-9]{0,3}")
_STEP = re.compile(r"\( ?([^ ,()]+) ?, ?([^ ,()]+) ?\)")

# RFC 3339 section 5.6, date-time.
_TIME = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt][0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,9})?"
    r"([Zz]|[+-][0-9]{2}:[0-9]{2})"
)


class Images(msgspec.Struct, frozen=True, kw_only=True):
    """The targets that hold one system's boot, root and hash images."""

    boot: str
    root: str
    hash: str


class Update(msgspec.Struct, frozen=True, kw_only=True):
    """One release for one variant and architecture.

    A `max_version` below a machine's version means that what it runs was withdrawn. Waves are
    sorted by bound, and their times do not decrease.
    """

    variant: str
    arch: str
    version: Version
    max_version: Version
    waves: tuple[Wave, ...]
    images: Images


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """All updates, in the publisher's order, and the migrations of each step between two versions.

    A step is (from, to) with from below to; a downgrade walks steps backwards. A migration is the
    name of a target.
    """

    updates: tuple[Update, ...]
    migrations: Mapping[tuple[Version, Version], tuple[str, ...]]


class _RawImages(msgspec.Struct):
    boot: str
    root: str
    hash: str


class _RawUpdate(msgspec.Struct):
    variant: str
    arch: str
    version: str
    max_version: str
    images: _RawImages
    waves: dict[str, str] = {}


class _RawManifest(msgspec.Struct):
    updates: list[_RawUpdate]
    migrations: dict[str, list[str]] = {}


def parse_manifest(data: bytes) -> Manifest:
    """Read the bytes of a manifest.json.

    Raises:
        ManifestError: It breaks a rule of the format; the text says where and which.
    """
    try:
        raw = _shape(_decode(data))
        return Manifest(updates=_updates(raw.updates), migrations=_migrations(raw.migrations))
    except ValueError as err:
        raise ManifestError(
            f"manifest.json: {err}; nothing was chosen from it, the publisher must correct it"
        ) from err


def serialise(manifest: Manifest) -> bytes:
    """Write a manifest as JSON that `parse_manifest` reads back to an equal one."""
    document = {
        "updates": [update_document(update) for update in manifest.updates],
        "migrations": {
            f"({start}, {end})": list(names) for (start, end), names in manifest.migrations.items()
        },
    }
    return json.dumps(document, indent=2).encode() + b"\n"


def update_document(update: Update) -> dict[str, Any]:
    """Return an update as the JSON object that stands for it in a manifest."""
    return {
        "variant": update.variant,
        "arch": update.arch,
        "version": str(update.version),
        "max_version": str(update.max_version),
        "waves": {str(wave.bound): format_time(wave.starts_at) for wave in update.waves},
        "images": {
            "boot": update.images.boot,
            "root": update.images.root,
            "hash": update.images.hash,
        },
    }


def parse_time(text: str) -> datetime:
    """Read an RFC 3339 date and time as an aware datetime in UTC, cut to microseconds.

    Raises:
        ValueError: It is none, or lies outside the years 1 to 9999.
    """
    if not _TIME.fullmatch(text):
        raise ValueError(f"{quoted(text)} is no time; write it like 2030-01-31T19:00:00Z")
    try:
        return datetime.fromisoformat(text.upper()).astimezone(UTC)
    except (ValueError, OverflowError) as err:
        raise ValueError(f"{quoted(text)} is a time that no calendar holds") from err


def format_time(time: datetime) -> str:
    """Write an aware datetime in RFC 3339, in UTC."""
    return time.astimezone(UTC).isoformat().replace("+00:00", "Z")


def _decode(data: bytes) -> object:
    """Decode JSON, refusing what decoders silently resolve each in its own way."""
    if len(data) > MAX_MANIFEST_BYTES:
        raise ValueError(f"holds {len(data)} bytes, at most {MAX_MANIFEST_BYTES} are accepted")
    # Two bytes, `[]`, become some fifty in memory: count before anything is built of them.
    if data.count(b"[") + data.count(b"{") > _MAX_OBJECTS:
        raise ValueError(f"holds more than {_MAX_OBJECTS} opening brackets and braces")
    try:
        value: object = json.loads(
            data.decode("utf-8"),
            object_pairs_hook=_object_without_duplicates,
            parse_constant=_refuse_constant,
        )
    except json.JSONDecodeError as err:
        raise ValueError(f"is not JSON: {err}") from err
    except RecursionError as err:
        raise ValueError(f"is nested more than {_MAX_DEPTH} levels deep") from err
    _refuse_depth(value)
    return value


def _object_without_duplicates(pairs: list[tuple[str, object]]) -> dict[str, object]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError(f"key {quoted(_first_duplicate(key for key, _ in pairs))} occurs twice")
    return members


def _first_duplicate(keys: Iterable[_Key]) -> _Key:
    return next(key for key, count in Counter(keys).items() if count > 1)


def _refuse_constant(text: str) -> None:
    raise ValueError(f"{text} is not JSON")


def _refuse_depth(value: object) -> None:
    """Walk with a list of its own: recursion would meet the limit that it is to keep away from."""
    waiting = [(value, 1)]
    while waiting:
        each, depth = waiting.pop()
        if depth > _MAX_DEPTH:
            raise ValueError(f"is nested more than {_MAX_DEPTH} levels deep")
        inner = each.values() if isinstance(each, dict) else each if isinstance(each, list) else ()
        waiting.extend((one, depth + 1) for one in inner if isinstance(one, dict | list))


def _shape(value: object) -> _RawManifest:
    try:
        raw = msgspec.convert(value, _RawManifest)
    except msgspec.ValidationError as err:
        raise ValueError(str(err).replace("`", "")) from err
    _refuse_more(len(raw.updates), _MAX_UPDATES, "updates")
    _refuse_more(len(raw.migrations), _MAX_STEPS, "steps in migrations")
    return raw


def _refuse_more(count: int, most: int, what: str) -> None:
    if count > most:
        raise ValueError(f"lists {count} {what}, at most {most} are accepted")


def _updates(raw: list[_RawUpdate]) -> tuple[Update, ...]:
    updates = tuple(_within(f"updates[{number}]", _update, each) for number, each in enumerate(raw))
    identities = [(each.variant, each.arch, each.version) for each in updates]
    if len(set(identities)) != len(identities):
        variant, arch, version = _first_duplicate(identities)
        raise ValueError(f"version {version} of {variant} for {arch} is listed twice")
    return updates


def _within(where: str, read: Callable[[_Raw], _Fact], raw: _Raw) -> _Fact:
    """Apply `read`, naming the place in its error."""
    try:
        return read(raw)
    except ValueError as err:
        raise ValueError(f"{where}: {err}") from err


def _update(raw: _RawUpdate) -> Update:
    return Update(
        variant=_within("variant", _identifier, raw.variant),
        arch=_within("arch", _identifier, raw.arch),
        version=_within("version", parse_strict_version, raw.version),
        max_version=_within("max_version", parse_strict_version, raw.max_version),
        waves=_within("waves", _waves, raw.waves),
        images=_within("images", _images, raw.images),
    )


def _identifier(text: str) -> str:
    if not is_identifier(text):
        raise ValueError(f"{quoted(text)} is not made of letters, digits, dots and dashes")
    return text


def _target_name(text: str) -> str:
    if not is_target_name(text):
        raise ValueError(f"{quoted(text)} is no flat file name of letters, digits and . _ + -")
    return text


def _images(raw: _RawImages) -> Images:
    images = Images(
        boot=_within("boot", _target_name, raw.boot),
        root=_within("root", _target_name, raw.root),
        hash=_within("hash", _target_name, raw.hash),
    )
    if len({images.boot, images.root, images.hash}) != 3:
        raise ValueError("boot, root and hash must be three different targets")
    return images


def _waves(raw: dict[str, str]) -> tuple[Wave, ...]:
    unsorted = [Wave(bound=_bound(key), starts_at=parse_time(time)) for key, time in raw.items()]
    waves = tuple(sorted(unsorted, key=lambda wave: wave.bound))
    for earlier, later in pairwise(waves):
        if later.starts_at < earlier.starts_at:
            raise ValueError(f"bound {later.bound} starts before bound {earlier.bound}")
    return waves


def _bound(text: str) -> int:
    """Read a seed bound; only the canonical decimal form, so that no two keys mean the same one."""
    if not _BOUND.fullmatch(text) or int(text) > SEEDS:
        raise ValueError(f"bound {quoted(text)} is no number from 0 to {SEEDS}")
    return int(text)


def _migrations(raw: dict[str, list[str]]) -> Mapping[tuple[Version, Version], tuple[str, ...]]:
    steps = [
        (_within("migrations", _step, key), _within(f"migrations {quoted(key)}", _names, names))
        for key, names in raw.items()
    ]
    migrations = dict(steps)
    if len(migrations) != len(steps):
        start, end = _first_duplicate(step for step, _ in steps)
        raise ValueError(f"migrations: the step from {start} to {end} is listed twice")
    return MappingProxyType(migrations)


def _step(key: str) -> tuple[Version, Version]:
    match = _STEP.fullmatch(key)
    if match is None:
        raise ValueError(f"{quoted(key)} is no step; it must look like (1.0.0, 1.1.0)")
    start, end = parse_strict_version(match[1]), parse_strict_version(match[2])
    if start >= end:
        raise ValueError(f"{quoted(key)} does not lead upwards; downgrades walk steps backwards")
    return start, end


def _names(raw: list[str]) -> tuple[str, ...]:
    _refuse_more(len(raw), _MAX_MIGRATIONS_PER_STEP, "migrations")
    return tuple(_target_name(name) for name in raw)
