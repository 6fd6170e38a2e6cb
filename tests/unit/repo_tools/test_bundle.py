import gzip
import io
import os
import shutil
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from repo_tools.faults import Faults
from repo_tools.programs import find_own_command
from repo_tools.server import serving as serving_with_faults
from tests.helpers.http_server import serving
from tests.helpers.small_repository import SmallRepository
from tests.helpers.tuf_repository import in_days
from tests.unit.repo_tools.machines import run
from tests.unit.repo_tools.onlookers import a_client_at_every_moment
from tests.unit.repo_tools.reading import Outcome, a_strangers_root, files, repo_tools

Entry = tuple[tarfile.TarInfo, bytes]


@pytest.fixture
def small(tmp_path: Path) -> SmallRepository:
    repository = SmallRepository(directory=tmp_path / "repository")
    repository.release("1.1.0")
    repository.release("1.2.0", follows="1.1.0")
    repository.migration("(1.0.0, 1.1.0)", "migrate-one")
    repository.migration("(1.1.0, 1.2.0)", "migrate-two")
    repository.publish()
    return repository


@pytest.fixture
def tar(tmp_path: Path) -> Path:
    return tmp_path / "updates.tar"


@pytest.fixture
def there(tmp_path: Path) -> Path:
    return tmp_path / "there"


def export(small: SmallRepository, tar: Path, *options: str) -> Outcome:
    return repo_tools("export", small.directory, tar, "--root", small.root, *options)


def take(small: SmallRepository, tar: Path, there: Path, *options: str) -> Outcome:
    return repo_tools("import", tar, there, "--root", small.root, *options)


def test_a_repository_comes_out_as_it_went_in(
    small: SmallRepository, tar: Path, there: Path
) -> None:
    done = export(small, tar).succeeded()
    assert done.lines[0] == "Exported   the whole repository: 9 of 9 targets"
    done = take(small, tar, there).succeeded()
    assert done.lines[0].startswith("Imported   9 of 9 targets, ")
    assert files(there) == files(small.directory)
    repo_tools("validate", there, "--root", small.root).succeeded()


def test_the_same_repository_gives_the_same_bytes_wherever_it_is_read_from(
    small: SmallRepository, tar: Path, tmp_path: Path
) -> None:
    export(small, tar).succeeded()
    other = tmp_path / "other.tar"
    with serving(small.directory) as server:
        repo_tools("export", server.url, other, "--root", small.root).succeeded()
    assert other.read_bytes() == tar.read_bytes()
    for path in small.directory.rglob("*"):
        os.utime(path, (1, 1))
    copy = shutil.copytree(small.directory, tmp_path / "copy")
    repo_tools("export", copy, other, "--root", small.root).succeeded()
    assert other.read_bytes() == tar.read_bytes()


def test_it_is_a_tar_file_that_others_read(small: SmallRepository, tar: Path) -> None:
    export(small, tar).succeeded()
    listed = subprocess.run(["tar", "tf", tar], check=True, capture_output=True, text=True)
    names = listed.stdout.splitlines()
    expected = {
        *(f"metadata/{path.name}" for path in (small.directory / "metadata").iterdir()),
        *(f"targets/{path.name}" for path in (small.directory / "targets").iterdir()),
    }
    assert set(names) == expected
    assert names[3] == "metadata/timestamp.json"


def exported_targets(small: SmallRepository, tar: Path, *options: str) -> set[str]:
    return set(export(small, tar, *options, "--json").succeeded().json()["targets"])


IMAGES = {
    version: {f"{version}-{r}.zst" for r in ("boot", "root", "hash")}
    for version in ("1.1.0", "1.2.0")
}


@pytest.mark.parametrize(
    ("options", "version", "migrations"),
    [
        (("--variant", "small"), "1.2.0", {"migrate-one", "migrate-two"}),
        (("--arch", "x86_64"), "1.2.0", {"migrate-one", "migrate-two"}),
        (("--version", "1.1.0"), "1.1.0", {"migrate-one"}),
        (("--from-version", "1.1.0"), "1.2.0", {"migrate-two"}),
        (("--version", "v1.1.0", "--from-version", "1.2.0"), "1.1.0", {"migrate-two"}),
        (("--from-version", "1.2.0"), "1.2.0", set()),
    ],
)
def test_a_part_holds_what_one_machine_needs(
    small: SmallRepository,
    tar: Path,
    options: tuple[str, ...],
    version: str,
    migrations: set[str],
) -> None:
    needed = {"manifest.json"} | IMAGES[version] | migrations
    assert exported_targets(small, tar, *options) == needed


