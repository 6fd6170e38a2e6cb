import json
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from repo_tools.cmdline import VerityTable
from repo_tools.faults import Faults
from repo_tools.metadata_checks import check_strictness
from repo_tools.offer import Collected
from repo_tools.server import serving as serving_with_faults
from tests.helpers.http_server import serving, status
from tests.helpers.small_repository import (
    SALT,
    SmallRepository,
    boot_image,
    contents,
    file_system,
)
from tests.helpers.tuf_repository import TufPublisher, in_days
from tests.unit.repo_tools.machines import run
from tests.unit.repo_tools.reading import Outcome, a_strangers_root, repo_tools, started, wait_for

DIGEST = "0" * 64


@pytest.fixture
def small(tmp_path: Path) -> SmallRepository:
    repository = SmallRepository(directory=tmp_path / "repository")
    repository.release("1.1.0")
    return repository


def validate(small: SmallRepository, *options: str) -> Outcome:
    return repo_tools("validate", small.directory, "--root", small.root, *options)


def findings(outcome: Outcome) -> list[tuple[str, str, str]]:
    return [(each["kind"], each["subject"], each["text"]) for each in outcome.json()["findings"]]


def only_finding(small: SmallRepository, *options: str) -> tuple[str, str, str]:
    (found,) = findings(validate(small, "--json", *options))
    return found


def test_nothing_is_found_in_a_sound_repository(small: SmallRepository) -> None:
    small.publish()
    outcome = validate(small).succeeded()
    assert outcome.lines[0].startswith("Metadata   root v1, timestamp v1, snapshot v1, targets v1;")
    assert outcome.lines[1].startswith("Targets    4 signed; 4 files read, ")
    assert outcome.lines[2:] == ["Valid      0 warnings"]


def test_a_server_is_walked_as_a_directory_is(small: SmallRepository) -> None:
    small.publish()
    small.spoil("1.1.0-root.zst")
    with serving(small.directory) as server:
        there = repo_tools("validate", server.url, "--root", small.root, "--json")
    assert findings(there) == [
        (kind, subject, text.replace(small.directory.as_uri(), server.url))
        for kind, subject, text in findings(validate(small, "--json"))
    ]
    assert "is not what was signed: its sha256 differs" in there.stdout


def test_the_playground_is_sound(fresh_playground: Any) -> None:
    where, root = fresh_playground.repository, fresh_playground.trusted_root
    done = run("repo-tools", "validate", where, "--root", root)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.endswith("Valid      0 warnings\n")


def test_what_is_wrong_is_exit_1_and_one_line_each(small: SmallRepository) -> None:
    small.publish()
    small.spoil("1.1.0-root.zst")
    small.target_file("1.1.0-boot.zst").unlink()
    done = run("repo-tools", "validate", small.directory, "--root", small.root)
    assert done.returncode == 1
    wrong = [line.split(":")[0] for line in done.stdout.splitlines()[2:]]
    assert wrong == ["Fault      1.1.0-root.zst", "Absent     1.1.0-boot.zst"]
    assert done.stderr == (
        f"repo-tools: {small.directory} is not valid: 2 things to correct, 1.1.0-root.zst first; "
        "nothing was changed\n"
    )


@pytest.mark.parametrize("share", [0, 0.5], ids=["first-byte", "middle"])
@pytest.mark.parametrize("name", ["1.1.0-root.zst", "1.1.0-boot.zst", "1.1.0-hash.zst", "note"])
def test_bytes_that_were_changed_are_told_from_images_that_were_signed_broken(
    small: SmallRepository, name: str, share: float
) -> None:
    small.manifest["migrations"]["(1.0.0, 1.1.0)"] = ["note"]
    small.publisher.add("note", b"twelve bytes")
    small.publish()
    small.spoil(name, share=share)
    kind, subject, text = only_finding(small)
    assert (kind, subject) == ("fault", name)
    assert "is not what was signed" in text


