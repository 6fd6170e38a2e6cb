"""`repo-tools refresh`: what is about to expire is signed anew."""

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import click

from repo_tools.expiry import Validity, root_warning, validities
from repo_tools.jsonoutput import print_json, wants_json
from repo_tools.options import print_line, publisher_option
from repo_tools.policy import Policy, load_policy
from repo_tools.repository import PublishedRepository, refresh, stale_roles
from repo_tools.root.options import passphrase_option
from repo_tools.telling import telling
from repo_tools.workspace import now, open_signers
from updog.units import duration


@click.command(
    "refresh",
    epilog="""\b
Examples:
  repo-tools refresh
  repo-tools refresh --publisher /srv/publisher --passphrase-file /run/passphrase""",
)
@click.option("--dry-run", is_flag=True, help="Say what would be done, and do nothing.")
@passphrase_option
@publisher_option
def command(publisher: Path, *, passphrase_file: Path | None, dry_run: bool) -> None:
    """Sign anew what has less left than `refresh` in publisher.toml says.

    For a timer: needs the online keys only, and does nothing while all is fresh. What the current
    root no longer vouches for is signed anew too. The draft is not touched.
    """
    policy, moment = load_policy(publisher), now()
    if dry_run:
        published = PublishedRepository(policy.repository)
        signed = stale_roles(published, now=moment, least=policy.refresh)
    else:
        signed = _refresh(policy, passphrase_file, moment)
    found = validities(PublishedRepository(policy.repository))
    _tell(policy, signed, found, moment=moment, dry_run=dry_run)


def _refresh(policy: Policy, passphrase_file: Path | None, moment: datetime) -> tuple[str, ...]:
    with telling("refresh", policy.repository, left="the repository is as it was; run it again"):
        return refresh(
            policy.repository,
            open_signers(policy, passphrase_file),
            now=moment,
            lifetimes=policy.lifetimes,
            least=policy.refresh,
        )


def _tell(
    policy: Policy,
    signed: Sequence[str],
    found: Sequence[Validity],
    *,
    moment: datetime,
    dry_run: bool,
) -> None:
    if wants_json():
        expiries = {each.role: each.expires.isoformat() for each in found}
        print_json({"signed": [] if dry_run else list(signed), "expires": expiries})
        return
    if not signed:
        print_line("Fresh", "nothing has to be signed anew")
    for each in found:
        if each.role in signed:
            done = "would be signed anew" if dry_run else "signed anew"
            print_line(each.role.capitalize(), f"v{each.version}, {done}, {_left(each, moment)}")
    root = found[0]
    if root.expires - moment < root_warning(policy):
        click.echo(
            f"repo-tools: root v{root.version} {_left(root, moment)}: "
            "`repo-tools root rotate` begins the ceremony that renews it",
            err=True,
        )


def _left(each: Validity, moment: datetime) -> str:
    left = each.expires - moment
    return f"valid for {duration(left)}" if left.total_seconds() > 0 else "EXPIRED"
