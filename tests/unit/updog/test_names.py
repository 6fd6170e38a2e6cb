import pytest
from hypothesis import given
from hypothesis import strategies as st

from updog.names import is_identifier, is_target_name, printable, quoted


@pytest.mark.parametrize("name", ["a", "manifest.json", "1.0.0+build-x_86.ext4.lz4", "a" * 201])
def test_flat_names_are_target_names(name: str) -> None:
    assert is_target_name(name)


@pytest.mark.parametrize(
    "name",
    ["", ".", "..", ".hidden", "-option", "a/b", "/a", "a\\b", "a b", "a\n", "a\0", "ä", "a" * 202],
)
def test_other_names_are_no_target_names(name: str) -> None:
    assert not is_target_name(name)


@pytest.mark.parametrize("name", ["aws-k8s-1.30", "x86_64", "metal-dev"])
def test_variants_and_architectures_are_identifiers(name: str) -> None:
    assert is_identifier(name)


@pytest.mark.parametrize("name", ["", "a/b", "a\n", "-a", "a b", "a+b"])
def test_other_words_are_no_identifiers(name: str) -> None:
    assert not is_identifier(name)


def test_a_terminal_escape_is_shown_not_obeyed() -> None:
    assert quoted("\x1b[2Jevil\n") == r"'\x1b[2Jevil\n'"


def test_a_long_text_is_cut() -> None:
    assert len(quoted("x" * 10_000)) < 110
    assert len(printable("x" * 10_000)) == 500


def test_plain_words_stay_as_they_are() -> None:
    assert printable("timestamp.json is expired") == "timestamp.json is expired"


@given(st.text())
def test_whatever_is_shown_is_printable_ascii(text: str) -> None:
    for shown in (quoted(text), printable(text)):
        assert all(" " <= character <= "~" for character in shown)
