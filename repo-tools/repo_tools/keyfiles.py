"""Private and public keys as PEM files.

Decides what a key that is made here is (ed25519, ECDSA on P-256, RSA), that `NAME.pem` holds the
private key for its owner alone and `NAME.pub` beside it what others need, and what opens an
encrypted one. Refuses to replace a file, and to read a private key that others can read.
"""

import os
import stat
from collections.abc import Sequence
from contextlib import suppress
from enum import StrEnum
from pathlib import Path
from typing import Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes, PublicKeyTypes
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)
from securesystemslib.signer import CryptoSigner, Key, SSlibKey

from repo_tools.durable import create_durably
from repo_tools.errors import RepoToolsError
from repo_tools.passphrases import Passphrases
from repo_tools.pkcs8 import encrypted
from updog.names import printable

LEAST_RSA_BITS: Final = 3072
MOST_RSA_BITS: Final = 8192
"""Clients built on ring or aws-lc check no larger ones."""

_MOST_BYTES = 64 << 10


class KeyKind(StrEnum):
    """The kinds of keys that every client of these repositories can check."""

    ED25519 = "ed25519"
    ECDSA = "ecdsa"
    RSA = "rsa"


_KIND_OF_SCHEME: Final = {
    "ed25519": KeyKind.ED25519,
    "ecdsa-sha2-nistp256": KeyKind.ECDSA,
    "rsassa-pss-sha256": KeyKind.RSA,
}
"""TUF specification 1.0.33, section 4.2; what the clients of the cloned system take."""


def generate(kind: KeyKind, *, rsa_bits: int = LEAST_RSA_BITS) -> CryptoSigner:
    """Make a new private key."""
    match kind:
        case KeyKind.ED25519:
            return CryptoSigner.generate_ed25519()
        case KeyKind.ECDSA:
            return CryptoSigner.generate_ecdsa()
        case KeyKind.RSA:
            return CryptoSigner.generate_rsa(size=rsa_bits)


def public_path(path: Path) -> Path:
    """Return where the public half of a private key file lies."""
    return path.with_suffix(".pub")


def write_keys(
    keys: Sequence[tuple[Path, CryptoSigner]],
    *,
    passphrase: str | None,
) -> None:
    """Write each private key, encrypted if there is a passphrase, and its public half.

    Raises:
        RepoToolsError: one of the files is there already, or cannot be written. None is left.
    """
    made: list[Path] = []
    try:
        for path, signer in keys:
            private = signer.private_bytes
            data = encrypted(private, passphrase) if passphrase is not None else private
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            _create(path, data, mode=0o600, made=made)
            _create(public_path(path), public_pem(signer.public_key), mode=0o644, made=made)
    except BaseException:
        _remove(made)
        raise


def _create(path: Path, data: bytes, *, mode: int, made: list[Path]) -> None:
    try:
        create_durably(path, data, mode=mode)
    except FileExistsError as error:
        raise taken(path) from error
    made.append(path)


def taken(path: Path) -> RepoToolsError:
    """Return the refusal to replace a key file."""
    return RepoToolsError(f"key {path} exists already; keys are never replaced, and none was made")


def _remove(paths: Sequence[Path]) -> None:
    for path in paths:
        with suppress(OSError):
            path.unlink()


def parse_private_key(data: bytes, *, what: str, passphrases: Passphrases) -> PrivateKeyTypes:
    """Return a private key from PEM.

    Raises:
        RepoToolsError: it is none, or nothing that was given opens it.
    """
    try:
        return load_pem_private_key(data, None)
    except TypeError:  # it is encrypted
        return _opened(data, what, passphrases)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise RepoToolsError(f"{what} is no private key in PEM, as PKCS #8: {_first(error)}") from (
            error
        )


def _opened(data: bytes, what: str, passphrases: Passphrases) -> PrivateKeyTypes:
    for passphrase in passphrases.candidates(what):
        with suppress(ValueError, TypeError, UnsupportedAlgorithm):  # TypeError: it is empty
            key = load_pem_private_key(data, passphrase.encode())
            passphrases.remember(passphrase)
            return key
    raise RepoToolsError(f"wrong passphrase for {what}, or the file is damaged")


