"""`repo-tools playground`: the list of its commands."""

from repo_tools.groups import group_of


@group_of(
    "repo_tools.playground",
    {
        "create": "Make a machine, and a publisher with releases for it.",
        "serve": "Serve the publisher's repository on loopback.",
        "boot": "Reset the machine and let it boot (simulated).",
        "status": "Show what runs and what is published.",
        "release": "Build and publish one more release.",
        "max-version": "Say how far up machines may go.",
    },
    epilog="""\b
Examples:
  repo-tools playground create
  repo-tools playground serve &
  updog --config playground/updog.toml update --now --reboot
  repo-tools playground status""",
)
def playground(**_shared: object) -> None:
    """A machine made of files, with a publisher, to try updates on.

    The machine is an OS disk in an image file; updog and signpost work on it as on a real one, and
    neither root nor loop devices are needed. Only its boot is simulated.
    """
