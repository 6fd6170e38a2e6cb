"""Malicious mirrors and redirects: they may withhold, and nothing else."""

from tests.attacks.scene import Scene
from tests.helpers.http_server import instead, serving, status

PORTAL = b"<!DOCTYPE html><title>Log in to Hotel Wi-Fi</title>"


def test_a_login_page_in_the_place_of_everything_is_refused(scene: Scene) -> None:
    scene.server.always("*", instead(PORTAL, content_type="text/html"))
    assert "no TUF repository is served there" in scene.refuses()


def test_something_else_in_the_place_of_metadata_is_refused(scene: Scene) -> None:
    for content in (b"", b"null", b"[]", b"{}", b'{"signed": 1, "signatures": 1}'):
        scene.server.always("/metadata/timestamp.json", instead(content))
        assert "timestamp.json" in scene.rejects()
    scene.recovers()


def test_json_that_is_deeper_than_any_stack_is_refused(scene: Scene) -> None:
    scene.server.always("/metadata/timestamp.json", instead(b"[" * 15_000))
    assert "timestamp.json" in scene.refuses()


def test_a_redirect_to_another_server_does_not_lend_it_any_trust(scene: Scene) -> None:
    forged = scene.attacker
    forged.make_keys("timestamp")
    with forged.forging("timestamp"):
        pass
    with serving(forged.directory) as other:
        scene.server.always(
            "/metadata/timestamp.json", status(302, location=f"{other.url}/metadata/timestamp.json")
        )
        assert "timestamp was signed by 0/1 keys" in scene.refuses()
        assert len(other.requests) == 1


def test_a_redirect_to_what_is_no_server_of_the_kind_is_refused(scene: Scene) -> None:
    for location in ("file:///etc/passwd", "ftp://127.0.0.1/x", "data:,x", "//[", ""):
        scene.server.always("/metadata/timestamp.json", status(302, location=location))
        assert "the server redirected to" in scene.rejects()
    scene.recovers()


def test_a_secret_in_a_redirect_is_not_shown(scene: Scene) -> None:
    scene.server.always(
        "/metadata/timestamp.json",
        status(307, location="http://user:hunter2@127.0.0.1:9/x?token=hunter2"),
    )
    assert "hunter2" not in scene.refuses()


def test_a_server_that_denies_an_image_is_noticed_before_anything_is_cleared(
    scene: Scene,
) -> None:
    for code in (401, 404, 418, 500):
        scene.server.always("/targets/*boot.ext4*", status(code, retry_after="0"))
        assert f"answered {code}" in scene.rejects("update", "--now")
    scene.recovers_fully()
