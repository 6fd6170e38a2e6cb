"""A publisher at work: its policy, its signers, and the one way in which a change is made.

Decides where a change goes: into the draft, or with `--publish` straight to clients, the rest of
the draft staying what it is; with `--dry-run` nowhere. Every one of them is tried on what is
published first. Refuses what the draft would make impossible.
"""

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any, TypeVar, cast

import click

from repo_tools.catalogue import Catalogue
from repo_tools.changes import Change, SelectingChange, apply_changes, naming_version
from repo_tools.draft import Draft, editing, load_draft, make_changes, read_catalogue, save_draft
from repo_tools.options import publisher_option
from repo_tools.passphrases import Passphrases
from repo_tools.policy import Policy, load_policy
from repo_tools.releases import select
from repo_tools.repository import PublishedRepository, Signers, publishing
from repo_tools.root.options import passphrase_option
from repo_tools.signers import RoleSigners
from repo_tools.telling import telling
from updog.manifest import Update

Command = TypeVar("Command", bound=Callable[..., Any])

_LEFT = "the repository is as it was; run it again"


class Place(StrEnum):
    """Where a change went."""

    DRAFT = "draft"
    PUBLISHED = "published"
    NOWHERE = "dry run"


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Where a change is to go."""

    publisher: Path
    publish: bool
    dry_run: bool
    passphrase_file: Path | None

    @property
    def place(self) -> Place:
        """What that is called."""
        if self.dry_run:
            return Place.NOWHERE
        return Place.PUBLISHED if self.publish else Place.DRAFT


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a change did: what is, or would be, offered before and after it."""

    place: Place
    before: Catalogue
    after: Catalogue
    changes: tuple[Change, ...]
    now: datetime

    @property
    def selected(self) -> tuple[Update, ...]:
        """The updates that were changed, as they are or would be."""
        found = (
            update
            for change in self.changes
            if isinstance(change, SelectingChange)
            for update in select(self.after.manifest, change.selection)
        )
        return tuple(found)

    def document(self) -> dict[str, object]:
        """Return what all changes tell in JSON."""
        return {"place": str(self.place), "changes": [str(change) for change in self.changes]}

    @property
    def words(self) -> str:
        """Where it went, for people."""
        match self.place:
            case Place.DRAFT:
                return "in the draft; `repo-tools publish` makes it public"
            case Place.PUBLISHED:
                return "published"
            case Place.NOWHERE:
                return "nothing was changed (--dry-run)"


def change_options(command: Command) -> Command:
    """Give a command the options of everything that changes what is offered, as its `target`."""

    @functools.wraps(command)
    def with_target(
        *args: Any,
        publisher: Path,
        publish: bool,
        dry_run: bool,
        passphrase_file: Path | None,
        **others: Any,
    ) -> Any:
        target = Target(
            publisher=publisher,
            publish=publish,
            dry_run=dry_run,
            passphrase_file=passphrase_file,
        )
        return command(*args, target=target, **others)

    wrapped = cast("Command", with_target)
    for option in (
        click.option("--dry-run", is_flag=True, help="Say what would be done, and do nothing."),
        click.option("--publish", is_flag=True, help="Make it public at once, and nothing else."),
        passphrase_option,
        publisher_option,
    ):
        wrapped = option(wrapped)
    return wrapped


def now() -> datetime:
    """Return the time."""
    return datetime.now(UTC)


def open_signers(policy: Policy, passphrase_file: Path | None) -> Signers:
    """Return the signers that a policy names; keys are loaded when they sign."""
    return RoleSigners(keys=policy.keys, passphrases=Passphrases(passphrase_file))


def make(
    target: Target, *changes: Change, replaces: Callable[[Change], bool] = lambda _: False
) -> Outcome:
    """Make changes, where the command line wants them.

    Args:
        target: where that is.
        changes: in their order.
        replaces: which changes in the draft they take the place of.

    Raises:
        RepoToolsError: they make no sense, or the repository cannot be written; it is as it was.
    """
    policy = load_policy(target.publisher)
    published = PublishedRepository(policy.repository)
    with editing(policy.draft):
        waiting = load_draft(policy.draft, published).changes
        kept = tuple(change for change in waiting if not replaces(change))
        before = read_catalogue(published)
        if not target.publish:
            before = apply_changes(before, kept, now=now())
        changes = tuple(naming_version(change, before.manifest) for change in changes)
        after = apply_changes(before, changes, now=now())
        if target.publish and not target.dry_run:
            after = publish_changes(policy, changes, target.passphrase_file)
        if not target.dry_run:
            left = kept if target.publish else (*kept, *changes)
            save_draft(policy.draft, Draft(changes=left))
    return Outcome(place=target.place, before=before, after=after, changes=changes, now=now())


def publish_changes(
    policy: Policy, changes: Sequence[Change], passphrase_file: Path | None
) -> Catalogue:
    """Make changes public, all at once.

    Raises:
        RepoToolsError: what clients see is as it was.
    """
    signers = open_signers(policy, passphrase_file)
    with (
        telling("publish in", policy.repository, left=_LEFT),
        publishing(
            policy.repository, signers, now=now(), lifetimes=policy.lifetimes
        ) as publication,
    ):
        return make_changes(publication, changes, clock=now)
