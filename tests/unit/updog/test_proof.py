"""What metadata in a directory proves without a network, and how it may prove nothing."""

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from tuf.api.metadata import Metadata, Root

from tests.helpers.tuf_repository import TufPublisher, in_days, signer
from updog.errors import ImageError, TrustError
from updog.proof import Target, Trusted, prove, read_versions, require_content

CONTENT = b"to 1.1 " * 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """A publisher, and a directory that holds metadata of his as a client keeps it."""

    publisher: TufPublisher
    directory: Path
    trusted_root: bytes

    def keep(self, *roles: str) -> None:
        """Keep the newest version of all roles, or of some."""
        (self.directory / "root_history").mkdir(parents=True, exist_ok=True)
        names = ("timestamp", "snapshot", "targets", "images")
        for path in self.publisher.metadata.iterdir():
            if path.name.endswith(".root.json"):
                shutil.copy(path, self.directory / "root_history")
            elif path.stem in (roles or names):
                shutil.copy(path, self.directory)

    def trusted(self) -> Trusted:
        return prove(self.trusted_root, self.directory)

    def refusal(self) -> str:
        """Return why nothing is proven."""
        assert read_versions(self.trusted_root, self.directory) is None
        with pytest.raises(TrustError) as caught:
            self.trusted()
        start = f"the metadata in {self.directory} proves nothing: "
        assert str(caught.value).startswith(start)
        return str(caught.value).removeprefix(start)

    def target_refusal(self, name: str) -> str:
        """Return why a target is not proven, though the roles are."""
        with pytest.raises(TrustError) as caught:
            self.trusted().target(name)
        return str(caught.value)


@pytest.fixture
def kept(tmp_path: Path) -> Kept:
    publisher = TufPublisher(tmp_path / "repository", consistent_snapshot=False)
    publisher.add("manifest.json", b"{}")
    publisher.add("images-1.lz4", CONTENT, delegate="images")
    publisher.publish()
    one = Kept(publisher=publisher, directory=tmp_path / "kept", trusted_root=publisher.root_bytes)
    one.keep()
    return one


def test_good_metadata_proves_its_targets(kept: Kept) -> None:
    target = kept.trusted().target("manifest.json")
    assert (target.name, target.length) == ("manifest.json", 2)
    assert list(target.digests) == ["sha256"]


def test_a_delegated_role_proves_its_targets(kept: Kept) -> None:
    assert kept.trusted().target("images-1.lz4").length == len(CONTENT)


def test_roots_are_followed_from_the_trusted_one(kept: Kept) -> None:
    kept.publisher.rotate("root", "root 2")
    kept.publisher.rotate("timestamp", "timestamp 2")
    kept.publisher.publish()
    kept.keep()
    assert kept.trusted().versions.root == 3


@pytest.mark.parametrize("missing", ["root", "root 2"])
def test_a_root_counts_only_if_the_one_before_and_its_own_keys_signed_it(
    kept: Kept, missing: str
) -> None:
    kept.publisher.rotate("root", "root 2")
    kept.publisher.publish()
    kept.keep()
    path = kept.directory / "root_history" / "2.root.json"
    metadata = Metadata[Root].from_bytes(path.read_bytes())
    assert kept.trusted().versions.root == 2
    del metadata.signatures[signer(missing).public_key.keyid]
    metadata.to_file(str(path))
    assert kept.trusted().versions.root == 1


def test_expired_metadata_proves_what_it_always_did(kept: Kept) -> None:
    kept.publisher.expires = in_days(-1000)
    kept.publisher.publish(timestamp_expires=in_days(-1000))
    kept.keep()
    assert kept.trusted().target("manifest.json").length == 2


