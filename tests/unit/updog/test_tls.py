import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.helpers.certificates import ENCRYPTED, Authority
from tests.helpers.http_server import Server, instead, serving
from updog.errors import ConfigError, TransportError
from updog.patience import Limits
from updog.proxies import Proxies
from updog.tls import TlsSettings, load_tls
from updog.transport import Network, Transport

CONTENT = b"content"


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "ours")


@contextmanager
def secure_server(
    authority: Authority, directory: Path, *, requires_client: bool = False
) -> Iterator[Server]:
    (directory / "served").mkdir()
    (directory / "served" / "file").write_bytes(CONTENT)
    context = authority.server_context(requires_client=requires_client)
    with serving(directory / "served", tls=context) as server:
        yield server


def fetch(server: Server, tls: TlsSettings) -> bytes:
    with Transport(network=Network(tls=tls), limits=Limits(attempts=1)) as transport:
        return b"".join(transport.stream(f"{server.url}/file"))


def distrust(server: Server, tls: TlsSettings) -> str:
    with pytest.raises(TransportError) as caught:
        fetch(server, tls)
    return caught.value.reason


def test_a_server_of_the_own_authority_is_trusted(authority: Authority, tmp_path: Path) -> None:
    with secure_server(authority, tmp_path) as server:
        assert urlsplit(server.url).scheme == "https"
        assert fetch(server, TlsSettings(ca_file=authority.certificate)) == CONTENT


@pytest.mark.parametrize("name", ["SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"])
def test_an_authority_that_the_environment_names_does_not_count(
    authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv(name, str(authority.certificate))
    with secure_server(authority, tmp_path) as server:
        assert distrust(server, TlsSettings()).startswith("its certificate is not trusted: ")


def test_neither_does_a_directory_of_them(
    authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_DIR", str(authority.certificate.parent))
    with secure_server(authority, tmp_path) as server:
        assert distrust(server, TlsSettings()).startswith("its certificate is not trusted: ")


def test_session_keys_are_not_written_where_the_environment_says(
    authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSLKEYLOGFILE", str(tmp_path / "keys"))
    context = load_tls(TlsSettings(ca_file=authority.certificate))
    assert not context.server.keylog_filename
    with secure_server(authority, tmp_path) as server:
        assert fetch(server, TlsSettings(ca_file=authority.certificate)) == CONTENT
    assert not (tmp_path / "keys").exists()


def test_with_an_own_authority_no_other_counts(authority: Authority, tmp_path: Path) -> None:
    other = Authority(tmp_path / "theirs")
    tls = load_tls(TlsSettings(ca_file=other.certificate))
    assert tls.server.cert_store_stats()["x509_ca"] == 1
    with secure_server(authority, tmp_path) as server:
        reason = distrust(server, TlsSettings(ca_file=other.certificate))
        assert reason.startswith("its certificate is not trusted: ")


def test_a_server_may_want_a_client_certificate(authority: Authority, tmp_path: Path) -> None:
    certificate, key = authority.issue("client")
    known = TlsSettings(
        ca_file=authority.certificate, client_certificate=certificate, client_key=key
    )
    with secure_server(authority, tmp_path, requires_client=True) as server:
        assert fetch(server, known) == CONTENT
        distrust(server, TlsSettings(ca_file=authority.certificate))


def test_a_proxy_is_not_shown_the_client_certificate(authority: Authority) -> None:
    certificate, key = authority.issue("client")
    plain = load_tls(TlsSettings(client_certificate=certificate, client_key=key))
    assert plain.proxy is not plain.server


def test_a_proxy_that_speaks_tls_is_judged_by_the_same_authority(
    authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.certificate))
    with secure_server(authority, tmp_path) as server:
        proxies = Proxies(http=server.url)
        url = "http://updates.invalid/file"
        server.misbehave(url, instead(CONTENT))
        ours = Network(proxies=proxies, tls=TlsSettings(ca_file=authority.certificate))
        with Transport(network=ours) as transport:
            assert b"".join(transport.stream(url)) == CONTENT
        with (
            Transport(network=Network(proxies=proxies), limits=Limits(attempts=1)) as transport,
            pytest.raises(TransportError, match="certificate is not trusted"),
        ):
            list(transport.stream(url))


def refusal(tls: TlsSettings) -> str:
    with pytest.raises(ConfigError) as caught:
        Transport(network=Network(tls=tls))
    return str(caught.value)


class TestUnusableFiles:
    def test_a_missing_ca_file_is_named(self, tmp_path: Path) -> None:
        path = tmp_path / "none.pem"
        assert refusal(TlsSettings(ca_file=path)) == (
            f"cannot use network.ca_file {path}: No such file or directory; nothing was fetched"
        )

    def test_one_that_holds_something_else_is_named(self, tmp_path: Path) -> None:
        path = tmp_path / "ca.pem"
        path.write_text("hello")
        assert refusal(TlsSettings(ca_file=path)) == (
            f"cannot use network.ca_file {path}: it holds no CERTIFICATE; nothing was fetched"
        )

    def test_one_with_a_broken_certificate_is_named(self, authority: Authority) -> None:
        path = authority.certificate
        path.write_text("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
        start = f"cannot use network.ca_file {path}: it holds a broken certificate ("
        assert refusal(TlsSettings(ca_file=path)).startswith(start)

    def test_a_pipe_does_not_hold_it_up(self, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "pipe")
        text = refusal(TlsSettings(ca_file=tmp_path / "pipe"))
        assert "it is no regular file" in text

    def test_a_certificate_in_place_of_the_key_is_named(self, authority: Authority) -> None:
        certificate, _ = authority.issue("client")
        tls = TlsSettings(client_certificate=certificate, client_key=certificate)
        assert refusal(tls) == (
            f"cannot use network.client_key {certificate}: it holds no PRIVATE KEY; "
            "nothing was fetched"
        )

    def test_the_key_of_another_certificate_is_refused(self, authority: Authority) -> None:
        certificate, key = authority.issue("client")[0], authority.issue("other")[1]
        text = refusal(TlsSettings(client_certificate=certificate, client_key=key))
        assert text == (
            f"cannot use network.client_certificate {certificate} with network.client_key {key}: "
            "KEY_VALUES_MISMATCH; nothing was fetched"
        )

    def test_nobody_is_asked_for_the_password_of_a_key(self, authority: Authority) -> None:
        certificate, key = authority.issue("client", encryption=ENCRYPTED)
        text = refusal(TlsSettings(client_certificate=certificate, client_key=key))
        assert "the key is encrypted, and nobody is there to give its password" in text
