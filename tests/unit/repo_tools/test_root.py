"""Roots and their ceremony, through the commands."""

import fcntl
import hashlib
import json
import os
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from securesystemslib.signer import Key, Signature, Signer
from tuf.api.metadata import Metadata, Root

from repo_tools.durable import write_durably
from repo_tools.errors import RepoToolsError
from repo_tools.keyfiles import KeyKind, generate, write_keys
from repo_tools.passphrases import Passphrases
from repo_tools.policy import load_policy
from repo_tools.root.ceremony import Draft, parse_draft, signed_by
from repo_tools.root.place import place
from repo_tools.signers import load_signer
from tests.helpers.publisher import ONLINE, PublisherDirectory, a_publisher, tools
from tests.helpers.terminal import in_a_terminal


@pytest.fixture
def publisher(tmp_path: Path) -> PublisherDirectory:
    return a_publisher(tmp_path / "publisher")


@pytest.fixture
def beginner(tmp_path: Path) -> PublisherDirectory:
    """A publisher with keys alone."""
    beginner = PublisherDirectory(path=tmp_path / "publisher")
    beginner.make_keys(["ann", "bob", "eve", "online"])
    return beginner


def a_root(publisher: PublisherDirectory, version: int) -> Root:
    root = Metadata[Root].from_file(str(publisher.metadata / f"{version}.root.json")).signed
    assert isinstance(root, Root)
    return root


# --- create -------------------------------------------------------------------------------------


def test_a_first_root_lists_what_was_said(beginner: PublisherDirectory) -> None:
    done = beginner.create(["ann", "bob", "eve"], "--expires", "2 weeks", "--json")
    facts = done.json["root"]
    assert (facts["version"], facts["complete"], facts["previous_sha256"]) == (1, False, None)
    assert {role: each["threshold"] for role, each in facts["roles"].items()} == {
        "root": 2,
        "targets": 1,
        "snapshot": 1,
        "timestamp": 1,
    }
    assert len(facts["roles"]["root"]["keys"]) == 3
    expires = datetime.fromisoformat(facts["expires"])
    assert abs(expires - datetime.now(UTC) - timedelta(weeks=2)) < timedelta(minutes=1)
    assert not beginner.metadata.exists()


def test_the_first_settings_are_those_of_the_keys(beginner: PublisherDirectory) -> None:
    keys = [f"root={beginner.key('ann').with_suffix('.pub')}", "targets=hsm:2?label=x"]
    keys += [f"{role}={beginner.key('online')}" for role in ("snapshot", "timestamp")]
    options = [each for key in keys for each in ("--key", key)]
    # The device is not there: only what it would be asked for is missing from the draft.
    assert beginner.root("create", *options).code == 1
    assert not (beginner.path / "publisher.toml").exists()
    assert beginner.create(["ann", "bob"]).code == 0
    policy = load_policy(beginner.path)
    assert policy.keys["timestamp"] == (f"file:{beginner.key('online')}",)
    assert policy.keys["root"] == tuple(f"file:{beginner.key(name)}" for name in ("ann", "bob"))
    assert '"file:keys/online.pem"' in (beginner.path / "publisher.toml").read_text()
    assert policy.repository == beginner.path / "repository"


def test_public_keys_make_no_signers(beginner: PublisherDirectory) -> None:
    keys = [f"root={beginner.key('ann').with_suffix('.pub')}"]
    keys += [f"{role}={beginner.key('online')}" for role in ONLINE]
    assert beginner.root("create", *(each for key in keys for each in ("--key", key))).code == 0
    assert load_policy(beginner.path).keys["root"] == ()