def test_a_file_that_is_longer_than_signed_is_found(small: SmallRepository) -> None:
    small.publish()
    path = small.target_file("1.1.0-root.zst")
    path.write_bytes(path.read_bytes() + b"x")
    kind, subject, text = only_finding(small)
    assert (kind, subject) == ("fault", "1.1.0-root.zst")
    assert "are expected" in text


def a_table(*, data_blocks: int = 256, root_digest: bytes = bytes(32)) -> VerityTable:
    return VerityTable(data_blocks=data_blocks, root_digest=root_digest, salt=SALT)


def true_digest() -> bytes:
    return bytes.fromhex(contents("1.1.0").boot.split(b" sha256 ")[1][:64].decode())


BROKEN: dict[str, tuple[Callable[[], dict[str, Any]], str, str]] = {
    "another root than the tree's": (
        lambda: {"images": {"root": bytes(1 << 20)}},
        "1.1.0-root.zst",
        "its block 0 is not the one that the hash tree vouches for",
    ),
    "a shorter root than the tree's": (
        lambda: {"images": {"root": contents("1.1.0").root[:-4096]}},
        "1.1.0-root.zst",
        "the image has 1044480 bytes, its hash tree covers 1048576",
    ),
    "another length than said": (
        lambda: {"uncompressed": {"root": {"length": (1 << 20) + 1}}},
        "1.1.0-root.zst",
        "unpacks to 1048576 bytes, 1048577 were signed",
    ),
    "less than unpacks": (
        lambda: {"uncompressed": {"boot": {"length": 4096}}},
        "1.1.0-boot.zst",
        "holds more than the 4096 bytes expected",
    ),
    "another digest than said, of the root": (
        lambda: {"uncompressed": {"root": {"sha256": DIGEST}}},
        "1.1.0-root.zst",
        "unpacks to something else than was signed (sha256 differs)",
    ),
    "another digest than said, of the boot image": (
        lambda: {"uncompressed": {"boot": {"sha256": DIGEST}}},
        "1.1.0-boot.zst",
        "unpacks to something else than was signed (sha256 differs)",
    ),
    "no compressed file": (
        lambda: {"packed": {"root": b"nothing"}},
        "1.1.0-root.zst",
        "the compressed image is damaged",
    ),
    "no hash tree": (
        lambda: {"images": {"hash": bytes(8192)}},
        "1.1.0-hash.zst",
        "the hash image holds no dm-verity superblock",
    ),
    "a boot image of another root": (
        lambda: {"images": {"boot": boot_image(a_table())}},
        "1.1.0-boot.zst",
        "its command line vouches for root digest 0000000000000000..., the hash tree has ",
    ),
    "a boot image of another size of root": (
        lambda: {
            "images": {"boot": boot_image(a_table(data_blocks=255, root_digest=true_digest()))}
        },
        "1.1.0-boot.zst",
        "its command line maps 255 blocks, the hash tree covers 256",
    ),
    "a boot image without a root": (
        lambda: {"images": {"boot": file_system("cmdline", "quiet")}},
        "1.1.0-boot.zst",
        "boots no root: the kernel command line has no dm-mod.create",
    ),
}


@pytest.mark.parametrize("what", BROKEN)
def test_images_that_were_signed_broken_are_found(tmp_path: Path, what: str) -> None:
    facts, name, expected = BROKEN[what]
    small = SmallRepository(directory=tmp_path / "repository")
    small.release("1.1.0", **facts())
    small.publish()
    kind, subject, text = only_finding(small)
    assert (kind, subject) == ("fault", name)
    assert expected in text


def test_a_boot_image_of_another_kind_is_a_warning(tmp_path: Path) -> None:
    small = SmallRepository(directory=tmp_path / "repository")
    small.release("1.1.0", images={"boot": file_system("grub.cfg", "boot")})
    small.publish()
    kind, subject, text = only_finding(small)
    assert (kind, subject) == ("warning", "1.1.0-boot.zst")
    assert text.startswith("holds no /cmdline")


