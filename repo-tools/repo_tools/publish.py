"""`repo-tools publish`: the draft becomes public."""

from pathlib import Path

import click

from repo_tools.changes import apply_changes, files_of
from repo_tools.draft import Draft, editing, load_draft, read_catalogue, save_draft
from repo_tools.jsonoutput import print_json, wants_json
from repo_tools.options import print_line, publisher_option
from repo_tools.policy import load_policy
from repo_tools.repository import PublishedRepository
from repo_tools.root.options import passphrase_option
from repo_tools.workspace import now, publish_changes
from updog.units import duration, size


@click.command(
    "publish",
    epilog="""\b
Examples:
  repo-tools publish
  repo-tools publish --publisher /srv/publisher --dry-run""",
)
@click.option("--dry-run", is_flag=True, help="Say what would be done, and do nothing.")
@passphrase_option
@publisher_option
def command(publisher: Path, *, passphrase_file: Path | None, dry_run: bool) -> None:
    """Make the draft public, all of it at once.

    Clients that read meanwhile see the old repository or the new one. When it fails, they see what
    they saw before.
    """
    policy = load_policy(publisher)
    with editing(policy.draft):
        published = PublishedRepository(policy.repository)
        draft = load_draft(policy.draft, published)
        apply_changes(read_catalogue(published), draft.changes, now=now())
        if draft.changes and not dry_run:
            publish_changes(policy, draft.changes, passphrase_file)
        if not dry_run:
            save_draft(policy.draft, Draft())
    _tell(draft, PublishedRepository(policy.repository), dry_run=dry_run)


def _tell(draft: Draft, published: PublishedRepository, *, dry_run: bool) -> None:
    changes = [str(change) for change in draft.changes]
    if wants_json():
        done = [] if dry_run else changes
        print_json({"published": done, "versions": dict(published.versions)})
        return
    if not changes:
        print_line("Publish", "nothing waits in the draft; no change")
    for change in changes:
        print_line("Would" if dry_run else "Published", change)
    if changes and not dry_run:
        names = [file.name for file in files_of(draft.changes)]
        lengths = [found.length for found in map(published.find, names) if found]
        left = duration(published.timestamp_expires - now())
        if lengths:
            print_line("Targets", f"{len(lengths)} files, {size(sum(lengths))}")
        print_line("Timestamp", f"v{published.versions['timestamp']}, valid for {left}")