def test_the_keys_of_publisher_toml_are_taken_where_none_are_typed(
    beginner: PublisherDirectory,
) -> None:
    assert beginner.create(["ann", "bob"]).code == 0
    text = (beginner.path / "publisher.toml").read_bytes()
    beginner.draft.unlink()
    done = beginner.root("create", "--json")
    assert {role: len(each["keys"]) for role, each in done.json["root"]["roles"].items()} == {
        "root": 2,
        "targets": 1,
        "snapshot": 1,
        "timestamp": 1,
    }
    assert (beginner.path / "publisher.toml").read_bytes() == text


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["--threshold", "root=4"], "the threshold of root cannot be met: 4 of 3 keys"),
        (["--threshold", "timestamp=2"], "the threshold of timestamp cannot be met: 2 of 1 key"),
        (["--key", "root={ann}"], "is listed for root already: name it once"),
        (["--key", "root={ann_pub}"], "is listed for root already: name it once"),
        (["--key", "root=nowhere.pem"], "cannot read key nowhere.pem: No such file or directory"),
        (["--expires", "2020-01-01T00:00:00Z"], "would have expired on 2020-01-01 00:00:00 UTC"),
    ],
)
def test_a_root_that_could_not_be_lived_with_is_not_drafted(
    beginner: PublisherDirectory, arguments: list[str], why: str
) -> None:
    before = beginner.state()
    ann = str(beginner.key("ann"))
    filled = [each.format(ann=ann, ann_pub=f"{ann[:-4]}.pub") for each in arguments]
    done = beginner.create(["ann", "bob", "eve"], *filled)
    assert (done.code, beginner.state()) == (1, before)
    assert why in done.failure


def test_a_role_without_a_key_is_refused(beginner: PublisherDirectory) -> None:
    done = beginner.root("create", "--key", f"root={beginner.key('ann')}")
    assert done.failure == "root 1 would list no key for targets: add one"


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["--key", "ann.pem"], "write ROLE=KEY, the role one of root, targets, snapshot, timest"),
        (["--key", "mirrors=ann.pem"], "write ROLE=KEY"),
        (["--threshold", "root=0"], "write ROLE=NUMBER"),
        (["--threshold", "root=two"], "write ROLE=NUMBER"),
        (["--expires", "tomorrow"], "write a time like"),
        (["--expires", "2030-02-31T00:00:00Z"], "write a time like"),
    ],
)
def test_wrong_usage_is_told_with_an_example(
    beginner: PublisherDirectory, arguments: list[str], why: str
) -> None:
    done = beginner.root("create", *arguments)
    assert done.code == 2
    assert why in done.failure


def test_a_repository_has_one_first_root(publisher: PublisherDirectory) -> None:
    before = publisher.state()
    done = publisher.create(["ann"], "--force")
    assert "has root 1 already: `repo-tools root rotate` drafts the next one" in done.failure
    assert publisher.state() == before


@pytest.mark.parametrize("command", ["create", "rotate", "sign"])
def test_a_dry_run_writes_nothing(command: str, beginner: PublisherDirectory) -> None:
    if command != "create":
        beginner.create(["ann", "bob"])
    if command == "rotate":
        beginner.sign("ann", "bob")
    before = beginner.state()
    match command:
        case "create":
            done = beginner.create(["ann", "bob"], "--dry-run")
        case "rotate":
            done = beginner.root("rotate", "--dry-run")
        case _:
            done = beginner.sign("ann", "bob", options=["--dry-run"])
            assert "root 1 is complete" in done.printed
    assert done.code == 0, done.failure
    assert "Dry run" in done.printed
    assert beginner.state() == before


# --- rotate -------------------------------------------------------------------------------------


def test_a_rotation_alone_renews_the_expiry(publisher: PublisherDirectory) -> None:
    done = publisher.root("rotate", "--expires", "700 days", "--json")
    (change,) = done.json["root"]["changes"]
    assert change.startswith("expires ")
    assert publisher.sign("ann", "eve").code == 0
    assert a_root(publisher, 2).roles == a_root(publisher, 1).roles


