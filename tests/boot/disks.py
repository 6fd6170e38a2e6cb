"""The disks of the guests: made by repo-tools, judged by readers that share no code with it."""

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from uuid import UUID

from repo_tools.layout import create_disk, write_image
from repo_tools.programs import find_own_command, find_program, run_program
from repo_tools.sources import Release
from repo_tools.stage1.esp import put_into_disk
from signpost.disk import Location, Window, read
from signpost.sets import BOTTLEROCKET_PRIVATE, SetName
from tests.boot.place import HOST
from tests.boot.releases import FACTORY, Channel, os_release, put_files, run
from tests.helpers.gpt_builder import Flags
from tests.helpers.gpt_readers import (
    ALL_READERS,
    Medium,
    Seen,
    SeenPartition,
    boot_rule,
    uefi_reader,
)

DISK_MIB = 1536
"""Sparse; its BOOT partitions have room for a kernel."""
EFI_MIB = 64
_PRIVATE_MIB = 16
_SECTOR = 512


def make_factory_disk(path: Path, factory: Release, *, esp: Path) -> None:
    """Make a disk that holds the first release in set A, and that any firmware starts from."""
    create_disk(path, DISK_MIB, efi_mib=EFI_MIB)
    put_into_disk(path, esp, boot_code=HOST / "usr/lib/SYSLINUX/gptmbr.bin")
    found = read(Location(path=path))
    images = factory.images
    for image, partition in zip(
        (images.boot, images.root, images.hash), found.sets[SetName.A].partitions, strict=True
    ):
        write_image(image, found.window(partition))


def give_channel(disk: Path, channel: Channel, *, port: int, has_systemd: bool) -> None:
    """Fill the PRIVATE partition: where the machine looks for updates, and whom it trusts.

    On a real machine the trusted root comes with the image; here each case has its own repository.
    """
    restart = "" if has_systemd else '[reboot]\ncommand = ["/bin/reboot", "-f"]\n'
    config = (
        f"{_base_urls(f'http://10.0.2.2:{port}/{channel.name}')}"
        f'[paths]\ntrusted_root = "/var/etc/root.json"\n{restart}'
    )
    files = {"etc/root.json": channel.trusted_root, "etc/updog.toml": config.encode()}
    image = disk.with_suffix(".ext4")
    # With a journal: the power will be cut.
    run("mke2fs", "-q", "-t", "ext4", "-b", "4096", image, f"{_PRIVATE_MIB}M")
    put_files(image, {**files, "lib/made": b"", "cache/made": b""})
    write_image(image, _private_window(disk))
    image.unlink()


def install_on_host(disk: Path, channel: Channel, *, port: int) -> None:
    """Update the machine that is off, with the updog of this host, and tell the machine of it."""
    directory = disk.with_suffix(".host")
    state = directory / "state"
    state.mkdir(parents=True)
    (directory / "root.json").write_bytes(channel.trusted_root)
    (directory / "os-release").write_text(os_release(FACTORY))
    (directory / "updog.toml").write_text(
        f"{_base_urls(f'http://127.0.0.1:{port}/{channel.name}')}"
        '[paths]\ntrusted_root = "root.json"\nmetadata_cache = "cache"\nmigrations = "migrations"\n'
        f'state = "state"\nos_release = "os-release"\n[disk]\npath = "{disk}"\nactive = "A"\n'
    )
    configured = [str(find_own_command("updog")), "--config", str(directory / "updog.toml")]
    subprocess.run([*configured, "update", "--now"], check=True, capture_output=True, timeout=300)
    with window_as_file(disk, _private_window(disk)) as image:
        kept = {f"lib/updog/{path.name}": path.read_bytes() for path in state.iterdir()}
        put_files(image, kept)
    shutil.rmtree(directory)


@contextmanager
def window_as_file(disk: Path, window: Window) -> Iterator[Path]:
    """Lend a partition as a file of its own, which is written back."""
    image = disk.with_suffix(".window")
    with disk.open("rb") as file:
        file.seek(window.offset_bytes)
        image.write_bytes(file.read(window.length_bytes))
    yield image
    write_image(image, window)
    image.unlink()


def corrupt_file(disk: Path, place: SeenPartition, name: str) -> None:
    """Destroy the first block of a file in a root partition: a block that booting reads."""
    start = place.first_lba * _SECTOR
    asked = ["-R", f"blocks {name}", f"{disk}?offset={start}"]
    found = run_program(find_program("debugfs"), *asked)
    block = int(found.stdout.split()[0])
    with disk.open("r+b") as file:
        file.seek(start + block * 4096 + 100)
        file.write(b"not what was signed")


