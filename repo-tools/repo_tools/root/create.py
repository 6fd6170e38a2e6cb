"""`repo-tools root create`: the draft of the first root, and the publisher's settings."""

import json
import os
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import click
from tuf.api.metadata import Metadata

from repo_tools.durable import create_durably
from repo_tools.errors import RepoToolsError
from repo_tools.options import publisher_option
from repo_tools.passphrases import Passphrases
from repo_tools.policy import (
    DEFAULT_LIFETIMES,
    DEFAULT_REFRESH,
    FILE_NAME,
    ROLES,
    Policy,
    load_policy,
    parse_policy,
)
from repo_tools.root.ceremony import Draft
from repo_tools.root.change import Change, first_root, require_sound
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
from repo_tools.signers import as_uri, can_sign, is_file, path_of


@click.command(
    "create",
    epilog="""\b
Examples:
  repo-tools root create --key root=keys/ann.pem --key root=keys/bob.pub \\
      --key root=keys/safe.pub --key targets=keys/targets.pem \\
      --key snapshot=keys/online.pem --key timestamp=keys/online.pem
  repo-tools root create --key root=hsm:2?label=ann --threshold root=1 ...""",
)
@publisher_option
@role_key_option(
    "--key",
    text="A key of a role: a PEM file, public or private, or a signer URI. Repeat it. "
    "[default: [keys] of publisher.toml]",
)
@threshold_option
@expires_option
@passphrase_option
@force_option
@dry_run_option
def command(  # noqa: PLR0913 -- an option each
    *,
    publisher: Path,
    key: Sequence[tuple[str, str]],
    thresholds: Mapping[str, int],
    expires: timedelta | datetime | None,
    passphrase_file: Path | None,
    force: bool,
    dry_run: bool,
) -> None:
    """Draft the first root: which keys machines will trust, and for what.

    More than half of the root keys must sign later roots, and one key of each other role, unless
    --threshold says otherwise. Where the publisher's directory holds no publisher.toml, one is
    written, with the signers among the keys. The draft is signed by `repo-tools root sign`.
    """
    now = datetime.now(UTC)
    text = _settings(key, publisher)
    policy, is_new = _policy(publisher, text)
    path = draft_path(policy)
    _refuse_existing(policy)
    if not force:
        refuse_another(path)
    change = Change(
        expires=expiry(expires, lifetime=policy.lifetimes["root"], now=now),
        added=find_grants(_pairs(key, policy), passphrases=Passphrases(passphrase_file)),
        thresholds=thresholds,
    )
    root = first_root(change)
    require_sound(root, previous=None, now=now)
    draft = Draft(previous=None, root=Metadata(root))
    if not dry_run:
        publisher.mkdir(parents=True, exist_ok=True)
        if is_new:
            create_durably(policy.path, text.encode())
        put_down(path, draft, replace=force)
    report(path, draft, now=now, dry_run=dry_run)


def _refuse_existing(policy: Policy) -> None:
    current = current_root(policy.repository)
    if current is not None:
        raise RepoToolsError(
            f"{policy.repository} has root {current.signed.version} already: "
            "`repo-tools root rotate` drafts the next one"
        )


def _policy(publisher: Path, text: str) -> tuple[Policy, bool]:
    """Return the publisher's settings, and whether they are still to be written."""
    path = publisher.absolute() / FILE_NAME
    if path.exists():
        return load_policy(publisher), False
    return parse_policy(text, path=path), True


def _pairs(chosen: Sequence[tuple[str, str]], policy: Policy) -> Sequence[tuple[str, str]]:
    """Return what was typed, and the keys of publisher.toml for roles that were not."""
    typed = {role for role, _ in chosen}
    rest = [(role, uri) for role in ROLES if role not in typed for uri in policy.keys.get(role, ())]
    return [*chosen, *rest]


def _settings(chosen: Sequence[tuple[str, str]], publisher: Path) -> str:
    """Return the text of a first publisher.toml."""
    uris = {
        role: [_uri(key, publisher) for r, key in chosen if r == role and can_sign(key)]
        for role in ROLES
    }
    return "\n".join(
        [
            "# The standing decisions of a publisher; paths are relative to this file.",
            'repository = "repository"            # metadata/ and targets/, as clients are served',
            'draft = "draft"                      # what the next publish makes public',
            "",
            "[keys]                               # who signs here; root may be signed elsewhere",
            *(f"{role} = {json.dumps(uris[role], ensure_ascii=False)}" for role in ROLES),
            "",
            "[lifetimes]                          # from signing to expiry",
            *(f'{role} = "{span.days} days"' for role, span in DEFAULT_LIFETIMES.items()),
            "",
            "[refresh]                            # what has less than this left is signed anew",
            *(f'{role} = "{span.days} days"' for role, span in DEFAULT_REFRESH.items()),
            "",
        ]
    )


def _uri(reference: str, publisher: Path) -> str:
    """Return a key's URI as it reads in the publisher's directory."""
    uri = as_uri(reference)
    if not is_file(uri):
        return uri
    path, base = os.path.abspath(path_of(uri)), os.path.abspath(publisher)  # noqa: PTH100
    return f"file:{os.path.relpath(path, base) if Path(path).is_relative_to(base) else path}"
