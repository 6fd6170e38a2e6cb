"""Signers: a private key by its URI, wherever it is kept.

Decides what a URI means, which half of a key a command needs, and how a failing signature is told:

    file:keys/targets-1.pem          a PEM file, encrypted or not
    envvar:TARGETS_KEY               PEM in an environment variable, as CI systems hand secrets out
    hsm:2?label=TOKEN                ECDSA key 2 of a PKCS #11 device; PYKCS11LIB names its library
    awskms:ARN, gcpkms:NAME, azurekms://VAULT.vault.azure.net/keys/NAME/VERSION, hv:NAME/VERSION
                                     a key service of a cloud, or HashiCorp Vault

The last two rows are securesystemslib's signers; each needs an extra of this package. Refuses URIs
of anything else, and the same key twice for one role.
"""

import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

from securesystemslib.exceptions import KeyMismatchError, UnsupportedLibraryError
from securesystemslib.signer import (
    AWSSigner,
    AzureSigner,
    CryptoSigner,
    GCPSigner,
    HSMSigner,
    Key,
    Signature,
    Signer,
    SSlibKey,
    VaultSigner,
)
from tuf.api.metadata import Metadata

from repo_tools.errors import RepoToolsError
from repo_tools.keyfiles import (
    is_encrypted,
    is_public,
    parse_private_key,
    parse_public_key,
    public_path,
    read_file,
)
from repo_tools.passphrases import Passphrases
from updog.names import printable, quoted

_FILE, _VARIABLE = "file", "envvar"
_LIKE_A_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*")

