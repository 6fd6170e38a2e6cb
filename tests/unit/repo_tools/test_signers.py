import io
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from securesystemslib.signer import SIGNER_FOR_URI_SCHEME, Key, SecretsHandler, Signature, Signer
from tuf.api.metadata import Metadata, Root

from repo_tools.errors import RepoToolsError
from repo_tools.keyfiles import KeyKind, generate, write_keys
from repo_tools.passphrases import Passphrases
from repo_tools.signers import (
    EXTRAS,
    RoleSigners,
    as_uri,
    can_sign,
    find_public_key,
    load_signer,
    load_signers,
    sign,
)
from tests.helpers.soft_hsm import PIN, SoftHsm, why_no_hsm


@pytest.fixture(autouse=True)
def _nothing_around(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("REPO_TOOLS_PASSPHRASE", "REPO_TOOLS_PIN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(sys, "stdin", io.StringIO())


def a_key(path: Path, kind: KeyKind = KeyKind.ED25519, *, passphrase: str | None = None) -> Key:
    signer = generate(kind)
    write_keys([(path, signer)], passphrase=passphrase)
    return signer.public_key


@pytest.mark.parametrize("kind", KeyKind)
def test_a_file_signs_what_its_public_half_verifies(kind: KeyKind, tmp_path: Path) -> None:
    key = a_key(tmp_path / "ann.pem", kind)
    signer = load_signer(f"file:{tmp_path}/ann.pem", passphrases=Passphrases())
    metadata = Metadata(Root())
    key.verify_signature(sign(metadata, signer), metadata.signed_bytes)
    assert signer.public_key == find_public_key(f"{tmp_path}/ann.pub", passphrases=Passphrases())


def test_a_variable_holds_a_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key = a_key(tmp_path / "ann.pem", passphrase="geheim")  # noqa: S106
    monkeypatch.setenv("ANN_KEY", (tmp_path / "ann.pem").read_text())
    monkeypatch.setenv("REPO_TOOLS_PASSPHRASE", "geheim")
    assert load_signer("envvar:ANN_KEY", passphrases=Passphrases()).public_key == key


def test_a_public_half_needs_no_passphrase_where_it_lies_beside(tmp_path: Path) -> None:
    key = a_key(tmp_path / "ann.pem", passphrase="geheim")  # noqa: S106
    assert find_public_key(f"{tmp_path}/ann.pem", passphrases=Passphrases()) == key
    (tmp_path / "ann.pub").unlink()
    with pytest.raises(RepoToolsError, match=r"is encrypted; give its passphrase by --passphrase-"):
        find_public_key(f"{tmp_path}/ann.pem", passphrases=Passphrases())


def test_another_key_than_the_metadata_lists_is_refused(tmp_path: Path) -> None:
    a_key(tmp_path / "ann.pem")
    bob = a_key(tmp_path / "bob.pem")
    with pytest.raises(RepoToolsError, match=r"ann\.pem: it is not the key that the metadata li"):
        load_signer(f"file:{tmp_path}/ann.pem", bob, passphrases=Passphrases())


def test_a_key_that_is_named_twice_for_a_role_is_refused(tmp_path: Path) -> None:
    a_key(tmp_path / "ann.pem")
    (tmp_path / "copy.pem").write_bytes((tmp_path / "ann.pem").read_bytes())
    (tmp_path / "copy.pem").chmod(0o600)
    uris = [f"file:{tmp_path}/ann.pem", f"file:{tmp_path}/copy.pem"]
    with pytest.raises(RepoToolsError, match=r"ann\.pem and file:\S+copy\.pem are the same key"):
        load_signers(uris, passphrases=Passphrases())


def test_a_role_without_keys_here_has_no_signers(tmp_path: Path) -> None:
    key = a_key(tmp_path / "ann.pem")
    signers = RoleSigners(keys={"targets": [f"file:{tmp_path}/ann.pem"], "root": []})
    assert [signer.public_key for signer in signers.signers("targets")] == [key]
    assert signers.signers("root") == signers.signers("snapshot") == ()


@pytest.mark.parametrize(
    ("uri", "why"),
    [
        ("gnupg:ann", "'gnupg:ann' is no signer URI; there are file:, envvar:, hsm:, awskms:"),
        ("file:nowhere.pem", "cannot read key nowhere.pem: No such file or directory"),
        ("envvar:NOT_THERE", "there is no variable 'NOT_THERE'"),
        ("azurekms:vault/name", "write it like azurekms://VAULT.vault.azure.net/keys/NAME/VERSION"),
    ],
)
def test_what_leads_to_no_key_is_told_in_a_line(uri: str, why: str) -> None:
    with pytest.raises(RepoToolsError, match=re.escape(why)):
        load_signer(uri, passphrases=Passphrases())


def test_a_path_is_told_from_a_uri(tmp_path: Path) -> None:
    a_key(tmp_path / "ann.pem")
    assert as_uri("keys/ann.pem") == "file:keys/ann.pem"
    assert as_uri("hsm:2") == "hsm:2"
    assert [can_sign(f"{tmp_path}/ann.{end}") for end in ("pem", "pub")] == [True, False]


@pytest.mark.parametrize(
    ("uri", "extra"),
    [
        ("awskms:arn:aws:kms:eu-central-1:1:key/2", "aws"),
        ("gcpkms:projects/p/locations/l/keyRings/r/cryptoKeys/k/cryptoKeyVersions/1", "gcp"),
        ("azurekms://vault.vault.azure.net/keys/name/1", "azure"),
        ("hv:name/1", "vault"),
    ],
)
def test_a_key_service_without_its_library_names_the_extra(uri: str, extra: str) -> None:
    key = generate(KeyKind.ECDSA).public_key
    for known in (None, key):
        with pytest.raises(RepoToolsError, match=re.escape(f"pip install 'ab-updog[{extra}]'")):
            load_signer(uri, known, passphrases=Passphrases())


def test_every_extra_is_one_of_this_package() -> None:
    project = (Path(__file__).parents[3] / "pyproject.toml").read_text()
    for extra in EXTRAS.values():
        assert f'\n{extra} = ["securesystemslib[' in project


class _Failing(Signer):
    """A key service that has gone away, as securesystemslib lets others add signers."""

    def __init__(self, public_key: Key) -> None:
        self._key = public_key

    @property
    def public_key(self) -> Key:
        return self._key

    @classmethod
    def from_priv_key_uri(
        cls, _uri: str, public_key: Key, _secrets: SecretsHandler | None = None
    ) -> "_Failing":
        return cls(public_key)

    def sign(self, _payload: bytes) -> Signature:
        raise ConnectionError("503\nservice\x1b[31m unavailable")


def test_a_key_service_that_fails_is_told_in_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SIGNER_FOR_URI_SCHEME, "awskms", _Failing)
    signer = load_signer("awskms:1", generate(KeyKind.ECDSA).public_key, passphrases=Passphrases())
    with pytest.raises(RepoToolsError) as caught:
        sign(Metadata(Root()), signer)
    assert str(caught.value) == r"awskms:1 did not sign: 503 service\x1b[31m unavailable"


@pytest.fixture(scope="module")
def device(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[SoftHsm, Key]]:
    if reason := why_no_hsm():
        pytest.skip(reason)
    directory = tmp_path_factory.mktemp("device")
    key = a_key(directory / "ann.pem", KeyKind.ECDSA)
    hsm = SoftHsm(directory=directory)
    hsm.create("ann's token")
    hsm.add_key("ann's token", directory / "ann.pem", number=2)
    # The library reads its settings when it is first loaded, and stays loaded.
    with pytest.MonkeyPatch.context() as environment:
        for name, value in hsm.environment.items():
            environment.setenv(name, value)
        yield hsm, key


@pytest.mark.parametrize("uri", ["hsm:", "hsm:2", "hsm:2?label=ann%27s+token"])
def test_a_device_signs(
    device: tuple[SoftHsm, Key], uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REPO_TOOLS_PIN", PIN)
    metadata = Metadata(Root())
    signer = load_signer(uri, passphrases=Passphrases())
    assert signer.public_key == device[1] == find_public_key(uri, passphrases=Passphrases())
    device[1].verify_signature(sign(metadata, signer), metadata.signed_bytes)


def test_a_wrong_pin_is_told_in_a_line(
    device: tuple[SoftHsm, Key], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REPO_TOOLS_PIN", "000000")
    signer = load_signer("hsm:2", device[1], passphrases=Passphrases())
    with pytest.raises(RepoToolsError, match=r"^hsm:2 did not sign: PinIncorrect$"):
        sign(Metadata(Root()), signer)


@pytest.mark.parametrize(
    ("uri", "why"),
    [
        ("hsm:2?label=bob", "cannot use hsm:2?label=bob: No PKCS#11 token found for label bob"),
        ("hsm:7", "cannot use hsm:7: could not find ECDSA key on the PKCS#11 token"),
        ("hsm:two", "write it like hsm:2?label=TOKEN"),
    ],
)
def test_a_key_that_a_device_does_not_hold_is_told_in_a_line(
    device: tuple[SoftHsm, Key], uri: str, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REPO_TOOLS_PIN", PIN)
    with pytest.raises(RepoToolsError, match=re.escape(why)):
        load_signer(uri, passphrases=Passphrases())
