"""`repo-tools image inspect`: what is in an image, a compressed image or a disk."""

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import assert_never

import click

from repo_tools.image.options import print_line
from repo_tools.inspection import (
    BootImage,
    CompressedImage,
    Damaged,
    Disk,
    HashImage,
    Image,
    PartitionOnDisk,
    RootImage,
    SetOnDisk,
    inspect,
)
from repo_tools.jsonoutput import print_json, wants_json
from updog.units import size

_PARTITION_LINE = "  {:>3}  {:<24} {:>9}  {}"


@click.command(
    "inspect",
    epilog="""\b
Examples:
  repo-tools image inspect images/root.ext4
  repo-tools image inspect images/root.verity.zst
  repo-tools image inspect disk.img --json""",
)
@click.argument("file", type=click.Path(path_type=Path))
def command(file: Path) -> None:
    """Show what is in FILE: a root, boot or hash image, a compressed one, or a whole disk.

    Of a disk: the partition table, what both sets hold, and whether every block of each root is
    the one that the boot image of its set vouches for. FILE is only read.
    """
    facts = inspect(file)
    if wants_json():
        print_json({"file": str(file), **asdict(facts)})
        return
    click.echo(f"{file}: {facts.kind}")
    if isinstance(facts, Disk):
        _print_disk(facts)
        return
    for label, text in _lines(facts):
        print_line(label, text)


def _lines(facts: Image | CompressedImage) -> Iterator[tuple[str, str]]:
    match facts:
        case RootImage():
            yield "Files", f"{facts.file_system}, {_size(facts.length)}, UUID {facts.uuid}"
            yield "System", _system(facts)
        case BootImage():
            yield "Files", f"{facts.file_system}, {_size(facts.length)}, UUID {facts.uuid}"
            for name, length in facts.files.items():
                yield "", f"/{name}" + (f"  {size(length)}" if length else "")
            yield "Command", facts.command_line
            yield "Vouches", _vouches(facts)
        case HashImage():
            yield "Tree", f"{_size(facts.length)}, UUID {facts.uuid}"
            yield "Covers", f"{facts.data_blocks} blocks, {size(facts.data_blocks * 4096)}"
            yield "Levels", f"{', '.join(map(str, facts.levels))} blocks"
            yield "Salt", facts.salt or "none"
            yield "Digest", facts.root_digest
        case CompressedImage():
            yield "Frame", f"{facts.codec}, {_size(facts.length)}, sha256 {facts.sha256}"
            yield "Content", f"{facts.content}, {_size(facts.content_length)}"
            yield "Digest", f"sha256 {facts.content_sha256}"
        case Damaged():
            yield "Damaged", facts.reason
        case _:
            assert_never(facts)


def _size(length: int) -> str:
    return f"{size(length)} ({length} bytes)"


def _system(root: RootImage) -> str:
    if root.os_release is None:
        return "it has no os-release"
    return ", ".join(f"{name}={value}" for name, value in root.os_release.items()) or "unnamed"


def _vouches(boot: BootImage) -> str:
    if boot.root_digest is None:
        return "for no root image"
    return f"for {boot.data_blocks} blocks with root digest {boot.root_digest}"


def _print_disk(disk: Disk) -> None:
    copies = "; ".join(disk.faults) or "both copies good"
    spare = "" if disk.has_spare_array else ", no room for a second entry array"
    print_line("Table", f"GPT: {copies}{spare}; {_size(disk.length)}")
    for partition in disk.partitions:
        click.echo(_partition(partition))
    for name, found in disk.sets.items():
        boots = ", boots next" if name == disk.next else ""
        print_line(f"Set {name}", f"priority/tries/successful {found.flags}{boots}")
        for label, text in _set(found):
            click.echo(f"  {label:<6} {text}")


def _partition(partition: PartitionOnDisk) -> str:
    place = f"at byte {partition.offset_bytes}"
    return _PARTITION_LINE.format(
        partition.number, partition.label, size(partition.length_bytes), place
    )


def _set(found: SetOnDisk) -> Iterator[tuple[str, str]]:
    for role, image in (("boot", found.boot), ("root", found.root), ("hash", found.hash)):
        yield role, _brief(image)
    if found.verified is not None:
        yield (
            "verity",
            "every block of the root matches" if found.verified else f"NO: {found.reason}",
        )


def _brief(image: Image | None) -> str:
    match image:
        case None:
            return "empty"
        case RootImage():
            return f"{image.file_system}, {size(image.length)}, {_system(image)}"
        case BootImage():
            return f"{image.file_system}, {size(image.length)}, vouches {_vouches(image)}"
        case HashImage():
            return f"{image.data_blocks} blocks, root digest {image.root_digest}"
        case Damaged():
            return f"damaged: {image.reason}"
        case _:
            assert_never(image)
