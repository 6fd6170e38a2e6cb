"""Whether three images belong together: does the boot image vouch for the root and its hash tree?

Decides as a booting kernel would, but at once and for every block. Knows no sets and no flags.
"""

from pathlib import Path

from repo_tools import ext4
from repo_tools.cmdline import FILE_NAME, VerityTable, parse_command_line
from repo_tools.errors import VouchingError
from signpost.disk import Window
from updog.install import find_bad_block
from updog.partition import open_for_reading
from updog.verity import TreeReader


def whole(image: Path) -> Window:
    """Return an image file as if it were a partition."""
    return Window(path=image, offset_bytes=0, length_bytes=image.stat().st_size)


def read_table(boot: Window) -> VerityTable:
    """Return what a boot image vouches for.

    Raises:
        FileSystemError: it holds no file system with a command line in it.
        CommandLineError: the command line vouches for no root image.
    """
    return parse_command_line(read_command_line(boot))


def read_command_line(boot: Window) -> str:
    """Return the kernel command line of a boot image.

    Raises:
        FileSystemError: it holds no file system with a command line in it.
    """
    data = ext4.read_file(boot.path, FILE_NAME, offset_bytes=boot.offset_bytes)
    return data.decode("utf-8", errors="replace").strip()


def verify(*, boot: Window, root: Window, hash_image: Window) -> VerityTable:
    """Check every block of a root image against what the boot image vouches for.

    Raises:
        FileSystemError, CommandLineError: see `read_table`.
        VouchingError: root or hash image is another one than the boot image was made for.
        ImageError: the hash image holds no tree, or a damaged one.
        PartitionError: something cannot be read.
    """
    table = read_table(boot)
    with open_for_reading(hash_image) as hashes, open_for_reading(root) as data:
        reader = TreeReader(hashes.read, length_bytes=hash_image.length_bytes)
        _refuse_other_tree(table, reader)
        bad = find_bad_block(data, reader)
    if bad is not None:
        raise VouchingError(f"block {bad} of the root image is corrupted")
    return table


def _refuse_other_tree(table: VerityTable, reader: TreeReader) -> None:
    if reader.root_digest != table.root_digest:
        raise VouchingError(
            f"the hash image has the root digest {reader.root_digest.hex()}, "
            f"the boot image vouches for {table.root_digest.hex()}"
        )
    if (reader.superblock.salt, reader.superblock.data_blocks) != (table.salt, table.data_blocks):
        raise VouchingError("the hash image is not the one that the boot image was made for")
