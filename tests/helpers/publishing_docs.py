"""The blocks of docs/publishing.md: finding them, and running them as a reader would."""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Final

PUBLISHING: Final = Path(__file__).parents[2] / "docs" / "publishing.md"
_BLOCK = re.compile(r"^```sh\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def blocks() -> list[str]:
    """Return the shell blocks in their order."""
    return _BLOCK.findall(PUBLISHING.read_text())


def prepare(directory: Path) -> None:
    """Make what the text takes for granted: trees of a system, and a passphrase."""
    root, boot = directory / "root-tree", directory / "boot-tree"
    for path in (root / "etc", root / "usr" / "share" / "updog", boot):
        path.mkdir(parents=True)
    (root / "etc" / "os-release").write_text("VARIANT_ID=shop\nVERSION_ID=1.0.0\n")
    (boot / "vmlinuz").write_text("a kernel")
    passphrase = directory / "passphrase"
    passphrase.write_text("correct horse\n")
    passphrase.chmod(0o600)


def run_blocks(directory: Path) -> "subprocess.CompletedProcess[str]":
    """Run all blocks in one shell, which stops at the first command that fails."""
    script = "\n".join(f"echo '== block {number}'\n{each}" for number, each in enumerate(blocks()))
    return subprocess.run(
        ["bash", "-e", "-u", "-x", "-c", script],
        cwd=directory,
        env={"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "LANG": "C.UTF-8"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
