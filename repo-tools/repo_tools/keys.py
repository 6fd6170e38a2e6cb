"""The keys that sign a repository, as files of one directory.

Decides their names (`ROLE-NUMBER.pem`, PKCS #8) and that nobody but their owner may read them.
Refuses to replace a key and to sign with one that others can read.
"""

import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.serialization import load_pem_private_key
from securesystemslib.signer import CryptoSigner

from repo_tools.errors import RepoToolsError

KEYS_PER_ROLE: Final[Mapping[str, int]] = {"root": 2, "targets": 1, "snapshot": 1, "timestamp": 1}
"""A threshold of all of them: one stolen root key alone can replace nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyDirectory:
    """Private keys in `path`."""

    path: Path

    def generate(self) -> None:
        """Make new ed25519 keys for every role, as `KEYS_PER_ROLE` says.

        Raises:
            RepoToolsError: a key is there already; it stays as it is.
        """
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        for role, count in KEYS_PER_ROLE.items():
            for number in range(1, count + 1):
                self._write(f"{role}-{number}.pem", CryptoSigner.generate_ed25519())

    def signers(self, role: str) -> tuple[CryptoSigner, ...]:
        """Load the signers of one role, none when there are no keys for it.

        Raises:
            RepoToolsError: a key cannot be read, or can be read by others.
        """
        return tuple(_load(path) for path in sorted(self.path.glob(f"{role}-*.pem")))

    def _write(self, name: str, signer: CryptoSigner) -> None:
        path = self.path / name
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError as error:
            raise RepoToolsError(f"key {path} exists already; keys are never replaced") from error
        with os.fdopen(descriptor, "wb") as file:
            file.write(signer.private_bytes)
            file.flush()
            os.fsync(descriptor)


def _load(path: Path) -> CryptoSigner:
    try:
        with path.open("rb") as file:
            _refuse_exposed(path, os.fstat(file.fileno()).st_mode)
            private_key = load_pem_private_key(file.read(), None)
        return CryptoSigner(private_key)
    except OSError as error:
        raise RepoToolsError(f"cannot read key {path}: {error.strerror}") from error
    except (ValueError, TypeError) as error:
        # TypeError: the key is encrypted with a passphrase.
        raise RepoToolsError(f"{path} is not an unencrypted PEM private key: {error}") from error


def _refuse_exposed(path: Path, mode: int) -> None:
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise RepoToolsError(
            f"key {path} can be read by others (mode {stat.S_IMODE(mode):04o}): "
            f"chmod 600 it, and replace it if it was exposed"
        )
