"""A dry run says what would be done, refuses what would be refused, and writes nothing."""

from collections.abc import Iterator
from contextlib import chdir
from pathlib import Path

import pytest
from click.testing import CliRunner

from repo_tools.cli import cli
from tests.helpers.shop import build_small_images, make_publisher


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A publisher's directory with a release in it, its bundle, and trees for another one."""
    directory = tmp_path_factory.mktemp("publisher")
    publisher = make_publisher(directory)
    images = build_small_images(directory / "made", "first")
    publisher.add("1.0.0", images, "--publish")
    (directory / "root.json").write_bytes(publisher.trusted_root)
    with chdir(directory):
        for words in (
            "export repository all.tar --root root.json",
            "image build made/root --boot made/boot images",
        ):
            done = CliRunner().invoke(cli, words.split())
            assert done.exit_code == 0, done.output
        yield directory


def state(directory: Path) -> dict[Path, tuple[int, bytes]]:
    """Return everything below a directory; a file that was replaced by its like differs, too."""
    return {
        path: (path.stat().st_mtime_ns, path.read_bytes() if path.is_file() else b"")
        for path in directory.rglob("*")
    }


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("clone repository mirror --root root.json", "Would take 4 of 4 targets"),
        ("import all.tar srv --root root.json", "Would take 4 of 4 targets"),
        ("export repository new.tar --root root.json", "Would take the whole repository: 4 of 4"),
        ("image disk disk.img --size-mib 256 --set-a images", "nothing was written"),
        ("image build made/root --boot made/boot new", "nothing of it was kept"),
        ("refresh --all", "would be signed anew"),
    ],
)
def test_a_dry_run_writes_nothing(place: Path, words: str, said: str) -> None:
    before = state(place)
    done = CliRunner().invoke(cli, [*words.split(), "--dry-run"])
    assert done.exit_code == 0, done.output
    assert said in done.stdout
    assert state(place) == before


def test_a_dry_run_of_an_import_verifies_every_byte(place: Path) -> None:
    data = bytearray((place / "all.tar").read_bytes())
    content = (
        data.index(b"a kernel") if b"a kernel" in data else data.index(b"\x28\xb5\x2f\xfd") + 8
    )
    data[content] ^= 1
    (place / "damaged.tar").write_bytes(data)
    done = CliRunner().invoke(
        cli, ["import", "damaged.tar", "srv", "--root", "root.json", "--dry-run"]
    )
    assert "is not what was signed" in str(done.exception)
