"""`repo-tools playground max-version`: hold releases back, let them go, or withdraw them."""

from pathlib import Path

import click
from semver import Version

from repo_tools.changes import SetMaxVersion
from repo_tools.draft import make_changes
from repo_tools.jsonoutput import print_json, wants_json
from repo_tools.options import print_line, version_argument
from repo_tools.playground.facts import describe
from repo_tools.playground.options import directory_argument
from repo_tools.playground.place import find_playground
from repo_tools.repository import publishing
from repo_tools.telling import telling
from repo_tools.workspace import now


@click.command(
    "max-version", epilog="\b\nExample:\n  repo-tools playground max-version playground 1.2.0"
)
@directory_argument
@version_argument
def command(directory: Path, version: Version) -> None:
    """Let machines go up to VERSION and no further.

    Releases above it are held back. Machines that run one of them already go back down: it counts
    as withdrawn.
    """
    playground = find_playground(directory)
    left = "the repository is as it was; run it again"
    with (
        telling("publish in", playground.repository, left=left),
        publishing(playground.repository, playground.keys, now=now()) as publication,
    ):
        make_changes(publication, [SetMaxVersion(max_version=version)], clock=now)
    if wants_json():
        print_json(describe(playground))
    else:
        print_line("Limit", f"machines may go up to {version}")
