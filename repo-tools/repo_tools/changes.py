"""What a publisher decides, one change at a time, as it is kept in a draft and then made public.

Decides that a change is an intention and not its outcome: it is applied to what is published at the
moment of publishing. So "4 hours" counts from the publish, a pause stops a rollout where it is
then, and a draft still fits after somebody else has published. Each refuses what no longer makes
sense. Pure: files are only named here.
"""

from collections.abc import Collection, Iterable, Iterator
from datetime import datetime, timedelta
from typing import TypeAlias

import msgspec
from msgspec.structs import replace
from semver import Version

from repo_tools.catalogue import Catalogue, Identity, identity
from repo_tools.durations import parse_duration
from repo_tools.errors import RepoToolsError
from repo_tools.images import Codec
from repo_tools.releases import (
    Selection,
    select,
    with_max_version,
    with_migrations,
    with_release,
    with_withdrawal,
    without_withdrawal,
)
from repo_tools.rescheduling import (
    hurried_waves,
    overtaking_waves,
    pause,
    paused_waves,
    resumed_waves,
    takes_back,
)
from repo_tools.wavefile import WaveFile, refuse_past
from updog.manifest import Images, Manifest, Update
from updog.units import duration
from updog.waves import SEEDS, Wave


class SourceFile(msgspec.Struct, frozen=True, kw_only=True):
    """A file that becomes a target; its bytes are those of the digest, or it is refused."""

    name: str
    """Of the target."""
    path: str
    length: int
    sha256: str
    codec: Codec | None
    """None: it is published as it is."""


class ReleaseFiles(msgspec.Struct, frozen=True, kw_only=True):
    """The three images of a release."""

    boot: SourceFile
    root: SourceFile
    hash: SourceFile


class Schedule(msgspec.Struct, frozen=True, kw_only=True):
    """A wave file, and the moment that its times count from: the publish, if none is given."""

    name: str
    text: str
    start: datetime | None = None
    may_be_past: bool = False
    """For trials, which cannot wait for days."""

    def waves(self, now: datetime) -> tuple[Wave, ...]:
        """Return the waves of a publish at this moment."""
        waves = WaveFile(name=self.name, text=self.text).waves(start=self.start or now)
        if not self.may_be_past:
            refuse_past(waves, now=now)
        return waves


class _Change(msgspec.Struct, frozen=True, kw_only=True, tag_field="change"):
    """What all changes have in common."""

    @property
    def files(self) -> tuple[SourceFile, ...]:
        """The files that are published with it."""
        return ()

    @property
    def migrations(self) -> tuple[str, ...]:
        """The targets that must be published, now or before, for it to make sense."""
        return ()


class SelectingChange(_Change, frozen=True, kw_only=True):
    """A change of the updates of one version; of the newest that is offered if none is given."""

    version: Version | None = None
    variant: str | None = None
    arch: str | None = None

    @property
    def selection(self) -> Selection:
        """The updates that it changes."""
        return Selection(version=self.version, variant=self.variant, arch=self.arch)

    def apply(self, catalogue: Catalogue, *, now: datetime) -> Catalogue:
        """Return the catalogue with this change, made at `now`."""
        for update in select(catalogue.manifest, self.selection):
            catalogue = self._apply_to(catalogue, update, now)
        return catalogue

    def _apply_to(self, catalogue: Catalogue, update: Update, now: datetime) -> Catalogue:
        """Return the catalogue with one update changed: each kind of change says how."""
        raise NotImplementedError(f"{type(self).__name__} does not say how it is applied")


