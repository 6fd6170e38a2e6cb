"""The configured command, started cleanly, or an error that names it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import updog
from updog.errors import UpdogError
from updog.reboot import reboot

TELL_EVERYTHING = f"""#!{sys.executable} -I
import json, os, sys, time
time.sleep(0.1)
facts = {{
    "arguments": sys.argv[1:],
    "environment": dict(os.environ),
    "stdin": sys.stdin.read(),
    "descriptors": sorted(
        name for name in os.listdir("/proc/self/fd") if os.path.exists("/proc/self/fd/" + name)
    ),
}}
with open(__file__ + ".json", "w") as file:
    json.dump(facts, file)
"""


def a_command(directory: Path, text: str, *, name: str = "reboot", mode: int = 0o755) -> str:
    path = directory / name
    path.write_text(text)
    path.chmod(mode)
    return str(path)


def refusal(*command: str) -> str:
    with pytest.raises(UpdogError) as caught:
        reboot(command)
    return str(caught.value)


class TestRunning:
    @pytest.fixture
    def facts(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, object]:
        """Return what a reboot command saw, started from a hostile environment."""
        monkeypatch.setenv("LD_LIBRARY_PATH", str(tmp_path))
        monkeypatch.setenv("PATH", str(tmp_path))
        monkeypatch.setenv("HTTPS_PROXY", "http://user:secret@proxy")
        command = a_command(tmp_path, TELL_EVERYTHING)
        with (tmp_path / "partition").open("w") as file:
            os.set_inheritable(file.fileno(), True)
            reboot([command, "--message", "two words; $(touch never) *", ""])
        facts: dict[str, object] = json.loads(Path(command + ".json").read_text())
        return facts

    def test_the_command_is_waited_for_and_its_arguments_arrive_as_they_are(
        self, facts: dict[str, object]
    ) -> None:
        assert facts["arguments"] == ["--message", "two words; $(touch never) *", ""]

    def test_nothing_is_inherited_but_a_clean_environment(self, facts: dict[str, object]) -> None:
        environment = facts["environment"]
        assert isinstance(environment, dict)
        inherited = set(environment) - {"PATH", "LANG", "LC_CTYPE"}
        assert not inherited
        assert environment["PATH"] == "/usr/sbin:/usr/bin:/sbin:/bin"
        assert environment["LANG"] == "C.UTF-8"

    def test_no_open_file_is_inherited(self, facts: dict[str, object]) -> None:
        assert facts["descriptors"] == ["0", "1", "2"]

    def test_there_is_nobody_to_ask_on_stdin(self, facts: dict[str, object]) -> None:
        assert facts["stdin"] == ""

    def test_its_output_goes_to_stderr(
        self, tmp_path: Path, capfd: pytest.CaptureFixture[str]
    ) -> None:
        reboot([a_command(tmp_path, "#!/bin/sh\necho going down\necho for good >&2\n")])
        captured = capfd.readouterr()
        assert captured.out == ""
        assert captured.err == "going down\nfor good\n"

    def test_a_name_is_not_looked_up_where_the_user_looks(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        a_command(tmp_path, "#!/bin/sh\n", name="reboot-for-tests")
        monkeypatch.setenv("PATH", str(tmp_path))
        monkeypatch.chdir(tmp_path)
        said = refusal("reboot-for-tests")
        assert said == "cannot run the reboot command reboot-for-tests: No such file or directory"

    def test_a_log_that_nobody_reads_does_not_end_it(self, tmp_path: Path) -> None:
        command = a_command(tmp_path, '#!/bin/sh\necho going down\n: > "$0.done"\n')
        reader, writer = os.pipe()
        os.close(reader)
        try:
            code = "import sys; from updog.reboot import reboot; reboot(sys.argv[1:])"
            subprocess.run(
                [sys.executable, "-c", code, command],
                env={"PYTHONPATH": str(Path(updog.__file__).parents[1])},
                stderr=writer,
                check=False,
            )
        finally:
            os.close(writer)
        assert Path(f"{command}.done").exists()


class TestFailing:
    def test_a_missing_command_is_named(self, tmp_path: Path) -> None:
        said = refusal(f"{tmp_path}/reboot", "--now")
        assert said == (
            f"cannot run the reboot command {tmp_path}/reboot --now: No such file or directory"
        )

    def test_a_command_that_cannot_be_run_is_named(self, tmp_path: Path) -> None:
        command = a_command(tmp_path, "#!/bin/sh\n", mode=0o644)
        assert refusal(command) == f"cannot run the reboot command {command}: Permission denied"

    def test_a_command_of_no_known_format_is_named(self, tmp_path: Path) -> None:
        command = a_command(tmp_path, "this is no program\n")
        assert refusal(command) == f"cannot run the reboot command {command}: Exec format error"

    @pytest.mark.parametrize("code", [1, 3, 255])
    def test_a_command_that_fails_is_named_with_its_exit_code(
        self, tmp_path: Path, code: int
    ) -> None:
        command = a_command(tmp_path, f"#!/bin/sh\nexit {code}\n")
        assert refusal(command, "now") == f"the reboot command {command} now failed: exit {code}"

    def test_a_command_that_is_killed_has_failed(self, tmp_path: Path) -> None:
        command = a_command(tmp_path, "#!/bin/sh\nkill -9 $$\n")
        assert refusal(command) == f"the reboot command {command} was ended by SIGKILL"

    def test_a_signal_without_a_name_is_numbered(self, tmp_path: Path) -> None:
        command = a_command(tmp_path, "#!/bin/sh\nkill -40 $$\n")
        assert refusal(command) == f"the reboot command {command} was ended by signal 40"
