"""`repo-tools image build`: the images of a release, from directory trees."""

import fcntl
import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

import click

from repo_tools.errors import RepoToolsError
from repo_tools.filesystems import Kind
from repo_tools.image.options import print_line
from repo_tools.images import (
    BOOT_NAME,
    HASH_NAME,
    SALT,
    BootContent,
    Codec,
    Recipe,
    SystemImages,
    build_images,
    compress,
)
from repo_tools.jsonoutput import print_json, wants_json
from repo_tools.layout import refuse_oversized
from repo_tools.telling import telling
from repo_tools.tree import Tree, read_tree
from updog.durable import WholeDirectory
from updog.units import size

FACTS: Final = "images.json"
"""In a directory of images: what they are. Marks the directory as one that may be replaced."""

_OWN_NAMES: Final = {FACTS} | {
    f"{name}{suffix}"
    for name in (BOOT_NAME, HASH_NAME, *(f"root.{kind}" for kind in Kind))
    for suffix in ("", *(f".{codec}" for codec in Codec))
}
_DEFAULT_TIME: Final = 1_767_225_600
"""2026-01-01 in UTC: images must not depend on the day."""
_NO_CODEC: Final = "none"
_MOST_SALT_BYTES: Final = 256


def _parse_salt(_context: click.Context, _parameter: click.Parameter, value: str) -> bytes:
    """Return a salt, or end with a usage error."""
    try:
        salt = bytes.fromhex(value)
    except ValueError as error:
        raise click.BadParameter(f"{value!r} is not made of pairs of hexadecimal digits") from error
    if not 0 < len(salt) <= _MOST_SALT_BYTES:
        raise click.BadParameter(f"a salt has 1 to {_MOST_SALT_BYTES} bytes, not {len(salt)}")
    return salt


_input = click.Path(path_type=Path)


@click.command(
    "build",
    epilog="""\b
Examples:
  repo-tools image build root-tree --boot boot-tree images
  repo-tools image build root-tree --kernel vmlinuz --initrd initrd.img \\
      --cmdline-append "quiet loglevel=3" --root-format erofs images --force
  repo-tools image build root-tree --boot boot-tree --disk-size-mib 2048 \\
      --compression none images""",
)
@click.argument("root_tree", type=_input)
@click.argument("out_dir", type=_input)
@click.option("--boot", "tree", type=_input, help="Directory with the files of the boot image.")
@click.option("--kernel", type=_input, help="Kernel; becomes /vmlinuz of the boot image.")
@click.option(
    "--initrd", type=_input, help="Initial RAM disk; becomes /initrd.img of the boot image."
)
@click.option(
    "--cmdline-append",
    "append",
    default="",
    metavar="WORDS",
    help="Words for the end of the kernel command line.",
)
@click.option(
    "--root-format",
    type=click.Choice([kind.value for kind in Kind]),
    default=Kind.EXT4.value,
    show_default=True,
    help="File system of the root image.",
)
@click.option(
    "--compression",
    type=click.Choice(["zstd", "lz4", _NO_CODEC]),
    default="zstd",
    show_default=True,
    help="Also make compressed images; lz4 for machines of Bottlerocket.",
)
@click.option(
    "--salt",
    callback=_parse_salt,
    metavar="HEX",
    default=SALT.hex(),
    help="Salt of the hash tree, the same for all images of a product.  [default: a fixed one]",
)
@click.option(
    "--made-at",
    type=click.IntRange(1, (1 << 31) - 1),
    metavar="SECONDS",
    envvar="SOURCE_DATE_EPOCH",
    default=_DEFAULT_TIME,
    show_default=True,
    help="Time of every file, since 1970; also taken from SOURCE_DATE_EPOCH.",
)
@click.option(
    "--disk-size-mib",
    "disk_mib",
    type=click.IntRange(1),
    metavar="N",
    help="Refuse images that do not fit the partitions of a disk of N MiB.",
)
@click.option("--force", is_flag=True, help="Replace the images of an earlier build in OUT_DIR.")
def command(  # noqa: PLR0913 -- one parameter an option
    root_tree: Path,
    out_dir: Path,
    *,
    append: str,
    root_format: str,
    compression: str,
    salt: bytes,
    made_at: int,
    disk_mib: int | None,
    force: bool,
    **content: Path | None,
) -> None:
    """Make the root, hash and boot image of a system in OUT_DIR.

    The root image holds the files of ROOT_TREE, the hash image its dm-verity tree, and the command
    line in the boot image vouches for both. The same trees give the same bytes with the same
    e2fsprogs or erofs-utils, whoever builds them, when and where.

    Kept of a tree: names, contents, permission bits, symbolic and hard links, capabilities. All
    files belong to root and have one time. Not kept: other extended attributes, access control
    lists, holes. Refused: devices, sockets, pipes.
    """
    boot = BootContent(append=append, **content)
    if not (boot.tree or boot.kernel):
        raise click.UsageError("a boot image needs --boot BOOT_TREE or --kernel FILE")
    recipe = Recipe(made_at=made_at, salt=salt, kind=Kind(root_format))
    codec = {"zstd": Codec.ZSTD, "lz4": Codec.LZ4}.get(compression)
    _refuse_place(out_dir, [root_tree, *([boot.tree] if boot.tree else [])], force=force)
    tree = read_tree(root_tree)
    _warn_of_left_behind(tree)
    with (
        telling("build images in", out_dir, left="nothing there was changed"),
        _replacing(WholeDirectory(out_dir)) as scratch,
    ):
        images = build_images(tree, boot, scratch, recipe)
        if disk_mib is not None:
            refuse_oversized(images.by_role, disk_mib)
        facts = _finish(images, recipe, codec)
    _print(facts, out_dir)


