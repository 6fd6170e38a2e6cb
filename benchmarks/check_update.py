"""How long `updog check-update` takes against a warm cache, as a ratio to importing its libraries.

Run by `make bench`. A check is what a timer runs on every machine of a fleet; nearly all of it is
Python loading what speaks TUF and HTTP, so that is what it is compared with. The repository is
served by another process, whose work is not counted.
"""

import re
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.measure import MACHINE_BIN
from benchmarks.startup import BIN, RUNS, measure

REFERENCE = [
    *(str(MACHINE_BIN / "python"), "-c"),
    "import tuf.ngclient, requests, click, structlog",
]
BAR = 1.5


def main() -> None:
    """Print one line."""
    with tempfile.TemporaryDirectory() as directory, _serving(Path(directory)):
        config = str(Path(directory) / "updog.toml")
        command = [str(MACHINE_BIN / "updog"), "check-update", "--config", config]
        own, other, ratio = measure(command, REFERENCE)
    print(f"\nreference: python -c {REFERENCE[-1]!r}; medians of {RUNS} pairs, CPU time")
    print(f"{'command':<32} {'ms':>6} {'import':>13} {'ratio':>6} {'bar':>5}")
    print(
        f"{'updog check-update':<32} {own * 1000:6.1f} {other * 1000:13.1f} {ratio:6.2f} {BAR:5.2f}"
    )


@contextmanager
def _serving(directory: Path) -> Iterator[None]:
    """Make a playground in an empty directory and serve its repository on a free port."""
    tools = str(BIN / "repo-tools")
    create = [tools, "playground", "create", str(directory), "--disk-size", "256MiB", "--force"]
    (directory / ".playground").touch()
    subprocess.run(create, check=True, stdout=subprocess.DEVNULL)
    serve = [tools, "serve", str(directory / "repository"), "--port", "0"]
    with subprocess.Popen(serve, stdout=subprocess.PIPE, text=True) as server:
        try:
            _point_at(directory / "updog.toml", _address(server))
            yield
        finally:
            server.terminate()


def _address(server: "subprocess.Popen[str]") -> str:
    """Wait for the line that says where the server listens."""
    for line in server.stdout or ():
        if match := re.search(r"http://[0-9.:]+", line):
            return match[0]
    raise SystemExit("the server said nothing")


def _point_at(config: Path, address: str) -> None:
    text = config.read_text()
    config.write_text(re.sub(r"http://[0-9.:]+", address, text))


if __name__ == "__main__":
    main()