EXTRAS: Final[Mapping[str, str]] = {
    HSMSigner.SCHEME: "hsm",
    AWSSigner.SCHEME: "aws",
    GCPSigner.SCHEME: "gcp",
    AzureSigner.SCHEME: "azure",
    VaultSigner.SCHEME: "vault",
}
"""What to install this package with, by the scheme of a URI that needs it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RoleSigners:
    """The signers that a publisher.toml names, by role."""

    keys: Mapping[str, Sequence[str]]
    passphrases: Passphrases = field(default_factory=Passphrases)

    def signers(self, role: str) -> tuple[Signer, ...]:
        """Load the signers of one role, none when it has no keys here.

        Raises:
            RepoToolsError: one cannot be had, or two are of the same key.
        """
        return load_signers(self.keys.get(role, ()), passphrases=self.passphrases)


def load_signers(uris: Sequence[str], *, passphrases: Passphrases) -> tuple[Signer, ...]:
    """Load several signers of one role.

    Raises:
        RepoToolsError: one cannot be had, or two are of the same key.
    """
    found: dict[str, str] = {}
    signers = []
    for uri in uris:
        signer = load_signer(uri, passphrases=passphrases)
        keyid = signer.public_key.keyid
        if keyid in found:
            raise RepoToolsError(f"{found[keyid]} and {uri} are the same key: name it once")
        found[keyid] = uri
        signers.append(signer)
    return tuple(signers)


def load_signer(uri: str, public_key: Key | None = None, *, passphrases: Passphrases) -> Signer:
    """Load the signer of a URI.

    Args:
        uri: as above; the path of a file is relative to where the program runs.
        public_key: the key that it must be, as some metadata lists it. Without it, a device or a
            key service is asked for its public key first.
        passphrases: opens what is encrypted.

    Raises:
        RepoToolsError: it cannot be had, or it is another key.
    """
    scheme = _scheme(uri)
    with _told(f"cannot use {uri}", scheme):
        if scheme in {_FILE, _VARIABLE}:
            private = parse_private_key(_secret(uri), what=uri, passphrases=passphrases)
            expected = public_key if isinstance(public_key, SSlibKey) else None
            return CryptoSigner(private, expected)
        exact, key = (uri, public_key) if public_key else _asked(uri, passphrases)
        return _Remote(Signer.from_priv_key_uri(exact, key, _pins(exact, passphrases)), uri)


def find_public_key(reference: str, *, passphrases: Passphrases) -> SSlibKey:
    """Return the public half of a key.

    Args:
        reference: the path of a PEM file, public or private, or a signer URI. Of an encrypted
            private file the public half beside it is read, and no passphrase is needed.
        passphrases: opens what is encrypted.

    Raises:
        RepoToolsError: it cannot be had.
    """
    uri = as_uri(reference)
    scheme = _scheme(uri)
    with _told(f"cannot use {uri}", scheme):
        if scheme not in {_FILE, _VARIABLE}:
            return _asked(uri, passphrases)[1]
        data = _secret(uri)
        if is_public(data):
            return parse_public_key(data, what=uri)
        beside = public_path(path_of(uri)) if scheme == _FILE else None
        if beside is not None and is_encrypted(data) and beside.exists():
            return parse_public_key(read_file(beside), what=str(beside))
        return CryptoSigner(parse_private_key(data, what=uri, passphrases=passphrases)).public_key


def as_uri(reference: str) -> str:
    """Return a signer URI for what may also be the path of a file."""
    scheme, colon, _ = reference.partition(":")
    is_uri = bool(colon and _LIKE_A_SCHEME.fullmatch(scheme))
    return reference if is_uri and not Path(reference).exists() else f"{_FILE}:{reference}"


def is_file(uri: str) -> bool:
    """Tell whether a URI is that of a file."""
    return _scheme(uri) == _FILE


def path_of(uri: str) -> Path:
    """Return the path in a `file:` URI."""
    return Path(uri.removeprefix(f"{_FILE}:"))


def can_sign(reference: str) -> bool:
    """Tell whether a key reference leads to a private key, and not to a public file alone."""
    uri = as_uri(reference)
    return not is_file(uri) or not is_public(read_file(path_of(uri)))


def sign(metadata: Metadata[Any], signer: Signer) -> Signature:
    """Add a signer's signature to metadata.

    Raises:
        RepoToolsError: the device or service that holds the key did not sign.
    """
    signature = signer.sign(metadata.signed_bytes)
    metadata.signatures[signature.keyid] = signature
    return signature


class _Remote(Signer):
    """A signer that is not in this process; what fails there is told in one line."""

    def __init__(self, signer: Signer, uri: str) -> None:
        self._signer = signer
        self._uri = uri

    @property
    def public_key(self) -> Key:
        return self._signer.public_key

    @classmethod
    def from_priv_key_uri(cls, *_: object, **__: object) -> "Signer":
        # Demanded of every Signer; these are never made from an address alone.
        raise NotImplementedError("load_signer makes these")

    def sign(self, payload: bytes) -> Signature:
        with _told(f"{self._uri} did not sign", _scheme(self._uri)):
            return self._signer.sign(payload)


@contextmanager
def _told(doing: str, scheme: str) -> Iterator[None]:
    """Turn whatever a signer raises into one line."""
    try:
        yield
    except RepoToolsError:
        raise
    except UnsupportedLibraryError as error:
        extra = EXTRAS.get(scheme)
        raise RepoToolsError(
            f"{doing}: a library is missing; install it with `pip install 'ab-updog[{extra}]'`"
        ) from error
    except KeyMismatchError as error:
        raise RepoToolsError(f"{doing}: it is not the key that the metadata lists") from error
    # Devices, their drivers and the clients of key services raise what they like.
    except Exception as error:
        why = printable(" ".join(str(error).split()) or type(error).__name__)
        raise RepoToolsError(f"{doing}: {why}") from error


def _scheme(uri: str) -> str:
    scheme = uri.partition(":")[0]
    if not _is_known(scheme):
        known = ", ".join(f"{each}:" for each in (_FILE, _VARIABLE, *EXTRAS))
        raise RepoToolsError(f"{quoted(uri)} is no signer URI; there are {known}")
    return scheme


def _is_known(scheme: str) -> bool:
    return scheme in {_FILE, _VARIABLE, *EXTRAS}


def _secret(uri: str) -> bytes:
    """Return the PEM that a URI of a file or a variable leads to."""
    if _scheme(uri) == _FILE:
        return read_file(path_of(uri))
    name = uri.removeprefix(f"{_VARIABLE}:")
    if not os.environ.get(name):
        raise RepoToolsError(f"cannot use {uri}: there is no variable {quoted(name)}")
    return os.environ[name].encode()


def _asked(uri: str, passphrases: Passphrases) -> tuple[str, SSlibKey]:
    """Ask a device or a key service for a public key, and the exact URI of its private half."""
    scheme, _, rest = uri.partition(":")
    match scheme:
        case HSMSigner.SCHEME:
            return _ask_device(uri, passphrases)
        case AWSSigner.SCHEME:
            return AWSSigner.import_(rest)
        case GCPSigner.SCHEME:
            return GCPSigner.import_(rest)
        case AzureSigner.SCHEME:
            return _ask_azure(uri)
        case _:
            return VaultSigner.import_(rest.partition("/")[0])


def _ask_device(uri: str, passphrases: Passphrases) -> tuple[str, SSlibKey]:
    address = urlsplit(uri)
    if address.path and not address.path.isdecimal():
        raise RepoToolsError(f"cannot use {uri}: write it like hsm:2?label=TOKEN, 2 being the key")
    number = int(address.path) if address.path else None
    label = parse_qs(address.query).get("label", [None])[0]
    return HSMSigner.import_(number, label, _pins(uri, passphrases))


def _ask_azure(uri: str) -> tuple[str, SSlibKey]:
    address = urlsplit(uri)
    vault, names = address.netloc.partition(".")[0], address.path.strip("/").split("/")
    if not vault or len(names) < 2 or names[0] != "keys":
        raise RepoToolsError(
            f"cannot use {uri}: write it like azurekms://VAULT.vault.azure.net/keys/NAME/VERSION"
        )
    exact, key = AzureSigner.import_(vault, names[1])
    if len(names) > 2 and not exact.endswith(f"/{names[2]}"):
        raise RepoToolsError(f"cannot use {uri}: {exact} is the newest version of this key")
    return exact, key


def _pins(uri: str, passphrases: Passphrases) -> Callable[[str], str]:
    return lambda name: passphrases.pin(name, uri)
