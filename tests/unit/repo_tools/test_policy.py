from datetime import timedelta
from pathlib import Path

import pytest

from repo_tools.errors import RepoToolsError
from repo_tools.policy import DEFAULT_LIFETIMES, DEFAULT_REFRESH, load_policy, parse_policy

FILE = Path("/srv/publisher/publisher.toml")

COMPLETE = """\
repository = "repository"
draft = "draft"

[keys]
root = []
targets = ["file:keys/targets-1.pem", "hsm:2?label=targets"]
snapshot = ["file:/etc/keys/snapshot-1.pem"]
timestamp = ["file:keys/timestamp-1.pem"]

[lifetimes]
root = "365 days"
targets = "13 weeks"
snapshot = "30 days"
timestamp = "168 hours"

[refresh]
targets = "30 days"
snapshot = "10 days"
timestamp = "3d"
"""


def error_of(text: str) -> str:
    with pytest.raises(RepoToolsError) as caught:
        parse_policy(text, path=FILE)
    return str(caught.value)


def test_a_complete_file_is_read() -> None:
    policy = parse_policy(COMPLETE, path=FILE)
    assert policy.repository == Path("/srv/publisher/repository")
    assert policy.draft == Path("/srv/publisher/draft")
    assert policy.keys == {
        "root": (),
        "targets": ("file:/srv/publisher/keys/targets-1.pem", "hsm:2?label=targets"),
        "snapshot": ("file:/etc/keys/snapshot-1.pem",),
        "timestamp": ("file:/srv/publisher/keys/timestamp-1.pem",),
    }
    assert policy.lifetimes == {
        "root": timedelta(days=365),
        "targets": timedelta(days=91),
        "snapshot": timedelta(days=30),
        "timestamp": timedelta(days=7),
    }
    assert policy.refresh == DEFAULT_REFRESH


def test_an_empty_file_means_the_defaults() -> None:
    policy = parse_policy("", path=FILE)
    assert policy.repository == Path("/srv/publisher/repository")
    assert policy.draft == Path("/srv/publisher/draft")
    assert policy.lifetimes == DEFAULT_LIFETIMES
    assert policy.refresh == DEFAULT_REFRESH
    assert set(policy.keys.values()) == {()}


def test_paths_are_relative_to_the_file_and_may_leave_its_directory(tmp_path: Path) -> None:
    directory = tmp_path / "publisher"
    directory.mkdir()
    (directory / "publisher.toml").write_text('repository = "../served"\ndraft = "/var/draft"')
    policy = load_policy(directory)
    assert policy.repository == tmp_path / "served"
    assert policy.draft == Path("/var/draft")


def test_a_misspelt_setting_is_refused_with_the_nearest_one() -> None:
    assert error_of('repositry = "r"') == (
        f"{FILE}: unknown setting 'repositry'; did you mean repository?"
    )
    assert error_of('[lifetimes]\ntimestmap = "1 day"') == (
        f"{FILE}: unknown setting 'lifetimes.timestmap'; did you mean lifetimes.timestamp?"
    )
    assert "there are root, targets, snapshot, timestamp" in error_of("[keys]\nx = []")


def test_root_is_never_refreshed_online() -> None:
    assert "root is not signed online" in error_of('[refresh]\nroot = "30 days"')


@pytest.mark.parametrize("value", ['"soon"', "7", '"0 days"', '"-1 days"', '"1 month"', "[]"])
def test_a_lifetime_that_is_no_time_is_refused(value: str) -> None:
    message = error_of(f"[lifetimes]\ntimestamp = {value}")
    assert 'lifetimes.timestamp must be a time like "7 days" or "36 hours", not' in message


def test_a_refresh_that_would_never_rest_is_refused() -> None:
    message = error_of('[lifetimes]\ntimestamp = "1 day"\n[refresh]\ntimestamp = "1 day"')
    assert "refresh.timestamp must be less than lifetimes.timestamp" in message


@pytest.mark.parametrize("draft", ["repository", "repository/draft", "./repository/x/../draft"])
def test_a_draft_that_would_be_served_is_refused(draft: str) -> None:
    assert "lies in what is served" in error_of(f'draft = "{draft}"')


def test_a_key_that_would_be_served_is_refused() -> None:
    message = error_of('[keys]\ntargets = ["file:repository/targets-1.pem"]')
    assert "key /srv/publisher/repository/targets-1.pem lies in what is served" in message


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("repository = 1", "repository must be a path, not 1"),
        ('draft = ""', "draft must be a path, not ''"),
        ("keys = 1", "keys must be a table: write [keys]"),
        ('[keys]\nroot = "file:a"', "keys.root must be a list like"),
        ("[keys]\nroot = [1]", "keys.root must be a list like"),
        (
            '[keys]\nroot = ["keys/root-1.pem"]',
            "keys: 'keys/root-1.pem' is no signer URI; a file is \"file:keys/root-1.pem\"",
        ),
        ("[", "Invalid initial"),
    ],
)
def test_what_cannot_be_meant_is_refused(text: str, message: str) -> None:
    assert message in error_of(text)


def test_a_directory_without_the_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(RepoToolsError, match=r"no publisher\.toml in .*--publisher DIR"):
        load_policy(tmp_path)


def test_a_file_that_is_no_text_is_named(tmp_path: Path) -> None:
    (tmp_path / "publisher.toml").write_bytes(b"\xff")
    with pytest.raises(RepoToolsError, match=r"publisher\.toml: it is not UTF-8 text"):
        load_policy(tmp_path)
    (tmp_path / "publisher.toml").unlink()
    (tmp_path / "publisher.toml").mkdir()
    with pytest.raises(RepoToolsError, match=r"cannot read .*publisher\.toml"):
        load_policy(tmp_path)
