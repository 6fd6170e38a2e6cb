"""What `create` and `rotate` share: keys by name, one draft at a time, and what to do with it."""

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import click

from repo_tools.errors import RepoToolsError
from repo_tools.jsonoutput import print_json, wants_json
from repo_tools.options import print_line
from repo_tools.passphrases import Passphrases
from repo_tools.root.ceremony import Draft
from repo_tools.root.change import Grant
from repo_tools.root.place import alone, read_draft, write_draft
from repo_tools.root.wording import facts, lines
from repo_tools.signers import find_public_key
from repo_tools.telling import telling


def find_grants(pairs: Sequence[tuple[str, str]], *, passphrases: Passphrases) -> tuple[Grant, ...]:
    """Return roles with the public halves of their keys.

    Raises:
        RepoToolsError: a key cannot be had.
    """
    return tuple(
        Grant(role=role, key=find_public_key(reference, passphrases=passphrases))
        for role, reference in pairs
    )


def put_down(path: Path, draft: Draft, *, replace: bool) -> None:
    """Write a new draft.

    Raises:
        RepoToolsError: there is one already, or another ceremony is at work. It is as it was.
    """
    with telling("write", path, left="no draft was changed"), alone(path.parent):
        if not replace:
            refuse_another(path)
        write_draft(path, draft)


def refuse_another(path: Path) -> None:
    """Refuse to begin a ceremony while another one waits for signatures.

    Raises:
        RepoToolsError: it does.
    """
    waiting = read_draft(path)
    if waiting is not None:
        raise RepoToolsError(
            f"{path} is a draft of root {waiting.version} already: finish it with `repo-tools root "
            f"sign`, or give it up by `--force`"
        )


def report(path: Path, draft: Draft, *, now: datetime, dry_run: bool) -> None:
    """Print a new draft, and who should do what with it."""
    if wants_json():
        written = None if dry_run else str(path)
        print_json({"draft": written, "root": facts(draft, placed=False)})
        return
    for line in lines(draft, now=now, placed=False):
        click.echo(line)
    if dry_run:
        print_line("Dry run", f"{path} was not written")
        return
    print_line("Draft", str(path))
    print_line("Next", "`repo-tools root sign --key KEY` here, or `root sign FILE --key KEY`")
    print_line("", "on a copy of this file, wherever a key is kept")
