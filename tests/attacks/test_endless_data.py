"""Endless data: answers that never end, or are far larger than what they claim to be."""

import pytest

from tests.attacks.scene import Scene
from tests.helpers.http_server import Handler, chunked, endless, instead, status

_LARGE = 6_000_000
"""More than any metadata file may hold."""


@pytest.mark.parametrize(
    "name", ["timestamp.json", "2.root.json", "2.snapshot.json", "2.targets.json"]
)
def test_metadata_that_does_not_end_is_cut_off(scene: Scene, name: str) -> None:
    scene.publisher.publish({"note.txt": b"one more"})
    scene.server.always(f"/metadata/{name}", endless(200))
    assert "metadata" in scene.refuses()


@pytest.mark.parametrize("announced", [True, False], ids=["announced", "chunked"])
def test_metadata_that_is_too_large_is_cut_off(scene: Scene, announced: bool) -> None:
    content = b" " * _LARGE
    way = instead(content) if announced else chunked(content)
    scene.server.always("/metadata/timestamp.json", way)
    assert "timestamp.json" in scene.refuses()


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


@pytest.mark.parametrize("code", [200, 302, 404, 503])
def test_an_error_page_that_does_not_end_is_not_read(scene: Scene, code: int) -> None:
    scene.server.always("/metadata/timestamp.json", endless(code, location="/metadata/x.json"))
    assert "timestamp.json" in scene.refuses()


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
