import pytest
from semver import Version

from updog.versions import LATEST, parse_strict_version, parse_version, parse_version_lock


def admits(lock: str, version: str) -> bool:
    return parse_version_lock(lock).admits(Version.parse(version))


def test_people_may_write_a_v_before_a_version() -> None:
    assert parse_version("v1.2.0") == parse_version("1.2.0")


def test_formats_may_not() -> None:
    with pytest.raises(ValueError, match=r"'v1\.2\.0' is not a version; write it like"):
        parse_strict_version("v1.2.0")


@pytest.mark.parametrize(
    "text", ["", "1", "1.2", "01.2.0", "1.2.0\n", "1.2.0 ", "1.2.٣", "x" * 200]
)
def test_other_texts_are_no_version(text: str) -> None:
    with pytest.raises(ValueError, match="is not a version; write it like"):
        parse_version(text)


def test_a_version_of_a_hundred_and_one_characters_is_too_long() -> None:
    parse_version("1.0.0-" + "a" * 94)
    with pytest.raises(ValueError, match="is not a version"):
        parse_version("1.0.0-" + "a" * 95)


def test_a_version_with_control_characters_is_not_repeated_raw() -> None:
    with pytest.raises(ValueError, match=r"\\x1b") as caught:
        parse_version("\x1b[2J")
    assert "\x1b" not in str(caught.value)


def test_latest_admits_everything() -> None:
    assert parse_version_lock("latest") == LATEST
    assert LATEST.admits(Version.parse("0.0.1"))
    assert str(LATEST) == "latest"


@pytest.mark.parametrize("text", ["1.2.0", "v1.2.0"])
def test_an_exact_lock_admits_its_version_alone(text: str) -> None:
    assert admits(text, "1.2.0")
    assert not admits(text, "1.2.1")
    assert not admits(text, "1.1.9")
    assert str(parse_version_lock(text)) == "1.2.0"


@pytest.mark.parametrize(
    ("version", "expected"),
    [
        ("1.1.9", False),
        ("1.2.0-rc.1", False),
        ("1.2.0", True),
        ("1.3.9", True),
        ("1.4.0-rc.1", False),
        ("1.4.0", False),
        ("1.4.1", False),
    ],
)
def test_a_range_admits_what_lies_in_it(version: str, *, expected: bool) -> None:
    assert admits(">=1.2,<1.4", version) is expected
    assert admits(" >= 1.2.0 , < 1.4.0 ", version) is expected


def test_a_range_up_to_a_prerelease_admits_earlier_prereleases() -> None:
    assert admits("<1.4.0-rc.2", "1.4.0-rc.1")
    assert not admits("<1.4.0-rc.2", "1.4.0-rc.2")


def test_the_other_two_bounds_include_and_exclude_their_version() -> None:
    assert admits("<=1.4.0", "1.4.0")
    assert not admits("<=1.4.0", "1.4.1")
    assert admits(">1.4.0", "1.4.1")
    assert not admits(">1.4.0", "1.4.0")


@pytest.mark.parametrize("text", ["<=1.4", ">1.4", ">1"])
def test_a_bound_that_can_be_read_two_ways_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="ambiguous; write all three numbers"):
        parse_version_lock(text)


@pytest.mark.parametrize("text", ["", "Latest", "1.2", "~1.2.0", "=1.2.0", "1.2.0,1.3.0"])
def test_what_locks_nothing_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ValueError, match=r"locks no version; write latest, .* like >=1.2,<1.4"):
        parse_version_lock(text)


@pytest.mark.parametrize("text", [">=1.2,", ">=1.2,1.4.0", ">=1.2,<1.4,,", ">"])
def test_a_broken_range_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ValueError, match="is no bound of a range; write a range like >="):
        parse_version_lock(text)


def test_a_range_with_a_broken_version_is_refused() -> None:
    with pytest.raises(ValueError, match=r"'1\.x' is not a version"):
        parse_version_lock(">=1.x")


@pytest.mark.parametrize(
    ("operator", "short", "full"), [(">", "1", "1.0.0"), ("<=", "1.4", "1.4.0")]
)
def test_the_advice_for_an_ambiguous_bound_can_be_followed(
    operator: str, short: str, full: str
) -> None:
    with pytest.raises(ValueError, match=f"numbers, like {full}$"):
        parse_version_lock(operator + short)
    parse_version_lock(operator + full)


@pytest.mark.parametrize("text", [">=1.4,<1.2", ">1.2.0,<1.2.0", ">=1.2,<1.2", ">1.2.0,<=1.2.0"])
def test_a_range_that_nothing_can_be_in_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="admits no version"):
        parse_version_lock(text)
    assert parse_version_lock(">=1.2.0,<=1.2.0").admits(Version(1, 2, 0))