def test_keys_and_thresholds_change_and_the_rest_stays(publisher: PublisherDirectory) -> None:
    publisher.make_keys(["dan"], KeyKind.RSA)
    gone = a_root(publisher, 1).roles["root"].keyids[2]
    done = publisher.root(
        "rotate",
        "--remove",
        f"root={gone[:8]}",
        "--add",
        f"root={publisher.key('dan')}",
        "--threshold",
        "root=3",
        "--json",
    )
    new = done.json["root"]["roles"]["root"]["keys"][2]
    assert done.json["root"]["changes"][:3] == [
        f"- root key {gone[:16]} (ed25519)",
        f"+ root key {new['keyid'][:16]} (rsa 3072)",
        "root threshold 2 -> 3",
    ]
    assert publisher.sign("ann", "bob", "dan").code == 0
    root = a_root(publisher, 2)
    assert (gone in root.keys, root.roles["root"].threshold) == (False, 3)
    assert root.consistent_snapshot is True


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["--remove", "root=00000000"], "root 1 lists no key 00000000 for root"),
        (["--remove", "targets={ann}"], "for targets, or more than one"),
        (["--remove", "root={ann}", "--remove", "root={bob}"], "cannot be met: 2 of 1 key"),
        (["--remove", "targets={online}"], "root 2 would list no key for targets: add one"),
        (["--add", "root={ann}"], "is listed for root already"),
        (["--threshold", "root=9"], "the threshold of root cannot be met: 9 of 3 keys"),
    ],
)
def test_a_rotation_that_could_not_be_lived_with_is_refused(
    publisher: PublisherDirectory, arguments: list[str], why: str
) -> None:
    before = publisher.state()
    names = {name: str(publisher.key(name)) for name in ("ann", "bob", "online")}
    done = publisher.root("rotate", *(each.format_map(names) for each in arguments))
    assert (done.code, publisher.state()) == (1, before)
    assert why in done.failure


def test_a_short_rsa_key_is_not_listed(publisher: PublisherDirectory, tmp_path: Path) -> None:
    weak = tmp_path / "weak.pem"
    write_keys([(weak, generate(KeyKind.RSA, rsa_bits=2048))], passphrase=None)
    done = publisher.root("rotate", "--add", f"root={weak}")
    assert re.fullmatch(
        r"key [0-9a-f]{16} is an RSA key of 2048 bits; 3072 to 8192 are wanted", done.failure
    )


def test_one_ceremony_at_a_time(publisher: PublisherDirectory) -> None:
    assert publisher.root("rotate").code == 0
    before = publisher.state()
    done = publisher.root("rotate", "--expires", "9 days")
    assert "is a draft of root 2 already: finish it with `repo-tools root sign`" in done.failure
    assert publisher.state() == before
    assert publisher.root("rotate", "--expires", "9 days", "--force").code == 0
    assert publisher.state() != before


@pytest.mark.parametrize("command", ["rotate", "sign"])
def test_two_ceremonies_at_once_do_not_mix(publisher: PublisherDirectory, command: str) -> None:
    publisher.root("rotate")
    before = publisher.state()
    directory = os.open(publisher.path, os.O_RDONLY)
    fcntl.flock(directory, fcntl.LOCK_EX)
    done = publisher.sign("ann") if command == "sign" else publisher.root("rotate", "--force")
    os.close(directory)
    assert "another ceremony is at work" in done.failure
    assert publisher.state() == before


# --- sign ---------------------------------------------------------------------------------------


def test_people_sign_one_after_the_other(publisher: PublisherDirectory) -> None:
    publisher.root("rotate")
    done = publisher.sign("eve", options=["--json"])
    (old, new) = done.json["root"]["signatures"]
    assert (old["by_root"], old["lacks"], new["by_root"], new["lacks"]) == (1, 1, 2, 1)
    assert not (publisher.metadata / "2.root.json").exists()
    done = publisher.sign("bob", options=["--json"])
    assert done.json["root"]["complete"] is True
    assert done.json["path"] == str(publisher.metadata / "2.root.json")
    assert not publisher.draft.exists()


