"""`repo-tools validate`: what a client would meet in a repository, all of it, before it does."""

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import click

from repo_tools.content_checks import check_contents
from repo_tools.errors import RepoToolsError
from repo_tools.findings import Finding, Kind, absent, fault
from repo_tools.jsonoutput import print_json, wants_json
from repo_tools.leftovers import check_leftovers
from repo_tools.manifest_checks import check_manifest
from repo_tools.metadata_checks import check_metadata, check_strictness
from repo_tools.offer import Offer, read_offer
from repo_tools.options import print_line
from repo_tools.source import (
    NOT_THERE,
    Source,
    fetch_metadata_file,
    open_transport,
    read_root_file,
)
from repo_tools.source_options import duration_option, progress, root_option, source_argument
from repo_tools.target_source import Served, fetch_manifest
from repo_tools.telling import telling
from updog.errors import TransportError, UpdogError
from updog.manifest import MANIFEST, Manifest
from updog.metadata import Repository
from updog.transport import Transport
from updog.units import duration, size


@dataclass(slots=True, kw_only=True)
class Report:
    """What was looked at, and what was found."""

    source: Source
    offer: Offer | None = None
    findings: list[Finding] = field(default_factory=list)
    read: list[Served] = field(default_factory=list)

    def of(self, kind: Kind) -> list[Finding]:
        """Return the findings of one kind."""
        return [each for each in self.findings if each.kind is kind]


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """How closely to look."""

    trusted_root: bytes
    now: datetime
    horizon: timedelta
    metadata_only: bool


@click.command(
    "validate",
    epilog="""\b
Examples:
  repo-tools validate repository --root root.json
  repo-tools validate https://updates.example --root root.json --expires-within 3d
  repo-tools validate mirror --root root.json --metadata-only --json""",
)
@source_argument
@root_option
@duration_option(
    "--expires-within",
    default="2 days",
    help="Warn of a role that has less than this left.",
)
@click.option("--metadata-only", is_flag=True, help="Read the manifest, but no other target.")
@click.option(
    "--allow-missing-targets",
    is_flag=True,
    help="For a repository that carries one machine's part: say what is absent, and accept it.",
)
def validate(
    source: Source,
    root: Path,
    *,
    expires_within: timedelta,
    metadata_only: bool,
    allow_missing_targets: bool,
) -> None:
    """Walk the repository SOURCE, a directory or a URL, as a client would, and say what is wrong.

    Checks the metadata from the trusted root on, every target's bytes, and what they mean: that
    every image of every update unpacks to what was signed and would boot, that migrations lead from
    every older version to the newest. Prints one line for each thing; exit 1 if any client would
    fail.
    """
    wish = Wish(
        trusted_root=read_root_file(root),
        now=datetime.now(UTC),
        horizon=expires_within,
        metadata_only=metadata_only,
    )
    report = Report(source=source)
    with telling("validate", source, left="nothing was changed"), open_transport() as transport:
        _walk(report, wish, transport)
    failed = [*report.of(Kind.FAULT), *([] if allow_missing_targets else report.of(Kind.ABSENT))]
    (_print_json if wants_json() else _print)(report, is_valid=not failed)
    if failed:
        raise RepoToolsError(
            f"{source} is not valid: {_counted(len(failed), 'thing')} to correct, "
            f"{failed[0].subject} first; nothing was changed"
        )


def _walk(report: Report, wish: Wish, transport: Transport) -> None:
    """Look at one thing after the other, as far as what came before can be relied on."""
    report.offer = _prove(report, wish, transport)
    if report.offer is None:
        return
    offer, source = report.offer, report.source
    report.findings += check_strictness(offer.collected)
    report.findings += check_metadata(offer, now=wish.now, horizon=wish.horizon)
    if not report.of(Kind.FAULT):
        report.findings += _ask_a_client(source, wish.trusted_root, transport)
    manifest = _read_manifest(report, offer, transport)
    if manifest is not None:
        report.findings += check_manifest(manifest, offer.targets, now=wish.now)
    if source.directory is not None:
        report.findings += check_leftovers(source.directory, offer)
    if not wish.metadata_only:
        report.findings += _check_targets(report, offer, manifest)