class AddRelease(_Change, frozen=True, kw_only=True, tag="add release"):
    """A new version."""

    variant: str
    arch: str
    version: Version
    images: ReleaseFiles
    schedule: Schedule | None = None
    follows: Version | None = None
    migration_files: tuple[SourceFile, ...] = ()
    migration_names: tuple[str, ...] = ()
    hold_back: bool = False

    @property
    def files(self) -> tuple[SourceFile, ...]:
        """Its images and new migrations."""
        return self.images.boot, self.images.root, self.images.hash, *self.migration_files

    @property
    def migrations(self) -> tuple[str, ...]:
        """Those that lead to it."""
        return self.migration_names

    @property
    def identity(self) -> Identity:
        """What tells it from all other updates."""
        return self.variant, self.arch, self.version

    def update(self, now: datetime) -> Update:
        """Return its entry in the manifest; the limit is not known here."""
        return Update(
            variant=self.variant,
            arch=self.arch,
            version=self.version,
            max_version=self.version,
            waves=self.schedule.waves(now) if self.schedule else (),
            images=Images(
                boot=self.images.boot.name,
                root=self.images.root.name,
                hash=self.images.hash.name,
            ),
        )

    def apply(self, catalogue: Catalogue, *, now: datetime) -> Catalogue:
        """Return the catalogue with this release, published at `now`."""
        return with_release(
            catalogue,
            self.update(now),
            follows=self.follows,
            migrations=self.migration_names,
            hold_back=self.hold_back,
        )

    def __str__(self) -> str:
        rollout = f"by {self.schedule.name}" if self.schedule else "for all at once"
        held = ", held back" if self.hold_back else ""
        return f"add {self.version} ({self.variant}, {self.arch}) {rollout}{held}"


class WithdrawRelease(SelectingChange, frozen=True, kw_only=True, tag="withdraw release"):
    """Take a version back, or with `undo` offer it again."""

    undo: bool = False

    def _apply_to(self, catalogue: Catalogue, update: Update, now: datetime) -> Catalogue:
        is_withdrawn = catalogue.is_withdrawn(update)
        if is_withdrawn is not self.undo:
            state = "is withdrawn already" if is_withdrawn else "is not withdrawn"
            raise RepoToolsError(
                f"{update.version} of {update.variant} for {update.arch} {state}: nothing to do"
            )
        if self.undo:
            return without_withdrawal(catalogue, update)
        return with_withdrawal(catalogue, update, now)

    def __str__(self) -> str:
        return f"{'offer' if self.undo else 'withdraw'} {self.selection}{' again' * self.undo}"


class SetMaxVersion(_Change, frozen=True, kw_only=True, tag="set max version"):
    """Let machines go up to a version and no further."""

    max_version: Version
    variant: str | None = None
    arch: str | None = None

    def apply(self, catalogue: Catalogue, *, now: datetime) -> Catalogue:  # noqa: ARG002
        """Return the catalogue with this limit."""
        where = Selection(variant=self.variant, arch=self.arch)
        return with_max_version(catalogue, self.max_version, where)

    def __str__(self) -> str:
        where = " ".join(filter(None, (self.variant, self.arch)))
        return f"let machines go up to {self.max_version}{where and f' ({where})'}"


class SetMigrations(_Change, frozen=True, kw_only=True, tag="set migrations"):
    """Say which migrations lead from one version to another."""

    start: Version
    end: Version
    migration_files: tuple[SourceFile, ...] = ()
    migration_names: tuple[str, ...] = ()

    @property
    def files(self) -> tuple[SourceFile, ...]:
        """The new ones among them."""
        return self.migration_files

    @property
    def migrations(self) -> tuple[str, ...]:
        """All of them, in the order of running upwards."""
        return self.migration_names

    def apply(self, catalogue: Catalogue, *, now: datetime) -> Catalogue:  # noqa: ARG002
        """Return the catalogue with this step."""
        return catalogue.with_manifest(
            with_migrations(catalogue.manifest, self.start, self.end, names=self.migration_names)
        )

    def __str__(self) -> str:
        names = ", ".join(self.migration_names) or "none"
        return f"migrate from {self.start} to {self.end} by {names}"


class SetWaves(SelectingChange, frozen=True, kw_only=True, tag="set waves"):
    """Give a rollout another schedule."""

    schedule: Schedule
    force: bool = False
    """Also where hosts lose what they were granted."""

    def _apply_to(self, catalogue: Catalogue, update: Update, now: datetime) -> Catalogue:
        waves = self.schedule.waves(now)
        if not self.force:
            _refuse_paused(catalogue, update)
        changed = catalogue.with_pause(update, None)
        return changed.with_update(replace(update, waves=waves))

    def __str__(self) -> str:
        return f"roll {self.selection} out by {self.schedule.name}"


