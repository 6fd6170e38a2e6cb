"""The installed `signpost` command on image files: words, JSON, exit codes, options."""

import fcntl
import json
import os
import re
import signal
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from signpost.cli import cli
from tests.helpers.disk_tools import disk_tool
from tests.helpers.gpt_builder import (
    DiskSpec,
    Flags,
    Mbr,
    Part,
    an_ab_disk,
    build,
    garble,
    write_image,
)
from tests.helpers.gpt_readers import Medium, uefi_reader
from tests.helpers.processes import wait_until_open

SIGNPOST = Path(sys.executable).with_name("signpost")
STAGED = Flags(0, 1, 0)
Done = subprocess.CompletedProcess[str]


def environment(**variables: str) -> dict[str, str]:
    """Return this process's environment with no signpost variables but the given ones."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("SIGNPOST_")}
    return {**kept, **variables}


def signpost(*arguments: str | Path, **variables: str) -> Done:
    return subprocess.run(
        [SIGNPOST, *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env=environment(**variables),
    )


def on(path: Path, *arguments: str, active: str = "A") -> Done:
    return signpost("--disk", path, "--active", active, *arguments)


def answer(done: Done) -> Any:
    """Return the one JSON document that a command printed, and nothing beside it."""
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return json.loads(done.stdout)


def flags_on(path: Path, sector_size: int = 512) -> tuple[Flags, ...]:
    seen = uefi_reader(Medium.of_file(path, sector_size))
    assert seen is not None
    return seen.boot_flags


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """An image with factory flags."""
    return write_image(tmp_path / "os.img", an_ab_disk())


def an_image(tmp_path: Path, **facts: Any) -> Path:
    return write_image(tmp_path / "os.img", an_ab_disk(**facts))


class TestStatus:
    def test_it_shows_both_sets_by_their_own_partitions_while_a_runs(self, tmp_path: Path) -> None:
        path = an_image(tmp_path, a=Flags(1, 0, 1), b=Flags(2, 15, 0))
        done = on(path, "status", active="A")
        assert done.stdout.splitlines() == [
            f"OS disk: {path}  (GPT: both copies good)",
            "  set  boot  root  hash  priority  tries  successful  boots",
            "  A *  3     4     5     1         0      yes         yes",
            "  B    8     9     10    2         15     no          next",
            "* running",
        ]
        assert (done.returncode, done.stderr) == (0, "")

    def test_it_shows_both_sets_by_their_own_partitions_while_b_runs(self, tmp_path: Path) -> None:
        path = an_image(tmp_path, a=Flags(0, 0, 1), b=Flags(2, 0, 1))
        assert on(path, "status", active="B").stdout.splitlines()[2:] == [
            "  A    3     4     5     0         0      yes         no",
            "  B *  8     9     10    2         0      yes         next",
            "* running",
        ]

    def test_it_says_when_it_does_not_know_what_runs_and_when_nothing_can_boot(
        self, tmp_path: Path
    ) -> None:
        path = an_image(tmp_path, a=Flags(0, 0, 0))
        lines = signpost("status", "--disk", path).stdout.splitlines()
        assert lines[2] == "  A    3     4     5     0         0      no          no"
        assert lines[4] == "It is not known which set is running."
        assert lines[5] == (
            "WARNING: no set can boot. Do not reboot; `signpost status --active A` or `B`, "
            "whichever runs, says what to do."
        )

    def test_it_shows_a_single_set(self, tmp_path: Path) -> None:
        done = on(an_image(tmp_path, b=None), "status")
        assert done.stdout.splitlines()[2:] == [
            "  A *  3     4     5     1         0      yes         next",
            "* running",
        ]

    @pytest.mark.parametrize(
        ("part", "words"),
        [
            (Part.PRIMARY_HEADER, "primary copy: no header at LBA 1"),
            (Part.BACKUP_ENTRIES, "backup copy: checksum of the entries is wrong"),
        ],
    )
    def test_it_names_the_bad_copy_and_the_remedy(
        self, tmp_path: Path, part: Part, words: str
    ) -> None:
        spec = an_ab_disk()
        path = tmp_path / "os.img"
        path.write_bytes(garble(build(spec), spec, part))
        lines = on(path, "status").stdout.splitlines()
        assert lines[0] == f"OS disk: {path}  (GPT: {words})"
        assert lines[-1] == "`signpost rewrite-table` repairs the partition table."

    def test_it_says_where_a_change_is_not_committed_by_one_sector(self, tmp_path: Path) -> None:
        path = an_image(tmp_path, first_partition_lba=34)
        assert on(path, "status").stdout.splitlines()[5:] == [
            "No safe room for a second entry array, so changes are written in place: a cut",
            "may leave the backup alone valid, which Linux ignores unless booted with `gpt`.",
        ]
        assert answer(on(path, "status", "--json"))["table"]["commits_at_once"] is False

    def test_it_names_a_hybrid_mbr(self, tmp_path: Path) -> None:
        done = on(an_image(tmp_path, mbr=Mbr.HYBRID), "status")
        assert done.stdout.splitlines()[0].endswith("(GPT: both copies good; hybrid MBR)")

    @pytest.mark.parametrize(
        ("name", "boot_b"), [("vda", "vda8"), ("nvme0n1", "nvme0n1p8"), ("loop12", "loop12p8")]
    )
    def test_it_names_the_partitions_of_a_device(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, boot_b: str
    ) -> None:
        path = write_image(tmp_path / name, an_ab_disk())
        # The one test in this process: what it needs is a file that passes for a device.
        monkeypatch.setattr(stat, "S_ISBLK", lambda _mode: True)
        monkeypatch.setattr(fcntl, "ioctl", lambda *_: (512).to_bytes(4, "little"))
        shown = CliRunner().invoke(cli, ["--disk", str(path), "--active", "B", "status"])
        assert shown.output.splitlines()[3].split()[:3] == ["B", "*", str(tmp_path / boot_b)]

    def test_its_json_says_all_of_it(self, tmp_path: Path) -> None:
        path = an_image(tmp_path, b=Flags(2, 1, 0), sector_size=4096)
        facts = answer(on(path, "status", "--json"))
        sets = facts.pop("sets")
        assert facts == {
            "disk": str(path),
            "sector_size": 4096,
            "table": {
                "mbr": "protective",
                "primary": "good",
                "backup": "good",
                "faults": [],
                "commits_at_once": True,
            },
            "active": "A",
            "next": "B",
            "has_boot_ever_succeeded": False,
        }
        assert list(sets) == ["A", "B"]
        assert sets["B"] == {
            "boot": {
                "number": 8,
                "path": str(path),
                "offset_bytes": 3712 << 10,
                "length_bytes": 512 << 10,
            },
            "root": {
                "number": 9,
                "path": str(path),
                "offset_bytes": 4224 << 10,
                "length_bytes": 1 << 20,
            },
            "hash": {
                "number": 10,
                "path": str(path),
                "offset_bytes": 5248 << 10,
                "length_bytes": 256 << 10,
            },
            "priority": 2,
            "tries": 1,
            "successful": False,
            "bootable": True,
        }
        assert sets["A"]["boot"]["number"] == 3
        assert sets["A"]["successful"] is True

    def test_its_json_has_null_for_what_is_not_known(self, tmp_path: Path) -> None:
        spec = an_ab_disk(a=Flags(0, 0, 0), b=None, private_attributes=2**57)
        path = tmp_path / "os.img"
        path.write_bytes(garble(build(spec), spec, Part.BACKUP_HEADER))
        facts = answer(signpost("--disk", path, "status", "--json"))
        fault = f"no header at LBA {spec.last_lba}"
        assert facts["active"] is None
        assert facts["next"] is None
        assert facts["has_boot_ever_succeeded"] is True
        assert facts["table"]["backup"] == fault
        assert facts["table"]["faults"] == [f"backup copy: {fault}"]
        assert list(facts["sets"]) == ["A"]


STORY = [
    (
        *("A", "clear-inactive"),
        "nothing to change: the flags already are as wanted",
        "next boot: set A",
    ),
    (
        *("A", "mark-inactive-valid"),
        "set B: priority 0, 0 tries, not successful -> priority 0, 1 try, not successful",
        "next boot: set A",
    ),
    (
        *("A", "upgrade-to-inactive"),
        "set B: priority 0, 1 try, not successful -> priority 2, 1 try, not successful",
        "next boot: set B",
    ),
    (
        *("A", "select-boot"),
        "boot set B (partitions 8, 9, 10), 0 tries left",
    ),
    (
        *("B", "mark-successful-boot"),
        "set B: priority 2, 0 tries, not successful -> priority 2, 0 tries, successful",
        "this machine: marked for good as having booted successfully",
        "next boot: set B",
    ),
    (
        *("B", "rollback-to-inactive"),
        "set A: priority 1, 0 tries, successful -> priority 2, 0 tries, successful",
        "set B: priority 2, 0 tries, successful -> priority 1, 0 tries, successful",
        "next boot: set A",
    ),
    (
        *("B", "cancel-upgrade"),
        "set A: priority 2, 0 tries, successful -> priority 0, 0 tries, successful",
        "set B: priority 1, 0 tries, successful -> priority 2, 0 tries, successful",
        "next boot: set B",
    ),
]
"""The running set, a command, and the lines it prints."""


class TestChanges:
    def test_an_update_and_its_success_from_first_command_to_last(self, image: Path) -> None:
        for active, command, *lines in STORY:
            done = on(image, command, active=active)
            assert (done.returncode, done.stderr) == (0, ""), command
            assert done.stdout.splitlines() == lines
        assert flags_on(image) == (Flags(0, 0, 1), Flags(2, 0, 1))

    def test_a_change_as_json_has_the_state_before_and_after(self, tmp_path: Path) -> None:
        path = an_image(tmp_path, b=STAGED)
        changed = answer(on(path, "upgrade-to-inactive", "--json"))
        assert changed["before"]["next"] == "A"
        assert changed["before"]["sets"]["B"]["priority"] == 0
        assert changed["after"]["next"] == "B"
        assert changed["after"]["sets"]["B"]["priority"] == 2
        assert changed["repaired"] == []
        assert changed["written"] is True
        assert answer(on(path, "upgrade-to-inactive", "--json"))["written"] is False

    def test_after_a_change_that_leaves_nothing_to_boot_it_says_so(self, tmp_path: Path) -> None:
        path = an_image(tmp_path, a=Flags(0, 0, 0))
        done = on(path, "mark-successful-boot")
        assert done.stdout.splitlines() == [
            "set A: priority 0, 0 tries, not successful -> priority 0, 0 tries, successful",
            "this machine: marked for good as having booted successfully",
            "next boot: NONE, no set can boot",
            (
                "WARNING: no set can boot. Do not reboot; if the running system is good: "
                "`signpost cancel-upgrade`."
            ),
        ]

    @pytest.mark.parametrize(
        ("a", "b", "warning"),
        [
            (Flags(1, 0, 0), Flags(0, 0, 0), "no set can boot"),
            (Flags(0, 0, 0), Flags(0, 0, 0), "no set can boot"),
            (Flags(0, 5, 1), Flags(0, 1, 0), "no set can boot"),
            (Flags(0, 0, 0), Flags(1, 0, 1), "the running set A has priority 0"),
            (Flags(0, 0, 1), Flags(15, 15, 1), "the running set A has priority 0"),
        ],
    )
    def test_the_commands_that_status_advises_lead_out(
        self, tmp_path: Path, a: Flags, b: Flags, warning: str
    ) -> None:
        path = an_image(tmp_path, a=a, b=b)
        note = on(path, "status").stdout.splitlines()[-1]
        assert note.startswith(f"WARNING: {warning}")
        for command in re.findall("`signpost ([a-z-]+)`", note):
            assert on(path, command).returncode == 0, command
        assert not on(path, "status").stdout.count("WARNING")
        assert answer(on(path, "status", "--json"))["next"] == "A"

    def test_the_command_that_status_advises_leads_out_of_a_single_set_without_priority(
        self, tmp_path: Path
    ) -> None:
        path = an_image(tmp_path, a=Flags(0, 0, 0), b=None)
        note = on(path, "status").stdout.splitlines()[-1]
        first, second = re.findall("`([^`]+)`", note)
        assert first == "signpost mark-successful-boot"
        on(path, "mark-successful-boot")
        disk_tool(*second.split())
        assert answer(on(path, "status", "--json"))["next"] == "A"

    def test_whether_a_boot_ever_succeeded_is_told_as_true_or_nothing(self, image: Path) -> None:
        before = on(image, "has-boot-ever-succeeded")
        assert (before.returncode, before.stdout) == (0, "")
        assert answer(on(image, "has-boot-ever-succeeded", "--json")) == {
            "has_boot_ever_succeeded": False
        }
        marked = on(image, "mark-successful-boot")
        assert marked.stdout.splitlines() == [
            "this machine: marked for good as having booted successfully",
            "next boot: set A",
        ]
        assert signpost("--disk", image, "has-boot-ever-succeeded").stdout == "true\n"
        assert answer(on(image, "has-boot-ever-succeeded", "--json")) == {
            "has_boot_ever_succeeded": True
        }

    def test_rewriting_the_table_repairs_it_and_says_what(self, tmp_path: Path) -> None:
        spec = an_ab_disk()
        path = tmp_path / "os.img"
        path.write_bytes(garble(build(spec), spec, Part.PRIMARY_ENTRIES))
        fault = "primary copy: checksum of the entries is wrong"
        done = signpost("rewrite-table", "--disk", path)
        assert done.returncode == 0
        assert done.stderr == f"signpost: repaired the partition table: {fault}\n"
        assert done.stdout.splitlines() == [
            f"both copies of the partition table of {path} written anew",
            "next boot: set A",
        ]
        again = answer(signpost("rewrite-table", "--json", "--disk", path))
        assert again["repaired"] == []
        assert again["written"] is True
        path.write_bytes(garble(build(spec), spec, Part.PRIMARY_ENTRIES))
        assert answer(on(path, "mark-inactive-valid", "--json"))["repaired"] == [fault]


class TestSelectBoot:
    def test_it_prints_what_to_boot_as_json_and_spends_a_try(self, tmp_path: Path) -> None:
        path = an_image(tmp_path, b=Flags(2, 2, 1))
        assert answer(signpost("--disk", path, "select-boot", "--json")) == {
            "set": "B",
            "priority": 2,
            "tries": 1,
            "successful": True,
            "bootable": True,
            "boot": {
                "number": 8,
                "path": str(path),
                "offset_bytes": 3712 << 10,
                "length_bytes": 512 << 10,
            },
            "root": {
                "number": 9,
                "path": str(path),
                "offset_bytes": 4224 << 10,
                "length_bytes": 1 << 20,
            },
            "hash": {
                "number": 10,
                "path": str(path),
                "offset_bytes": 5248 << 10,
                "length_bytes": 256 << 10,
            },
            "repaired": [],
        }
        assert flags_on(path) == (Flags(1, 0, 1), Flags(2, 1, 1))

    def test_it_says_what_it_repaired(self, tmp_path: Path) -> None:
        spec = an_ab_disk()
        path = tmp_path / "os.img"
        path.write_bytes(garble(build(spec), spec, Part.BACKUP_HEADER))
        found = answer(signpost("--disk", path, "select-boot", "--json"))
        assert found["repaired"] == [f"backup copy: no header at LBA {spec.last_lba}"]

    @pytest.mark.parametrize("mbr", [Mbr.HYBRID, Mbr.MISSING])
    def test_a_table_that_is_not_written_still_boots_where_no_try_is_spent(
        self, tmp_path: Path, mbr: Mbr
    ) -> None:
        path = an_image(tmp_path, mbr=mbr)
        assert answer(signpost("--disk", path, "select-boot", "--json"))["set"] == "A"

    def test_a_set_on_its_last_try_is_chosen_although_it_is_not_bootable_again(
        self, tmp_path: Path
    ) -> None:
        path = an_image(tmp_path, b=Flags(2, 1, 0))
        first = answer(signpost("--disk", path, "select-boot", "--json"))
        assert (first["set"], first["tries"], first["bootable"]) == ("B", 0, False)
        second = signpost("--disk", path, "select-boot")
        assert second.stdout == "boot set A (partitions 3, 4, 5), 0 tries left\n"

    def test_it_fails_and_writes_nothing_when_no_set_can_boot(self, tmp_path: Path) -> None:
        path = an_image(tmp_path, a=Flags(2, 0, 0), b=Flags(0, 9, 1))
        before = path.read_bytes()
        done = signpost("--disk", path, "select-boot", "--json")
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr.startswith("signpost: no set can boot (priority/tries/successful: A 2/0")
        assert path.read_bytes() == before


class TestErrors:
    @pytest.mark.parametrize(
        ("facts", "command", "message"),
        [
            ({"b": None}, "clear-inactive", "this is a single-set disk (one BOOT partition)"),
            ({"b": Flags(1, 0, 0)}, "cancel-upgrade", "no upgrade is pending: the next boot takes"),
            ({}, "rollback-to-inactive", "set B cannot be rolled back to: its priority/tries/"),
            ({"mbr": Mbr.HYBRID}, "mark-successful-boot", "LBA 0 holds a hybrid MBR: firmware"),
        ],
    )
    def test_a_refusal_is_one_line_on_stderr_and_exit_1(
        self, tmp_path: Path, facts: dict[str, Any], command: str, message: str
    ) -> None:
        path = an_image(tmp_path, **facts)
        before = path.read_bytes()
        done = on(path, command)
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr.startswith("signpost: ")
        assert message in done.stderr
        assert done.stderr.count("\n") == 1
        assert path.read_bytes() == before

    def test_a_result_that_cannot_be_printed_is_one_line_too(self, image: Path) -> None:
        with Path("/dev/full").open("w") as full:
            done = subprocess.run(
                [SIGNPOST, "--disk", image, "status"],
                stdout=full,
                stderr=subprocess.PIPE,
                text=True,
                check=False,
                env=environment(),
            )
        assert done.returncode == 1
        assert done.stderr == "signpost: cannot print the result: No space left on device\n"

    def test_an_interrupted_command_says_what_is_left(self, image: Path) -> None:
        with image.open("rb") as other:
            fcntl.flock(other, fcntl.LOCK_EX)
            waiting = subprocess.Popen(
                [SIGNPOST, "--disk", image, "--active", "A", "mark-inactive-valid"],
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                env=environment(),
                # Whoever runs the tests in the background ignores the signal, and so would it.
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509
            )
            wait_until_open(waiting, image)
            waiting.send_signal(signal.SIGINT)
            stdout, stderr = waiting.communicate(timeout=60)
        assert (waiting.returncode, stdout) == (1, "")
        assert stderr == (
            "signpost: interrupted. The table is whole, with either the old flags or the new ones; "
            "`signpost status` shows which\n"
        )

    def test_it_says_how_to_tell_what_runs(self, image: Path) -> None:
        done = signpost("--disk", image, "clear-inactive")
        assert done.returncode == 1
        assert done.stderr == (
            "signpost: it is not known which set of this disk is running; "
            "say so with --active A or B\n"
        )

    @pytest.mark.parametrize("kind", ["missing", "empty", "without sets"])
    def test_a_disk_that_is_none_is_named(self, tmp_path: Path, kind: str) -> None:
        path = tmp_path / "os.img"
        if kind == "empty":
            path.touch()
        elif kind == "without sets":
            write_image(path, DiskSpec())
        done = signpost("status", "--json", "--disk", path)
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr.startswith("signpost: ")
        assert done.stderr.count("\n") == 1
        assert str(path) in done.stderr or kind == "without sets"

    @pytest.mark.parametrize(
        "arguments",
        [
            pytest.param([], id="no command"),
            pytest.param(["frobnicate"], id="an unknown command"),
            pytest.param(["status", "--active", "C"], id="a set that there is not"),
            pytest.param(["--active", "a", "status"], id="a set in lower case"),
        ],
    )
    def test_wrong_usage_is_exit_2_with_words_on_stderr(self, arguments: list[str]) -> None:
        done = signpost(*arguments)
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr.startswith("Usage: signpost ")


class TestOptionsAndEnvironment:
    def test_options_may_stand_before_or_after_the_command(self, image: Path) -> None:
        before = signpost("--disk", image, "--active", "B", "--json", "status")
        after = signpost("status", "--json", "--active", "B", "--disk", image)
        assert answer(before)["active"] == "B"
        assert answer(before) == answer(after)

    def test_the_later_of_two_wins(self, image: Path) -> None:
        done = signpost("--disk", "none.img", "--active", "A", "status", "--disk", image)
        assert done.returncode == 0

    def test_the_environment_names_disk_and_running_set(self, image: Path) -> None:
        done = signpost("status", "--json", SIGNPOST_DISK=str(image), SIGNPOST_ACTIVE="B")
        assert answer(done)["active"] == "B"

    def test_the_command_line_is_stronger_than_the_environment(self, image: Path) -> None:
        done = signpost(
            *("status", "--json", "--disk", image, "--active", "A"),
            SIGNPOST_DISK="none.img",
            SIGNPOST_ACTIVE="B",
        )
        assert answer(done)["active"] == "A"

    def test_a_wrong_environment_is_wrong_usage(self, image: Path) -> None:
        done = signpost("--disk", image, "status", SIGNPOST_ACTIVE="C")
        assert done.returncode == 2
        assert "SIGNPOST_ACTIVE" in done.stderr or "--active" in done.stderr

    def test_empty_variables_are_as_good_as_none(self, image: Path) -> None:
        done = signpost(
            *("--disk", image, "status", "--json"),
            SIGNPOST_DISK="",
            SIGNPOST_ACTIVE="",
            SIGNPOST_ACTIVE_FILE="",
        )
        assert answer(done)["active"] is None

    def test_a_file_left_by_the_boot_loader_names_the_running_set(
        self, image: Path, tmp_path: Path
    ) -> None:
        file = tmp_path / "active"
        file.write_text("B\n")
        by_option = signpost("status", "--json", "--disk", image, "--active-file", file)
        assert answer(by_option)["active"] == "B"
        by_variable = signpost("status", "--json", "--disk", image, SIGNPOST_ACTIVE_FILE=str(file))
        assert answer(by_variable)["active"] == "B"

    @pytest.mark.parametrize("after", [False, True], ids=["before", "after the command"])
    def test_an_option_is_stronger_than_its_rival_in_the_environment(
        self, image: Path, tmp_path: Path, after: bool
    ) -> None:
        file = tmp_path / "active"
        file.write_text("B\n")

        def active(*options: str | Path, **variables: str) -> str:
            words = ("status", *options) if after else (*options, "status")
            told = answer(signpost("--disk", image, "--json", *words, **variables))["active"]
            assert isinstance(told, str)
            return told

        assert active("--active-file", file, SIGNPOST_ACTIVE="A") == "B"
        assert active("--active", "A", SIGNPOST_ACTIVE_FILE=str(file)) == "A"

    @pytest.mark.parametrize("named", ["together", "around the command", "in the environment"])
    def test_what_runs_may_be_said_in_one_way_only(
        self, image: Path, tmp_path: Path, named: str
    ) -> None:
        """Were one preferred in silence, a stale one could have the running set cleared."""
        file = tmp_path / "active"
        file.write_text("A\n")
        ways: dict[str, tuple[list[str | Path], dict[str, str]]] = {
            "together": (["status", "--active", "A", "--active-file", file], {}),
            "around the command": (["--active", "A", "status", "--active-file", file], {}),
            "in the environment": (
                ["status"],
                {"SIGNPOST_ACTIVE": "A", "SIGNPOST_ACTIVE_FILE": str(file)},
            ),
        }
        arguments, variables = ways[named]
        done = signpost("--disk", image, *arguments, **variables)
        assert (done.returncode, done.stdout) == (2, "")
        assert "both say which set is running" in done.stderr

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            ("both", "{file} must hold A or B, the running set, not 'both'"),
            (None, "cannot read which set is running from {file}: "),
        ],
    )
    def test_a_file_that_names_no_set_is_one_line_of_error(
        self, image: Path, tmp_path: Path, content: str | None, message: str
    ) -> None:
        file = tmp_path / "active"
        if content is not None:
            file.write_text(content)
        done = signpost("status", "--disk", image, "--active-file", file)
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr.startswith(f"signpost: {message.format(file=file)}")
        assert done.stderr.count("\n") == 1

    def test_the_help_lists_every_command_and_says_the_exit_codes(self) -> None:
        done = signpost("--help")
        assert (done.returncode, done.stderr) == (0, "")
        listed = done.stdout.partition("Commands:\n")[2].partition("Examples:")[0]
        names = {line.split()[0] for line in listed.splitlines() if line[:3].strip(" ")}
        assert names == {
            "cancel-upgrade",
            "clear-inactive",
            "has-boot-ever-succeeded",
            "mark-inactive-valid",
            "mark-successful-boot",
            "rewrite-table",
            "rollback-to-inactive",
            "select-boot",
            "status",
            "upgrade-to-inactive",
        }
        assert "Exit codes: 0 done; 1 failed" in done.stdout

    def test_a_command_s_help_has_an_example(self) -> None:
        done = signpost("mark-successful-boot", "-h")
        assert done.returncode == 0
        assert "Mark the running set as good: its health checks have passed." in done.stdout
        assert "Example:\n    signpost mark-successful-boot" in done.stdout

    def test_the_version_is_told(self) -> None:
        assert signpost("--version").stdout.startswith("signpost, version ")


class TestTwoAtOnce:
    def test_of_several_boots_at_once_each_spends_its_own_try(self, tmp_path: Path) -> None:
        path = an_image(tmp_path, b=Flags(2, 9, 0))
        running = [
            subprocess.Popen(
                [SIGNPOST, "--disk", path, "select-boot"],
                stdout=subprocess.PIPE,
                text=True,
                env=environment(),
            )
            for _ in range(4)
        ]
        outputs = [process.communicate(timeout=60)[0] for process in running]
        assert sorted(outputs) == [
            f"boot set B (partitions 8, 9, 10), {left} tries left\n" for left in (5, 6, 7, 8)
        ]
        assert flags_on(path) == (Flags(1, 0, 1), Flags(2, 5, 0))