def test_people_sign_copies_at_once_and_without_the_repository(
    publisher: PublisherDirectory, tmp_path: Path
) -> None:
    publisher.root("rotate")
    for name in ("ann", "bob"):
        place_of_ann = tmp_path / name
        place_of_ann.mkdir()
        copy = place_of_ann / "next-root.json"
        copy.write_bytes(publisher.draft.read_bytes())
        done = tools("root", "sign", copy, "--key", publisher.key(name), "--yes")
        assert done.code == 0, done.failure
        assert [path.name for path in place_of_ann.iterdir()] == ["next-root.json"]
    copies = [
        each for name in ("ann", "bob") for each in ("--import", tmp_path / name / "next-root.json")
    ]
    done = publisher.sign(options=copies)
    assert done.code == 0, done.failure
    assert len(Metadata.from_file(str(publisher.metadata / "2.root.json")).signatures) == 2


def test_a_copy_that_is_complete_elsewhere_is_not_published_there(
    publisher: PublisherDirectory, tmp_path: Path
) -> None:
    publisher.root("rotate")
    copy = tmp_path / "copy.json"
    copy.write_bytes(publisher.draft.read_bytes())
    keys = [each for name in ("ann", "bob") for each in ("--key", publisher.key(name))]
    done = tools("root", "sign", copy, *keys, "--yes", "--json")
    assert (done.json["root"]["complete"], done.json["path"]) == (True, str(copy))
    assert not (publisher.metadata / "2.root.json").exists()


def test_new_keys_must_sign_what_lists_them(publisher: PublisherDirectory) -> None:
    publisher.make_keys(["new1", "new2", "new3"])
    new, old = ("new1", "new2", "new3"), ("ann", "bob", "eve")
    options = [each for name in new for each in ("--add", f"root={publisher.key(name)}")]
    options += [each for name in old for each in ("--remove", f"root={publisher.key(name)}")]
    assert publisher.root("rotate", *options).code == 0
    done = publisher.sign("new1", "new2")
    assert "it lacks signatures by 2 more of the keys of root 1" in done.printed
    done = publisher.sign("ann", "bob")
    assert "Placed" in done.printed
    # From now on the old ones count for nothing.
    publisher.root("rotate")
    done = publisher.sign("ann")
    assert "neither root 2 nor root 3 lists" in done.failure
    assert publisher.sign("new1", "new3").code == 0


def test_signing_again_changes_nothing(publisher: PublisherDirectory) -> None:
    publisher.root("rotate")
    publisher.sign("ann")
    before = publisher.state()
    assert publisher.sign("ann").code == 0
    assert publisher.state() == before


def test_a_key_of_another_role_cannot_sign_a_root(publisher: PublisherDirectory) -> None:
    publisher.root("rotate")
    before = publisher.state()
    done = publisher.sign("ann", "online")
    assert re.search(
        r"neither root 1 nor root 2 lists file:\S+online\.pem \(key \w{16}\) for root, only for "
        r"targets, snapshot, timestamp; nothing was signed",
        done.failure,
    )
    assert publisher.state() == before


def test_a_stranger_cannot_sign(publisher: PublisherDirectory) -> None:
    publisher.make_keys(["mal"])
    publisher.root("rotate")
    before = publisher.state()
    assert "neither root 1 nor root 2 lists" in publisher.sign("mal").failure
    assert publisher.state() == before


def test_a_signature_that_does_not_verify_is_not_kept(publisher: PublisherDirectory) -> None:
    publisher.root("rotate")
    draft = parse_draft(publisher.draft.read_bytes(), what="it")
    signer = load_signer(f"file:{publisher.key('ann')}", passphrases=Passphrases())

    with pytest.raises(RepoToolsError, match="the signature by hsm:2 does not verify with its pub"):
        signed_by(draft, _HashingTwice(signer), what="hsm:2")


class _HashingTwice(Signer):
    """A device that is driven wrongly, as one simulator of a key service is."""

    def __init__(self, signer: Signer) -> None:
        self._signer = signer

    @property
    def public_key(self) -> Key:
        return self._signer.public_key

    @classmethod
    def from_priv_key_uri(cls, *_: object) -> Signer:
        raise NotImplementedError("demanded of every Signer; the test makes this one itself")

    def sign(self, payload: bytes) -> Signature:
        return self._signer.sign(hashlib.sha256(payload).digest())


