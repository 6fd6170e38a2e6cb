"""`repo-tools waves`: the list of its commands."""

from repo_tools.groups import group_of


@group_of(
    "repo_tools.waves",
    {
        "set": "Give a rollout a schedule.",
        "show": "Show when a rollout reaches whom, and how far it is.",
        "pause": "Stop a rollout where it is.",
        "resume": "Let a paused rollout go on.",
        "accelerate": "Let the rest of a rollout come earlier.",
    },
    epilog="""\b
Examples:
  repo-tools waves show
  repo-tools waves pause --publish
  repo-tools waves accelerate --to emergency --publish""",
)
def waves(**_shared: object) -> None:
    """When a release reaches which part of the fleet.

    Without a version they mean the newest release, for every variant and architecture that has it.
    """