def _base_urls(url: str) -> str:
    return f'metadata_base_url = "{url}/metadata"\ntargets_base_url = "{url}/targets"\nseed = 7\n'


def _private_window(disk: Path) -> Window:
    found = read(Location(path=disk))
    private = next(p for p in found.table.partitions if p.type_guid == BOTTLEROCKET_PRIVATE)
    return found.window(private)


@dataclass(frozen=True, slots=True)
class Judge:
    """Reads a disk whose machine is off, with no code of the project's own."""

    disk: Path

    def table(self) -> Seen:
        """Return the table; fail unless every kind of reader sees the same flags in it."""
        medium = Medium.of_file(self.disk, _SECTOR)
        seen = uefi_reader(medium)
        assert seen is not None, f"{self.disk} has no valid table"
        for reader in ALL_READERS:
            other = reader(medium)
            assert other is not None, f"{reader.__name__} sees no table"
            assert other.boot_flags == seen.boot_flags, reader.__name__
        return seen

    def has_two_good_copies(self) -> bool:
        """Whether primary and backup are both valid and say the same of every partition."""
        medium = Medium.of_file(self.disk, _SECTOR)

        def read_without_primary(lba: int, count: int) -> bytes:
            return bytes(_SECTOR) if lba == 1 else medium.read(lba, count)

        primary = uefi_reader(medium)
        backup = uefi_reader(replace(medium, read=read_without_primary))
        if primary is None or backup is None or primary.copy != "primary":
            return False
        return primary.partitions == backup.partitions

    def destroy(self, place: range) -> None:
        """Overwrite bytes of the disk."""
        with self.disk.open("r+b") as file:
            file.seek(place.start)
            file.write(b"\xa5" * len(place))

    def flags(self) -> dict[str, str]:
        """Return priority/tries/successful of each set."""
        return dict(zip("AB", map(_shown, self.table().boot_flags), strict=True))

    def next(self) -> str | None:
        """Return the set that a gptprio boot loader would take."""
        chosen = boot_rule(self.table().boot_flags)
        return None if chosen is None else "AB"[chosen]

    def holds(self, name: str, release: Release) -> bool:
        """Whether the partitions of a set begin with the images of a release."""
        images = release.images
        places = self.partitions(name)
        return all(
            self._begins(place, image)
            for place, image in zip(places, (images.boot, images.root, images.hash), strict=True)
        )

    def partitions(self, name: str) -> tuple[SeenPartition, SeenPartition, SeenPartition]:
        """Return boot, root and hash of a set, found as boot loaders find them."""
        boots = [p for p in self.table().partitions if p.type_guid == _BOOT]
        boot = boots["AB".index(name)]
        by_number = {p.number: p for p in self.table().partitions}
        return boot, by_number[boot.number + 1], by_number[boot.number + 2]

    def backup_entries(self) -> range:
        """Return the bytes of the backup copy's entries, where every change is written first."""
        end = self.backup_header().start
        return range(end - 32 * _SECTOR, end)

    def backup_header(self) -> range:
        """Return the bytes of the last sector."""
        end = self.disk.stat().st_size
        return range(end - _SECTOR, end)

    def image_bytes(self, name: str, role: str, release: Release, share: float) -> range:
        """Return one block of a set, about so far through its image, that is not all zeros."""
        image = getattr(release.images, role)
        place = self.partitions(name)[("boot", "root", "hash").index(role)]
        block = _block_with_data(image, share)
        start = place.first_lba * _SECTOR + block * 4096
        return range(start, start + 4096)

    def commit_sector(self) -> range:
        """Return the bytes of the primary header, whose write makes a change count."""
        return range(_SECTOR, 2 * _SECTOR)

    def _begins(self, place: SeenPartition, image: Path) -> bool:
        with self.disk.open("rb") as disk, image.open("rb") as file:
            disk.seek(place.first_lba * _SECTOR)
            while chunk := file.read(1 << 20):
                if disk.read(len(chunk)) != chunk:
                    return False
        return True


def _block_with_data(image: Path, share: float) -> int:
    data = image.read_bytes()
    block = int(share * (len(data) // 4096 - 1))
    while not any(data[block * 4096 : (block + 1) * 4096]):
        block -= 1
    return block


_BOOT = UUID("6b636168-7420-6568-2070-6c616e657421")


def _shown(flags: Flags) -> str:
    return f"{flags.priority}/{flags.tries}/{flags.successful}"