class PauseWaves(SelectingChange, frozen=True, kw_only=True, tag="pause waves"):
    """Stop a rollout where it is."""

    def _apply_to(self, catalogue: Catalogue, update: Update, now: datetime) -> Catalogue:
        if found := catalogue.pause_of(update):
            raise RepoToolsError(
                f"{update.version} of {update.variant} for {update.arch} is paused already, "
                f"for {duration(now - found.at)}; `waves resume` lets it go on"
            )
        stopped = pause(update.waves, now)
        changed = catalogue.with_pause(update, stopped)
        return changed.with_update(replace(update, waves=paused_waves(stopped)))

    def __str__(self) -> str:
        return f"pause the rollout of {self.selection}"


class ResumeWaves(SelectingChange, frozen=True, kw_only=True, tag="resume waves"):
    """Let a paused rollout go on."""

    def _apply_to(self, catalogue: Catalogue, update: Update, now: datetime) -> Catalogue:
        stopped = catalogue.pause_of(update)
        if stopped is None:
            raise RepoToolsError(
                f"{update.version} of {update.variant} for {update.arch} is not paused: "
                "nothing to resume"
            )
        changed = catalogue.with_pause(update, None)
        return changed.with_update(replace(update, waves=resumed_waves(stopped, now)))

    def __str__(self) -> str:
        return f"resume the rollout of {self.selection}"


class AccelerateWaves(SelectingChange, frozen=True, kw_only=True, tag="accelerate waves"):
    """Let the rest of a rollout come earlier: by a time, or as another schedule has it."""

    by: str | None = None
    to: Schedule | None = None

    def _apply_to(self, catalogue: Catalogue, update: Update, now: datetime) -> Catalogue:
        _refuse_paused(catalogue, update)
        if self.to is not None:
            faster = WaveFile(name=self.to.name, text=self.to.text).waves(start=now)
            waves = overtaking_waves(update.waves, faster, now)
        else:
            span = (parse_duration(self.by) if self.by else None) or timedelta()
            waves = hurried_waves(update.waves, now, span)
        return catalogue.with_update(replace(update, waves=waves))

    def __str__(self) -> str:
        how = f"to {self.to.name}" if self.to else f"by {self.by}"
        return f"accelerate the rollout of {self.selection} {how}"


Change: TypeAlias = (
    AddRelease
    | WithdrawRelease
    | SetMaxVersion
    | SetMigrations
    | SetWaves
    | PauseWaves
    | ResumeWaves
    | AccelerateWaves
)


def apply_changes(catalogue: Catalogue, changes: Iterable[Change], *, now: datetime) -> Catalogue:
    """Return the catalogue with all changes made in their order.

    Raises:
        RepoToolsError: one of them makes no sense there; the text says which.
    """
    published = {identity(update) for update in catalogue.manifest.updates}
    for change in changes:
        try:
            changed = change.apply(catalogue, now=now)
            if not isinstance(change, SetWaves) or not change.force:
                _refuse_taking_back(catalogue, changed, published, now)
        except RepoToolsError as error:
            raise RepoToolsError(f"cannot {change}: {error}") from error
        catalogue = changed
    return catalogue


def naming_version(change: Change, manifest: Manifest) -> Change:
    """Return a change that names its version, so that it means the same when it is published."""
    if not isinstance(change, SelectingChange) or change.version is not None:
        return change
    version = select(manifest, change.selection)[0].version
    return replace(change, version=version)


def files_of(changes: Iterable[Change]) -> Iterator[SourceFile]:
    """Yield each file that the changes publish, once by the target's name."""
    yield from {file.name: file for change in changes for file in change.files}.values()


def _refuse_paused(catalogue: Catalogue, update: Update) -> None:
    if catalogue.pause_of(update):
        raise RepoToolsError(
            f"{update.version} of {update.variant} for {update.arch} is paused: "
            "`waves resume` it first"
        )


def _refuse_taking_back(
    before: Catalogue, after: Catalogue, published: Collection[Identity], now: datetime
) -> None:
    """Refuse waves that shut out hosts that may update now: some have, some have not yet."""
    old = {identity(update): update.waves for update in before.manifest.updates}
    for update in after.manifest.updates:
        was = old.get(identity(update))
        if identity(update) not in published or was is None or was == update.waves:
            continue
        count = takes_back(was, update.waves, now)
        if count:
            raise RepoToolsError(
                f"{count / SEEDS:.1%} of the fleet may take {update.version} now and could not any "
                "more; `waves pause` stops it where it is, --force takes it back all the same"
            )
