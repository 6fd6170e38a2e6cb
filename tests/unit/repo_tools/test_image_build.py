"""`repo-tools image build`, as installed."""

import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from repo_tools.cmdline import parse_command_line
from repo_tools.ext4 import read_file
from repo_tools.filesystems import Kind
from repo_tools.images import load_images
from repo_tools.layout import plan
from repo_tools.programs import find_own_command, find_program
from tests.helpers.accounts import as_somebody_else, as_somebody_ordinary
from tests.unit.repo_tools.machines import run
from tests.unit.repo_tools.test_filesystems import copy_in_order
from tests.unit.repo_tools.test_images import veritysetup
from tests.unit.repo_tools.trees import a_root_tree, give_capability

KINDS = [kind.value for kind in Kind]


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A directory with a root tree, a boot tree, a kernel and an initial RAM disk."""
    a_root_tree(tmp_path / "tree")
    (tmp_path / "boot").mkdir()
    (tmp_path / "boot/loader.conf").write_text("timeout 0\n")
    (tmp_path / "kernel").write_bytes(b"kernel" * 1000)
    (tmp_path / "initrd").write_bytes(b"initrd" * 1000)
    tmp_path.chmod(0o755)
    return tmp_path


def arguments(place: Path, *more: str, out: str = "out") -> list[str]:
    build = ["image", "build", str(place / "tree"), "--boot", str(place / "boot")]
    return [*build, str(place / out), *more]


def built(place: Path, *more: str, out: str = "out") -> dict[str, bytes]:
    done = run("repo-tools", *arguments(place, *more, out=out))
    assert (done.returncode, done.stderr) == (0, "")
    return contents(place / out)


def contents(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def refused(place: Path, *more: str, out: str = "out") -> str:
    """Return the one line of a refusal, after which nothing is left."""
    done = run("repo-tools", *arguments(place, *more, out=out))
    assert (done.returncode, done.stdout) == (1, "")
    assert len(done.stderr.splitlines()) == 1
    assert not [path for path in place.iterdir() if path.name.startswith((".out", "out"))]
    return done.stderr.removeprefix("repo-tools: ").strip()


@pytest.mark.parametrize("kind", KINDS)
def test_the_images_vouch_for_each_other(kind: str, place: Path) -> None:
    found = built(place, "--root-format", kind, "--json")
    root = f"root.{kind}"
    images = {"boot.ext4", root, "root.verity"}
    assert found.keys() == images | {f"{name}.zst" for name in images} | {"images.json"}
    table = load_images(place / "out").table
    facts = json.loads(found["images.json"])
    assert facts["root_digest"] == table.root_digest.hex()
    assert facts["images"]["root"]["file"] == root
    out = place / "out"
    verify = [veritysetup(), "verify", str(out / root), str(out / "root.verity")]
    subprocess.run([*verify, table.root_digest.hex()], check=True, capture_output=True)


def test_stdout_holds_one_document_or_a_line_an_image(place: Path) -> None:
    done = run("repo-tools", *arguments(place, "--json"))
    facts = json.loads(done.stdout)
    assert facts["directory"] == str(place / "out")
    done = run("repo-tools", *arguments(place, "--force", "--compression", "none"))
    lines = [line.split()[0] for line in done.stdout.splitlines()]
    assert lines == ["Boot", "Root", "Hash", "Digest"]


def a_year_later(place: Path, command: list[str]) -> list[str]:
    """Return a command line that runs another on another day, with other habits and places."""
    library = next(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"), None)
    if library is None:
        pytest.skip("libfaketime is not installed: builds on two days were not compared")
    later = f"env LD_PRELOAD={library} FAKETIME=+400d"
    # The programs that are called see nothing of the caller's environment but its PATH.
    wrappers = place / "wrappers"
    wrappers.mkdir()
    for name in ("mke2fs", "debugfs", "mkfs.erofs"):
        (wrappers / name).write_text(f'#!/bin/sh\nexec {later} {find_program(name)} "$@"\n')
        (wrappers / name).chmod(0o755)
    habits = f"PATH={wrappers}:$PATH TZ=Asia/Tokyo LC_ALL=C HOME=/nowhere"
    return ["sh", "-c", f'umask 077; exec {later} {habits} "$@"', "sh", *command]


@pytest.mark.root
@pytest.mark.parametrize("kind", KINDS)
def test_two_builds_are_the_same_on_any_day_for_any_user_in_any_order(
    kind: str, place: Path
) -> None:
    if kind == "ext4":  # of other namespaces' capabilities mkfs.erofs takes none
        give_capability(place / "tree/usr/bin/tool")
    first = built(place, "--root-format", kind)
    copy = place / "copy"
    copy.mkdir()
    copy_in_order(place / "tree", copy / "tree", backwards=True)
    shutil.copytree(place / "boot", copy / "boot")
    copy.chmod(0o777)
    command = [str(find_own_command("repo-tools")), *arguments(copy, "--root-format", kind)]
    elsewhere = ["unshare", "--uts", "sh", "-c", 'hostname other; exec "$@"', "sh"]
    subprocess.run([*elsewhere, *as_somebody_else(a_year_later(place, command))], check=True)
    assert contents(copy / "out") == first


def test_every_image_has_the_time_that_is_asked_for(place: Path) -> None:
    first = built(place, "--made-at", "1000000000", "--compression", "none")
    environment = {"PATH": os.environ["PATH"], "SOURCE_DATE_EPOCH": "1000000000"}
    subprocess.run(
        [find_own_command("repo-tools"), *arguments(place, "--compression", "none", out="second")],
        check=True,
        env=environment,
        capture_output=True,
    )
    assert contents(place / "second") == first
    other = built(place, "--made-at", "1000000001", "--compression", "none", "--force")
    assert other["root.ext4"] != first["root.ext4"]


def test_a_boot_image_of_kernel_and_initrd_without_a_tree(place: Path) -> None:
    command = ["image", "build", str(place / "tree"), str(place / "out")]
    words = "quiet loglevel=3"
    boot = ("--kernel", str(place / "kernel"), "--initrd", str(place / "initrd"))
    done = run("repo-tools", *command, *boot, "--cmdline-append", words, "--salt", "abcd")
    assert (done.returncode, done.stderr) == (0, "")
    image = place / "out/boot.ext4"
    assert read_file(image, "/vmlinuz") == (place / "kernel").read_bytes()
    assert read_file(image, "/initrd.img") == (place / "initrd").read_bytes()
    line = read_file(image, "/cmdline").decode()
    assert line.endswith('panic_on_corruption" quiet loglevel=3\n')
    assert parse_command_line(line).salt == b"\xab\xcd"


def test_lz4_is_for_machines_of_the_cloned_system(place: Path) -> None:
    assert {"root.ext4.lz4", "boot.ext4.lz4"} <= built(place, "--compression", "lz4").keys()


def test_the_callers_trees_stay_as_they_are(place: Path) -> None:
    before = contents(place / "boot")
    built(place)
    assert contents(place / "boot") == before


def test_images_larger_than_their_partition_are_refused(place: Path) -> None:
    (place / "kernel").write_bytes(os.urandom(7 << 20))
    message = refused(place, "--kernel", str(place / "kernel"), "--disk-size-mib", "256")
    assert "the boot image has" in message
    assert "its partition on a disk of 256 MiB only 8388608: choose a larger disk" in message


def test_images_that_fit_are_taken(place: Path) -> None:
    sizes = {partition.label: partition.size_mib for partition in plan(256)}
    assert sizes["BOTTLEROCKET-ROOT-A"] > 4
    built(place, "--disk-size-mib", "256", "--compression", "none")


def test_what_cannot_be_read_is_refused(place: Path) -> None:
    hidden = "usr/lib/deep"
    (place / "tree" / hidden).chmod(0)
    command = [str(find_own_command("repo-tools")), *arguments(place)]
    done = subprocess.run(
        as_somebody_ordinary(command), check=False, capture_output=True, text=True
    )
    assert done.returncode == 1
    assert done.stderr == (
        f"repo-tools: cannot read {place / 'tree' / hidden}: Permission denied\n"
    )
    assert not (place / "out").exists()


def test_a_root_directory_that_is_closed_to_all_but_root_is_refused(place: Path) -> None:
    (place / "tree").chmod(0o700)
    assert f"Run `chmod 755 {place / 'tree'}`" in refused(place)


def test_a_name_that_ext4s_tool_cannot_be_told_fits_into_erofs(place: Path) -> None:
    (place / "tree/a\nb").touch()
    assert "control characters in a name cannot go into an ext4 image" in refused(place)
    built(place, "--root-format", "erofs")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("root=/dev/vda1", "would name another root"),
        ('dm-mod.create="x"', "would name another root"),
        ('"quiet', "with quotes in pairs"),
        ("quiet\nsplash", "one line of ASCII"),
        ("name=\u00fc", "one line of ASCII"),
        ("x" * 2000, "and kernels take 2047: append less"),
    ],
)
def test_words_that_would_break_the_command_line_are_refused(
    words: str, message: str, place: Path
) -> None:
    assert message in refused(place, f"--cmdline-append={words}")


def test_what_else_is_in_the_way_is_not_replaced(place: Path) -> None:
    (place / "other").mkdir()
    (place / "other/file").touch()
    assert "holds something else than images of an earlier build" in refused(place, out="other")
    assert "other lies in" not in refused(place, "--force", out="other")
    inside = refused(place, out="tree/inner")
    assert "lies in" in inside
    built(place)
    done = run("repo-tools", *arguments(place))
    assert "holds images already: --force replaces them" in done.stderr
    (place / "out/notes").touch()
    done = run("repo-tools", *arguments(place, "--force"))
    assert "holds something else than images of an earlier build" in done.stderr
    assert (place / "out/notes").exists()


def test_force_replaces_an_earlier_build_as_a_whole(place: Path) -> None:
    built(place, "--compression", "lz4")
    assert not any(name.endswith(".lz4") for name in built(place, "--force"))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (["--salt", "xyz"], "'xyz' is not made of pairs of hexadecimal digits"),
        (["--salt", ""], "a salt has 1 to 256 bytes, not 0"),
        (["--salt", "ab" * 257], "a salt has 1 to 256 bytes, not 257"),
        (["--made-at", "0"], "0 is not in the range"),
        (["--root-format", "xfs"], "'xfs' is not one of 'ext4', 'erofs'"),
    ],
)
def test_wrong_usage_is_exit_2(wrong: Sequence[str], message: str, place: Path) -> None:
    done = run("repo-tools", *arguments(place, *wrong))
    assert done.returncode == 2
    assert message in done.stderr


def test_a_boot_image_needs_something_to_boot(place: Path) -> None:
    done = run("repo-tools", "image", "build", place / "tree", place / "out")
    assert done.returncode == 2
    assert "a boot image needs --boot BOOT_TREE or --kernel FILE" in done.stderr


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_build_leaves_the_earlier_images(sent: signal.Signals, place: Path) -> None:
    before = built(place, "--compression", "none")
    (place / "tree/big").write_bytes(os.urandom(32 << 20))
    command = [str(find_own_command("repo-tools")), *arguments(place, "--force")]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as building:
        wait_for(place, ".out.new/root.ext4", building)
        building.send_signal(sent)
        _, said = building.communicate(timeout=30)
    assert building.returncode == 1
    assert said.decode() == (
        f"repo-tools: cannot build images in {place / 'out'}: interrupted; nothing there was "
        "changed\n"
    )
    assert contents(place / "out") == before
    assert not (place / ".out.new").exists()


def test_a_second_build_at_the_same_place_is_refused(place: Path) -> None:
    scratch = place / ".out.new"
    scratch.mkdir()
    (scratch / "half an image").touch()
    with directory_lock(scratch):
        done = run("repo-tools", *arguments(place))
    assert "another build is at work" in done.stderr
    assert (scratch / "half an image").exists()
    built(place)  # what a killed build leaves is in nobody's way
    assert not scratch.exists()


@contextmanager
def directory_lock(directory: Path) -> Iterator[None]:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def wait_for(directory: Path, pattern: str, process: subprocess.Popen[bytes]) -> None:
    while not list(directory.glob(pattern)):
        assert process.poll() is None
        time.sleep(0.001)


@pytest.mark.root
@pytest.mark.parametrize(("kind", "mib"), [("ext4", 1), ("erofs", 1), ("ext4", 5)])
def test_a_full_disk_is_one_line_and_leaves_nothing(kind: str, mib: int, place: Path) -> None:
    full = place / "full"
    full.mkdir()
    out = arguments(place, "--root-format", kind, out="full/out")
    (place / "tree/big").write_bytes(os.urandom(2 << 20))
    script = (
        f'mount -t tmpfs -o size={mib}m tmpfs {full} && "$@"; code=$?; ls -A {full}; exit $code'
    )
    command = ["unshare", "--mount", "sh", "-c", script, "sh"]
    command += [sys.executable, str(find_own_command("repo-tools")), *out]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if "mount:" in done.stderr or "unshare:" in done.stderr:
        pytest.skip("no file system can be mounted here: a full disk was not tried")
    assert (done.returncode, done.stdout) == (1, "")
    assert "No space left on device" in done.stderr
    assert len(done.stderr.splitlines()) == 1
