"""`repo-tools image`: the list of its commands."""

from repo_tools.groups import group_of


@group_of(
    "repo_tools.image",
    {
        "build": "Make root, hash and boot image from directory trees.",
        "disk": "Lay out a whole disk, and fill set A.",
        "inspect": "Show what is in an image or a disk.",
        "stage1": "Make the boot loader that chooses a set by signpost's rule.",
    },
    epilog="""\b
Examples:
  repo-tools image build root-tree --kernel vmlinuz --initrd initrd.img images
  repo-tools image disk disk.img --size-mib 2048 --set-a images
  repo-tools image inspect disk.img
  repo-tools image stage1 out --kernel /boot/vmlinuz-6.1 --modules /lib/modules/6.1""",
)
def image(**_shared: object) -> None:
    """Images of a system, and whole disks: made and read without root or loop devices."""
