"""`repo-tools release`: the list of its commands."""

from repo_tools.groups import group_of


@group_of(
    "repo_tools.release",
    {
        "add": "Add a release: three images that belong together.",
        "withdraw": "Take a release back; machines that run it move off it.",
        "list": "Show what is published, and what waits in the draft.",
        "discard": "Throw the draft away.",
    },
    epilog="""\b
Examples:
  repo-tools release add 1.2.0 --variant shop --arch x86_64 --images build --waves default
  repo-tools publish
  repo-tools release list""",
)
def release(**_shared: object) -> None:
    """What is offered to machines.

    Changes wait in a draft until `repo-tools publish`; --publish makes one public at once.
    """
