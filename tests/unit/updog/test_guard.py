"""As root, nothing is used that somebody else could change; other users may use what they like."""

import os
import stat
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from updog.errors import UpdogError
from updog.guard import require_guarded

NOBODY = 65534


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Make a file that root alone can change, in two directories alike."""
    path = tmp_path / "etc" / "updog" / "updog.toml"
    path.parent.mkdir(parents=True)
    path.write_text("")
    path.chmod(0o644)
    return path


def refusal(path: Path, **more: Path) -> str | None:
    """Return why a path is refused, without the beginning that names it."""
    try:
        require_guarded(path, what="the configuration", **more)
    except UpdogError as err:
        return str(err).removeprefix(f"refused to use the configuration {path} as root: ")
    return None


def let_somebody_write(path: Path) -> None:
    """Give a user the right to write by an access list, as setfacl does."""
    entries = [(0x01, 6, -1), (0x02, 6, NOBODY), (0x04, 4, -1), (0x10, 6, -1), (0x20, 4, -1)]
    packed = b"".join(struct.pack("<HHi", *entry) for entry in entries)
    try:
        os.setxattr(path, "system.posix_acl_access", struct.pack("<I", 2) + packed)
    except OSError as err:
        pytest.skip(f"no access lists here: {err}")


@pytest.mark.root
class TestAsRoot:
    def test_what_root_alone_can_change_is_used(self, file: Path) -> None:
        assert refusal(file) is None
        assert refusal(file.parent) is None

    def test_a_relative_path_is_judged_from_here(
        self, file: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(file.parent)
        assert refusal(Path(file.name)) is None
        file.parent.parent.chmod(0o777)
        assert refusal(Path(file.name)) is not None

    @pytest.mark.parametrize("above", [0, 1, 2])
    def test_what_everybody_can_write_to_is_refused(self, file: Path, above: int) -> None:
        path = [file, *file.parents][above]
        path.chmod(0o707)
        assert refusal(file) == (
            f"{path} has mode 0707, so that everybody can change it; run `chmod go-w {path}`"
        )

    @pytest.mark.parametrize("above", [0, 1, 2])
    def test_what_a_group_can_write_to_is_refused_unless_it_is_roots(
        self, file: Path, above: int
    ) -> None:
        path = [file, *file.parents][above]
        path.chmod(0o775)
        assert refusal(file) is None
        os.chown(path, 0, NOBODY)
        assert refusal(file) == (
            f"{path} has mode 0775, so that group {NOBODY} can change it; run `chmod go-w {path}`"
        )

    @pytest.mark.parametrize("above", [0, 1, 2])
    def test_what_belongs_to_somebody_else_is_refused(self, file: Path, above: int) -> None:
        path = [file, *file.parents][above]
        os.chown(path, NOBODY, 0)
        assert refusal(file) == (
            f"{path} belongs to user {NOBODY}, who can change it; run `chown root {path}`"
        )

    def test_following_the_advice_is_enough(self, file: Path) -> None:
        file.chmod(0o666)
        os.chown(file.parent, NOBODY, NOBODY)
        for _ in range(2):
            advice = (refusal(file) or "").partition("`")[2].rstrip("`")
            subprocess.run(advice.split(), check=True)
        assert refusal(file) is None

    def test_a_sticky_directory_above_is_fine_but_not_in_the_files_own_place(
        self, file: Path
    ) -> None:
        file.parent.chmod(0o1777)
        assert refusal(file) is None
        assert refusal(file.parent) is not None

    @pytest.mark.parametrize("mode", [0o666, 0o646])
    def test_a_file_inside_a_directory_counts(self, file: Path, mode: int) -> None:
        file.chmod(mode)
        assert str(file) in (refusal(file.parent.parent) or "")

    def test_a_link_is_judged_with_what_it_leads_to(self, file: Path, tmp_path: Path) -> None:
        link = tmp_path / "link"
        link.symlink_to(file)
        assert refusal(link) is None
        file.parent.chmod(0o777)
        assert str(file.parent) in (refusal(link) or "")
        file.parent.chmod(0o755)
        os.chown(link, NOBODY, NOBODY, follow_symlinks=False)
        assert "belongs to user" in (refusal(link) or "")

    @pytest.mark.parametrize("shape", ["{evil}/r", "../other/r", "{evil}/../other/r"])
    @pytest.mark.parametrize("whose", ["directory", "link"])
    def test_every_link_of_a_chain_is_judged_and_every_directory_on_the_way(
        self, file: Path, tmp_path: Path, shape: str, whose: str
    ) -> None:
        """Whoever owns the middle of a chain could lead it elsewhere after the look."""
        evil = tmp_path / "other"
        evil.mkdir()
        (evil / "r").symlink_to(file)
        link = file.parent / "link"
        link.symlink_to(shape.format(evil=evil) if "{" in shape else f"../{shape}")
        assert refusal(link) is None
        guilty = {"directory": evil, "link": evil / "r"}[whose]
        os.chown(guilty, NOBODY, NOBODY, follow_symlinks=False)
        assert f"{guilty} belongs to user {NOBODY}" in (refusal(link) or "")

    def test_a_directory_that_is_reached_over_a_link_is_judged(
        self, file: Path, tmp_path: Path
    ) -> None:
        evil = tmp_path / "other"
        evil.mkdir()
        (evil / "d").symlink_to(file.parent)
        evil.chmod(0o777)
        assert str(evil) in (refusal(evil / "d" / file.name) or "")
        (tmp_path / "first").symlink_to("other/d")
        assert str(evil) in (refusal(tmp_path / "first" / file.name) or "")

    def test_links_in_a_circle_are_refused(self, tmp_path: Path) -> None:
        (tmp_path / "a").symlink_to("b")
        (tmp_path / "b").symlink_to("a")
        assert "more than 40 links" in (refusal(tmp_path / "a") or "")

    def test_a_link_inside_a_directory_is_judged_with_what_it_leads_to(
        self, file: Path, tmp_path: Path
    ) -> None:
        (tmp_path / "kept").mkdir()
        (tmp_path / "kept" / "link").symlink_to(file)
        assert refusal(tmp_path / "kept") is None
        file.chmod(0o666)
        assert str(file) in (refusal(tmp_path / "kept") or "")

    @pytest.mark.parametrize("above", [0, 1])
    def test_an_access_list_that_lets_others_write_is_refused(self, file: Path, above: int) -> None:
        path = [file, *file.parents][above]
        let_somebody_write(path)
        assert "access list" in (refusal(file) or "")
        path.chmod(0o755)
        assert refusal(file) is None

    def test_the_group_that_may_write_to_a_disk_is_trusted_with_it(self, tmp_path: Path) -> None:
        disk = tmp_path / "disk"
        os.mknod(disk, 0o660 | stat.S_IFBLK, os.makedev(7, 250))
        os.chown(disk, 0, NOBODY)
        assert refusal(disk) is None
        os.chown(disk, NOBODY, NOBODY)
        assert refusal(disk) is not None

    def test_what_does_not_exist_is_judged_by_where_it_would_be(self, file: Path) -> None:
        missing = file.parent / "state" / "history"
        assert refusal(missing) is None
        file.parent.chmod(0o777)
        assert refusal(missing) is not None

    def test_whoever_can_change_this_program_is_trusted(self, file: Path, tmp_path: Path) -> None:
        """Run as root in another user's working copy, the demo works."""
        own_code = tmp_path / "home" / "code" / "guard.py"
        own_code.parent.mkdir(parents=True)
        own_code.write_text("")
        os.chown(own_code.parent.parent, NOBODY, NOBODY)
        own_code.parent.parent.chmod(0o775)
        os.chown(file, NOBODY, NOBODY)
        assert refusal(file, own_code=own_code) is None
        file.chmod(0o664)
        assert refusal(file, own_code=own_code) is None
        file.chmod(0o666)
        assert refusal(file, own_code=own_code) is not None
        os.chown(file, NOBODY - 1, NOBODY)
        assert refusal(file, own_code=own_code) is not None

    def test_nobody_else_is_kept_from_anything(self, file: Path) -> None:
        file.chmod(0o666)
        script = (
            "import os, sys; from pathlib import Path; from updog.guard import require_guarded\n"
            f"os.setuid({NOBODY}); require_guarded(Path(sys.argv[1]), what='')"
        )
        subprocess.run([sys.executable, "-c", script, str(file)], cwd=Path.cwd(), check=True)
