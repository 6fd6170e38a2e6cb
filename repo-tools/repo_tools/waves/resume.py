"""`repo-tools waves resume`: a paused rollout goes on."""

import click
from semver import Version

from repo_tools.changes import ResumeWaves
from repo_tools.waves.options import selection_options, tell
from repo_tools.workspace import Target, change_options, make


@click.command(
    "resume",
    epilog="""\b
Examples:
  repo-tools waves resume --publish
  repo-tools waves resume 1.2.0 --variant shop""",
)
@selection_options
@change_options
def command(
    version: Version | None, *, variant: str | None, arch: str | None, target: Target
) -> None:
    """Let the paused rollout of VERSION go on where it stopped.

    What was still to come comes as much later as the pause lasted.
    """
    change = ResumeWaves(version=version, variant=variant, arch=arch)
    tell(make(target, change))
