import hashlib
from pathlib import Path

import pytest
from securesystemslib.formats import encode_canonical

from repo_tools.errors import RepoToolsError
from repo_tools.keys import KEYS_PER_ROLE, KeyDirectory


@pytest.fixture
def keys(tmp_path: Path) -> KeyDirectory:
    directory = KeyDirectory(path=tmp_path / "keys")
    directory.generate()
    return directory


def test_there_are_two_root_keys_and_one_for_each_other_role(keys: KeyDirectory) -> None:
    assert {role: len(keys.signers(role)) for role in KEYS_PER_ROLE} == {
        "root": 2,
        "targets": 1,
        "snapshot": 1,
        "timestamp": 1,
    }


def test_only_the_owner_can_read_a_key(keys: KeyDirectory) -> None:
    modes = {path.stat().st_mode & 0o777 for path in keys.path.glob("*.pem")}
    assert (modes, keys.path.stat().st_mode & 0o777) == ({0o600}, 0o700)


def test_a_key_is_named_by_the_digest_of_its_canonical_form(keys: KeyDirectory) -> None:
    public = keys.signers("root")[0].public_key
    canonical = encode_canonical(public.to_dict())
    assert canonical is not None
    assert public.keyid == hashlib.sha256(canonical.encode()).hexdigest()
    assert set(public.to_dict()) == {"keytype", "scheme", "keyval"}


def test_keys_are_never_replaced(keys: KeyDirectory) -> None:
    before = {path: path.read_bytes() for path in keys.path.iterdir()}
    with pytest.raises(
        RepoToolsError, match=r"root-1\.pem exists already; keys are never replaced"
    ):
        keys.generate()
    assert {path: path.read_bytes() for path in keys.path.iterdir()} == before


def test_a_key_that_others_can_read_is_not_used(keys: KeyDirectory) -> None:
    (keys.path / "targets-1.pem").chmod(0o640)
    with pytest.raises(RepoToolsError, match=r"can be read by others \(mode 0640\): chmod 600 it"):
        keys.signers("targets")


def test_a_file_that_is_no_key_is_refused(keys: KeyDirectory) -> None:
    (keys.path / "targets-1.pem").write_text("hello")
    with pytest.raises(RepoToolsError, match=r"targets-1\.pem is no private key in PEM"):
        keys.signers("targets")


def test_a_role_without_keys_has_no_signers(keys: KeyDirectory) -> None:
    assert keys.signers("mirrors") == ()