def _check_targets(report: Report, offer: Offer, manifest: Manifest | None) -> list[Finding]:
    total = sum(target.length * len(offer.file_names(target)) for target in offer.targets.values())
    with progress("Reading", total) as count:

        def tell(served: Served) -> None:
            report.read.append(served)
            count(served.target.length)

        found = check_contents(report.source, offer, manifest, tell=tell)
    # The manifest was read before all others; what is wrong with it was said then.
    said = {each.subject for each in report.findings}
    return [each for each in found if each.subject != MANIFEST or MANIFEST not in said]


def _prove(report: Report, wish: Wish, transport: Transport) -> Offer | None:
    """Read and prove the metadata; what is wrong with it ends up in the report."""
    try:
        return read_offer(
            lambda name: fetch_metadata_file(report.source, transport, name), wish.trusted_root
        )
    except UpdogError as error:
        report.findings.append(fault("metadata", error))
        return None


def _ask_a_client(source: Source, trusted_root: bytes, transport: Transport) -> Iterator[Finding]:
    """Let the agent's own code have a look: it has the last word."""
    with tempfile.TemporaryDirectory(prefix="repo-tools-") as scratch:
        repository = Repository(
            trusted_root=trusted_root,
            cache=Path(scratch) / "metadata",
            metadata_base_url=source.metadata_url,
            targets_base_url=source.targets_url,
            transport=transport,
        )
        try:
            repository.refresh()
        except UpdogError as error:
            yield fault("metadata", f"a client refuses it: {error}")


def _read_manifest(report: Report, offer: Offer, transport: Transport) -> Manifest | None:
    try:
        return fetch_manifest(report.source, offer, transport)
    except TransportError as error:
        kind = absent if error.status in NOT_THERE else fault
        report.findings.append(kind(MANIFEST, error))
    except UpdogError as error:
        report.findings.append(fault(MANIFEST, str(error).removeprefix(f"{MANIFEST}: ")))
    return None


def _print_json(report: Report, *, is_valid: bool) -> None:
    offer = report.offer
    print_json(
        {
            "repository": str(report.source),
            "valid": is_valid,
            "versions": _versions(offer) if offer else None,
            "expires": {r: f"{t:%Y-%m-%dT%H:%M:%SZ}" for r, t in offer.expiries().items()}
            if offer
            else None,
            "targets": len(offer.targets) if offer else None,
            "files_read": len(report.read),
            "bytes_read": _bytes_read(report),
            "findings": [each.document() for each in report.findings],
        }
    )


def _print(report: Report, *, is_valid: bool) -> None:
    if report.offer is not None:
        print_line("Metadata", _told_metadata(report.offer, datetime.now(UTC)))
        print_line("Targets", _told_targets(report, report.offer))
    for kind in Kind:
        for each in report.of(kind):
            print_line(kind.capitalize(), f"{each.subject}: {each.text}")
    if is_valid:
        counts = [_counted(len(report.of(Kind.WARNING)), "warning")]
        if missing := len(report.of(Kind.ABSENT)):
            counts.append(f"{_counted(missing, 'target')} absent, which was allowed")
        print_line("Valid", ", ".join(counts))


def _told_metadata(offer: Offer, now: datetime) -> str:
    versions = ", ".join(f"{role} v{number}" for role, number in _versions(offer).items())
    role, first = min(offer.expiries().items(), key=lambda item: item[1])
    if first <= now:
        return f"{versions}; {role} has expired"
    return f"{versions}; {role} expires first, in {duration(first - now)}"


def _told_targets(report: Report, offer: Offer) -> str:
    listed = f"{len(offer.targets)} signed"
    if not report.read:
        return f"{listed}; their bytes were not read"
    return f"{listed}; {_counted(len(report.read), 'file')} read, {size(_bytes_read(report))}"


def _versions(offer: Offer) -> dict[str, Any]:
    versions = offer.trusted.versions
    return {r: getattr(versions, r) for r in ("root", "timestamp", "snapshot", "targets")}


def _bytes_read(report: Report) -> int:
    return sum(each.target.length for each in report.read)


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