def test_a_part_is_a_repository_that_lacks_the_rest(
    small: SmallRepository, tar: Path, there: Path
) -> None:
    export(small, tar, "--version", "1.1.0", "--from-version", "1.0.0").succeeded()
    assert "Absent     4 targets" in take(small, tar, there).succeeded().stdout
    allowed = repo_tools(
        "validate", there, "--root", small.root, "--allow-missing-targets", "--json"
    )
    absent = {each["subject"] for each in allowed.succeeded().json()["findings"]}
    assert absent == IMAGES["1.2.0"] | {"migrate-two"}


def test_parts_for_several_machines_add_up(small: SmallRepository, tar: Path, there: Path) -> None:
    for version in ("1.1.0", "1.2.0"):
        export(small, tar, "--version", version).succeeded()
        take(small, tar, there).succeeded()
    assert files(there) == files(small.directory)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (("--variant", "large"), "the manifest offers no such update; it knows small x86_64 1.1.0"),
        (("--version", "9.0.0"), "the manifest offers no such update"),
        (("--from-version", "0.9.0"), "has no migrations from 0.9.0 on the way"),
    ],
)
def test_what_cannot_be_exported_is_said_and_no_file_left(
    small: SmallRepository, tar: Path, options: tuple[str, ...], expected: str
) -> None:
    assert expected in export(small, tar, *options).failed()
    assert list(tar.parent.glob("*.tar*")) == list(tar.parent.glob(".*")) == []


def test_a_machine_must_be_named_where_there_are_several(small: SmallRepository, tar: Path) -> None:
    small.manifest["updates"].append(small.manifest["updates"][0] | {"variant": "large"})
    small.publish()
    line = export(small, tar, "--version", "1.2.0").failed()
    assert "name the machine with --variant and --arch: there are large x86_64 1.2.0, small" in line


def test_a_target_that_was_changed_is_not_exported(small: SmallRepository, tar: Path) -> None:
    tar.write_bytes(b"an older one")
    small.spoil("1.1.0-root.zst")
    line = export(small, tar).failed()
    assert line.startswith(f"cannot export {small.directory} to {tar}: ")
    assert "is not what was signed" in line
    assert tar.read_bytes() == b"an older one"
    assert not list(tar.parent.glob(".*"))


def test_an_expired_repository_is_neither_exported_nor_imported(
    small: SmallRepository, tar: Path, there: Path
) -> None:
    small.publish(timestamp_expires=in_days(-1))
    assert "timestamp expired on " in export(small, tar).failed()
    names = ("1.root.json", "2.targets.json", "2.snapshot.json", "timestamp.json")
    metadata = small.directory / "metadata"
    write(tar, [entry(f"metadata/{name}", (metadata / name).read_bytes()) for name in names])
    assert "timestamp expired on " in take(small, tar, there).failed()
    assert not there.exists()


def test_older_metadata_is_not_imported(small: SmallRepository, tar: Path, there: Path) -> None:
    export(small, tar).succeeded()
    newer = tar.with_name("newer.tar")
    small.publish()
    export(small, newer).succeeded()
    take(small, newer, there).succeeded()
    before = files(there)
    line = take(small, tar, there).failed()
    assert f"{there} holds newer metadata than this: it offers version 1 of timestamp" in line
    assert files(there) == before


def test_a_newer_file_brings_a_directory_up_to_date(
    small: SmallRepository, tar: Path, there: Path
) -> None:
    export(small, tar).succeeded()
    take(small, tar, there).succeeded()
    small.release("1.3.0", follows="1.2.0")
    small.publish()
    export(small, tar).succeeded()
    done = take(small, tar, there, "--json").succeeded().json()
    assert len(done["imported"]) == 4
    repo_tools("validate", there, "--root", small.root).succeeded()


def test_a_client_sees_the_old_or_the_new_at_every_moment_of_an_import(
    small: SmallRepository, tar: Path, there: Path, tmp_path: Path
) -> None:
    export(small, tar).succeeded()
    take(small, tar, there).succeeded()
    small.publisher.rotate("root", "another")
    small.release("1.3.0", follows="1.2.0")
    small.publish()
    export(small, tar).succeeded()
    with a_client_at_every_moment(small, there, tmp_path) as seen:
        take(small, tar, there).succeeded()
    assert seen == [1] * (4 + 4) + [2]


def entries_of(tar: Path) -> list[Entry]:
    with tarfile.open(tar) as opened:
        return [(each, opened.extractfile(each).read()) for each in opened]  # type: ignore[union-attr]


def write(tar: Path, entries: list[Entry], **how: Any) -> None:
    with tarfile.open(tar, "w", **how) as opened:
        for entry, content in entries:
            opened.addfile(entry, io.BytesIO(content))


def entry(name: str, content: bytes = b"", kind: bytes = tarfile.REGTYPE, link: str = "") -> Entry:
    made = tarfile.TarInfo(name)
    made.size, made.type, made.linkname = len(content), kind, link
    return made, content


