"""`repo-tools max-version`: the list of its commands."""

from repo_tools.groups import group_of


@group_of(
    "repo_tools.max_version",
    {
        "set": "Let machines go up to a version and no further.",
    },
    epilog="\b\nExample:\n  repo-tools max-version set 1.2.0 --publish",
)
def max_version(**_shared: object) -> None:
    """How far up machines may go."""
