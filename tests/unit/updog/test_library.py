"""The trust part used alone: the program in docs/library.md does what it says."""

import re
import subprocess
import sys
from pathlib import Path

from tests.helpers.http_server import instead, serving
from tests.helpers.tuf_repository import TufPublisher

PAGE = Path(__file__).parents[3] / "docs" / "library.md"
CONTENT = b"signed " * 1000


def run(directory: Path, url: str, name: str) -> "subprocess.CompletedProcess[str]":
    """Run the page's program."""
    (program,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    (directory / "fetch.py").write_text(program)
    return subprocess.run(
        [
            *(sys.executable, str(directory / "fetch.py"), str(directory / "root.json")),
            *(str(directory / "state"), f"{url}/metadata", f"{url}/targets"),
            *(name, str(directory / "file")),
        ],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_the_program_of_the_page_fetches_a_target_and_refuses_what_is_not_signed(
    directory: Path,
) -> None:
    publisher = TufPublisher(directory / "repository")
    publisher.add("image.zst", CONTENT)
    publisher.publish()
    (directory / "root.json").write_bytes(publisher.root_bytes)
    with serving(directory / "repository") as server:
        done = run(directory, server.url, "image.zst")
        assert (done.stdout, done.stderr) == ("image.zst is as signed, timestamp v1\n", "")
        assert (directory / "file").read_bytes() == CONTENT

        done = run(directory, server.url, "other.zst")
        assert done.returncode == 1
        assert done.stderr.startswith("not to be believed: target other.zst is not listed")

        (path,) = publisher.targets.glob("*image.zst")
        server.misbehave(f"/targets/{path.name}", instead(bytes(len(CONTENT))))
        done = run(directory, server.url, "image.zst")
        assert done.returncode == 1
        assert "is not what was signed" in done.stderr
    assert (directory / "file").read_bytes() == CONTENT
    assert sorted(path.name for path in directory.iterdir()) == [
        *("fetch.py", "file", "repository", "root.json", "state"),
    ]
