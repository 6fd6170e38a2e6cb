"""The keys that sign a playground's repository, as unencrypted files of one directory.

Decides their names (`ROLE-NUMBER.pem`); how a key file is written and read is `keyfiles`' to say.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from securesystemslib.signer import Signer

from repo_tools.keyfiles import KeyKind, generate, write_keys
from repo_tools.passphrases import Passphrases
from repo_tools.signers import load_signers

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
        names = [
            f"{role}-{number}.pem"
            for role, count in KEYS_PER_ROLE.items()
            for number in range(1, count + 1)
        ]
        pairs = [(self.path / name, generate(KeyKind.ED25519)) for name in names]
        write_keys(pairs, passphrase=None)

    def signers(self, role: str) -> tuple[Signer, ...]:
        """Load the signers of one role, none when there are no keys for it.

        Raises:
            RepoToolsError: a key cannot be read, or can be read by others.
        """
        uris = [f"file:{path}" for path in sorted(self.path.glob(f"{role}-*.pem"))]
        return load_signers(uris, passphrases=Passphrases())
