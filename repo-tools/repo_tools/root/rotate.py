"""`repo-tools root rotate`: the draft of the next root."""

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import click
from tuf.api.metadata import Metadata

from repo_tools.errors import RepoToolsError
from repo_tools.options import publisher_option
from repo_tools.passphrases import Passphrases
from repo_tools.policy import load_policy
from repo_tools.root.ceremony import Draft
from repo_tools.root.change import Change, next_root, require_sound
from repo_tools.root.drafting import find_grants, put_down, refuse_another, report
from repo_tools.root.options import (
    dry_run_option,
    expires_option,
    expiry,
    force_option,
    passphrase_option,
    role_key_option,
    threshold_option,
)
from repo_tools.root.place import current_root, draft_path
from repo_tools.signers import find_public_key

_KEY_ID = re.compile(r"[0-9a-f]{8,64}")


@click.command(
    "rotate",
    epilog="""\b
Examples:
  repo-tools root rotate --expires "365 days"
  repo-tools root rotate --remove root=3f2a91c07b5d4e68 --add root=keys/eve.pub
  repo-tools root rotate --add root=keys/safe.pub --threshold root=2""",
)
@publisher_option
@role_key_option("--add", text="A further key of a role: a PEM file or a signer URI. Repeat it.")
@role_key_option(
    "--remove",
    text="A key that a role loses: its id, at least 8 digits of it, or the key itself. Repeat it.",
)
@threshold_option
@expires_option
@passphrase_option
@force_option
@dry_run_option
def command(  # noqa: PLR0913 -- an option each
    *,
    publisher: Path,
    add: Sequence[tuple[str, str]],
    remove: Sequence[tuple[str, str]],
    thresholds: Mapping[str, int],
    expires: timedelta | datetime | None,
    passphrase_file: Path | None,
    force: bool,
    dry_run: bool,
) -> None:
    """Draft the root that follows the current one; without options, only its expiry is renewed.

    It must be signed by enough keys of the current root and by enough of its own: machines that
    know the old one must be able to follow. Everything that is not named stays.

    A lost root key: as long as the others are enough for the threshold, remove it and add a new
    one. A lost key of another role: add the new one, publish, and remove the old one afterwards,
    for what is published is still signed by it. `repo-tools root --help` tells more.
    """
    now = datetime.now(UTC)
    policy = load_policy(publisher)
    path = draft_path(policy)
    current = current_root(policy.repository)
    if current is None:
        raise RepoToolsError(
            f"{policy.repository} has no root yet: finish the first one with `repo-tools root "
            f"create` and `root sign`"
        )
    if not force:
        refuse_another(path)
    passphrases = Passphrases(passphrase_file)
    change = Change(
        expires=expiry(expires, lifetime=policy.lifetimes["root"], now=now),
        added=find_grants(add, passphrases=passphrases),
        removed=[(role, _key_id(key, passphrases)) for role, key in remove],
        thresholds=thresholds,
    )
    root = next_root(current.signed, change)
    require_sound(root, previous=current.signed, now=now)
    draft = Draft(previous=current, root=Metadata(root))
    if not dry_run:
        put_down(path, draft, replace=force)
    report(path, draft, now=now, dry_run=dry_run)


def _key_id(key: str, passphrases: Passphrases) -> str:
    if _KEY_ID.fullmatch(key):
        return key
    return find_public_key(key, passphrases=passphrases).keyid
