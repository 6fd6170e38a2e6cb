"""`repo-tools check-expirations`: is anything about to expire?"""

from datetime import datetime, timedelta
from pathlib import Path

import click

from repo_tools.durations import parse_duration
from repo_tools.errors import RepoToolsError
from repo_tools.expiry import Validity, root_warning, validities
from repo_tools.jsonoutput import print_json, wants_json
from repo_tools.options import publisher_option
from repo_tools.policy import Policy, load_policy
from repo_tools.repository import PublishedRepository
from repo_tools.workspace import now
from updog.units import duration


def _parse_within(
    _context: click.Context, _parameter: click.Parameter, value: str | None
) -> timedelta | None:
    """Return a time, or end with a usage error."""
    if value is None:
        return None
    span = parse_duration(value)
    if span is None:
        raise click.BadParameter(f'{value!r} is no time; write it like "7 days" or 7d')
    return span


@click.command(
    "check-expirations",
    epilog="""\b
Examples:
  repo-tools check-expirations --within 7d
  repo-tools check-expirations --within "2 weeks" --publisher /srv/publisher --json""",
)
@click.option(
    "--within",
    callback=_parse_within,
    metavar="TIME",
    help="How far ahead to look.  [default: `refresh` in publisher.toml; of root's time a tenth]",
)
@publisher_option
def command(publisher: Path, *, within: timedelta | None) -> None:
    """Show when each role's metadata expires; fail if any does within a time, or has.

    For a monitor: needs no key, and changes nothing.
    """
    policy, moment = load_policy(publisher), now()
    found = validities(PublishedRepository(policy.repository))
    if not found:
        raise RepoToolsError(f"nothing is published in {policy.repository} yet")
    soon = [each for each in found if each.expires - moment < _least(policy, each, within)]
    if wants_json():
        print_json({"roles": [_document(each, each in soon) for each in found]})
    else:
        _print(found, soon, moment)
    if soon:
        click.get_current_context().exit(1)


def _least(policy: Policy, each: Validity, within: timedelta | None) -> timedelta:
    """Return how long a role should be valid yet: what a timer that works keeps up."""
    if within is not None:
        return within
    return policy.refresh.get(each.role, root_warning(policy))


def _print(found: tuple[Validity, ...], soon: list[Validity], moment: datetime) -> None:
    click.echo(f"{'role':<10} {'version':>7}  {'expires':<20}  left")
    for each in found:
        left = each.expires - moment
        words = duration(left) if left > timedelta() else "EXPIRED"
        remark = f"  <- {_remedy(each.role)}" if each in soon else ""
        click.echo(
            f"{each.role:<10} {each.version:>7}  {each.expires:%Y-%m-%dT%H:%M:%SZ}  {words}{remark}"
        )


def _remedy(role: str) -> str:
    return "`repo-tools root rotate`" if role == "root" else "`repo-tools refresh`"


def _document(each: Validity, is_soon: bool) -> dict[str, object]:
    return {
        "role": each.role,
        "version": each.version,
        "expires": each.expires.isoformat(),
        "soon": is_soon,
    }
