"""`repo-tools import`: a repository out of a file that `export` wrote."""

from datetime import UTC, datetime
from pathlib import Path

import click

from repo_tools.bundle import Bundle, opened_bundle, unpack_targets
from repo_tools.jsonoutput import print_json, wants_json
from repo_tools.mirror import writing
from repo_tools.options import print_line
from repo_tools.source import read_root_file
from repo_tools.source_options import progress, root_option
from repo_tools.target_source import Served
from repo_tools.telling import telling
from updog.units import size


@click.command(
    "import",
    epilog="""\b
Example:
  repo-tools import updates.tar /srv/updates --root root.json""",
)
@click.argument("file", type=click.Path(path_type=Path))
@click.argument("directory", type=click.Path(path_type=Path))
@root_option
def import_(file: Path, directory: Path, *, root: Path) -> None:
    """Take the repository in FILE into DIRECTORY, for machines to update from.

    Machines reach it as file://DIRECTORY/metadata and file://DIRECTORY/targets, or over any web
    server; they may read it meanwhile. All of FILE is verified before anything gets its name, and
    older metadata than what is there is refused.
    """
    trusted_root = read_root_file(root)
    left = f"{directory} is as it was"
    with (
        telling(f"import {file} into", directory, left=left),
        opened_bundle(file, trusted_root) as bundle,
    ):
        bundle.offer.require_fresh(datetime.now(UTC))
        bundle.offer.require_sound()
        new, missing = _take(bundle, directory)
    _print(bundle, new, missing)


def _take(bundle: Bundle, directory: Path) -> tuple[list[Served], list[str]]:
    """Put the targets in place, and then the metadata that lists them."""
    with writing(directory) as mirror:
        mirror.require_not_older(bundle.offer)
        with progress("Importing", sum(each.target.length for each in bundle.files)) as count:
            new = unpack_targets(bundle, mirror, tell=count)
        left = "clients of it see what they saw before; run the command again to go on"
        with telling("import into", directory, left=left):
            for served in new:
                mirror.place(served.file_name)
            mirror.put_metadata(bundle.offer)
        return new, mirror.lacks(bundle.offer)


def _print(bundle: Bundle, new: list[Served], missing: list[str]) -> None:
    version, count = bundle.offer.trusted.timestamp.version, len(bundle.offer.targets)
    length = sum(each.target.length for each in new)
    if wants_json():
        print_json(
            {
                "timestamp": version,
                "targets": count,
                "imported": sorted(each.target.name for each in new),
                "bytes_imported": length,
                "absent": sorted(missing),
            }
        )
        return
    print_line("Imported", f"{len(new)} of {count} targets, {size(length)}, timestamp v{version}")
    if missing:
        print_line(
            "Absent", f"{len(missing)} targets, which other machines need (`validate` names them)"
        )
