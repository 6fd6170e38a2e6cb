"""docs/publishing.md says what the commands really do."""

import re
from pathlib import Path

from repo_tools.repository import PublishedRepository
from tests.helpers.publishing_docs import blocks, prepare, run_blocks
from tests.helpers.shop import Client, read_everything
from updog.transport import Transport


def test_every_block_runs_in_its_order_and_a_machine_reads_the_result(tmp_path: Path) -> None:
    prepare(tmp_path)
    done = run_blocks(tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "go back from 1.1.0 to 1.0.0" in done.stdout
    assert "something expires within eight days" in done.stdout
    root = (tmp_path / "root-tree/usr/share/updog/root.json").read_bytes()
    client = Client(
        repository=tmp_path / "repository", trusted_root=root, scratch=tmp_path / "clients"
    )
    with Transport() as transport:
        manifest = read_everything(client.start(transport))
    assert {str(each.version): str(each.max_version) for each in manifest.updates} == {
        "1.1.1": "1.1.1",
        "1.1.0": "1.0.0",
        "1.0.0": "1.1.1",
    }
    assert PublishedRepository(tmp_path / "repository").versions["root"] == 1


def test_it_takes_about_ten_commands_to_a_fleet() -> None:
    first_release = "".join(blocks()[:3]).split("sed ")[0]
    commands = re.findall("^repo-tools ", first_release, flags=re.MULTILINE)
    assert len(commands) <= 10