def test_nothing_is_signed_unless_somebody_agrees(publisher: PublisherDirectory) -> None:
    publisher.root("rotate")
    before = publisher.state()
    done = publisher.root("sign", "--key", publisher.key("ann"))
    assert "nobody is here to agree to what would be signed: say --yes" in done.failure
    assert "sha256 of what is signed" in done.printed
    assert publisher.state() == before


def test_nothing_is_signed_but_what_was_agreed_by_digest(publisher: PublisherDirectory) -> None:
    digest = publisher.root("rotate", "--json").json["root"]["sha256"]
    before = publisher.state()
    for wrong in ("0" * 64, digest[:15], digest[:-1] + "x"):
        done = publisher.sign("ann", options=["--digest", wrong])
        assert "is not the one to sign" in done.failure
    assert publisher.state() == before
    assert publisher.sign("ann", options=["--digest", digest[:16]]).code == 0


def test_what_replaces_a_draft_after_it_was_shown_is_not_signed(
    publisher: PublisherDirectory,
) -> None:
    publisher.root("rotate")
    other = publisher.draft.read_bytes()
    publisher.root("rotate", "--expires", "9 days", "--force")
    code, printed, seen = in_a_terminal(
        publisher.path,
        *("root", "sign", publisher.draft, "--key", publisher.key("ann")),
        answers=["y"],
        meanwhile=lambda: write_durably(publisher.draft, other),
    )
    assert code == 1
    assert "sha256 of what is signed" in printed
    assert "what was shown and signed holds another root than the one to sign" in " ".join(
        seen.split()
    )
    assert publisher.draft.read_bytes() == other


@pytest.mark.parametrize("answer", ["n", ""])
def test_a_no_signs_nothing(publisher: PublisherDirectory, answer: str) -> None:
    publisher.root("rotate")
    before = publisher.state()
    command = ("root", "sign", "--key", publisher.key("ann"))
    code, _, seen = in_a_terminal(publisher.path, *command, answers=[answer])
    assert (code, publisher.state()) == (1, before)
    assert "nothing was signed" in seen


def test_a_draft_whose_former_root_is_forged_is_told_by_the_known_one(
    publisher: PublisherDirectory, tmp_path: Path
) -> None:
    forger = a_publisher(tmp_path / "forger", roots=("ann", "mal"))
    forger.root("rotate")
    known: list[str | Path] = ["--trusted-root", publisher.metadata / "1.root.json"]
    done = forger.sign("ann", options=known)
    assert "the draft of root 2 does not follow root 1 in" in done.failure
    publisher.root("rotate")
    assert publisher.sign("ann", options=known).code == 0


def test_a_draft_of_another_repository_is_refused(
    publisher: PublisherDirectory, tmp_path: Path
) -> None:
    other = a_publisher(tmp_path / "other", roots=("ann", "bob"))
    other.root("rotate")
    publisher.draft.write_bytes(other.draft.read_bytes())
    done = publisher.sign("ann")
    assert "this draft of root 2 does not follow the root in" in done.failure


def test_a_draft_that_expired_meanwhile_is_not_signed(publisher: PublisherDirectory) -> None:
    publisher.root("rotate")
    draft = parse_draft(publisher.draft.read_bytes(), what="it")
    draft.root.signed.expires = datetime.now(UTC) - timedelta(minutes=1)
    publisher.draft.write_bytes(draft.to_bytes())
    before = publisher.state()
    done = publisher.sign("ann")
    assert "root 2 would have expired on" in done.failure
    assert publisher.state() == before


@pytest.mark.parametrize("change", ["signature", "content", "nothing"])
def test_worthless_copies_are_refused(
    publisher: PublisherDirectory, tmp_path: Path, change: str
) -> None:
    publisher.root("rotate")
    copy = tmp_path / "copy.json"
    copy.write_bytes(publisher.draft.read_bytes())
    if change != "nothing":
        tools("root", "sign", copy, "--key", publisher.key("ann"), "--yes")
    document = json.loads(copy.read_bytes())
    if change == "signature":
        document["root"]["signatures"][0]["sig"] = "00" * 64
    if change == "content":
        document["root"]["signed"]["roles"]["targets"]["threshold"] = 7
    copy.write_text(json.dumps(document))
    before = publisher.state()
    done = publisher.sign(options=["--import", copy])
    why = "holds another root" if change == "content" else "holds no signature that counts"
    assert why in done.failure
    assert publisher.state() == before


