"""`repo-tools migrations`: the list of its commands."""

from repo_tools.groups import group_of


@group_of(
    "repo_tools.migrations",
    {
        "set": "Say which migrations lead from one version to another.",
    },
    epilog="\b\nExample:\n  repo-tools migrations set 1.1.0 1.2.0 migrate_v1.2.0_settings",
)
def migrations(**_shared: object) -> None:
    """What runs on a machine between two versions."""
