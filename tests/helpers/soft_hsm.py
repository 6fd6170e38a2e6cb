"""A PKCS #11 device made of files: SoftHSM's token with an ECDSA key on P-256."""

import importlib.util
import subprocess
from dataclasses import dataclass
from pathlib import Path
from shutil import which

PIN = "123456"

_LIBRARIES = (
    "/usr/lib/softhsm/libsofthsm2.so",
    "/usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so",
    "/usr/lib/aarch64-linux-gnu/softhsm/libsofthsm2.so",
)


def _library() -> str | None:
    return next((path for path in _LIBRARIES if Path(path).exists()), None)


def why_no_hsm() -> str | None:
    """Say why there can be no device here, or None if there can."""
    if which("softhsm2-util") is None or _library() is None:
        return "NEEDS A PKCS #11 DEVICE: install softhsm2"
    if importlib.util.find_spec("pkcs11") is None:
        return "NEEDS A PKCS #11 DEVICE: install python-pkcs11, which is the extra hsm"
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class SoftHsm:
    """The device, in a directory. Its library reads the environment: one a process."""

    directory: Path

    @property
    def environment(self) -> dict[str, str]:
        library = _library()
        assert library is not None
        return {"SOFTHSM2_CONF": str(self.directory / "softhsm2.conf"), "PYKCS11LIB": library}

    def create(self, label: str) -> None:
        """Make a token."""
        tokens = self.directory / "tokens"
        tokens.mkdir(parents=True, exist_ok=True)
        configuration = f"directories.tokendir = {tokens}\nobjectstore.backend = file\n"
        (self.directory / "softhsm2.conf").write_text(configuration)
        self._util("--init-token", "--free", "--label", label, "--pin", PIN, "--so-pin", PIN)

    def add_key(self, label: str, pem: Path, *, number: int) -> None:
        """Put a private key, as PKCS #8, into a token."""
        options = ("--label", "key", "--id", f"{number:02x}", "--pin", PIN)
        self._util("--import", str(pem), "--token", label, *options)

    def _util(self, *arguments: str) -> None:
        subprocess.run(
            ["softhsm2-util", *arguments],
            check=True,
            capture_output=True,
            env={"PATH": "/usr/bin:/bin", **self.environment},
        )