class TestRolesThatDoNotFit:
    """Each role is signed by the right keys, and still no part of one repository."""

    def test_a_snapshot_of_another_version_than_the_timestamp_says(self, kept: Kept) -> None:
        kept.publisher.publish()
        kept.keep("timestamp")
        assert kept.refusal() == "expected snapshot version 2, got version 1"

    def test_targets_of_another_version_than_the_snapshot_says(self, kept: Kept) -> None:
        kept.publisher.publish()
        kept.keep("timestamp", "snapshot")
        assert kept.refusal() == "expected targets version 2, got version 1"

    def test_a_newer_role_than_what_refers_to_it(self, kept: Kept) -> None:
        kept.publisher.publish()
        kept.keep("targets")
        assert kept.refusal() == "expected targets version 1, got version 2"

    @pytest.mark.parametrize("role", ["snapshot", "targets"])
    def test_the_right_version_with_other_bytes(self, kept: Kept, role: str) -> None:
        kept.publisher.tells_digests = True
        kept.publisher.publish()
        kept.keep()
        path = kept.directory / f"{role}.json"
        # White space outside of what is signed.
        path.write_bytes(path.read_bytes().replace(b"{", b"{ ", 1))
        assert "length" in kept.refusal()

    def test_a_delegated_role_of_another_version(self, kept: Kept) -> None:
        old = (kept.directory / "images.json").read_bytes()
        kept.publisher.raise_delegate("images")
        kept.publisher.publish()
        kept.keep()
        kept.trusted().target("images-1.lz4")
        (kept.directory / "images.json").write_bytes(old)
        assert kept.target_refusal("images-1.lz4") == (
            f"target 'images-1.lz4' cannot be proven by the metadata in {kept.directory}: "
            "expected targets version 2, got version 1"
        )

    def test_one_role_in_the_place_of_another(self, kept: Kept) -> None:
        shutil.copy(kept.directory / "targets.json", kept.directory / "timestamp.json")
        assert kept.refusal() == "expected timestamp, got targets"

    @pytest.mark.parametrize("role", ["timestamp", "snapshot", "targets"])
    def test_a_role_of_a_stranger(self, kept: Kept, role: str) -> None:
        kept.publisher.sign_with(role, "stranger")
        kept.publisher.publish()
        kept.keep()
        assert kept.refusal() == f"{role} was signed by 0/1 keys"

    def test_a_delegated_role_of_a_stranger(self, kept: Kept) -> None:
        stranger = TufPublisher(kept.directory.parent / "other", consistent_snapshot=False)
        stranger.add("images-1.lz4", b"evil", delegate="strange")
        stranger.publish()
        shutil.copy(stranger.metadata / "strange.json", kept.directory / "images.json")
        assert "images was signed by 0/1 keys" in kept.target_refusal("images-1.lz4")


class TestWhatIsNotThere:
    def test_no_directory(self, kept: Kept) -> None:
        shutil.rmtree(kept.directory)
        assert kept.refusal() == f"{kept.directory}/timestamp.json: No such file or directory"

    @pytest.mark.parametrize("role", ["timestamp", "snapshot", "targets"])
    @pytest.mark.parametrize("make", [None, os.mkfifo, Path.mkdir, Path.touch])
    def test_a_role_that_is_no_file_is_not_waited_for(
        self, kept: Kept, role: str, make: Callable[[Path], None] | None
    ) -> None:
        path = kept.directory / f"{role}.json"
        path.unlink()
        if make is not None:
            make(path)
        assert kept.refusal()

    def test_a_delegated_role(self, kept: Kept) -> None:
        (kept.directory / "images.json").unlink()
        assert kept.target_refusal("images-1.lz4").endswith(
            f"{kept.directory}/images.json: No such file or directory"
        )

    def test_a_target(self, kept: Kept) -> None:
        assert kept.target_refusal("other.lz4") == (
            f"target 'other.lz4' is not listed by the metadata in {kept.directory}"
        )


class TestContent:
    def a_target(self, **digests: str) -> Target:
        return Target(
            name="x",
            length=2,
            digests=digests,
            uncompressed_length=None,
            uncompressed_sha256=None,
        )

    def test_the_signed_content_is_accepted(self, kept: Kept, tmp_path: Path) -> None:
        (tmp_path / "file").write_bytes(CONTENT)
        require_content(tmp_path / "file", kept.trusted().target("images-1.lz4"))

    @pytest.mark.parametrize(
        ("content", "why"),
        [
            (b"{", "it holds 1 bytes, 2 were signed"),
            (b"{}\n", "it holds 3 bytes, 2 were signed"),
            (b"[]", "its sha256 is not the one that was signed"),
        ],
    )
    def test_any_other_is_refused(
        self, kept: Kept, tmp_path: Path, content: bytes, why: str
    ) -> None:
        (tmp_path / "file").write_bytes(content)
        with pytest.raises(ImageError, match=why):
            require_content(tmp_path / "file", kept.trusted().target("manifest.json"))

    @pytest.mark.parametrize("make", [os.mkfifo, lambda path: path.symlink_to("/dev/zero")])
    def test_what_is_no_file_is_not_read(
        self, kept: Kept, tmp_path: Path, make: Callable[[Path], None]
    ) -> None:
        make(tmp_path / "file")
        with pytest.raises(ImageError, match="regular file"):
            require_content(tmp_path / "file", kept.trusted().target("manifest.json"))

    def test_a_link_is_refused_although_it_leads_to_what_was_signed(
        self, kept: Kept, tmp_path: Path
    ) -> None:
        """What it leads to could be changed between the look and the use."""
        (tmp_path / "elsewhere").write_bytes(b"{}")
        (tmp_path / "file").symlink_to("elsewhere")
        with pytest.raises(ImageError, match="it is a link, not a regular file"):
            require_content(tmp_path / "file", kept.trusted().target("manifest.json"))

    def test_each_of_two_digests_counts(self, kept: Kept, tmp_path: Path) -> None:
        (tmp_path / "file").write_bytes(b"{}")
        good = kept.trusted().target("manifest.json").digests["sha256"]
        with pytest.raises(ImageError, match="its sha512"):
            require_content(tmp_path / "file", self.a_target(sha256=good, sha512="00" * 64))