MEANING: dict[str, tuple[Callable[[dict[str, Any]], object], tuple[str, str, str]]] = {
    "an image that was not signed": (
        lambda manifest: manifest["updates"][0]["images"].update(root="other.zst"),
        ("fault", "small x86_64 1.1.0", "its root image other.zst is no signed target"),
    ),
    "a migration that was not signed": (
        lambda manifest: manifest["migrations"].update({"(1.0.0, 1.1.0)": ["gone"]}),
        ("fault", "step 1.0.0 to 1.1.0", "its migration gone is no signed target"),
    ),
    "different limits": (
        lambda manifest: manifest["updates"].append(
            manifest["updates"][0] | {"version": "1.0.0", "max_version": "1.0.0"}
        ),
        ("warning", "small x86_64", "its updates have different limits"),
    ),
    "nothing that is offered": (
        lambda manifest: manifest["updates"][0].update(max_version="1.0.0"),
        ("warning", "small x86_64", "every update is above its max_version: none offered"),
    ),
    "waves for some": (
        lambda manifest: manifest["updates"][0].update(waves={"20": "2024-10-24T19:00:00Z"}),
        ("warning", "small x86_64 1.1.0", "its first wave begins at seed 20"),
    ),
    "a wave for nobody": (
        lambda manifest: manifest["updates"][0].update(waves={"2048": "2024-10-24T19:00:00Z"}),
        ("fault", "small x86_64 1.1.0", "its only wave begins at 2048, above every seed"),
    ),
    "a wave in another age": (
        lambda manifest: manifest["updates"][0].update(
            waves={"0": "2024-10-24T19:00:00Z", "100": "2924-10-24T19:00:00Z"}
        ),
        ("warning", "small x86_64 1.1.0", "its last wave begins in "),
    ),
    "waves out of order": (
        lambda manifest: manifest["updates"][0].update(
            waves={"0": "2024-10-25T19:00:00Z", "100": "2024-10-24T19:00:00Z"}
        ),
        ("fault", "manifest.json", "updates[0]: waves: bound 100 starts before bound 0"),
    ),
}


@pytest.mark.parametrize("what", MEANING)
def test_what_a_manifest_should_not_say_is_found(small: SmallRepository, what: str) -> None:
    change, expected = MEANING[what]
    change(small.manifest)
    small.publish()
    found = findings(validate(small, "--json", "--metadata-only"))
    matching = [
        each for each in found if each[:2] == expected[:2] and each[2].startswith(expected[2])
    ]
    assert len(matching) == 1, found


def test_every_gap_in_the_migrations_is_found(small: SmallRepository) -> None:
    for version, follows in {"1.2.0": None, "1.3.0": "1.2.0"}.items():
        small.release(version, follows=follows)
    small.publish()
    found = [each for each in findings(validate(small, "--json")) if each[0] == "fault"]
    assert [each[1] for each in found] == ["migrations"]
    assert found[0][2] == (
        "from 1.1.0 to 1.3.0: the manifest has no migrations from 1.1.0 on the way from 1.1.0 "
        "to 1.3.0"
    )


def test_a_version_that_only_migrations_name_is_one_to_come_from(small: SmallRepository) -> None:
    small.release("1.2.0", follows="1.1.0")
    small.manifest["migrations"]["(0.9.0, 0.9.5)"] = []
    small.publish()
    found = findings(validate(small, "--json", "--metadata-only").succeeded())
    assert [each[:2] for each in found] == [("warning", "migrations")] * 2
    assert [each[2].partition(":")[0] for each in found] == [
        "from 0.9.0 to 1.2.0",
        "from 0.9.5 to 1.2.0",
    ]


def test_a_withdrawn_release_needs_a_way_down(small: SmallRepository) -> None:
    small.release("1.2.0", follows=None, max_version="1.1.0")
    small.publish()
    found = [each for each in findings(validate(small, "--json")) if each[0] == "fault"]
    ways = [text.partition(":")[0] for _, _, text in found]
    assert ways == ["from 1.1.0 to 1.2.0", "from 1.2.0 to 1.1.0"]


