"""`repo-tools waves show`: when a rollout reaches whom, and how far it is."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path

import click
from semver import Version

from repo_tools.catalogue import Catalogue
from repo_tools.changes import apply_changes
from repo_tools.draft import load_draft, read_catalogue
from repo_tools.jsonoutput import print_json, wants_json
from repo_tools.options import publisher_option
from repo_tools.policy import load_policy
from repo_tools.release.telling import shown_time, state_of
from repo_tools.releases import Selection, select
from repo_tools.repository import PublishedRepository
from repo_tools.rescheduling import reached
from repo_tools.waves.options import selection_options
from repo_tools.workspace import now
from updog.manifest import Update, format_time
from updog.waves import SEEDS, Seed, Wave, position


@dataclass(frozen=True, slots=True, kw_only=True)
class _Row:
    """One wave: its seeds, its end as a share of the fleet, its times, and what it does now."""

    first_seed: int
    end_seed: int
    reaches_percent: float
    starts_at: datetime
    ends_at: datetime | None
    state: str


@click.command(
    "show",
    epilog="""\b
Examples:
  repo-tools waves show
  repo-tools waves show 1.2.0 --variant shop --draft""",
)
@selection_options
@click.option("--draft", "of_draft", is_flag=True, help="As it would be after a publish now.")
@publisher_option
def command(
    version: Version | None,
    *,
    variant: str | None,
    arch: str | None,
    of_draft: bool,
    publisher: Path,
) -> None:
    """Show the bounds, shares and times of a rollout, and how far it is now."""
    policy, moment = load_policy(publisher), now()
    published = PublishedRepository(policy.repository)
    catalogue = read_catalogue(published)
    if of_draft:
        changes = load_draft(policy.draft, published).changes
        catalogue = apply_changes(catalogue, changes, now=moment)
    wanted = Selection(version=version, variant=variant, arch=arch)
    updates = select(catalogue.manifest, wanted)
    if wants_json():
        print_json([_document(catalogue, update, moment) for update in updates])
        return
    for number, update in enumerate(updates):
        click.echo("\n" * bool(number), nl=False)
        _print(catalogue, update, moment)


def _print(catalogue: Catalogue, update: Update, moment: datetime) -> None:
    state = state_of(catalogue, update, moment)
    click.echo(f"{update.version} {update.variant} {update.arch}: {state}")
    rows = list(_rows(update.waves, moment))
    if not rows:
        return
    click.echo(f"  wave  {'seeds':<11} {'reaches':>7}  {'begins':<20}  {'ends':<20}  now")
    for number, row in enumerate(rows, start=1):
        seeds = f"{row.first_seed}-{row.end_seed - 1}"
        ends = shown_time(row.ends_at) if row.ends_at else ""
        click.echo(
            f"  {number:>4}  {seeds:<11} {row.reaches_percent:>5.1f} %  "
            f"{shown_time(row.starts_at):<20}  {ends:<20}  {row.state}"
        )


def _rows(waves: tuple[Wave, ...], moment: datetime) -> Iterator[_Row]:
    count, seed = reached(waves, moment), 0
    while waves and seed < SEEDS:
        place = position(waves, Seed(seed))
        assert place is not None  # noqa: S101 -- there are waves
        end = place.end_bound if place.end_bound is not None else SEEDS
        yield _Row(
            first_seed=seed,
            end_seed=end,
            reaches_percent=round(end / SEEDS * 100, 1),
            starts_at=place.starts_at,
            ends_at=place.ends_at,
            state=_state(seed, end, count),
        )
        seed = end


def _state(first: int, end: int, count: int) -> str:
    if count >= end:
        return "done"
    return "waits" if count <= first else f"{(count - first) / (end - first):.0%}"


def _document(catalogue: Catalogue, update: Update, moment: datetime) -> dict[str, object]:
    count = reached(update.waves, moment)
    return {
        "variant": update.variant,
        "arch": update.arch,
        "version": str(update.version),
        "state": state_of(catalogue, update, moment),
        "reached_seeds": count,
        "reached_percent": round(count / SEEDS * 100, 1),
        "waves": [_row_document(row) for row in _rows(update.waves, moment)],
    }


def _row_document(row: _Row) -> dict[str, object]:
    ends_at = format_time(row.ends_at) if row.ends_at else None
    return asdict(row) | {"starts_at": format_time(row.starts_at), "ends_at": ends_at}
