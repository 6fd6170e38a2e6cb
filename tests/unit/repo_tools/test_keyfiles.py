import shutil
import subprocess
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from securesystemslib.signer import SSlibKey

from repo_tools.errors import RepoToolsError
from repo_tools.keyfiles import (
    KeyKind,
    describe,
    generate,
    is_encrypted,
    parse_private_key,
    parse_public_key,
    public_pem,
    read_file,
    require_usable,
    write_keys,
)
from repo_tools.passphrases import Passphrases
from repo_tools.pkcs8 import ITERATIONS, encrypted


@pytest.fixture(autouse=True)
def _no_passphrase_around(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("REPO_TOOLS_PASSPHRASE", raising=False)


@pytest.mark.parametrize("kind", KeyKind)
@pytest.mark.parametrize("passphrase", [None, "ein Schlüssel"])
def test_what_is_written_is_the_key_that_was_made(
    kind: KeyKind, passphrase: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    signer = generate(kind)
    path = tmp_path / "keys" / "ann.pem"
    write_keys([(path, signer)], passphrase=passphrase)
    if passphrase:
        monkeypatch.setenv("REPO_TOOLS_PASSPHRASE", passphrase)
    data = read_file(path)
    private = parse_private_key(data, what="it", passphrases=Passphrases())
    public = parse_public_key(read_file(path.with_suffix(".pub")), what="it")
    assert SSlibKey.from_crypto(private.public_key()) == signer.public_key == public
    assert is_encrypted(data) is (passphrase is not None)
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_guess_of_the_passphrase_costs_what_it_should() -> None:
    data = encrypted(generate(KeyKind.ED25519).private_bytes, "secret")
    if shutil.which("openssl") is None:
        pytest.skip("NEEDS openssl")
    der = subprocess.run(
        ["openssl", "asn1parse"], input=data, capture_output=True, check=True
    ).stdout.decode()
    assert "PBES2" in der
    assert f"INTEGER           :{ITERATIONS:06X}" in der
    assert "hmacWithSHA256" in der
    assert "aes-256-cbc" in der


@pytest.mark.parametrize("kind", KeyKind)
def test_openssl_opens_an_encrypted_key(kind: KeyKind) -> None:
    if shutil.which("openssl") is None:
        pytest.skip("NEEDS openssl")
    signer = generate(kind)
    done = subprocess.run(
        ["openssl", "pkey", "-passin", "pass:secret", "-pubout"],
        input=encrypted(signer.private_bytes, "secret"),
        capture_output=True,
        check=True,
    )
    assert done.stdout == public_pem(signer.public_key)


def test_two_encryptions_of_a_key_share_nothing() -> None:
    plain = generate(KeyKind.ED25519).private_bytes
    first, second = encrypted(plain, "secret"), encrypted(plain, "secret")
    assert first.splitlines()[2:-1] != second.splitlines()[2:-1]
    assert load_pem_private_key(first, b"secret") is not None


def test_nothing_is_made_where_one_of_the_keys_exists(tmp_path: Path) -> None:
    taken = tmp_path / "b.pub"
    taken.write_text("somebody's")
    pairs = [(tmp_path / f"{name}.pem", generate(KeyKind.ED25519)) for name in "ab"]
    with pytest.raises(RepoToolsError, match=r"key \S+b\.pub exists already; keys are never repl"):
        write_keys(pairs, passphrase=None)
    assert [path.name for path in tmp_path.iterdir()] == ["b.pub"]
    assert taken.read_text() == "somebody's"


@pytest.mark.parametrize("mode", [0o640, 0o604])
def test_a_private_key_that_others_can_get_at_is_refused(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "ann.pem"
    write_keys([(path, generate(KeyKind.ED25519))], passphrase=None)
    path.chmod(mode)
    with pytest.raises(RepoToolsError, match=rf"can be read by others \(mode {mode:04o}\)"):
        read_file(path)


def test_a_wrong_passphrase_is_told_in_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    data = encrypted(generate(KeyKind.ED25519).private_bytes, "right")
    monkeypatch.setenv("REPO_TOOLS_PASSPHRASE", "wrong")
    with pytest.raises(RepoToolsError, match=r"^wrong passphrase for ann, or the file is damaged$"):
        parse_private_key(data, what="ann", passphrases=Passphrases())


@pytest.mark.parametrize(
    "data", [b"", b"hello", b"-----BEGIN PRIVATE KEY-----\nAAAA\n", b"\xff" * 99]
)
def test_what_is_no_key_is_refused_in_a_line(data: bytes) -> None:
    with pytest.raises(RepoToolsError, match="ann is no private key in PEM") as caught:
        parse_private_key(data, what="ann", passphrases=Passphrases())
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("private", "why"),
    [
        (ec.generate_private_key(ec.SECP384R1()), "ecdsa/ecdsa-sha2-nistp384; clients take ed2"),
        (rsa.generate_private_key(65537, 2048), "an RSA key of 2048 bits; 3072 to 8192 are wanted"),
    ],
)
def test_keys_that_some_client_cannot_check_are_refused(
    private: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey, why: str
) -> None:
    with pytest.raises(RepoToolsError, match=why):
        require_usable(SSlibKey.from_crypto(private.public_key()), what="it")


def test_one_key_cannot_pass_for_two() -> None:
    key = generate(KeyKind.ECDSA).public_key
    text = key.keyval["public"].replace("\n", "\n\n", 1)
    twin = SSlibKey("0" * 64, key.keytype, key.scheme, {"public": text})
    noted = SSlibKey(key.keyid, key.keytype, key.scheme, key.keyval, {"x-owner": "ann"})
    old = SSlibKey(key.keyid, key.scheme, key.scheme, key.keyval)
    require_usable(key, what="it")
    for other in (twin, noted, old):
        with pytest.raises(RepoToolsError, match="not named by the digest of its canonical form"):
            require_usable(other, what="it")


def test_keys_are_described_in_a_word_or_two() -> None:
    kinds = [describe(generate(kind).public_key) for kind in KeyKind]
    assert kinds == ["ed25519", "ecdsa", "rsa 3072"]
