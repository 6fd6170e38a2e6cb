import json
import shutil
from itertools import islice
from pathlib import Path

import pytest

from repo_tools.errors import FileSystemError
from repo_tools.playground.machine import LeftUnmarked, Panicked, health_checks, inside, reset
from repo_tools.playground.place import Playground
from repo_tools.playground.system import HEALTH_CHECKS, OS_RELEASE
from signpost.sets import SetName
from tests.unit.repo_tools.machines import (
    boot,
    damage,
    flags,
    install,
    make_unbootable,
    run,
    window,
)


def running(playground: Playground) -> tuple[str, str]:
    lines = playground.os_release.read_text().splitlines()
    (version,) = [line.partition("=")[2] for line in lines if line.startswith("VERSION_ID=")]
    return playground.active_set.read_text().strip(), version


def test_an_upgraded_set_is_tried_checked_and_marked(playground: Playground) -> None:
    install(playground, "1.1.0")
    done = boot(playground)
    assert done.returncode == 0, done.stderr
    assert running(playground) == ("B", "1.1.0")
    assert flags(playground, SetName.B) == "2/0/1"
    assert done.stdout.startswith("Reset of playground (simulated)\n")
    assert "set B by the boot loader's rule, 0 tries left" in done.stdout
    assert "40-network.sh passed: there is a route to 10.0.0.1" in done.stdout


def test_a_system_that_fails_its_health_check_runs_unmarked(playground: Playground) -> None:
    install(playground, "1.2.0")
    done = boot(playground)
    assert done.returncode == 0, done.stderr
    assert running(playground) == ("B", "1.2.0")
    assert flags(playground, SetName.B) == "2/0/0"
    assert "40-network.sh FAILED, exit 1: no route to 10.0.0.1" in done.stdout
    assert "set A boots next" in done.stdout


def test_the_reset_after_that_takes_the_old_set(playground: Playground) -> None:
    install(playground, "1.2.0")
    assert isinstance(list(reset(playground))[-1], LeftUnmarked)
    done = boot(playground)
    assert running(playground) == ("A", "1.0.0")
    assert "set A is successful" in done.stdout


def test_a_panic_costs_the_try_and_one_more_reset_takes_the_other_set(
    playground: Playground,
) -> None:
    install(playground, "1.1.0")
    damage(window(playground, SetName.B, "root"), 5000 * 4096 + 17)
    done = boot(playground)
    assert done.returncode == 0, done.stderr
    assert "set B does not start: block 5000 of the root image is corrupted" in done.stdout
    assert running(playground) == ("A", "1.0.0")
    assert flags(playground, SetName.B) == "2/0/0"


@pytest.mark.parametrize(
    ("role", "offset", "reason"),
    [
        ("root", 0, "block 0 of the root image is corrupted"),
        ("hash", 0, "the hash image holds no dm-verity superblock"),
        ("hash", 88, "the hash image has the root digest"),
        ("hash", 4096, "the hash image has the root digest"),
        ("hash", 3 * 4096, "the hash tree contradicts itself"),
        ("boot", 1024 + 56, "cannot read the file system in"),
    ],
)
def test_a_flipped_byte_anywhere_is_a_panic(
    playground: Playground, role: str, offset: int, reason: str
) -> None:
    damage(window(playground, SetName.A, role), offset)
    _, panicked = islice(reset(playground), 2)
    assert isinstance(panicked, Panicked)
    assert panicked.reason.startswith(reason)
    assert not playground.active_set.exists()


def test_a_machine_that_only_panics_is_off_in_the_end(playground: Playground) -> None:
    damage(window(playground, SetName.A, "root"), 0)
    done = boot(playground)
    assert done.returncode == 1
    assert done.stderr == (
        "repo-tools: the machine does not boot: 4 resets in a row ended in a panic: "
        "set A: block 0 of the root image is corrupted\n"
    )
    assert not playground.active_set.exists()
    assert not playground.os_release.exists()


def test_a_machine_without_a_bootable_set_says_so(playground: Playground) -> None:
    make_unbootable(playground, SetName.A)
    done = boot(playground)
    assert done.returncode == 1
    assert done.stderr.startswith(
        "repo-tools: the machine does not boot: signpost: no set can boot"
    )
    assert len(done.stderr.splitlines()) == 1


def test_nothing_of_the_last_run_outlives_a_reset(playground: Playground) -> None:
    (playground.run / "left behind").touch()
    (playground.running_root / "changed").touch()
    next(reset(playground))
    assert not (playground.run / "left behind").exists()
    assert not (playground.running_root / "changed").exists()


def test_everything_that_happens_is_an_event_in_json(playground: Playground) -> None:
    install(playground, "1.2.0")
    done = run("repo-tools", "playground", "boot", playground.directory, "--json")
    events = json.loads(done.stdout)
    assert [event["event"] for event in events] == [
        "Selected",
        "Verified",
        "Started",
        "Checked",
        "Checked",
        "Checked",
        "LeftUnmarked",
    ]
    assert events[-1] == {
        "event": "LeftUnmarked",
        "set": "B",
        "failed": ["40-network.sh"],
        "next": "A",
    }


def test_a_disk_that_is_gone_is_named(playground: Playground) -> None:
    shutil.move(playground.disk, playground.directory / "elsewhere")
    done = boot(playground)
    assert done.returncode == 1
    assert "cannot open disk" in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("link", "to"),
    [
        ("etc/os-release", "/etc/os-release"),
        ("etc", "/etc"),
        ("usr/lib/signpost/health.d", "HOST"),
        ("usr/lib/signpost", "../../../../../../../.."),
        ("usr/lib/signpost/health.d/10-os-release.sh", "HOST/10-host.sh"),
    ],
)
def test_links_in_an_image_do_not_lead_to_the_hosts_files(
    tmp_path: Path, link: str, to: str
) -> None:
    host, root = tmp_path / "host", tmp_path / "root"
    host.mkdir()
    (host / "10-host.sh").write_text("#!/bin/sh\n")
    (root / HEALTH_CHECKS).mkdir(parents=True)
    (root / "etc").mkdir()
    (root / OS_RELEASE).touch()
    (root / HEALTH_CHECKS / "10-os-release.sh").write_text("#!/bin/sh\n")
    place = root / link
    (shutil.rmtree if place.is_dir() else Path.unlink)(place)
    place.symlink_to(to.replace("HOST", str(host)))
    with pytest.raises(FileSystemError, match="leads out of the image"):
        _ = (inside(root, root / OS_RELEASE), health_checks(root))


def test_links_that_stay_in_the_image_are_followed(tmp_path: Path) -> None:
    (tmp_path / HEALTH_CHECKS).mkdir(parents=True)
    (tmp_path / "check").write_text("#!/bin/sh\n")
    (tmp_path / HEALTH_CHECKS / "10.sh").symlink_to("../../../../check")
    assert [check.path for check in health_checks(tmp_path)] == [tmp_path / "check"]
