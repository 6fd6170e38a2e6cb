"""`repo-tools max-version set`: releases are held back, or let go."""

import click
from semver import Version

from repo_tools.catalogue import identity
from repo_tools.changes import SetMaxVersion
from repo_tools.jsonoutput import print_json, wants_json
from repo_tools.options import print_line, version_argument
from repo_tools.release.telling import describe_landings, print_landings
from repo_tools.releases import Selection, is_offered
from repo_tools.workspace import Outcome, Target, change_options, make


@click.command(
    "set",
    epilog="""\b
Examples:
  repo-tools max-version set 1.2.0 --publish
  repo-tools max-version set 1.1.0 --variant shop --dry-run""",
)
@version_argument
@click.option("--variant", help="Only of this variant.")
@click.option("--arch", help="Only for this architecture.")
@change_options
def command(
    version: Version,
    *,
    variant: str | None,
    arch: str | None,
    target: Target,
) -> None:
    """Let machines go up to VERSION and no further.

    Releases above it are held back, and machines that run one of them come back down. What was
    withdrawn stays so.
    """
    change = SetMaxVersion(max_version=version, variant=variant, arch=arch)
    outcome = make(target, change)
    taken_back = _taken_back(outcome)
    if wants_json():
        landings = [each for one in taken_back for each in describe_landings(outcome, one)]
        print_json({**outcome.document(), "landings": landings})
        return
    print_line("Limit", f"{change}: {outcome.words}")
    for one in taken_back:
        print_landings(outcome, one)


def _taken_back(outcome: Outcome) -> list[Selection]:
    """Return the updates that were offered before and are not any more."""
    offered = {identity(each) for each in outcome.before.manifest.updates if is_offered(each)}
    still = {identity(each) for each in outcome.after.manifest.updates if is_offered(each)}
    return [
        Selection(variant=variant, arch=arch, version=version)
        for variant, arch, version in sorted(offered - still)
    ]
