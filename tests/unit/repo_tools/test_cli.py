import json
import re
import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from repo_tools.playground.place import Playground
from repo_tools.programs import find_own_command
from tests.unit.repo_tools.machines import run

GROUPS = ("image", "key", "max_version", "migrations", "playground", "release", "root", "waves")
COMMANDS = [
    [],
    ["key"],
    ["key", "generate"],
    ["key", "list"],
    ["root"],
    ["root", "create"],
    ["root", "rotate"],
    ["root", "show"],
    ["root", "sign"],
    ["release"],
    ["release", "add"],
    ["release", "withdraw"],
    ["release", "list"],
    ["release", "discard"],
    ["migrations"],
    ["migrations", "set"],
    ["max-version"],
    ["max-version", "set"],
    ["waves"],
    ["waves", "set"],
    ["waves", "show"],
    ["waves", "pause"],
    ["waves", "resume"],
    ["waves", "accelerate"],
    ["publish"],
    ["refresh"],
    ["check-expirations"],
    ["clone"],
    ["export"],
    ["import"],
    ["image"],
    ["image", "build"],
    ["image", "disk"],
    ["image", "inspect"],
    ["serve"],
    ["validate"],
    ["playground"],
    ["playground", "boot"],
    ["playground", "create"],
    ["playground", "max-version"],
    ["playground", "release"],
    ["playground", "serve"],
    ["playground", "status"],
    ["simulate"],
]


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_command_shows_an_example(command: list[str]) -> None:
    done = run("repo-tools", *command, "--help")
    assert done.returncode == 0
    assert re.search(rf"Examples?:\n +repo-tools {' '.join(command)}", done.stdout)


def test_help_does_not_wait_for_libraries_that_it_does_not_need() -> None:
    groups = ", ".join(f"repo_tools.{group}.group" for group in GROUPS)
    program = f"import sys, repo_tools.cli, {groups}; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True
    )
    assert {"tuf", "cryptography", "parted", "requests", "numpy"}.isdisjoint(done.stdout.split())


def test_the_version_is_told() -> None:
    assert run("repo-tools", "--version").stdout.startswith("repo-tools, version ")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["create", "p", "--disk-size", "big"], "'big' is not a size; write it like 2GiB"),
        (["release", "p", "one"], "'one' is not a version; write it like 1.2.0"),
        (["nonsense"], "No such command 'nonsense'"),
    ],
)
def test_wrong_usage_is_exit_2(arguments: list[str], message: str) -> None:
    done = run("repo-tools", "playground", *arguments)
    assert done.returncode == 2
    assert message in done.stderr


def test_a_file_that_cannot_be_written_is_one_line(fresh_playground: Playground) -> None:
    done = run("repo-tools", "playground", "create", fresh_playground.disk / "below")
    assert done.returncode == 1
    where = fresh_playground.disk / "below"
    assert done.stderr.startswith(
        f"repo-tools: cannot make the playground {where}: Not a directory"
    )
    assert done.stderr.endswith(
        f"; what was made so far stays, and `repo-tools playground create {where} --force` "
        "makes it anew\n"
    )
    assert len(done.stderr.splitlines()) == 1


def test_a_server_says_where_it_is_and_ends_when_told_to(fresh_playground: Playground) -> None:
    command = [str(find_own_command("repo-tools")), "playground", "serve", "--port", "0"]
    command.append(str(fresh_playground.directory))
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        line = server.stdout.readline()
        url = re.search(r"at (http://127\.0\.0\.1:\d+) \(Ctrl-C stops\)", line)
        assert url is not None
        with urllib.request.urlopen(f"{url[1]}/metadata/timestamp.json") as response:  # noqa: S310
            assert response.status == 200
        server.send_signal(signal.SIGTERM)
        assert server.wait(timeout=10) == 0


def test_a_taken_port_is_one_line_that_says_what_to_do(
    playground: Playground, tmp_path: Path
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        done = run("repo-tools", "playground", "serve", playground.directory, "--port", port)
        plain = run("repo-tools", "serve", tmp_path, "--port", port)
    assert (done.returncode, plain.returncode) == (1, 1)
    assert done.stderr == (
        f"repo-tools: cannot serve on 127.0.0.1:{port}: Address already in use: stop what listens "
        f"there, or make the playground anew with `repo-tools playground create "
        f"{playground.directory} --force --port ANOTHER`\n"
    )
    assert plain.stderr == f"repo-tools: cannot serve on 127.0.0.1:{port}: Address already in use\n"


@pytest.mark.parametrize(
    "arguments",
    [
        ["--json", "playground", "status", "DIR"],
        ["playground", "--json", "status", "DIR"],
        ["playground", "status", "--json", "DIR"],
        ["playground", "status", "DIR", "--json"],
    ],
    ids=" ".join,
)
def test_json_may_be_asked_for_before_and_after_the_commands_name(
    fresh_playground: Playground, arguments: list[str]
) -> None:
    where = str(fresh_playground.directory)
    done = run("repo-tools", *(where if word == "DIR" else word for word in arguments))
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["directory"] == where


def test_an_interrupted_creation_is_one_line_that_says_what_is_left(tmp_path: Path) -> None:
    where = tmp_path / "p"
    command = [str(find_own_command("repo-tools")), "playground", "create", str(where)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as creating:
        assert creating.stdout is not None
        creating.stdout.readline()
        creating.send_signal(signal.SIGTERM)
        _, said = creating.communicate(timeout=30)
    assert creating.returncode == 1
    assert said == (
        f"repo-tools: cannot make the playground {where}: interrupted; what was made so far stays, "
        f"and `repo-tools playground create {where} --force` makes it anew\n"
    )