def test_a_manifest_that_nobody_can_read_is_found_and_the_targets_are_read_all_the_same(
    small: SmallRepository,
) -> None:
    small.publish(b"{")
    small.spoil("1.1.0-boot.zst")
    found = findings(validate(small, "--json"))
    assert [each[:2] for each in found] == [("fault", "manifest.json"), ("fault", "1.1.0-boot.zst")]
    assert found[0][2].startswith("is not JSON")


def test_a_repository_without_a_manifest_is_found(tmp_path: Path) -> None:
    small = SmallRepository(directory=tmp_path / "repository")
    small.publisher.publish()
    assert only_finding(small)[:2] == ("fault", "manifest.json")


@pytest.mark.parametrize(
    ("name", "algorithm", "expected"),
    [
        ("weak", "md5", "was signed with neither a sha256 nor a sha512"),
        ("a:b", "sha256", "no flat file name"),
    ],
)
def test_targets_that_no_client_takes_are_found(
    small: SmallRepository, name: str, algorithm: str, expected: str
) -> None:
    small.publisher.add(name, b"content", algorithms=[algorithm])
    small.publish()
    found = findings(validate(small, "--json", "--metadata-only"))
    assert [text for kind, _, text in found if kind == "fault" and expected in text]


def test_a_file_is_read_by_each_of_its_names(small: SmallRepository) -> None:
    small.manifest["migrations"]["(1.0.0, 1.1.0)"] = ["note"]
    small.publisher.add("note", b"twelve bytes", algorithms=["sha256", "sha512"])
    small.publish()
    assert validate(small, "--json").succeeded().json()["files_read"] == 6
    longest = max((small.directory / "targets").glob("*.note"), key=lambda path: len(path.name))
    longest.unlink()
    assert only_finding(small)[:2] == ("absent", "note")


def test_a_target_of_a_delegated_role_is_read_too(small: SmallRepository) -> None:
    small.publisher.add("images-1", b"content", delegate="images")
    small.publish()
    small.spoil("images-1")
    found = findings(validate(small, "--json"))
    assert ("fault", "images-1") in [each[:2] for each in found]


def test_what_an_interrupted_publish_has_left_is_a_warning(small: SmallRepository) -> None:
    small.publish()
    before = (small.directory / "metadata" / "timestamp.json").read_bytes()
    small.publisher.add("new", b"a new target")
    small.publish()
    (small.directory / "metadata" / "timestamp.json").write_bytes(before)
    outcome = validate(small, "--json").succeeded()
    found = {subject: text for _, subject, text in findings(outcome)}
    assert "1 file (12 B) that nobody refers to: " in found["targets"]
    assert "2.snapshot.json, 2.targets.json" in found["metadata"]


def test_what_an_older_version_lists_is_not_left_over(small: SmallRepository) -> None:
    small.publish()
    small.manifest["updates"][0]["max_version"] = "1.2.0"
    small.publish()
    assert findings(validate(small, "--json").succeeded()) == []


def test_what_is_absent_can_be_allowed_but_nothing_else(small: SmallRepository) -> None:
    small.publish()
    small.target_file("1.1.0-root.zst").unlink()
    assert "1 thing to correct" in validate(small).failed()
    allowed = validate(small, "--allow-missing-targets").succeeded()
    assert allowed.lines[-1] == "Valid      0 warnings, 1 target absent, which was allowed"
    small.spoil("1.1.0-boot.zst")
    assert "1 thing to correct" in validate(small, "--allow-missing-targets").failed()


def test_a_server_that_fails_is_told_from_a_file_that_is_not_there(small: SmallRepository) -> None:
    small.publish()
    with serving(small.directory) as server:
        server.always("/targets/*boot*", status(401))
        outcome = repo_tools("validate", server.url, "--root", small.root, "--json")
    ((kind, subject, text),) = findings(outcome)
    assert (kind, subject) == ("fault", "1.1.0-boot.zst")
    assert "401" in text


def test_only_the_manifest_is_read_of_targets_if_that_is_wanted(small: SmallRepository) -> None:
    small.publish()
    with serving(small.directory) as server:
        repo_tools("validate", server.url, "--root", small.root, "--metadata-only").succeeded()
        asked = [each.target for each in server.requests if each.target.startswith("/targets")]
    assert len(asked) == 1
    assert asked[0].endswith(".manifest.json")


