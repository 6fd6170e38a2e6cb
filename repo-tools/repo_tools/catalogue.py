"""The manifest as its publisher keeps it: what `updog` reads, and the fields beside that.

Decides that nothing is lost when a manifest is changed: fields that this project does not know are
written back as they were read, for other tools that share the repository. This project's own added
fields are here too, each of them ignored by every client:

- `paused`, in an update whose rollout stands still: since when, and the waves it had until then.
  It is part of the signed manifest and not of a draft, so that whoever publishes next, from
  whichever machine, can resume.
- `withdrawn`, in an update that was taken back: since when. A limit that rises again does not let
  it out again.

Refuses what `updog` would refuse. Reads and writes no file.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Final, TypeAlias, cast

import msgspec
from semver import Version

from repo_tools.errors import RepoToolsError
from repo_tools.rescheduling import Pause
from updog.errors import ManifestError
from updog.manifest import (
    Manifest,
    Update,
    format_time,
    parse_manifest,
    parse_time,
    update_document,
)
from updog.manifest import serialise as serialise_manifest
from updog.waves import Wave

Identity: TypeAlias = tuple[str, str, Version]
"""Variant, architecture and version: what no two updates share."""

_PAUSED: Final = "paused"
_WITHDRAWN: Final = "withdrawn"
_UPDATE_FIELDS: Final = frozenset({"variant", "arch", "version", "max_version", "waves", "images"})
_MANIFEST_FIELDS: Final = frozenset({"updates", "migrations"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Catalogue:
    """A manifest and the fields beside it, by the update that they stand in."""

    manifest: Manifest = field(default_factory=lambda: Manifest(updates=(), migrations={}))
    beside: Mapping[Identity, Mapping[str, object]] = field(default_factory=dict)
    beside_all: Mapping[str, object] = field(default_factory=dict)

    def pause_of(self, update: Update) -> Pause | None:
        """Return since when, and out of which waves, a rollout is paused; None if it is not."""
        found = self._fields(update).get(_PAUSED)
        return None if found is None else _read_pause(update, found)

    def with_pause(self, update: Update, stopped: Pause | None) -> "Catalogue":
        """Return the catalogue with the note of a pause set or removed."""
        return self._with_field(update, _PAUSED, stopped and _pause_document(stopped))

    def is_withdrawn(self, update: Update) -> bool:
        """Tell whether an update was taken back on purpose."""
        return _WITHDRAWN in self._fields(update)

    def with_withdrawal(self, update: Update, at: datetime | None) -> "Catalogue":
        """Return the catalogue with the note of a withdrawal set or removed."""
        return self._with_field(update, _WITHDRAWN, at and format_time(at))

    def with_update(self, update: Update) -> "Catalogue":
        """Return the catalogue with the update of the same identity replaced."""
        updates = tuple(
            update if identity(each) == identity(update) else each for each in self.manifest.updates
        )
        return self.with_manifest(msgspec.structs.replace(self.manifest, updates=updates))

    def with_manifest(self, manifest: Manifest) -> "Catalogue":
        """Return the catalogue with what `updog` reads replaced."""
        return replace(self, manifest=manifest)

    def _fields(self, update: Update) -> Mapping[str, object]:
        return self.beside.get(identity(update), {})

    def _with_field(self, update: Update, name: str, value: object) -> "Catalogue":
        fields = {key: each for key, each in self._fields(update).items() if key != name}
        if value is not None:
            fields[name] = value
        return replace(self, beside={**self.beside, identity(update): fields})


def identity(update: Update) -> Identity:
    """Return what tells an update from all others."""
    return update.variant, update.arch, update.version


def parse_catalogue(data: bytes) -> Catalogue:
    """Read the bytes of a manifest.json.

    Raises:
        RepoToolsError: no client would read it either; the text says where and why.
    """
    manifest = _checked(data)
    document: dict[str, Any] = json.loads(data)
    return Catalogue(
        manifest=manifest,
        beside={
            identity(update): _without(raw, _UPDATE_FIELDS)
            for update, raw in zip(manifest.updates, document["updates"], strict=True)
        },
        beside_all=_without(document, _MANIFEST_FIELDS),
    )


def serialise_catalogue(catalogue: Catalogue) -> bytes:
    """Write a manifest.json.

    Raises:
        RepoToolsError: no client would read it.
    """
    document = json.loads(serialise_manifest(catalogue.manifest)) | catalogue.beside_all
    document["updates"] = [
        update_document(update) | dict(catalogue.beside.get(identity(update), {}))
        for update in catalogue.manifest.updates
    ]
    data = json.dumps(document, indent=2).encode() + b"\n"
    _checked(data)
    return data


def _checked(data: bytes) -> Manifest:
    try:
        return parse_manifest(data)
    except ManifestError as error:
        raise RepoToolsError(str(error)) from error


def _without(raw: Mapping[str, object], known: frozenset[str]) -> Mapping[str, object]:
    return {key: value for key, value in raw.items() if key not in known}


def _pause_document(stopped: Pause) -> dict[str, object]:
    waves = {str(wave.bound): format_time(wave.starts_at) for wave in stopped.waves}
    return {"at": format_time(stopped.at), "waves": waves}


def _read_pause(update: Update, found: object) -> Pause:
    try:
        document = cast("dict[str, Any]", found)
        waves = tuple(
            Wave(bound=int(bound), starts_at=parse_time(time))
            for bound, time in document["waves"].items()
        )
        return Pause(at=parse_time(document["at"]), waves=waves)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise RepoToolsError(
            f"the note of a pause in {update.version} of {update.variant} for {update.arch} is "
            "damaged: `waves set FILE --force` gives it new waves"
        ) from error
