"""`repo-tools image disk`: a whole disk in a file, with a system in set A."""

import tempfile
from pathlib import Path

import click

from repo_tools.durable import place_durably
from repo_tools.errors import RepoToolsError
from repo_tools.image.options import print_line
from repo_tools.images import SystemImages, load_images
from repo_tools.jsonoutput import print_json, wants_json
from repo_tools.layout import MINIMUM_MIB, create_disk, refuse_oversized, write_image
from repo_tools.telling import telling
from signpost.disk import Location, read
from signpost.sets import SetName
from updog.errors import ImageError


@click.command(
    "disk",
    epilog="""\b
Examples:
  repo-tools image disk disk.img --size-mib 2048 --set-a images
  repo-tools image disk empty.img --size-mib 512""",
)
@click.argument("out", metavar="OUT.img", type=click.Path(path_type=Path))
@click.option(
    "--size-mib",
    "disk_mib",
    type=click.IntRange(MINIMUM_MIB, 1 << 24),
    metavar="N",
    default=2048,
    show_default=True,
    help="Size of the disk; the file is sparse.",
)
@click.option(
    "--set-a",
    "directory",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Images for set A, as `repo-tools image build` makes them.  [default: left empty]",
)
@click.option("--force", is_flag=True, help="Replace a file that is there already.")
def command(out: Path, disk_mib: int, *, directory: Path | None, force: bool) -> None:
    """Make a disk with the whole partition table in the file OUT.img.

    Set A is the one that boots (priority 1, successful), set B is empty and does not. The images
    of set A are proven to belong together before anything is made. The first partition begins
    after room for a second entry array, through which flags change at once.

    The disk has new GUIDs at each run: unlike images, no two disks are the same.
    """
    with telling("make the disk", out, left="nothing there was changed"):
        if out.exists() and (not force or not out.is_file()):
            hint = ": --force replaces it" if out.is_file() else " and is no regular file"
            raise RepoToolsError(f"{out} exists{hint}")
        images = _load(directory, disk_mib) if directory else None
        _make(out, disk_mib, images)
    _print(out, disk_mib, images)


def _load(directory: Path, disk_mib: int) -> SystemImages:
    try:
        images = load_images(directory)
    except ImageError as error:
        raise RepoToolsError(f"the images in {directory} cannot be used: {error}") from error
    refuse_oversized(images.by_role, disk_mib)
    return images


def _make(out: Path, disk_mib: int, images: SystemImages | None) -> None:
    """Make the disk elsewhere, and let it take its place when it is whole."""
    with tempfile.TemporaryDirectory(prefix=f".{out.name}.", dir=out.absolute().parent) as scratch:
        path = Path(scratch, out.name)
        create_disk(path, disk_mib)
        if images:
            disk = read(Location(path=path))
            for role, image in images.by_role.items():
                write_image(image, disk.window(getattr(disk.sets[SetName.A], role)))
        place_durably(path, out)


def _print(out: Path, disk_mib: int, images: SystemImages | None) -> None:
    digest = images.table.root_digest.hex() if images else None
    if wants_json():
        print_json({"disk": str(out), "size_mib": disk_mib, "root_digest": digest})
        return
    print_line("Disk", f"{out}: {disk_mib} MiB")
    print_line("Set A", f"boots; root digest {digest}" if digest else "empty; it cannot boot")
    print_line("Set B", "empty")