@contextmanager
def _replacing(place: WholeDirectory) -> Iterator[Path]:
    """Give out a directory to fill; at the end, if all went well, it takes its place."""
    with suppress(FileNotFoundError), _locked(place.scratch):
        pass  # what is there and not locked was left by a build that is dead
    try:
        with _locked(place.begin()):
            yield place.scratch
            place.publish()
    finally:
        place.discard()


@contextmanager
def _locked(directory: Path) -> Iterator[None]:
    descriptor = os.open(directory, os.O_RDONLY | os.O_CLOEXEC)
    try:
        _lock(descriptor, directory)
        yield
    finally:
        os.close(descriptor)


def _lock(descriptor: int, directory: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise RepoToolsError(f"another build is at work in {directory}: wait for it") from error


def _refuse_place(out_dir: Path, trees: list[Path], *, force: bool) -> None:
    """Refuse to replace anything but images, and to build into what is built from."""
    for tree in trees:
        if out_dir.absolute().resolve().is_relative_to(tree.absolute().resolve()):
            raise RepoToolsError(
                f"{out_dir} lies in {tree}, of which images are made: name another"
            )
    names = {path.name for path in out_dir.iterdir()} if out_dir.is_dir() else {out_dir.name}
    if not out_dir.exists() or not names:
        return
    if FACTS not in names or not names <= _OWN_NAMES:
        raise RepoToolsError(
            f"{out_dir} holds something else than images of an earlier build: name a new directory"
        )
    if not force:
        raise RepoToolsError(f"{out_dir} holds images already: --force replaces them")


def _warn_of_left_behind(tree: Tree) -> None:
    for name, path in tree.left_behind.items():
        click.echo(f"not kept: the attribute {name} (of {path} and maybe others)", err=True)


def _finish(images: SystemImages, recipe: Recipe, codec: Codec | None) -> dict[str, Any]:
    """Compress the images, write down what they are, and return it."""
    facts = {
        "root_format": recipe.kind.value,
        "root_digest": images.table.root_digest.hex(),
        "salt": images.table.salt.hex(),
        "data_blocks": images.table.data_blocks,
        "images": {role: _image(path, codec) for role, path in images.by_role.items()},
    }
    (images.boot.parent / FACTS).write_text(f"{json.dumps(facts, indent=2)}\n")
    return facts


def _image(path: Path, codec: Codec | None) -> dict[str, Any]:
    if codec is None:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        return {"file": path.name, "length": path.stat().st_size, "sha256": digest}
    packed = path.with_name(f"{path.name}.{codec}")
    made = compress(path, packed, codec)
    return {
        "file": path.name,
        "length": made.uncompressed_length,
        "sha256": made.uncompressed_sha256,
        "compressed": {"file": packed.name, "length": made.length, "sha256": made.sha256},
    }


def _print(facts: dict[str, Any], out_dir: Path) -> None:
    if wants_json():
        print_json({"directory": str(out_dir), **facts})
        return
    for role, made in facts["images"].items():
        packed = made.get("compressed")
        more = f", {size(packed['length'])} as {packed['file']}" if packed else ""
        print_line(role.capitalize(), f"{out_dir / made['file']}: {size(made['length'])}{more}")
    print_line("Digest", f"{facts['root_digest']}, {facts['data_blocks']} blocks")
