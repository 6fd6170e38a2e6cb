"""A repository of releases that are small and real: ext4, dm-verity, zstd, signed.

    small = SmallRepository(directory)
    small.release("1.1.0")
    small.publish()

Every fact of a release that a test may want to be wrong is a parameter; what a publisher signs is
what is given, however wrong.
"""

import hashlib
import json
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any
from uuid import UUID

from repo_tools import ext4
from repo_tools.cmdline import FILE_NAME, VerityTable, format_command_line
from repo_tools.tree import read_tree
from tests.helpers.tuf_repository import TufPublisher
from updog.verity import build_tree

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

SALT = b"salt"
VARIANT = "small"
ARCH = "x86_64"


@dataclass(frozen=True, kw_only=True)
class Contents:
    """What the images of a release hold, uncompressed."""

    boot: bytes
    root: bytes
    hash: bytes


@cache
def contents(version: str) -> Contents:
    """Build the images of a version."""
    root = hashlib.shake_256(version.encode()).digest(1 << 20)
    tree = build_tree([root], salt=SALT, uuid=bytes(16))
    table = VerityTable(data_blocks=len(root) // 4096, root_digest=tree.root_digest, salt=SALT)
    return Contents(boot=boot_image(table), root=root, hash=tree.image)


def boot_image(table: VerityTable) -> bytes:
    """Build a BOOT file system that vouches for a root."""
    return file_system(FILE_NAME.lstrip("/"), format_command_line(table))


@cache
def file_system(name: str, text: str) -> bytes:
    """Build an ext4 file system that holds one file."""
    with tempfile.TemporaryDirectory() as scratch:
        top, image = Path(scratch, "tree"), Path(scratch, "image")
        top.mkdir()
        (top / name).write_text(text)
        tree = read_tree(top)
        size = ext4.needed_bytes(tree)
        how = ext4.Format(size_bytes=size, uuid=UUID(int=1), made_at=1_700_000_000)
        ext4.build_file_system(tree, image, how)
        return image.read_bytes()


@dataclass(kw_only=True)
class SmallRepository:
    """A publisher of small releases."""

    directory: Path
    publisher: TufPublisher = field(init=False)
    manifest: dict[str, Any] = field(default_factory=lambda: {"updates": [], "migrations": {}})

    def __post_init__(self) -> None:
        self.publisher = TufPublisher(self.directory)

    @property
    def root(self) -> Path:
        """The root that machines come with."""
        path = self.directory.with_name(f"{self.directory.name}-root.json")
        path.write_bytes((self.directory / "metadata" / "1.root.json").read_bytes())
        return path

    def release(
        self,
        version: str,
        *,
        images: Mapping[str, bytes] | None = None,
        packed: Mapping[str, bytes] | None = None,
        uncompressed: Mapping[str, Any] | None = None,
        follows: str | None = "1.0.0",
        **facts: Any,
    ) -> None:
        """List a release: with other images, other compressed bytes, or other facts, if given."""
        made = contents(version)
        plain = {"boot": made.boot, "root": made.root, "hash": made.hash} | dict(images or {})
        names = {role: f"{version}-{role}.zst" for role in plain}
        for role, data in plain.items():
            true = {"length": len(data), "sha256": hashlib.sha256(data).hexdigest()}
            said = true | dict((uncompressed or {}).get(role, {}))
            self.publisher.add(
                names[role],
                (packed or {}).get(role) or zstd.compress(data, 1),
                custom={"uncompressed": said},
            )
        update = {
            "variant": VARIANT,
            "arch": ARCH,
            "version": version,
            "max_version": version,
            "waves": {},
            "images": names,
        }
        self.manifest["updates"].insert(0, update | facts)
        for each in self.manifest["updates"]:
            each["max_version"] = facts.get("max_version", version)
        if follows is not None:
            self.manifest["migrations"][f"({follows}, {version})"] = []

    def migration(self, step: str, name: str, content: bytes = b"a migration") -> None:
        """List a migration of a step."""
        self.publisher.add(name, content)
        self.manifest["migrations"].setdefault(step, []).append(name)

    def publish(self, manifest: bytes | None = None, **how: Any) -> None:
        """Sign everything, the manifest as it is now, or other bytes in its place."""
        data = json.dumps(self.manifest).encode() if manifest is None else manifest
        self.publisher.add("manifest.json", data)
        self.publisher.publish(**how)

    def target_file(self, name: str) -> Path:
        """Return where the newest file of a target lies."""
        found = (self.directory / "targets").glob(f"*.{name}")
        return max(found, key=lambda path: path.stat().st_mtime_ns)

    def spoil(self, name: str, *, share: float = 0.5) -> None:
        """Change one byte of a target after it was signed: that after a share of all of them."""
        path = self.target_file(name)
        data = bytearray(path.read_bytes())
        data[int(len(data) * share)] ^= 0xFF
        path.write_bytes(data)