def test_nothing_to_sign_is_told(publisher: PublisherDirectory, tmp_path: Path) -> None:
    assert "there is nothing to sign: no " in publisher.sign("ann").failure
    publisher.root("rotate")
    done = publisher.sign(options=["--import", tmp_path / "nowhere"])
    assert "there is no such file; nothing was taken" in done.failure
    copy = tmp_path / "copy.json"
    copy.write_bytes(publisher.draft.read_bytes())
    done = tools("root", "sign", copy, "--yes")
    assert "name a key by --key, or copies that others have signed by --import" in done.failure


# --- putting it in place ------------------------------------------------------------------------


def test_a_root_is_never_overwritten(publisher: PublisherDirectory) -> None:
    publisher.root("rotate")
    stranger = publisher.metadata / "2.root.json"
    stranger.write_bytes(b"somebody's")
    before = publisher.state()
    done = publisher.sign("ann", "bob")
    assert "2.root.json is not root metadata" in done.failure
    assert publisher.state() == before


def test_a_run_that_was_cut_short_is_finished_by_the_next(publisher: PublisherDirectory) -> None:
    publisher.root("rotate")
    publisher.sign("ann")
    lone = publisher.draft.read_bytes()
    publisher.sign("bob")
    placed = (publisher.metadata / "2.root.json").read_bytes()
    publisher.draft.write_bytes(lone)
    assert publisher.sign("eve").code == 0
    assert (publisher.metadata / "2.root.json").read_bytes() == placed
    assert not publisher.draft.exists()


def test_a_root_that_lacks_signatures_cannot_be_placed(publisher: PublisherDirectory) -> None:
    publisher.root("rotate")
    publisher.sign("ann")
    draft = parse_draft(publisher.draft.read_bytes(), what="it")
    with pytest.raises(RepoToolsError, match="root 2 lacks 1 of 2 signatures that root 1 asks for"):
        place(publisher.path / "repository", draft, now=datetime.now(UTC), before_publish=False)
    assert [path.name for path in publisher.metadata.iterdir()] == ["1.root.json"]


def test_a_root_that_does_not_follow_the_current_one_cannot_be_placed(
    publisher: PublisherDirectory,
) -> None:
    publisher.root("rotate")
    publisher.sign("ann")
    draft = parse_draft(publisher.draft.read_bytes(), what="it")
    publisher.sign("bob")
    publisher.root("rotate")
    publisher.sign("ann", "bob")
    before = publisher.state()
    complete = signed_by(
        draft, load_signer(f"file:{publisher.key('eve')}", passphrases=Passphrases()), what="eve"
    )
    with pytest.raises(RepoToolsError, match="this draft of root 2 does not follow the root in"):
        place(publisher.path / "repository", complete, now=datetime.now(UTC), before_publish=True)
    assert publisher.state() == before


def test_a_root_that_is_too_large_for_clients_is_refused(publisher: PublisherDirectory) -> None:
    current = Metadata[Root].from_file(str(publisher.metadata / "1.root.json"))
    root = a_root(publisher, 1)
    root.version = 2
    root.unrecognized_fields["x"] = "y" * 500_000
    publisher.draft.write_bytes(Draft(previous=current, root=Metadata(root)).to_bytes())
    done = publisher.sign("ann", "bob")
    assert "clients take less than 500000" in done.failure
    assert not (publisher.metadata / "2.root.json").exists()


