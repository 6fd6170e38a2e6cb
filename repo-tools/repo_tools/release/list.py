"""`repo-tools release list`: what is published, and what waits in the draft."""

from datetime import datetime
from pathlib import Path

import click

from repo_tools.catalogue import Catalogue
from repo_tools.changes import apply_changes
from repo_tools.draft import load_draft, read_catalogue
from repo_tools.errors import RepoToolsError
from repo_tools.jsonoutput import print_json, wants_json
from repo_tools.options import print_line, publisher_option
from repo_tools.policy import load_policy
from repo_tools.release.telling import state_of
from repo_tools.releases import families, is_offered, limit
from repo_tools.repository import PublishedRepository
from repo_tools.rescheduling import completes_at, reached
from repo_tools.workspace import now
from updog.manifest import Update, format_time


@click.command(
    "list",
    epilog="""\b
Examples:
  repo-tools release list
  repo-tools release list --publisher /srv/publisher --json""",
)
@publisher_option
def command(publisher: Path) -> None:
    """Show what is published, and what waits in the draft."""
    policy, moment = load_policy(publisher), now()
    published = PublishedRepository(policy.repository)
    catalogue, draft = read_catalogue(published), load_draft(policy.draft, published)
    obstacle = None
    try:
        apply_changes(catalogue, draft.changes, now=moment)
    except RepoToolsError as error:
        obstacle = str(error)
    changes = [str(change) for change in draft.changes]
    if wants_json():
        updates = [_document(catalogue, each, moment) for each in catalogue.manifest.updates]
        print_json({"published": updates, "draft": changes, "obstacle": obstacle})
        return
    _print_published(catalogue, moment)
    _print_draft(changes, obstacle)


def _print_published(catalogue: Catalogue, moment: datetime) -> None:
    if not catalogue.manifest.updates:
        print_line("Published", "no release yet")
    for family in families(catalogue.manifest):
        first = family[0]
        print_line("Published", f"{first.variant} {first.arch}, up to {limit(family)}")
        for update in family:
            click.echo(f"  {update.version!s:<16} {state_of(catalogue, update, moment)}")


def _print_draft(changes: list[str], obstacle: str | None) -> None:
    if not changes:
        print_line("Draft", "nothing waits")
        return
    print_line("Draft", "`repo-tools publish` makes it public")
    for number, change in enumerate(changes, start=1):
        click.echo(f"  {number:>2}. {change}")
    if obstacle:
        print_line("Obstacle", f"{obstacle}; `repo-tools release discard` drops the draft")


def _document(catalogue: Catalogue, update: Update, moment: datetime) -> dict[str, object]:
    end = completes_at(update.waves)
    return {
        "variant": update.variant,
        "arch": update.arch,
        "version": str(update.version),
        "max_version": str(update.max_version),
        "offered": is_offered(update),
        "withdrawn": catalogue.is_withdrawn(update),
        "paused": catalogue.pause_of(update) is not None,
        "reached_seeds": reached(update.waves, moment),
        "complete_at": format_time(end) if end else None,
    }
