"""README.md shows what the product really does."""

import re
import subprocess
from pathlib import Path

import pytest

from tests.helpers.machine import BIN
from tests.helpers.readme import README, ROOT, demo_block, normalise, run_demo


def test_the_demo_prints_what_the_readme_shows(tmp_path: Path) -> None:
    shown = normalise(demo_block(README.read_text()))
    assert normalise(run_demo(tmp_path)).splitlines() == shown.splitlines()


@pytest.mark.parametrize("name", ["updog", "signpost", "repo-tools"])
def test_every_command_that_the_readme_names_exists(name: str) -> None:
    text = README.read_text()
    named = set(re.findall(rf"^{name} ([a-z][a-z-]+)", text, flags=re.MULTILINE))
    assert named
    for command in named:
        done = subprocess.run(
            [str(BIN / name), command, "--help"], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{name} {command}: {done.stderr}"
        assert "Example" in done.stdout or "Commands" in done.stdout


def test_every_path_that_the_map_of_the_code_names_exists() -> None:
    text = README.read_text()
    table = text[text.index("## Map of the code") : text.index("Imports run one way")]
    paths = re.findall(r"`((?:signpost|updog|repo-tools|tests)/[^`]*)`", table)
    assert len(paths) > 10
    for path in paths:
        assert (ROOT / path).exists(), path


def test_every_link_leads_to_a_file() -> None:
    for document in (README, *ROOT.glob("docs/**/*.md"), ROOT / "CONTRIBUTING.md"):
        for link in re.findall(r"\]\(([^)#:]+)\)", document.read_text()):
            assert (document.parent / link).exists(), f"{document}: {link}"
