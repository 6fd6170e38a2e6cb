"""Whom to trust on a TLS connection, and as whom to appear there.

Decides from the settings alone: without a CA file the CAs that come with `requests` count, with one
only those in it. The environment has no say (SSL_CERT_FILE, SSL_CERT_DIR, SSLKEYLOGFILE). Refuses
files that cannot be used before anything is sent. TLS only hides who fetches what, and from whom:
what may be installed is decided by signatures.
"""

import ssl
from functools import cache
from pathlib import Path
from typing import NoReturn

import msgspec
from requests.utils import DEFAULT_CA_BUNDLE_PATH

from updog.errors import ConfigError
from updog.files import read_small_file

_MOST_BYTES = 4 << 20


class TlsSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Files in PEM; a certificate and its key only together."""

    ca_file: Path | None = None
    client_certificate: Path | None = None
    client_key: Path | None = None


class TlsContexts(msgspec.Struct, frozen=True, kw_only=True):
    """What connections to servers, and to proxies, are made with; None stands for the default."""

    own_server: ssl.SSLContext | None = None
    own_proxy: ssl.SSLContext | None = None

    @property
    def server(self) -> ssl.SSLContext:
        """For the server that the files come from."""
        return self.own_server or _default_context()

    @property
    def proxy(self) -> ssl.SSLContext:
        """For a proxy on the way: it is not shown the client certificate."""
        return self.own_proxy or _default_context()


def load_tls(settings: TlsSettings) -> TlsContexts:
    """Read the files that the settings name; a proxy is not shown the client certificate.

    Raises:
        ConfigError: One of them cannot be used; the text names its setting.
    """
    plain = _trusting(settings.ca_file) if settings.ca_file else None
    certificate, key = settings.client_certificate, settings.client_key
    if certificate is None or key is None:
        return TlsContexts(own_server=plain, own_proxy=plain)
    _require_pem("network.client_certificate", certificate, b"-----BEGIN CERTIFICATE-----")
    _require_pem("network.client_key", key, b"PRIVATE KEY-----")
    known = _trusting(settings.ca_file)
    _appear_as(known, certificate, key)
    return TlsContexts(own_server=known, own_proxy=plain)


@cache
def _default_context() -> ssl.SSLContext:
    # Only once it is needed: reading all those CAs takes longer than a check over plain HTTP.
    return _trusting(None)


def _trusting(ca_file: Path | None) -> ssl.SSLContext:
    # Not create_default_context: it, and urllib3's, would write keys where SSLKEYLOGFILE says.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if ca_file is None:
        context.load_verify_locations(DEFAULT_CA_BUNDLE_PATH)
        return context
    pem = _require_pem("network.ca_file", ca_file, b"-----BEGIN CERTIFICATE-----")
    try:
        context.load_verify_locations(cadata=pem.decode("ascii", "ignore"))
    except ssl.SSLError as err:
        _refuse("network.ca_file", ca_file, f"it holds a broken certificate ({err.reason})", err)
    return context


def _appear_as(context: ssl.SSLContext, certificate: Path, key: Path) -> None:
    try:
        context.load_cert_chain(certificate, key, password=_refuse_password)
    except (OSError, ValueError) as err:
        why = err.reason if isinstance(err, ssl.SSLError) else err
        raise ConfigError(
            f"cannot use network.client_certificate {certificate} with network.client_key {key}: "
            f"{why}; nothing was fetched"
        ) from err


def _refuse_password() -> NoReturn:
    # OpenSSL would ask for one on the terminal.
    raise ValueError("the key is encrypted, and nobody is there to give its password")


def _require_pem(name: str, path: Path, mark: bytes) -> bytes:
    try:
        content = read_small_file(path, limit_bytes=_MOST_BYTES)
    except OSError as err:
        _refuse(name, path, err.strerror, err)
    except ValueError as err:
        _refuse(name, path, str(err), err)
    if mark not in content:
        _refuse(name, path, f"it holds no {mark.decode().strip('-').removeprefix('BEGIN ')}", None)
    return content


def _refuse(name: str, path: Path, why: str | None, cause: Exception | None) -> NoReturn:
    raise ConfigError(f"cannot use {name} {path}: {why}; nothing was fetched") from cause
