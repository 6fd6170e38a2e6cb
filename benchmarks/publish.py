"""How long `repo-tools publish` takes for a release, as a ratio to compressing its root image.

Run by `make bench`. What a publish does besides compressing (digests of both forms, writing,
flushing, signing) is to cost little, so it is compared with the same library, level and number of
workers on the same file, whose output goes nowhere. Runs take turns, so that a busy machine slows
both.

    python -m benchmarks.publish [MIB [RUNS]]
"""

import statistics
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Final
from uuid import UUID

from benchmarks.measure import Taken, median_ratio, run, take_turns
from benchmarks.scene import fill_root
from benchmarks.startup import BIN
from repo_tools import ext4
from repo_tools.cmdline import FILE_NAME, format_command_line
from repo_tools.images import build_hash_image
from repo_tools.keys import KeyDirectory
from repo_tools.repository import create_repository
from repo_tools.tree import read_tree

BAR: Final = 1.3
_COMPRESS: Final = """\
import sys
from repo_tools.images import zstd, zstd_options
for name in sys.argv[1:]:
    with open(name, "rb") as file:
        compressor = zstd.ZstdCompressor(options=zstd_options())
        while chunk := file.read(1 << 20):
            compressor.compress(chunk)
        compressor.flush()
"""
_ROLES: Final = ("targets", "snapshot", "timestamp")


def main() -> None:
    """Print one line."""
    size_mib, runs = (int(word) for word in (sys.argv[1:] + ["1024", "5"][len(sys.argv) - 1 :]))
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        images = make_images(directory / "images", size_mib)
        compress = [sys.executable, "-c", _COMPRESS, *map(str, images)]
        taken = take_turns(
            {"publish": lambda: publish(directory), "compress": lambda: run(compress)}, runs
        )
    own, other = ([each.seconds for each in taken[name]] for name in ("publish", "compress"))
    peak_mib = max(each.peak_mib for each in taken["publish"])
    print(
        f"\nreference: the same library, level and workers; {size_mib} MiB, {runs} pairs, elapsed"
    )
    print(f"{'command':<32} {'s':>6} {'compress':>13} {'ratio':>6} {'bar':>5} {'MiB':>5}")
    medians = f"{statistics.median(own):6.1f} {statistics.median(other):13.1f}"
    ratio = f"{median_ratio(own, other):6.2f} {BAR:5.2f}"
    print(f"{'repo-tools publish':<32} {medians} {ratio} {peak_mib:5.0f}")


def publish(directory: Path) -> Taken:
    """Publish the release with a new publisher, who is gone afterwards."""
    with tempfile.TemporaryDirectory(dir=directory) as name:
        return run(prepared(Path(name), directory / "images"))


def make_images(directory: Path, size_mib: int) -> list[Path]:
    """Make the images of a release with real files in its root."""
    boot_tree = directory / "boot"
    boot_tree.mkdir(parents=True)
    root, tree, boot = (directory / name for name in ("root.ext4", "root.verity", "boot.ext4"))
    fill_root(root, size_mib)
    table = build_hash_image(root, tree)
    (boot_tree / FILE_NAME.lstrip("/")).write_text(format_command_line(table))
    with root.open("rb") as file:
        (boot_tree / "vmlinuz").write_bytes(file.read(8 << 20))
    how = ext4.Format(size_bytes=16 << 20, uuid=UUID(int=1), made_at=1)
    ext4.build_file_system(read_tree(boot_tree), boot, how)
    return [root, tree, boot]


def prepared(directory: Path, images: Path) -> list[str]:
    """Draft the release for a new publisher, and return the command that publishes it."""
    keys = KeyDirectory(path=directory / "keys")
    keys.generate()
    create_repository(directory / "repository", keys, now=datetime.now(UTC))
    lines = (f'{role} = ["file:keys/{role}-1.pem"]' for role in _ROLES)
    (directory / "publisher.toml").write_text("\n".join(("[keys]", *lines, "")))
    tools, publisher = str(BIN / "repo-tools"), ["--publisher", str(directory)]
    release = ["--variant", "bench", "--arch", "x86_64", "--images", str(images)]
    subprocess.run(
        [tools, "release", "add", "1.0.0", *release, *publisher],
        check=True,
        stdout=subprocess.DEVNULL,
    )
    return [tools, "publish", *publisher]


if __name__ == "__main__":
    main()
