"""Whether a set still holds what was installed: the proof of an installation, at any later time.

Decides for each partition what it can be compared with: the root with its hash tree, the hash tree
and the boot image with what updog noted when it wrote them. Says so where nothing was noted, as in
a set that came with the machine. Changes nothing.
"""

from collections.abc import Mapping

import msgspec

from signpost.disk import Window
from updog.block_hash import BLOCK_BYTES
from updog.errors import ImageError, PartitionError
from updog.history import Content
from updog.install import Role, content_digest, find_bad_block
from updog.partition import OpenPartition, open_for_reading
from updog.verity import TreeReader, read_superblock


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """What a look at one partition has shown.

    Attributes:
        role: The partition's part in its set.
        fault: What is wrong with it; None if nothing was found.
        proof: What it was compared with; None if there was nothing to compare it with.
    """

    role: Role
    fault: str | None
    proof: str | None

    @property
    def is_proven(self) -> bool:
        """Whether it holds what it was compared with."""
        return self.proof is not None and self.fault is None


def verify_set(
    windows: Mapping[Role, Window], contents: Mapping[str, Content]
) -> tuple[Finding, ...]:
    """Read a set back from the medium and compare it.

    Args:
        windows: Its partitions.
        contents: What was noted of them, by role.
    """
    return (
        _verify_noted(Role.HASH, windows[Role.HASH], contents.get(Role.HASH)),
        _verify_root(windows[Role.ROOT], windows[Role.HASH]),
        _verify_noted(Role.BOOT, windows[Role.BOOT], contents.get(Role.BOOT)),
    )


def _verify_noted(role: Role, window: Window, noted: Content | None) -> Finding:
    if noted is None:
        return Finding(role=role, fault=None, proof=None)
    proof = f"sha256 {noted.sha256[:16]}…, noted when it was written"
    try:
        with open_for_reading(window) as partition:
            partition.forget_cached()
            is_same = content_digest(partition, noted.length) == noted.sha256
    except PartitionError as err:
        return Finding(role=role, fault=str(err), proof=proof)
    fault = None if is_same else "it does not hold what was written to it"
    return Finding(role=role, fault=fault, proof=proof)


def _verify_root(root: Window, hashes: Window) -> Finding:
    proof = "its hash tree"
    try:
        with open_for_reading(hashes) as tree_partition, open_for_reading(root) as partition:
            for each in (tree_partition, partition):
                each.forget_cached()
            tree = _open_tree(tree_partition)
            proof = f"its hash tree, root digest {tree.root_digest.hex()[:16]}…"
            bad = find_bad_block(partition, tree)
    except (ImageError, PartitionError) as err:
        return Finding(role=Role.ROOT, fault=str(err), proof=proof)
    fault = None
    if bad is not None:
        fault = (
            f"block {bad} (byte {bad * BLOCK_BYTES}) is not the one that its hash tree vouches for"
        )
    return Finding(role=Role.ROOT, fault=fault, proof=proof)


def _open_tree(partition: OpenPartition) -> TreeReader:
    room_bytes = partition.window.length_bytes
    superblock = read_superblock(partition.read, length_bytes=room_bytes)
    return TreeReader(partition.read, length_bytes=superblock.image_bytes)
