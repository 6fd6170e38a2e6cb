"""`repo-tools waves pause`: a rollout stops where it is."""

import click
from semver import Version

from repo_tools.changes import PauseWaves
from repo_tools.waves.options import selection_options, tell
from repo_tools.workspace import Target, change_options, make


@click.command(
    "pause",
    epilog="""\b
Examples:
  repo-tools waves pause --publish
  repo-tools waves pause 1.2.0 --variant shop""",
)
@selection_options
@change_options
def command(
    version: Version | None, *, variant: str | None, arch: str | None, target: Target
) -> None:
    """Stop the rollout of VERSION where it is.

    Machines that may update now still may; all others wait until `repo-tools waves resume`. Nobody
    is let in early, and nothing is taken back.
    """
    change = PauseWaves(version=version, variant=variant, arch=arch)
    tell(make(target, change))
