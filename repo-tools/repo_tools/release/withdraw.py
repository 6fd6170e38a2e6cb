"""`repo-tools release withdraw`: machines come back from a release."""

import click
from semver import Version

from repo_tools.changes import WithdrawRelease
from repo_tools.jsonoutput import print_json, wants_json
from repo_tools.options import print_line, version_argument
from repo_tools.release.telling import describe_landings, print_landings
from repo_tools.workspace import Target, change_options, make


@click.command(
    "withdraw",
    epilog="""\b
Examples:
  repo-tools release withdraw 1.2.0 --publish
  repo-tools release withdraw 1.2.0 --variant shop --dry-run""",
)
@version_argument
@click.option("--variant", help="Only of this variant.")
@click.option("--arch", help="Only for this architecture.")
@click.option("--undo", is_flag=True, help="Offer it again.")
@change_options
def command(
    version: Version,
    *,
    variant: str | None,
    arch: str | None,
    undo: bool,
    target: Target,
) -> None:
    """Take release VERSION back, and say where machines that run it will land.

    Nobody is offered it any more. It stays listed and its images stay published, for machines that
    are in the middle of fetching them.
    """
    change = WithdrawRelease(version=version, variant=variant, arch=arch, undo=undo)
    outcome = make(target, change)
    if wants_json():
        landings = [] if undo else describe_landings(outcome, change.selection)
        print_json({**outcome.document(), "landings": landings})
        return
    print_line("Release", f"{change}: {outcome.words}")
    if not undo:
        print_landings(outcome, change.selection)
