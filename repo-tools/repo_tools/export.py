"""`repo-tools export`: a repository, or what one machine needs of it, in one file."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import IO

import click
from semver import Version

from repo_tools.bundle import write_bundle
from repo_tools.clone import read_whole
from repo_tools.durable import place_durably
from repo_tools.jsonoutput import print_json, wants_json
from repo_tools.manifest_checks import shown
from repo_tools.offer import Offer
from repo_tools.options import parse_version_value, print_line
from repo_tools.part import Machine, choose, needed_targets
from repo_tools.source import Source, open_transport, read_root_file
from repo_tools.source_options import progress, root_option, source_argument
from repo_tools.target_source import fetch_manifest, fetch_target
from repo_tools.telling import telling
from updog.manifest import Update
from updog.transport import Transport
from updog.units import size


def _parse_version(
    context: click.Context, parameter: click.Parameter, value: str | None
) -> Version | None:
    return None if value is None else parse_version_value(context, parameter, value)


@click.command(
    "export",
    epilog="""\b
Examples:
  repo-tools export https://updates.example updates.tar --root root.json
  repo-tools export repository to-1.1.0.tar --root root.json \\
      --variant aws-k8s-1.30 --arch x86_64 --version 1.1.0 --from-version 1.0.0""",
)
@source_argument
@click.argument("file", type=click.Path(path_type=Path))
@root_option
@click.option("--variant", help="Only what a machine of this variant needs.")
@click.option("--arch", help="Only what a machine of this architecture needs.")
@click.option(
    "--version",
    callback=_parse_version,
    help="Only what the update to this version needs.  [default: the newest that is offered]",
)
@click.option(
    "--from-version",
    callback=_parse_version,
    help="Only the migrations from this version on.  [default: from every older version]",
)
def export(  # noqa: PLR0913 -- one parameter an option
    source: Source,
    file: Path,
    *,
    root: Path,
    variant: str | None,
    arch: str | None,
    version: Version | None,
    from_version: Version | None,
) -> None:
    """Put the repository SOURCE, a directory or a URL, into FILE, a tar file, for `import`.

    Without further options all of it; with any of them, the metadata as a whole and the targets
    that one update of one machine needs. Every byte is verified on its way. The same repository
    gives the same file.
    """
    machine = Machine(variant=variant, arch=arch, version=version, from_version=from_version)
    trusted_root = read_root_file(root)
    left = f"there is no new {file}; run the command again"
    with (
        telling(f"export {source} to", file, left=left),
        open_transport() as transport,
    ):
        offer = read_whole(source, trusted_root, now=datetime.now(UTC))
        update, names = _part(source, offer, machine, transport)
        with _replacing(file) as out, progress("Exporting", _length(offer, names)) as count:
            fetch = partial(fetch_target, source, transport)
            write_bundle(out, offer, names, fetch=fetch, tell=count)
    _print(file, offer, names, update)


def _part(
    source: Source, offer: Offer, machine: Machine, transport: Transport
) -> tuple[Update | None, frozenset[str]]:
    if machine.is_any:
        return None, frozenset(offer.targets)
    manifest = fetch_manifest(source, offer, transport)
    update = choose(manifest, machine)
    names = needed_targets(manifest, update, machine)
    offer.require_listed(names)
    return update, names


@contextmanager
def _replacing(path: Path) -> Iterator[IO[bytes]]:
    """Give out a file to write, which takes the place of `path` when it is whole."""
    with tempfile.NamedTemporaryFile(
        dir=path.absolute().parent, prefix=f".{path.name}.", delete=False
    ) as file:
        temporary = Path(file.name)
        try:
            yield file
            file.flush()
            temporary.chmod(0o644)
            place_durably(temporary, path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise


def _length(offer: Offer, names: frozenset[str]) -> int:
    return sum(offer.targets[name].length for name in names)


def _print(file: Path, offer: Offer, names: frozenset[str], update: Update | None) -> None:
    length = file.stat().st_size
    if wants_json():
        print_json(
            {
                "file": str(file),
                "bytes": length,
                "timestamp": offer.trusted.timestamp.version,
                "update": shown(update) if update else None,
                "targets": sorted(names),
                "left_out": sorted(offer.targets.keys() - names),
            }
        )
        return
    what = f"what {shown(update)} needs" if update else "the whole repository"
    print_line("Exported", f"{what}: {len(names)} of {len(offer.targets)} targets")
    until = min(offer.expiries().values())
    print_line("File", f"{file}, {size(length)}, to be imported before {until:%Y-%m-%d %H:%M} UTC")