def with_more(*more: Entry) -> Callable[[list[Entry]], list[Entry]]:
    return lambda entries: [*entries, *more]


def changed(part: str, change: Callable[[bytes], bytes]) -> Callable[[list[Entry]], list[Entry]]:
    def apply(entries: list[Entry]) -> list[Entry]:
        (at,) = [number for number, (info, _) in enumerate(entries) if part in info.name]
        info, content = entries[at]
        content = change(content)
        info.size = len(content)
        return [*entries[:at], (info, content), *entries[at + 1 :]]

    return apply


def without(part: str) -> Callable[[list[Entry]], list[Entry]]:
    return lambda entries: [each for each in entries if part not in each[0].name]


def flipped(content: bytes) -> bytes:
    return content[:-9] + bytes([content[-9] ^ 1]) + content[-8:]


HOSTILE: dict[str, tuple[Callable[[list[Entry]], list[Entry]], str]] = {
    "a way up": (with_more(entry("targets/../../evil", b"x")), "which was not signed"),
    "a way up at once": (with_more(entry("../evil", b"x")), "is no file of a repository"),
    "an absolute path": (with_more(entry("/etc/evil", b"x")), "is no file of a repository"),
    "metadata up": (with_more(entry("metadata/../../x.json", b"x")), "no file of a repository"),
    "a hidden file": (with_more(entry("metadata/.x.json", b"x")), "is no file of a repository"),
    "a terminal's commands": (with_more(entry("\x1b[2Jx", b"x")), r"'\x1b[2Jx' is no file"),
    "a directory": (with_more(entry("targets", kind=tarfile.DIRTYPE)), "is no plain file"),
    "a link": (
        with_more(entry("targets/x", kind=tarfile.SYMTYPE, link="/etc/passwd")),
        "is no plain file",
    ),
    "a hard link": (
        with_more(entry("targets/x", kind=tarfile.LNKTYPE, link="metadata/timestamp.json")),
        "is no plain file",
    ),
    "a device": (with_more(entry("targets/x", kind=tarfile.CHRTYPE)), "is no plain file"),
    "a pipe": (with_more(entry("targets/x", kind=tarfile.FIFOTYPE)), "is no plain file"),
    "a sparse file": (
        with_more(entry("targets/x", bytes(512), kind=tarfile.GNUTYPE_SPARSE)),
        "is no plain file",
    ),
    "a file of a kind of its own": (with_more(entry("targets/x", kind=b"Z")), "is no plain file"),
    "a target that was not signed": (with_more(entry("targets/x", b"x")), "which was not signed"),
    "metadata that nothing leads to": (
        with_more(entry("metadata/9.x.json", b"{}")),
        "it holds metadata/9.x.json, which nothing leads to",
    ),
    "the same name twice": (lambda entries: [*entries, entries[-1]], "is there twice"),
    "a longer target": (changed("1.1.0-root", lambda c: c + b"x"), "were signed"),
    "a shorter target": (changed("1.1.0-root", lambda c: c[:-1]), "were signed"),
    "other bytes": (changed("1.2.0-root", flipped), "is not what was signed: its sha256 differs"),
    "changed metadata": (
        changed(".targets.json", lambda c: c.replace(b"sha256", b"sha512")),
        "the trusted root does not vouch for it",
    ),
    "huge metadata": (changed(".targets.json", lambda c: c + b" " * 6_000_000), "more metadata"),
    "no timestamp": (without("timestamp"), "timestamp.json is missing"),
    "no snapshot": (without("snapshot"), "snapshot.json is missing"),
    "nothing": (lambda _entries: [], "timestamp.json is missing"),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_a_hostile_file_is_refused_and_the_directory_is_as_it_was(
    small: SmallRepository, tar: Path, there: Path, what: str
) -> None:
    export(small, tar, "--version", "1.1.0").succeeded()
    take(small, tar, there).succeeded()
    small.publish()
    export(small, tar).succeeded()
    before = files(there)
    spoil, expected = HOSTILE[what]
    write(tar, spoil(entries_of(tar)))
    line = take(small, tar, there).failed()
    assert line.startswith(f"cannot import {tar} into {there}: ")
    assert expected in line
    assert line.isprintable()
    assert line.endswith(f"; {there} is as it was")
    assert files(there) == before
    assert not (tar.parent / "evil").exists()


@pytest.mark.parametrize("what", ["a link", "other bytes", "nothing"])
def test_nothing_is_made_of_a_hostile_file(
    small: SmallRepository, tar: Path, there: Path, what: str
) -> None:
    export(small, tar).succeeded()
    spoil, expected = HOSTILE[what]
    write(tar, spoil(entries_of(tar)))
    assert expected in take(small, tar, there).failed()
    assert not there.exists()


def a_header_that_says_it_is_long() -> bytes:
    info = tarfile.TarInfo("x")
    info.type, info.size = tarfile.XHDTYPE, 4 << 30
    return info.tobuf(tarfile.GNU_FORMAT)


def many_headers_in_a_row() -> bytes:
    record = b"17 path=metadata\n".ljust(512, b"\0")
    info = tarfile.TarInfo("x")
    info.type, info.size = tarfile.XHDTYPE, 17
    return (info.tobuf(tarfile.GNU_FORMAT) + record) * 5000


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "is no tar file"),
        (b"garbage" * 1000, "is no tar file"),
        (gzip.compress(bytes(10240)), "is no tar file"),
        (a_header_that_says_it_is_long() + bytes(1024), "one of its headers says"),
        (many_headers_in_a_row() + bytes(1024), "too many headers in a row"),
    ],
    ids=["empty", "garbage", "compressed", "long-header", "many-headers"],
)
def test_what_is_no_bundle_is_refused(
    small: SmallRepository, tar: Path, there: Path, content: bytes, expected: str
) -> None:
    tar.write_bytes(content)
    line = take(small, tar, there).failed()
    assert expected in line
    assert not there.exists()


