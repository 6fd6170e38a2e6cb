"""`repo-tools playground release`: one more release, good or bad."""

from pathlib import Path

import click
from semver import Version

from repo_tools.draft import make_changes, read_catalogue
from repo_tools.errors import RepoToolsError
from repo_tools.images import Codec
from repo_tools.jsonoutput import print_json, wants_json
from repo_tools.options import print_line, version_argument
from repo_tools.playground.facts import describe
from repo_tools.playground.options import directory_argument
from repo_tools.playground.place import Playground, find_playground
from repo_tools.playground.publisher import build_release, sizes
from repo_tools.releases import find_listed, known_versions
from repo_tools.repository import Publication, publishing
from repo_tools.sources import Release, add_release
from repo_tools.telling import telling
from repo_tools.waves.options import read_schedule
from repo_tools.workspace import now
from updog.waves import Wave


@click.command(
    "release",
    epilog="""\b
Examples:
  repo-tools playground release playground 1.3.0
  repo-tools playground release playground 1.4.0 --health fail --compression lz4""",
)
@directory_argument
@version_argument
@click.option(
    "--health",
    type=click.Choice(["pass", "fail"]),
    default="pass",
    show_default=True,
    help="What the release's own health checks will say.",
)
@click.option(
    "--compression",
    type=click.Choice(["zstd", "lz4"]),
    default="zstd",
    show_default=True,
    help="How its images are compressed.",
)
@click.option(
    "--waves",
    "wave_file",
    type=click.Path(path_type=Path),
    help="Wave file; the rollout starts now.  [default: all machines at once]",
)
@click.option("--hold-back", is_flag=True, help="Publish it, but let no machine take it yet.")
def command(  # noqa: PLR0913 -- one parameter an option
    directory: Path,
    version: Version,
    *,
    health: str,
    compression: str,
    wave_file: Path | None,
    hold_back: bool,
) -> None:
    """Build release VERSION of the playground's system and publish it."""
    playground = find_playground(directory)
    schedule = read_schedule(str(wave_file), start=None) if wave_file else None
    codec = {"zstd": Codec.ZSTD, "lz4": Codec.LZ4}[compression]
    left = "the repository is as it was; run it again"
    with (
        telling("publish in", playground.repository, left=left),
        publishing(playground.repository, playground.keys, now=now()) as publication,
    ):
        release = _build(playground, publication, version, healthy=health == "pass")
        change = add_release(release, codec=codec, schedule=schedule, hold_back=hold_back)
        catalogue = make_changes(publication, [change], clock=now)
    added = find_listed(catalogue.manifest, change.identity)
    _print(playground, release, added.waves if added else (), as_json=wants_json())


def _build(
    playground: Playground, publication: Publication, version: Version, *, healthy: bool
) -> Release:
    if version in known_versions(read_catalogue(publication).manifest):
        raise RepoToolsError(f"there is a {version} already: choose a new version")
    return build_release(playground, version, healthy=healthy)


def _print(
    playground: Playground, release: Release, waves: tuple[Wave, ...], *, as_json: bool
) -> None:
    facts = describe(playground)
    if as_json:
        print_json(facts)
        return
    print_line("Built", f"{release.version}: {sizes(release)}")
    rollout = f"in {len(waves)} waves from now on" if waves else "for all at once"
    print_line("Published", f"{release.version}, {rollout}")
    print_line("Limit", f"machines may go up to {facts['max_version']}")
