"""`repo-tools release add`: three images become a release."""

from datetime import datetime
from pathlib import Path

import click
from semver import Version

from repo_tools.changes import AddRelease, Change
from repo_tools.draft import read_catalogue
from repo_tools.errors import RepoToolsError
from repo_tools.images import Codec, find_images
from repo_tools.jsonoutput import print_json, wants_json
from repo_tools.options import parse_version_value, print_line, version_argument
from repo_tools.policy import load_policy
from repo_tools.releases import find_listed
from repo_tools.repository import PublishedRepository
from repo_tools.sources import (
    ImagePaths,
    Release,
    add_release,
    check_images,
    find_migrations,
    refuse_other_release,
)
from repo_tools.waves.options import read_schedule, start_option
from repo_tools.workspace import Outcome, Target, change_options, make
from updog.units import size


@click.command(
    "add",
    epilog="""\b
Examples:
  repo-tools release add 1.2.0 --variant shop --arch x86_64 --images build --waves default
  repo-tools release add 1.2.0 --variant shop --arch x86_64 --boot b.ext4 --root r.ext4 \\
    --hash r.verity --migration migrate_v1.2.0_settings --disk-mib 2048""",
)
@version_argument
@click.option("--variant", required=True, help="As VARIANT_ID in the machines' os-release.")
@click.option("--arch", required=True, help="As `uname -m` says there.")
@click.option(
    "--images",
    "directory",
    type=click.Path(path_type=Path),
    help="Directory of boot.ext4, root.ext4 or root.erofs, and root.verity.",
)
@click.option("--boot", type=click.Path(path_type=Path), help="Boot image.")
@click.option("--root", type=click.Path(path_type=Path), help="Root image.")
@click.option("--hash", "tree", type=click.Path(path_type=Path), help="Hash image.")
@click.option(
    "--migration",
    "--migrations",
    "migrations",
    multiple=True,
    metavar="FILE",
    help="Leads here from the version below; again for more, in order.",
)
@click.option(
    "--follows",
    callback=lambda context, parameter, value: (
        value and parse_version_value(context, parameter, value)
    ),
    metavar="VERSION",
    help="A version that machines come from, if it was never published here.",
)
@click.option(
    "--waves",
    "wave_file",
    metavar="FILE",
    help="Wave file, or default, accelerated, emergency, slow.  [default: all at once]",
)
@start_option
@click.option(
    "--compression",
    type=click.Choice(["zstd", "lz4"]),
    default="zstd",
    show_default=True,
    help="lz4 for machines of Bottlerocket.",
)
@click.option(
    "--disk-mib",
    "--disk-size-mib",
    "disk_mib",
    type=click.IntRange(1),
    help="Check that images fit such a disk.",
)
@click.option(
    "--trust-boot",
    is_flag=True,
    help="Do not read the boot image's kernel command line; it is kept in another way.",
)
@click.option("--hold-back", is_flag=True, help="Publish it, but let no machine take it yet.")
@change_options
def command(  # noqa: PLR0913 -- one parameter an option
    version: Version,
    *,
    variant: str,
    arch: str,
    directory: Path | None,
    boot: Path | None,
    root: Path | None,
    tree: Path | None,
    migrations: tuple[str, ...],
    follows: Version | None,
    wave_file: str | None,
    start: datetime | None,
    compression: str,
    disk_mib: int | None,
    trust_boot: bool,
    hold_back: bool,
    target: Target,
) -> None:
    """Add release VERSION to the draft, after proving that its images belong together.

    Times of a wave file count from the publish. The limit of its variant and architecture rises to
    it unless it is held back.
    """
    schedule = read_schedule(wave_file, start=start) if wave_file else None
    images = check_images(
        _paths(directory, boot, root, tree), disk_mib=disk_mib, trusts_boot=trust_boot
    )
    release = Release(variant=variant, arch=arch, version=version, images=images)
    refuse_other_release(release)
    change = add_release(
        release,
        codec={"zstd": Codec.ZSTD, "lz4": Codec.LZ4}[compression],
        schedule=schedule,
        follows=follows,
        migrations=find_migrations(migrations),
        hold_back=hold_back,
    )
    if _is_published(target.publisher, change):
        _tell_known(change)
        return

    def is_other_build(other: Change) -> bool:
        return isinstance(other, AddRelease) and other.identity == change.identity

    _tell(change, make(target, change, replaces=is_other_build))


def _paths(
    directory: Path | None, boot: Path | None, root: Path | None, tree: Path | None
) -> ImagePaths:
    """Return where the images are, or end with a usage error."""
    if directory is not None and not (boot and root and tree):
        found = find_images(directory)
        boot, root, tree = boot or found[0], root or found[1], tree or found[2]
    if boot is None or root is None or tree is None:
        raise click.UsageError("say where the images are: --images DIR, or --boot --root --hash")
    return ImagePaths(boot=boot, root=root, hash=tree)


def _is_published(publisher: Path, change: AddRelease) -> bool:
    """Tell whether these very images are published under this version already.

    Raises:
        RepoToolsError: others are.
    """
    policy = load_policy(publisher)
    published = PublishedRepository(policy.repository)
    found = find_listed(read_catalogue(published).manifest, change.identity)
    if found is None:
        return False
    names = {"boot": found.images.boot, "root": found.images.root, "hash": found.images.hash}
    for role, name in names.items():
        if published.uncompressed_sha256(name) != getattr(change.images, role).sha256:
            raise RepoToolsError(
                f"{change.version} of {change.variant} for {change.arch} is published already "
                f"with another {role} image, and machines may run it: choose a new version"
            )
    return True


def _tell_known(change: AddRelease) -> None:
    if wants_json():
        print_json({"place": "nowhere", "changes": []})
    else:
        print_line("Known", f"{change.version} is there already with the same images; no change")


def _tell(change: AddRelease, outcome: Outcome) -> None:
    if wants_json():
        files = {file.name: file.length for file in change.files}
        print_json({**outcome.document(), "files": files})
        return
    sizes = ", ".join(
        f"{role} {size(getattr(change.images, role).length)}" for role in ("boot", "root", "hash")
    )
    print_line("Images", f"{sizes}; they belong together")
    print_line("Release", f"{change}: {outcome.words}")
