"""`repo-tools simulate` as an installed command."""

import json
import os
import re
import subprocess
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest

from repo_tools.playground.place import Playground
from repo_tools.programs import find_own_command
from tests.unit.repo_tools.machines import run

FEW = ("--hosts", "2000")
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"


@pytest.fixture
def fast(tmp_path: Path) -> Path:
    path = tmp_path / "fast.toml"
    path.write_text(
        "[[waves]]\nstart_after = '1 hour'\nfleet_percentage = 50\n"
        "[[waves]]\nstart_after = '1 day'\nfleet_percentage = 100\n"
    )
    return path


def simulate(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return run("repo-tools", "simulate", *FEW, *arguments)


def simulated(*arguments: str | Path) -> Any:
    done = simulate("--json", *arguments)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def without(library: str, tmp_path: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run where a library is not installed."""
    (tmp_path / f"{library}.py").write_text(
        f"raise ModuleNotFoundError('No module named {library}', name='{library}')\n"
    )
    return subprocess.run(
        [find_own_command("repo-tools"), "simulate", *FEW, *arguments],
        check=False,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_the_shipped_rollout_is_shown_in_80_columns(fast: Path) -> None:
    for arguments in ((), ("--compare", fast)):
        done = simulate(*arguments)
        assert done.returncode == 0, done.stderr
        assert done.stderr == ""
        assert max(map(len, done.stdout.splitlines())) <= 80
    assert "Rollout    default: 7 waves, 250 MiB an update\n" in done.stdout
    assert "Rollout    fast: 2 waves, 250 MiB an update\n" in done.stdout


def test_each_wave_stands_in_the_row_in_which_it_begins() -> None:
    rows = re.findall(r"^ (\d d \d\d:00) .*?(\d(?:, \d)?)$", simulate().stdout, re.MULTILINE)
    waves = dict(rows)
    assert waves == {
        "0 d 00:00": "1, 2",
        "1 d 00:00": "3",
        "2 d 00:00": "4",
        "3 d 00:00": "5",
        "4 d 00:00": "6",
        "6 d 00:00": "7",
    }


def test_json_holds_the_whole_curve(fast: Path) -> None:
    facts = simulated(fast, "--image-bytes", "10MiB", "--seed", "7")
    (rollout,) = facts["rollouts"]
    assert (facts["hosts"], facts["seed"], rollout["name"]) == (2000, 7, "fast")
    assert rollout["update_bytes"] == 10 << 20
    assert rollout["waves"] == [
        {"number": 1, "starts_seconds": 3600.0, "reaches_share": 0.5},
        {"number": 2, "starts_seconds": 86400.0, "reaches_share": 1.0},
    ]
    assert rollout["largest_rush"] == {"share": 0.5, "starts_seconds": 86400.0}
    steps = len(rollout["requests_per_second"])
    assert len(rollout["updated"]) == len(rollout["let_in"]) == steps + 1
    assert rollout["updated"] == sorted(rollout["updated"])
    assert rollout["peak_bytes"]["per_second"] == max(rollout["bytes_per_second"])
    assert facts == simulated(fast, "--image-bytes", "10MiB", "--seed", "7")
    assert facts != simulated(fast, "--image-bytes", "10MiB", "--seed", "8")


def test_a_published_update_is_played_with_its_own_waves_and_sizes(
    fresh_playground: Playground,
) -> None:
    facts = simulated("--version", "1.1.0", "--repository", fresh_playground.repository)
    (rollout,) = facts["rollouts"]
    images = (fresh_playground.repository / "targets").glob("*-1.1.0-*")
    assert rollout["update_bytes"] == sum(image.stat().st_size for image in images)
    hours = [wave["starts_seconds"] / 3600 for wave in rollout["waves"]]
    assert hours == [0, 3, 23, 47, 71, 95, 143]


def test_the_repository_is_that_of_the_publisher(
    fresh_playground: Playground, tmp_path: Path
) -> None:
    (tmp_path / "publisher.toml").write_text(f'repository = "{fresh_playground.repository}"\n')
    done = simulate("--version", "1.1.0", "--publisher", tmp_path)
    assert "Rollout    1.1.0: 7 waves, 6." in done.stdout, done.stderr


def test_a_picture_is_drawn_in_both_forms_and_the_same_each_time(
    tmp_path: Path, fast: Path
) -> None:
    done = simulate("--compare", fast, "--out", tmp_path / "one-1.2.0")
    assert done.returncode == 0, done.stderr
    svg, png = tmp_path / "one-1.2.0.svg", tmp_path / "one-1.2.0.png"
    assert done.stdout.splitlines()[-1] == f"Pictures   {svg}, {png}"
    assert png.read_bytes().startswith(PNG_SIGNATURE)
    assert ET.fromstring(svg.read_bytes()).tag.endswith("svg")  # noqa: S314 -- made here
    assert simulate("--compare", fast, "--out", tmp_path / "two.svg").returncode == 0
    assert (tmp_path / "two.svg").read_bytes() == svg.read_bytes()


def test_without_matplotlib_the_table_is_printed_and_the_picture_is_refused(tmp_path: Path) -> None:
    done = without("matplotlib", tmp_path, "--out", str(tmp_path / "picture.png"))
    assert done.returncode == 1
    assert "Peaks" in done.stdout
    assert done.stderr == (
        "repo-tools: cannot draw: matplotlib is not installed; `pip install 'ab-updog[plots]'` "
        "brings it\n"
    )
    assert not (tmp_path / "picture.png").exists()


def test_without_numpy_one_line_says_how_to_get_it(tmp_path: Path) -> None:
    done = without("numpy", tmp_path)
    assert done.returncode == 1
    assert done.stderr == (
        "repo-tools: cannot simulate: numpy is not installed; `pip install 'ab-updog[simulation]'` "
        "brings it\n"
    )


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["nowhere.toml"], 1, "cannot read wave file nowhere.toml: No such file or directory"),
        (["--compare", "nowhere.toml"], 1, "cannot read wave file nowhere.toml: "),
        (["--version", "1.0"], 2, "'1.0' is not a version"),
        (["--version", "9.0.0", "--repository", "REPO"], 1, "no update 9.0.0 is published in "),
        (["a.toml", "--version", "1.1.0"], 2, "WAVEFILE and --version are two rollouts"),
        (["--repository", "REPO"], 2, "--repository needs a --version to look for in it"),
        (["--check-interval", "often"], 2, "'often' is not a time; write it like '6 hours' or 30m"),
        (["--check-interval", "0 hours"], 2, "'0 hours' is less than 1 min"),
        (["--offline-share", "1"], 2, "1.0 is not in the range 0<=x<=0.95"),
        (["--offline-share", "nan"], 2, "'nan' is no share"),
        (["--image-bytes", "big"], 2, "'big' is not a size; write it like 250MiB"),
        (["--start", "now"], 2, "'now' is no time"),
        (["--out", "picture.gif"], 2, "picture.gif must end in .svg or .png"),
        (["--out", "/nowhere/picture.png"], 1, "cannot write /nowhere/picture.png: No such file"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_bad_input_is_one_plain_line(
    fresh_playground: Playground, arguments: list[str], code: int, message: str
) -> None:
    repository = str(fresh_playground.repository)
    done = simulate(*(repository if each == "REPO" else each for each in arguments))
    assert done.returncode == code
    assert message in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr
