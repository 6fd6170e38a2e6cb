import io
import sys
from pathlib import Path

import pytest

from repo_tools.errors import RepoToolsError
from repo_tools.passphrases import Passphrases
from tests.helpers.terminal import in_a_terminal


@pytest.fixture(autouse=True)
def _nothing_around(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("REPO_TOOLS_PASSPHRASE", "REPO_TOOLS_PIN"):
        monkeypatch.delenv(name, raising=False)


def a_file(tmp_path: Path, content: bytes) -> Path:
    path = tmp_path / "passphrase"
    path.write_bytes(content)
    path.chmod(0o600)
    return path


@pytest.mark.parametrize("content", [b"secret", b"secret\n", b"secret\r\n", b"secret\nmore"])
def test_the_first_line_of_a_file_is_the_passphrase(tmp_path: Path, content: bytes) -> None:
    assert Passphrases(a_file(tmp_path, content)).choose() == "secret"


def test_a_file_is_stronger_than_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REPO_TOOLS_PASSPHRASE", "other")
    passphrases = Passphrases(a_file(tmp_path, b"secret"))
    assert list(passphrases.candidates("it")) == ["secret"]
    assert list(Passphrases().candidates("it")) == ["other"]


@pytest.mark.parametrize(
    ("content", "why"),
    [(b"", "begins with an empty line"), (b"\nx", "an empty line"), (b"\xff\n", "not UTF-8 text")],
)
def test_a_file_without_a_passphrase_is_refused(tmp_path: Path, content: bytes, why: str) -> None:
    with pytest.raises(RepoToolsError, match=why):
        Passphrases(a_file(tmp_path, content)).choose()


def test_a_passphrase_file_that_others_can_read_is_refused(tmp_path: Path) -> None:
    path = a_file(tmp_path, b"secret")
    path.chmod(0o644)
    with pytest.raises(RepoToolsError, match=r"can be read by others \(mode 0644\): chmod 600 it"):
        Passphrases(path).choose()


def test_an_empty_variable_is_no_passphrase(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REPO_TOOLS_PASSPHRASE", "")
    with pytest.raises(RepoToolsError, match="REPO_TOOLS_PASSPHRASE is empty"):
        Passphrases().choose()


def test_what_opens_files_is_never_tried_as_a_pin(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    monkeypatch.setenv("REPO_TOOLS_PASSPHRASE", "secret")
    with pytest.raises(RepoToolsError, match="hsm:2 wants a pin; set REPO_TOOLS_PIN"):
        Passphrases().pin("pin", "hsm:2")
    monkeypatch.setenv("REPO_TOOLS_PIN", "1234")
    assert Passphrases().pin("pin", "hsm:2") == "1234"


def test_a_new_passphrase_is_typed_twice_and_never_shown(tmp_path: Path) -> None:
    code, printed, seen = in_a_terminal(
        tmp_path, "key", "generate", "ann.pem", answers=["geheim", "geheim"]
    )
    assert code == 0, seen
    assert "geheim" not in printed + seen
    assert b"ENCRYPTED" in (tmp_path / "ann.pem").read_bytes()


def test_two_passphrases_that_differ_make_no_key(tmp_path: Path) -> None:
    code, _, seen = in_a_terminal(tmp_path, "key", "generate", "ann.pem", answers=["one", "two"])
    assert (code, list(tmp_path.iterdir())) == (1, [])
    assert "the two passphrases differ; no key was made" in seen


def test_a_mistyped_passphrase_may_be_typed_again(tmp_path: Path) -> None:
    in_a_terminal(tmp_path, "key", "generate", "ann.pem", answers=["right", "right"])
    (tmp_path / "ann.pub").unlink()
    code, printed, seen = in_a_terminal(
        tmp_path, "key", "list", "ann.pem", answers=["wrong", "right"]
    )
    assert code == 0, seen
    assert "ed25519" in printed
