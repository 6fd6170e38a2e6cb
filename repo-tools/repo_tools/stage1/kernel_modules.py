"""Which modules of a kernel stage-1 loads, and in which order.

Decides by what each module says it depends on, so that no `depmod` has to have run. What is built
into the kernel is left out. Refuses a module that was asked for and does not exist.
"""

import lzma
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from repo_tools.errors import RepoToolsError

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

DISK_MODULES: Final = (
    *("virtio_pci", "virtio_mmio", "virtio_blk", "virtio_scsi"),
    *("nvme", "ahci", "sd_mod", "mmc_block", "sdhci_pci", "sdhci_acpi", "usb_storage", "xhci_pci"),
    *("hv_storvsc", "vmw_pvscsi", "xen_blkfront", "ext4"),
)
"""What disks and the BOOT file system need on common machines, as far as a kernel has it."""

_DEPENDS: Final = re.compile(rb"\0depends=([^\0]*)\0")


def collect_modules(
    directory: Path, asked_for: Sequence[str], *, optional: Sequence[str] = DISK_MODULES
) -> dict[str, bytes]:
    """Return modules with everything they depend on, in loading order, uncompressed.

    Args:
        directory: `lib/modules/VERSION` of the kernel.
        asked_for: names that must exist, as modules or built in.
        optional: names that are taken where they exist.

    Raises:
        RepoToolsError: one of the first does not exist, or there are no modules at all.
    """
    known, built_in = _modules(directory), _built_in(directory)
    names = [name.replace("-", "_") for name in (*asked_for, *optional)]
    for name in names[: len(asked_for)]:
        if name not in known and name not in built_in:
            raise RepoToolsError(f"the kernel of {directory} has no module {name}")
    ordered: dict[str, bytes] = {}
    for name in names:
        if name in known:
            _add(name, known, ordered)
    return ordered


def _modules(directory: Path) -> dict[str, Path]:
    found = {
        path.name.partition(".ko")[0].replace("-", "_"): path
        for path in directory.rglob("*.ko*")
        if path.suffix in {".ko", ".xz", ".zst"}
    }
    if not found and not (directory / "modules.builtin").exists():
        raise RepoToolsError(f"{directory} holds no kernel modules: give lib/modules/VERSION")
    return found


def _built_in(directory: Path) -> frozenset[str]:
    lines = (directory / "modules.builtin").read_text().splitlines()
    return frozenset(Path(line).stem.replace("-", "_") for line in lines)


def _add(name: str, known: Mapping[str, Path], ordered: dict[str, bytes]) -> None:
    if name in ordered:
        return
    data = _read(known[name])
    for dependency in _dependencies(data):
        if dependency in known:
            _add(dependency, known, ordered)
    ordered[name] = data


def _dependencies(data: bytes) -> Iterator[str]:
    """Yield what a module's .modinfo section names (Linux, scripts/mod/modpost.c)."""
    found = _DEPENDS.search(data)
    if found and found[1]:
        for name in found[1].decode("ascii").split(","):
            yield name.replace("-", "_")


def _read(path: Path) -> bytes:
    """Return a module uncompressed: not every kernel that has compressed ones unpacks them."""
    data = path.read_bytes()
    match path.suffix:
        case ".xz":
            return lzma.decompress(data)
        case ".zst":
            return zstd.decompress(data)
        case _:
            return data
