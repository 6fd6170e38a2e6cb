"""`repo-tools clone`: a mirror of a repository, made or brought up to date."""

from datetime import UTC, datetime
from pathlib import Path

import click

from repo_tools.crew import Crew
from repo_tools.jsonoutput import print_json, wants_json
from repo_tools.mirror import Mirror, writing
from repo_tools.offer import Offer, read_offer
from repo_tools.options import print_line
from repo_tools.source import Source, fetch_metadata_file, open_transport, read_root_file
from repo_tools.source_options import progress, root_option, source_argument
from repo_tools.target_source import Served, fetch_rest, served_files
from repo_tools.telling import telling
from updog.errors import ImageError
from updog.transport import Transport
from updog.units import size

_LEFT = (
    "clients of it see what they saw before; what was fetched is kept, run the command again to go "
    "on"
)


@click.command(
    "clone",
    epilog="""\b
Examples:
  repo-tools clone https://updates.example /srv/mirror --root root.json
  repo-tools clone /srv/mirror /media/stick/mirror --root root.json""",
)
@source_argument
@click.argument("directory", type=click.Path(path_type=Path))
@root_option
def clone(source: Source, directory: Path, *, root: Path) -> None:
    """Mirror the repository SOURCE, a directory or a URL, as a whole into DIRECTORY.

    Clients may read DIRECTORY meanwhile. Every file is verified before it gets its name. Run it
    again to bring the mirror up to date: only what is new is fetched, and an interrupted file goes
    on where it ended. Never goes back to older metadata.
    """
    trusted_root = read_root_file(root)
    with telling(f"clone {source} into", directory, left=_LEFT):
        offer = read_whole(source, trusted_root, now=datetime.now(UTC))
        fetched, written = _bring_up_to_date(source, offer, directory)
    _print(offer, fetched, written)


def read_whole(source: Source, trusted_root: bytes, *, now: datetime) -> Offer:
    """Read what a repository offers, and refuse to carry what clients would not take.

    Raises:
        TrustError: it is not to be trusted, a role has expired, or a target was not signed well.
        TransportError: it could not be fetched.
    """
    with open_transport() as transport:
        offer = read_offer(lambda name: fetch_metadata_file(source, transport, name), trusted_root)
    offer.require_fresh(now)
    offer.require_sound()
    return offer


def _bring_up_to_date(source: Source, offer: Offer, directory: Path) -> tuple[list[Served], int]:
    with writing(directory) as mirror:
        mirror.require_not_older(offer)
        fetched = _bring(source, offer, mirror)
        written = mirror.put_metadata(offer)
        mirror.discard_beginnings()
        return fetched, written


def _bring(source: Source, offer: Offer, mirror: Mirror) -> list[Served]:
    """Fetch the targets that the mirror lacks, and return them."""
    crew, fetched = Crew(), list[Served]()
    files = [each for target in offer.targets.values() for each in served_files(offer, target)]
    with progress("Cloning", sum(each.target.length for each in files)) as count:

        def work(served: Served, transport: Transport) -> None:
            if not mirror.holds(served.target, served.file_name):
                _fetch(source, transport, served, mirror, crew)
                fetched.append(served)
            count(served.target.length)

        crew.run(sorted(files, key=lambda each: -each.target.length), work)
    return fetched


def _fetch(
    source: Source, transport: Transport, served: Served, mirror: Mirror, crew: Crew
) -> None:
    """Fetch one file, or the rest of it; a beginning that proves wrong is thrown away."""
    temporary = mirror.temporary(served.file_name)
    if temporary.is_symlink():
        temporary.unlink()
    has_begun = temporary.exists() and temporary.stat().st_size > 0
    try:
        with temporary.open("a+b") as file:
            file.writelines(crew.unless_stopped(fetch_rest(source, transport, served, file)))
    except ImageError:
        temporary.unlink()
        if not has_begun:
            raise
        _fetch(source, transport, served, mirror, crew)
    except BaseException:
        if not temporary.stat().st_size:
            temporary.unlink()
        raise
    else:
        mirror.place(served.file_name)


def _print(offer: Offer, fetched: list[Served], written: int) -> None:
    length = sum(each.target.length for each in fetched)
    if wants_json():
        print_json(
            {
                "timestamp": offer.trusted.timestamp.version,
                "targets": len(offer.targets),
                "fetched": sorted(each.target.name for each in fetched),
                "bytes_fetched": length,
                "metadata_files_written": written,
            }
        )
        return
    print_line("Fetched", f"{len(fetched)} of {len(offer.targets)} targets, {size(length)}")
    state = f"{written} files" if written else "is what it was"
    print_line("Metadata", f"timestamp v{offer.trusted.timestamp.version}: {state}")