def test_an_expired_role_is_a_fault_and_the_rest_is_looked_at(small: SmallRepository) -> None:
    small.publish(timestamp_expires=in_days(-1))
    small.spoil("1.1.0-boot.zst")
    found = findings(validate(small, "--json"))
    assert [each[:2] for each in found] == [("fault", "timestamp"), ("fault", "1.1.0-boot.zst")]
    assert "no client follows it" in found[0][2]


def test_a_role_that_expires_soon_is_a_warning(small: SmallRepository) -> None:
    small.publish(timestamp_expires=in_days(1))
    assert only_finding(small)[:2] == ("warning", "timestamp")
    assert only_finding(small)[2].startswith("expires in 23 h")
    assert findings(validate(small, "--json", "--expires-within", "12h").succeeded()) == []


def test_a_horizon_that_is_no_time_is_a_usage_error(small: SmallRepository) -> None:
    done = run(
        "repo-tools", "validate", small.directory, "--root", small.root, "--expires-within", "soon"
    )
    assert done.returncode == 2
    assert "'soon' is no span of time; write it like '2 days' or 12h" in done.stderr


def test_the_root_of_another_publisher_vouches_for_nothing(
    small: SmallRepository, tmp_path: Path
) -> None:
    small.publish()
    for version, expected in {
        1: "its 1.root.json is another one than the trusted root",
        2: "2.root.json is not signed as root 1 demands",
        5: "the trusted root does not vouch for it",
    }.items():
        root = a_strangers_root(tmp_path / "other.json", version=version)
        outcome = repo_tools("validate", small.directory, "--root", root)
        assert "1 thing to correct, metadata first" in outcome.failed()
        assert expected in outcome.stdout


def test_what_is_no_root_is_refused(small: SmallRepository, tmp_path: Path) -> None:
    small.publish()
    for content, expected in {
        b"{}": "no TUF metadata",
        (small.directory / "metadata" / "timestamp.json").read_bytes(): "expected root metadata",
    }.items():
        root = tmp_path / "root.json"
        root.write_bytes(content)
        assert expected in repo_tools("validate", small.directory, "--root", root).stdout
    gone = repo_tools("validate", small.directory, "--root", tmp_path / "gone").failed()
    assert gone.startswith(f"cannot read the trusted root {tmp_path}/gone: No such file")


@pytest.mark.parametrize("name", ["timestamp.json", "1.snapshot.json", "1.targets.json"])
def test_a_missing_role_is_named(small: SmallRepository, name: str) -> None:
    small.publish()
    (small.directory / "metadata" / name).unlink()
    kind, subject, text = only_finding(small)
    assert (kind, subject) == ("fault", "metadata")
    assert text.startswith(
        f"{name} is missing: nothing was published there yet, or only half of it"
    )


@pytest.mark.parametrize("name", ["timestamp.json", "1.snapshot.json", "1.targets.json"])
def test_metadata_that_was_changed_is_found(small: SmallRepository, name: str) -> None:
    small.publish()
    path = small.directory / "metadata" / name
    document = json.loads(path.read_bytes())
    document["signed"]["x-more"] = True
    path.write_text(json.dumps(document))
    kind, subject, text = only_finding(small)
    assert (kind, subject) == ("fault", "metadata")
    assert text.startswith("the trusted root does not vouch for it: ")
    assert "/tmp" not in text


def test_roots_are_followed_and_their_gaps_found(small: SmallRepository) -> None:
    first = small.root.read_bytes()
    small.publisher.rotate("timestamp", "another")
    small.publisher.rotate("root", "yet another")
    small.publish()
    assert findings(validate(small, "--json").succeeded()) == []
    (small.directory / "metadata" / "1.root.json").unlink()
    newest = small.directory.parent / "newest.json"
    newest.write_bytes(small.publisher.root_bytes)
    found = findings(repo_tools("validate", small.directory, "--root", newest, "--json"))
    assert [each[:2] for each in found] == [("warning", "root")]
    assert found[0][2].startswith("1.root.json missing: machines that came with an older root")
    (small.directory / "metadata" / "1.root.json").write_bytes(first)
    forged = json.loads((small.directory / "metadata" / "3.root.json").read_bytes())
    forged["signatures"] = []
    (small.directory / "metadata" / "3.root.json").write_text(json.dumps(forged))
    assert "3.root.json is not signed as root 2 demands" in only_finding(small)[2]


