"""The demo's output in README.md: finding it, replacing it, comparing it with a real run.

Run as a program (`make readme`) it replaces the block by what the demo prints now.
"""

import os
import re
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
README: Final = ROOT / "README.md"
_BLOCK = re.compile(r"(<!-- demo -->\n```\n)(.*?)(```\n<!-- /demo -->)", re.DOTALL)

_VARYING: Final = (
    (r"\d+(\.\d+)? (B|KiB|MiB)\b", "SIZE"),
    (r"\d+(\.\d+)? s\b", "TIME"),
    (r"\d{4}-\d\d-\d\d \d\d:\d\d", "MOMENT"),
    (r"\d{4}-\d\d-\d\d", "DAY"),
    (r"checked [^,]+ ago", "checked TIME ago"),
    (r"root digest [0-9a-f]+", "root digest DIGEST"),
    (r"\b\d+ (blocks|files)", r"N \1"),
    (r"127\.0\.0\.1:\d+", "127.0.0.1:PORT"),
    (r"at port \d+", "at port PORT"),
    (r"Serving \S+/playground", "Serving playground"),
    (r"x86_64|aarch64", "ARCH"),
)


def demo_block(text: str) -> str:
    """Return the demo's output as the README shows it."""
    match = _BLOCK.search(text)
    assert match is not None, "README.md has no demo block"
    return match[2]


def normalise(output: str) -> str:
    """Replace what differs from run to run."""
    for pattern, name in _VARYING:
        output = re.sub(pattern, name, output)
    return output


def run_demo(directory: Path) -> str:
    """Run the demo in a directory and return what it prints."""
    environment = {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "LANG": "C.UTF-8",
        "DEMO_PORT": str(_free_port()),
    }
    done = subprocess.run(
        [str(ROOT / "scripts" / "demo")],
        cwd=directory,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.lstrip("\n").replace(f" --port {environment['DEMO_PORT']}", "")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def main() -> None:
    """Replace the README's block."""
    with tempfile.TemporaryDirectory() as directory:
        output = run_demo(Path(directory)).replace(f"{Path(directory).resolve()}/", "/home/you/")
    output = re.sub(r"127\.0\.0\.1:\d+", "127.0.0.1:8042", output)
    output = re.sub(r"at port \d+", "at port 8042", output)
    README.write_text(_BLOCK.sub(lambda m: m[1] + output + m[3], README.read_text()))


if __name__ == "__main__":
    main()
