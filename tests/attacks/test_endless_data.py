"""Endless data: answers that never end, or are far larger than what they claim to be."""

from tests.attacks.scene import Scene
from tests.helpers.http_server import Handler, chunked, endless, instead, status

_LARGE = 6_000_000
"""More than any metadata file may hold."""


def test_metadata_that_does_not_end_is_cut_off(scene: Scene) -> None:
    scene.publisher.publish({"note.txt": b"one more"})
    for name in ("2.root.json", "timestamp.json", "2.snapshot.json", "2.targets.json"):
        scene.server.behave()
        scene.server.always(f"/metadata/{name}", endless(200))
        assert name in scene.rejects()
    scene.recovers()


def test_metadata_that_is_too_large_is_cut_off(scene: Scene) -> None:
    for answer in (instead(b" " * _LARGE), chunked(b" " * _LARGE)):
        scene.server.always("/metadata/timestamp.json", answer)
        assert "timestamp.json" in scene.rejects()
    scene.recovers()


def test_a_manifest_that_does_not_end_is_cut_off(scene: Scene) -> None:
    scene.server.always("/targets/*.manifest.json", endless(200))
    assert "manifest.json" in scene.refuses()


def test_an_image_that_does_not_end_is_never_bootable(scene: Scene) -> None:
    def without_end(handler: Handler, body: bytes) -> None:
        handler.head(200, {})
        handler.wfile.write(body)
        while True:
            handler.wfile.write(bytes(65536))

    scene.server.always("/targets/*root.ext4.zst", without_end)
    assert "root.ext4" in scene.stops()


def test_an_error_page_that_does_not_end_is_not_read(scene: Scene) -> None:
    for code in (302, 404, 503):
        scene.server.always("/metadata/timestamp.json", endless(code, location="/metadata/x.json"))
        assert "timestamp.json" in scene.rejects()
    scene.recovers()


def test_a_header_that_does_not_end_is_cut_off(scene: Scene) -> None:
    def header_without_end(handler: Handler, body: bytes) -> None:
        handler.wfile.write(b"HTTP/1.1 200 OK\r\n")
        while True:
            handler.wfile.write(b"X-More: " + b"x" * 60000 + b"\r\n")

    scene.server.always("/metadata/timestamp.json", header_without_end)
    assert "timestamp.json" in scene.refuses()


def test_redirects_without_end_are_not_followed(scene: Scene) -> None:
    scene.server.always("/metadata/*", status(302, location="timestamp.json"))
    assert "redirected more than 5 times" in scene.refuses()
