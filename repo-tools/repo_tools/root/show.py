"""`repo-tools root show`: the current root and the draft of the next, or a file that holds one."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import click

from repo_tools.errors import RepoToolsError
from repo_tools.jsonoutput import print_json, wants_json
from repo_tools.options import publisher_option
from repo_tools.policy import Policy, load_policy
from repo_tools.root.ceremony import Draft, parse_draft, parse_root
from repo_tools.root.place import current_root, draft_path, read_draft, read_root
from repo_tools.root.wording import facts, lines


@dataclass(frozen=True, slots=True, kw_only=True)
class _Shown:
    draft: Draft
    placed: bool


@click.command(
    "show",
    epilog="""\b
Examples:
  repo-tools root show
  repo-tools root show /media/usb/next-root.json
  repo-tools root show repository/metadata/3.root.json --json""",
)
@click.argument("file", type=click.Path(path_type=Path), required=False)
@publisher_option
def command(file: Path | None, publisher: Path) -> None:
    """Show which keys a root lists, who has signed it, who is missing, and whether it is complete.

    Without FILE, the root that is in place and the draft of the next one, if there is one.
    """
    shown = list(_in_file(file) if file else _in_repository(load_policy(publisher)))
    if wants_json():
        print_json([facts(each.draft, placed=each.placed) for each in shown])
        return
    now = datetime.now(UTC)
    for number, each in enumerate(shown):
        if number:
            click.echo()
        for line in lines(each.draft, now=now, placed=each.placed):
            click.echo(line)


def _in_repository(policy: Policy) -> Iterator[_Shown]:
    current, draft = current_root(policy.repository), read_draft(draft_path(policy))
    if current is None and draft is None:
        raise RepoToolsError(
            f"there is no root in {policy.repository}, nor the draft of one: "
            "`repo-tools root create` makes it"
        )
    if current is not None:
        version = current.signed.version
        previous = read_root(policy.repository, version - 1) if version > 1 else None
        yield _Shown(draft=Draft(previous=previous, root=current), placed=True)
    if draft is not None:
        yield _Shown(draft=draft, placed=False)


def _in_file(path: Path) -> Iterator[_Shown]:
    """Take a draft, or a root by itself, of which only its own keys can be judged."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise RepoToolsError(f"cannot read {path}: {error.strerror}") from error
    try:
        yield _Shown(draft=parse_draft(data, what=str(path)), placed=False)
    except RepoToolsError:
        root = parse_root(data, what=str(path))
        yield _Shown(draft=Draft(previous=None, root=root), placed=True)