def test_a_publisher_at_work_is_waited_for(publisher: PublisherDirectory) -> None:
    publisher.root("rotate")
    directory = os.open(publisher.metadata, os.O_RDONLY)
    fcntl.flock(directory, fcntl.LOCK_EX)
    done = publisher.sign("ann", "bob")
    os.close(directory)
    assert "another command writes to" in done.failure
    # The signatures are kept; nobody has to come together again.
    done = publisher.root("sign")
    assert (done.code, publisher.draft.exists()) == (0, False), done.failure


# --- show ---------------------------------------------------------------------------------------


def test_show_says_who_has_signed_and_who_is_missing(publisher: PublisherDirectory) -> None:
    publisher.root("rotate")
    publisher.sign("bob")
    ann, bob, eve = a_root(publisher, 1).roles["root"].keyids
    placed, draft = publisher.root("show", "--json").json
    assert (placed["version"], placed["placed"], placed["complete"]) == (1, True, True)
    assert (draft["version"], draft["placed"], draft["complete"]) == (2, False, False)
    for quorum in draft["signatures"]:
        assert (quorum["signed"], quorum["missing"], quorum["lacks"]) == ([bob], [ann, eve], 1)
    text = publisher.root("show").printed
    assert f"{bob[:16]}  ed25519     signed" in text
    assert "it lacks signatures by 1 more of the keys of root 1 and 1 more of the keys of" in text


def test_show_takes_a_file_alone(publisher: PublisherDirectory) -> None:
    publisher.root("rotate")
    assert "1, in place" in tools("root", "show", publisher.metadata / "1.root.json").printed
    assert "2, a draft" in tools("root", "show", publisher.draft).printed


def test_show_warns_when_no_key_may_be_lost(tmp_path: Path) -> None:
    text = a_publisher(tmp_path, roots=("ann", "bob")).root("show").printed
    assert "once one is lost, no root can be signed any more" in text


def test_show_has_nothing_to_show(tmp_path: Path) -> None:
    done = tools("root", "show", "--publisher", tmp_path)
    assert "no publisher.toml in" in done.failure
    done = tools("root", "show", tmp_path / "nowhere")
    assert "No such file or directory" in done.failure


def test_a_hostile_file_cannot_steer_the_terminal_that_shows_it(
    publisher: PublisherDirectory, tmp_path: Path
) -> None:
    publisher.root("rotate")
    document = json.loads(publisher.draft.read_bytes())
    signed, hostile = document["root"]["signed"], "\x1b]0;x\u202e"
    keyid = signed["roles"]["root"]["keyids"].pop()
    signed["roles"]["root"]["keyids"].append(hostile)
    signed["keys"][hostile] = signed["keys"].pop(keyid)
    signed[hostile] = hostile
    copy = tmp_path / "copy.json"
    copy.write_text(json.dumps(document))
    code, printed, seen = in_a_terminal(tmp_path, "root", "show", copy, answers=[])
    assert (code, seen) == (0, "")
    assert printed.isascii()
    assert "\x1b" not in printed


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_a_damaged_draft_is_refused_in_a_line(
    publisher: PublisherDirectory, data: st.DataObject
) -> None:
    if not publisher.draft.exists():
        publisher.root("rotate")
        publisher.sign("ann")
    content = publisher.draft.read_bytes()
    document = json.loads(content)
    _damage(document, data)
    copy = publisher.path.parent / "copy.json"
    copy.write_text(json.dumps(document))
    signing = tools("root", "sign", copy, "--yes", "--key", publisher.key("bob"))
    assert {signing.code, tools("root", "show", copy).code} <= {0, 1}
    assert publisher.draft.read_bytes() == content


def _damage(document: Any, data: st.DataObject) -> None:
    """Replace one value somewhere."""
    while True:
        keys = sorted(document) if isinstance(document, dict) else range(len(document))
        key = data.draw(st.sampled_from(list(keys)))
        inner = document[key]
        if not isinstance(inner, (dict, list)) or not inner or data.draw(st.booleans()):
            values: list[Any] = [None, "", "x", -1, 2**70, True, [], {}, [1], "\u202e", 1.5]
            document[key] = data.draw(st.sampled_from(values))
            return
        document = inner
