"""`repo-tools image disk`: a whole disk in a file, with a system in set A."""

import tempfile
from dataclasses import dataclass
from pathlib import Path

import click

from repo_tools.durable import place_durably
from repo_tools.errors import RepoToolsError
from repo_tools.image.options import print_line
from repo_tools.images import SystemImages, load_images
from repo_tools.jsonoutput import print_json, wants_json
from repo_tools.layout import (
    EFI_MIB,
    MEBIBYTE,
    MINIMUM_MIB,
    create_disk,
    refuse_oversized,
    write_image,
)
from repo_tools.options import dry_run_option
from repo_tools.stage1.esp import put_into_disk
from repo_tools.telling import telling
from signpost.disk import Location, read
from signpost.sets import SetName
from updog.errors import ImageError


@click.command(
    "disk",
    epilog="""\b
Examples:
  repo-tools image disk disk.img --size-mib 2048 --set-a images
  repo-tools image disk disk.img --set-a images --esp stage1/esp.img \\
      --boot-code /usr/lib/SYSLINUX/gptmbr.bin
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
@click.option(
    "--esp",
    type=click.Path(path_type=Path),
    metavar="IMAGE",
    help="Fills EFI-SYSTEM, and gives it its size: what `repo-tools image stage1` makes.",
)
@click.option(
    "--boot-code",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="With --esp: code for LBA 0 that lets a BIOS start from it, as syslinux' gptmbr.bin.",
)
@click.option("--force", is_flag=True, help="Replace a file that is there already.")
@dry_run_option
def command(  # noqa: PLR0913 -- one parameter an option
    out: Path,
    disk_mib: int,
    *,
    directory: Path | None,
    esp: Path | None,
    boot_code: Path | None,
    force: bool,
    dry_run: bool,
) -> None:
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
        loader = _Loader(esp=esp, boot_code=boot_code)
        images = _load(directory, disk_mib, loader) if directory else None
        if not dry_run:
            _make(out, disk_mib, images, loader)
    _print(out, disk_mib, images, dry_run=dry_run)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Loader:
    """What the firmware starts from, if this disk is to have it."""

    esp: Path | None
    boot_code: Path | None

    def __post_init__(self) -> None:
        if self.boot_code is not None and self.esp is None:
            raise click.UsageError("--boot-code needs --esp: it starts what that image holds")

    @property
    def efi_mib(self) -> int:
        """The size of the EFI partitions: the usual one, or more where the image needs it."""
        return max(EFI_MIB, -(-self.esp.stat().st_size // MEBIBYTE)) if self.esp else EFI_MIB


def _load(directory: Path, disk_mib: int, loader: _Loader) -> SystemImages:
    try:
        images = load_images(directory)
    except ImageError as error:
        raise RepoToolsError(f"the images in {directory} cannot be used: {error}") from error
    refuse_oversized(images.by_role, disk_mib, efi_mib=loader.efi_mib)
    return images


def _make(out: Path, disk_mib: int, images: SystemImages | None, loader: _Loader) -> None:
    """Make the disk elsewhere, and let it take its place when it is whole."""
    with tempfile.TemporaryDirectory(prefix=f".{out.name}.", dir=out.absolute().parent) as scratch:
        path = Path(scratch, out.name)
        create_disk(path, disk_mib, efi_mib=loader.efi_mib)
        if images:
            disk = read(Location(path=path))
            for role, image in images.by_role.items():
                write_image(image, disk.window(getattr(disk.sets[SetName.A], role)))
        if loader.esp:
            put_into_disk(path, loader.esp, boot_code=loader.boot_code)
        place_durably(path, out)


def _print(out: Path, disk_mib: int, images: SystemImages | None, *, dry_run: bool) -> None:
    digest = images.table.root_digest.hex() if images else None
    if wants_json():
        facts = {"disk": str(out), "size_mib": disk_mib, "root_digest": digest}
        print_json({**facts, "dry_run": dry_run})
        return
    print_line("Disk", f"{out}: {disk_mib} MiB")
    print_line("Set A", f"boots; root digest {digest}" if digest else "empty; it cannot boot")
    print_line("Set B", "empty")
    if dry_run:
        print_line("Dry run", "nothing was written")
