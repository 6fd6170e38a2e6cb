"""Log injection: text from outside that is meant for the eyes, the terminal or the log reader."""

import json

import pytest

from tests.attacks.bench import ONLINE
from tests.attacks.scene import Scene
from tests.helpers.http_server import Handler, instead, status

EVIL = "x\x1b]0;owned\x07\x1b[2J\nupdog: Applied 9.9.9\r\u202e\u0085\u2028\x9b31m"
JSON_EVIL = json.dumps(EVIL)


@pytest.mark.parametrize(
    "content",
    [
        f'{{"signed": {{"_type": {JSON_EVIL}}}, "signatures": []}}',
        f'{{"signed": {{"_type": "timestamp", "spec_version": {JSON_EVIL}}}, "signatures": []}}',
        f'{{"signed": {{"_type": "timestamp", "version": {JSON_EVIL}}}, "signatures": []}}',
        f"{{{JSON_EVIL}: {JSON_EVIL}}}",
        f'{{"signed": {{}}, "signatures": [{{"keyid": {JSON_EVIL}, "sig": {JSON_EVIL}}}]}}',
    ],
)
def test_metadata_puts_no_words_into_the_agents_mouth(scene: Scene, content: str) -> None:
    scene.server.always("/metadata/timestamp.json", instead(content.encode()))
    scene.refuses()


@pytest.mark.parametrize("code", [302, 404, 599])
def test_an_answer_puts_no_words_into_the_agents_mouth(scene: Scene, code: int) -> None:
    def answer(handler: Handler, _body: bytes) -> None:
        handler.wfile.write(
            f"HTTP/1.1 {code} \x1b[2Jowned\r\nLocation: gopher://\x1b[2J\r\n"
            f"Server: \x1b[2J\r\nContent-Length: 0\r\n\r\n".encode()
        )

    scene.server.always("/metadata/timestamp.json", answer)
    assert "owned" not in scene.refuses()


def test_a_proxys_words_are_not_repeated(scene: Scene) -> None:
    scene.server.always("/metadata/*", status(407, proxy_authenticate="\x1b[2Jowned"))
    assert "owned" not in scene.refuses()


@pytest.mark.parametrize("field", ["variant", "version", "max_version", "arch", EVIL])
def test_a_manifest_puts_no_words_into_the_agents_mouth(scene: Scene, field: str) -> None:
    scene.attacker.steal(*ONLINE)
    manifest = json.loads(scene.attacker.target_path("manifest.json").read_bytes())
    manifest["updates"][0][field] = EVIL
    manifest["updates"][0]["waves"] = {EVIL: EVIL}
    scene.attacker.publish({"manifest.json": json.dumps(manifest).encode()})
    scene.refuses("explain")
