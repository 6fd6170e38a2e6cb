"""`repo-tools release discard`: the draft is thrown away."""

from pathlib import Path

import click

from repo_tools.draft import FILE_NAME, discard_draft, editing
from repo_tools.jsonoutput import print_json, wants_json
from repo_tools.options import print_line, publisher_option
from repo_tools.policy import load_policy


@click.command("discard", epilog="\b\nExample:\n  repo-tools release discard")
@click.option("--dry-run", is_flag=True, help="Say what would be done, and do nothing.")
@publisher_option
def command(publisher: Path, *, dry_run: bool) -> None:
    """Throw away all changes that were not made public. Image files are not touched."""
    policy = load_policy(publisher)
    path = policy.draft / FILE_NAME
    there = path.exists()
    if there and not dry_run:
        with editing(policy.draft):
            discard_draft(policy.draft)
    if wants_json():
        print_json({"discarded": there and not dry_run})
    elif not there:
        print_line("Draft", "nothing waits")
    else:
        print_line("Draft", "would be thrown away (--dry-run)" if dry_run else "thrown away")
