"""The same disk with sectors of another size: the same partitions in the same places, as full."""

import os
from pathlib import Path

from tests.helpers.gpt_builder import DiskSpec, PartitionSpec, write_image
from tests.helpers.gpt_readers import Medium, SeenPartition, uefi_reader
from tests.helpers.machine import offsets_with_data


def resector(image: Path, copy: Path, *, old: int = 512, new: int = 4096) -> Path:
    """Copy a disk image; its partitions must begin and end at sectors of both sizes."""
    seen = uefi_reader(Medium.of_file(image, old))
    assert seen is not None
    partitions = tuple(_moved(each, old, new) for each in seen.partitions)
    first = min(each.first_lba for each in partitions)
    # As this project lays disks out: with room for a second array in front of the first partition.
    spec = DiskSpec(
        sector_size=new,
        sector_count=image.stat().st_size // new,
        partitions=partitions,
        first_usable=first,
    )
    write_image(copy, spec)
    for each in partitions:
        _copy_range(image, copy, each.first_lba * new, (each.last_lba + 1) * new)
    return copy


def _moved(seen: SeenPartition, old: int, new: int) -> PartitionSpec:
    first, end = seen.first_lba * old, (seen.last_lba + 1) * old
    assert first % new == end % new == 0
    return PartitionSpec(
        number=seen.number,
        type_guid=seen.type_guid,
        unique_guid=seen.unique_guid,
        first_lba=first // new,
        last_lba=end // new - 1,
        attributes=seen.attributes,
        name=seen.name,
    )


def _copy_range(source: Path, target: Path, first: int, end: int) -> None:
    with source.open("rb") as reader, target.open("r+b") as writer:
        for offset, length in offsets_with_data(reader):
            if first <= offset < end:
                data = os.pread(reader.fileno(), min(length, end - offset), offset)
                os.pwrite(writer.fileno(), data, offset)