def test_a_root_that_is_garbage_is_found(small: SmallRepository) -> None:
    small.publisher.rotate("timestamp", "another")
    small.publish()
    for name in ("2.root.json", "1.root.json"):
        trusted = small.root
        path = small.directory / "metadata" / name
        whole = path.read_bytes()
        path.write_bytes(b"garbage")
        outcome = repo_tools("validate", small.directory, "--root", trusted, "--json")
        ((kind, subject, text),) = findings(outcome)
        assert (kind, subject) == ("fault", "metadata")
        assert "no TUF metadata" in text
        path.write_bytes(whole)


def test_what_stricter_clients_refuse_is_a_warning(small: SmallRepository) -> None:
    small.publish()
    path = small.directory / "metadata" / "1.root.json"
    root = json.loads(path.read_bytes())
    root["signed"]["keys"]["f" * 64] = next(iter(root["signed"]["keys"].values())) | {"x-note": 1}
    root["signed"]["expires"] = root["signed"]["expires"].replace("Z", ".5Z")
    data = json.dumps(root).encode() + b" " * 500_000
    found = check_strictness(Collected(files={"1.root.json": data}, roles={}))
    texts = [each.text for each in found]
    assert any("is no whole second in UTC" in text for text in texts)
    assert any("extra field 'x-note'" in text for text in texts)
    assert any("not named by the sha256 of its canonical form" in text for text in texts)
    assert any(text.endswith("some clients read 500000") for text in texts)


def test_a_directory_without_a_repository_is_refused(tmp_path: Path) -> None:
    root = tmp_path / "root.json"
    line = repo_tools("validate", tmp_path, "--root", root).failed()
    assert line.startswith(f"no repository in {tmp_path}: it has no directory metadata; ")


def test_a_repository_with_plain_file_names_is_walked_too(tmp_path: Path) -> None:
    publisher = TufPublisher(tmp_path / "plain", consistent_snapshot=False)
    publisher.add("manifest.json", b'{"updates": []}')
    publisher.publish()
    root = tmp_path / "root.json"
    root.write_bytes(publisher.root_bytes)
    repo_tools("validate", tmp_path / "plain", "--root", root).succeeded()
    shutil.rmtree(tmp_path / "plain" / "targets")
    outcome = repo_tools("validate", tmp_path / "plain", "--root", root, "--json")
    assert [each[:2] for each in findings(outcome)] == [("absent", "manifest.json")]


def test_many_targets_are_read_by_two_workers(small: SmallRepository) -> None:
    for number in range(20):
        small.publisher.add(f"note-{number}", b"content %d" % number)
    small.publish()
    with serving(small.directory) as server:
        outcome = repo_tools("validate", server.url, "--root", small.root, "--json").succeeded()
        ports = {each.port for each in server.requests if each.target.startswith("/targets")}
    assert outcome.json()["files_read"] == 24
    assert len(ports) >= 2


def test_ctrl_c_is_one_line(small: SmallRepository) -> None:
    small.publish()
    with (
        serving_with_faults(
            small.directory, faults=Faults(bytes_per_second=1000, pattern="targets/*boot*")
        ) as server,
        started("validate", server.url, "--root", small.root) as process,
    ):
        wait_for(lambda: _reads_targets(process.pid))
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=30)
    assert process.returncode == 1
    assert stderr == (
        f"repo-tools: cannot validate {server.url}: interrupted; nothing was changed\n"
    )


def _reads_targets(pid: int) -> bool:
    """Tell whether a process has begun to work in more threads than its first."""
    return len(list(Path(f"/proc/{pid}/task").iterdir())) > 3