def test_a_file_that_ends_early_is_refused(small: SmallRepository, tar: Path, there: Path) -> None:
    export(small, tar).succeeded()
    whole = tar.read_bytes()
    for length in (100, 512, 5000, len(whole) // 2, len(whole.rstrip(b"\0")) - 10):
        tar.write_bytes(whole[:length])
        assert take(small, tar, there).failed().endswith(f"; {there} is as it was")
        assert not there.exists()


def test_a_missing_file_is_named(small: SmallRepository, tar: Path, there: Path) -> None:
    assert take(small, tar, there).failed() == (
        f"cannot import {tar} into {there}: No such file or directory ({tar}); {there} is as it was"
    )


def test_another_publishers_file_is_refused(
    small: SmallRepository, tar: Path, there: Path, tmp_path: Path
) -> None:
    export(small, tar).succeeded()
    root = a_strangers_root(tmp_path / "other.json")
    line = repo_tools("import", tar, there, "--root", root).failed()
    assert "1.root.json is another one than the trusted root" in line
    assert not there.exists()


@pytest.mark.parametrize("command", ["import", "export"])
def test_a_full_disk_is_one_line_and_leaves_nothing(
    small: SmallRepository, tar: Path, there: Path, command: str
) -> None:
    arguments = [str(small.directory), str(tar)]
    if command == "import":
        export(small, tar).succeeded()
        arguments = [str(tar), str(there)]
    done = subprocess.run(
        [
            *("bash", "-c", 'ulimit -f 100; exec "$@"', "-"),
            *(str(find_own_command("repo-tools")), command, *arguments, "--root", str(small.root)),
        ],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.startswith(f"repo-tools: cannot {command} ")
    assert "File too large" in done.stderr
    assert done.stderr.count("\n") == 1
    assert not there.exists()
    assert not list(tar.parent.glob(".*"))


def test_an_import_that_fails_while_files_get_their_names_can_be_run_again(
    small: SmallRepository, tar: Path, there: Path
) -> None:
    export(small, tar).succeeded()
    take(small, tar, there).succeeded()
    small.release("1.3.0", follows="1.2.0")
    small.publish()
    export(small, tar).succeeded()
    before = (there / "metadata" / "timestamp.json").read_bytes()
    (there / "metadata" / "2.snapshot.json.partial").mkdir()
    line = take(small, tar, there).failed()
    assert line.endswith("clients of it see what they saw before; run the command again to go on")
    assert (there / "metadata" / "timestamp.json").read_bytes() == before
    (there / "metadata" / "2.snapshot.json.partial").rmdir()
    take(small, tar, there).succeeded()
    repo_tools("validate", there, "--root", small.root).succeeded()


def test_an_export_from_a_bad_server_is_whole(small: SmallRepository, tar: Path) -> None:
    export(small, tar).succeeded()
    good = tar.read_bytes()
    bad = Faults(close_after_bytes=700_000, pattern="targets/*")
    with serving_with_faults(small.directory, faults=bad) as server:
        repo_tools("export", server.url, tar, "--root", small.root).succeeded()
    assert tar.read_bytes() == good


def test_the_installed_commands_work(small: SmallRepository, tar: Path, there: Path) -> None:
    for command in (("export", small.directory, tar), ("import", tar, there)):
        done = run("repo-tools", *command, "--root", small.root)
        assert (done.returncode, done.stderr) == (0, "")
    assert files(there) == files(small.directory)
