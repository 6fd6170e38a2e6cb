import os
from pathlib import Path

import pytest

from repo_tools.errors import RepoToolsError
from repo_tools.programs import find_own_command, find_program, run_program


def test_file_system_tools_are_found_without_a_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PATH")
    assert os.access(find_program("mke2fs"), os.X_OK)


def test_a_directory_of_path_is_preferred(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = tmp_path / "debugfs"
    own.write_text("#!/bin/sh\n")
    own.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find_program("debugfs") == own


def test_a_missing_program_is_named_with_its_package() -> None:
    with pytest.raises(RepoToolsError) as caught:
        find_program("debugfs", directories=["/nowhere"])
    assert str(caught.value) == (
        "cannot find debugfs: install it (Debian: apt-get install e2fsprogs)"
    )


def test_the_commands_of_this_project_are_found_beside_python() -> None:
    assert find_own_command("signpost").name == "signpost"


def test_a_command_that_is_not_installed_is_named() -> None:
    with pytest.raises(RepoToolsError, match="cannot find the command no-such-command beside"):
        find_own_command("no-such-command")


def test_a_program_sees_nothing_of_the_callers_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("LC_ALL", "de_DE.UTF-8")
    monkeypatch.setenv("SECRET", "token")
    done = run_program(Path("/usr/bin/env"), environment={"OURS": "1"})
    names = {line.partition("=")[0] for line in done.stdout.splitlines()}
    assert names == {"LC_ALL", "PATH", "TZ", "OURS"}


def test_a_program_that_does_not_end_is_ended() -> None:
    with pytest.raises(RepoToolsError, match=r"sleep did not end in 0\.1 s"):
        run_program(Path("/bin/sleep"), "10", timeout_seconds=0.1)


def test_a_program_that_cannot_start_is_named(tmp_path: Path) -> None:
    with pytest.raises(RepoToolsError, match=r"cannot run .*/nothing: No such file or directory"):
        run_program(tmp_path / "nothing")
