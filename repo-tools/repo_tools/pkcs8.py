"""A private key as PKCS #8 PEM, encrypted with a passphrase or not.

Decides how much work a guess of the passphrase costs: PBES2 (RFC 8018, section 6.2) of PBKDF2 with
HMAC-SHA-256 and AES-256-CBC, which OpenSSL reads too. The cryptography library itself would write
2048 iterations, which a stolen file would not withstand, and offers no choice.
"""

import base64
import os
from typing import Final

from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES256
from cryptography.hazmat.primitives.ciphers.modes import CBC
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.pbkdf2 import PBKDF2HMAC
from cryptography.hazmat.primitives.padding import PKCS7
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

ITERATIONS: Final = 600_000
"""OWASP's least for PBKDF2 with HMAC-SHA-256; a twentieth of a second here."""

_SEQUENCE, _INTEGER, _OCTETS, _NULL, _OID = 0x30, 0x02, 0x04, 0x05, 0x06

# Object identifiers as they stand in DER: RFC 8018, appendix C, and NIST's AES-256-CBC.
_PBES2 = bytes.fromhex("2a864886f70d01050d")
_PBKDF2 = bytes.fromhex("2a864886f70d01050c")
_HMAC_SHA256 = bytes.fromhex("2a864886f70d0209")
_AES256_CBC = bytes.fromhex("60864801650304012a")


def encrypted(private_pem: bytes, passphrase: str) -> bytes:
    """Return an unencrypted PEM private key, encrypted with a passphrase."""
    plain = load_pem_private_key(private_pem, None).private_bytes(
        Encoding.DER, PrivateFormat.PKCS8, NoEncryption()
    )
    salt, vector = os.urandom(16), os.urandom(16)
    kdf = PBKDF2HMAC(algorithm=SHA256(), length=32, salt=salt, iterations=ITERATIONS)
    padder = PKCS7(128).padder()
    encryptor = Cipher(AES256(kdf.derive(passphrase.encode())), CBC(vector)).encryptor()
    sealed = encryptor.update(padder.update(plain) + padder.finalize()) + encryptor.finalize()
    return _pem(_der(_SEQUENCE, _scheme(salt, vector), _der(_OCTETS, sealed)))


def _scheme(salt: bytes, vector: bytes) -> bytes:
    """Return the AlgorithmIdentifier of PBES2 with its parameters (RFC 8018, appendix A.4)."""
    iterations = ITERATIONS.to_bytes(4, "big").lstrip(b"\0")
    function = _der(_SEQUENCE, _der(_OID, _HMAC_SHA256), _der(_NULL))
    parameters = _der(_SEQUENCE, _der(_OCTETS, salt), _der(_INTEGER, iterations), function)
    derivation = _der(_SEQUENCE, _der(_OID, _PBKDF2), parameters)
    cipher = _der(_SEQUENCE, _der(_OID, _AES256_CBC), _der(_OCTETS, vector))
    return _der(_SEQUENCE, _der(_OID, _PBES2), _der(_SEQUENCE, derivation, cipher))


def _der(tag: int, *parts: bytes) -> bytes:
    body = b"".join(parts)
    length = len(body)
    if length < 128:
        return bytes([tag, length]) + body
    octets = length.to_bytes((length.bit_length() + 7) // 8, "big")
    return bytes([tag, 0x80 | len(octets)]) + octets + body


def _pem(der: bytes) -> bytes:
    """Return DER in the armour of RFC 7468, section 11."""
    text = base64.b64encode(der).decode("ascii")
    lines = [text[at : at + 64] for at in range(0, len(text), 64)]
    label = "ENCRYPTED PRIVATE KEY"
    return "\n".join([f"-----BEGIN {label}-----", *lines, f"-----END {label}-----", ""]).encode()
