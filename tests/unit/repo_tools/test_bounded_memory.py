import os
import subprocess
import sys
from pathlib import Path

import pytest

from repo_tools.cmdline import VerityTable
from repo_tools.programs import find_own_command
from tests.helpers.small_repository import SALT, SmallRepository, boot_image
from updog.verity import build_tree

LARGE = 64 << 20
MOST_MIB = 110
"""Python and its libraries take half of it; what is read must not add up."""

_MEASURE = """
import resource, subprocess, sys
code = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL).returncode
print(code, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss >> 10)
"""


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> SmallRepository:
    """A repository whose root image and whose other target are large."""
    small = SmallRepository(directory=tmp_path_factory.mktemp("large") / "repository")
    root = bytes(LARGE)
    tree = build_tree([root], salt=SALT, uuid=bytes(16))
    table = VerityTable(data_blocks=LARGE // 4096, root_digest=tree.root_digest, salt=SALT)
    images = {"boot": boot_image(table), "root": root, "hash": tree.image}
    small.release("1.1.0", images=images)
    small.publisher.add("blob", bytes(LARGE))
    small.publish()
    return small


def test_memory_does_not_grow_with_the_targets(large: SmallRepository, tmp_path: Path) -> None:
    tar, root = tmp_path / "updates.tar", ("--root", large.root)
    for command in (
        ("validate", large.directory, *root),
        ("clone", large.directory, tmp_path / "mirror", *root),
        ("export", large.directory, tar, *root),
        ("import", tar, tmp_path / "there", *root),
    ):
        done = subprocess.run(
            [
                sys.executable,
                "-c",
                _MEASURE,
                str(find_own_command("repo-tools")),
                *map(str, command),
            ],
            check=True,
            capture_output=True,
            text=True,
            env={"PATH": os.environ["PATH"]},
            timeout=120,
        )
        code, peak_mib = map(int, done.stdout.split())
        assert code == 0, done.stderr
        assert peak_mib < MOST_MIB, command[0]