def read_file(path: Path) -> bytes:
    """Return the content of a key file, whichever half of a key it holds.

    Raises:
        RepoToolsError: it cannot be read, or holds a private key that others can read.
    """
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            data = file.read(_MOST_BYTES)
    except OSError as error:
        raise RepoToolsError(f"cannot read key {path}: {error.strerror}") from error
    if not is_public(data):
        _refuse_exposed(path, mode)
    return data


def is_public(data: bytes) -> bool:
    """Tell whether PEM holds the public half of a key alone."""
    return b"PRIVATE KEY-----" not in data and b"-----BEGIN PUBLIC KEY-----" in data


def is_encrypted(data: bytes) -> bool | None:
    """Tell whether a passphrase opens PEM, None where it holds no private key."""
    if is_public(data):
        return None
    # The old formats of OpenSSL say so in a line of their own.
    return b"ENCRYPTED" in data


def _refuse_exposed(path: Path, mode: int) -> None:
    if stat.S_ISREG(mode) and mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise RepoToolsError(
            f"key {path} can be read by others (mode {stat.S_IMODE(mode):04o}): "
            f"chmod 600 it, and replace it if it was exposed"
        )


def parse_public_key(data: bytes, *, what: str) -> SSlibKey:
    """Return a public key from PEM, its id the digest of its canonical form.

    Raises:
        RepoToolsError: it is none, or of a kind that metadata cannot name.
    """
    try:
        return SSlibKey.from_crypto(load_pem_public_key(data))
    except (ValueError, UnsupportedAlgorithm) as error:
        raise RepoToolsError(f"{what} is no public key in PEM: {_first(error)}") from error


def public_pem(key: SSlibKey) -> bytes:
    """Return a public key as PEM (SubjectPublicKeyInfo), as `key generate` writes it."""
    return as_public(key).public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def as_public(key: Key) -> PublicKeyTypes:
    """Return what a key of metadata says.

    Raises:
        ValueError: nothing that is known here.
    """
    text = key.keyval.get("public")
    if not isinstance(text, str):
        raise ValueError("it holds no public key")  # noqa: TRY004 -- of a file
    if key.keytype == "ed25519":
        return Ed25519PublicKey.from_public_bytes(bytes.fromhex(text))
    return load_pem_public_key(text.encode())


def kind_of(key: Key) -> KeyKind | None:
    """Return the kind of a key, None for one that not every client can check."""
    return _KIND_OF_SCHEME.get(key.scheme)


def describe(key: Key) -> str:
    """Return the kind of a key in a word or two."""
    kind = kind_of(key)
    if kind is None:
        return printable(f"{key.keytype}/{key.scheme}")
    return f"rsa {_rsa_bits(key)}" if kind is KeyKind.RSA else str(kind)


def require_usable(key: Key, *, what: str) -> None:
    """Refuse a key whose signatures some client could not check, or count twice.

    Raises:
        RepoToolsError: it is of another kind, a short RSA key, or written in another way than its
            canonical one.
    """
    if kind_of(key) is None:
        kinds = "ed25519, ECDSA on P-256 or RSA"
        raise RepoToolsError(f"{what} is {describe(key)}; clients take {kinds}")
    try:
        canonical = SSlibKey.from_crypto(as_public(key))
    except (ValueError, UnsupportedAlgorithm) as error:
        raise RepoToolsError(f"{what} holds no key: {_first(error)}") from error
    if canonical.keyid != key.keyid or canonical.to_dict() != key.to_dict():
        raise RepoToolsError(f"{what} is not named by the digest of its canonical form")
    if not LEAST_RSA_BITS <= _rsa_bits(key, otherwise=LEAST_RSA_BITS) <= MOST_RSA_BITS:
        span = f"{LEAST_RSA_BITS} to {MOST_RSA_BITS}"
        raise RepoToolsError(f"{what} is an RSA key of {_rsa_bits(key)} bits; {span} are wanted")


def _rsa_bits(key: Key, *, otherwise: int = 0) -> int:
    try:
        public = as_public(key)
    except (ValueError, UnsupportedAlgorithm):
        return otherwise
    return public.key_size if isinstance(public, RSAPublicKey) else otherwise


def _first(error: Exception) -> str:
    """Return the first sentence of an error; the library's go on with advice to programmers."""
    return (str(error) or type(error).__name__).partition(". ")[0].partition("\n")[0]
