"""Log injection: text from outside that is meant for the eyes, the terminal or the log reader."""

import json
from functools import partial

from tests.attacks.bench import ONLINE, a_stranger
from tests.attacks.scene import Scene
from tests.helpers.http_server import Handler, instead, status

EVIL = "x\x1b]0;owned\x07\x1b[2J\nupdog: Applied 9.9.9\r\u202e\u0085\u2028\x9b31m"
JSON_EVIL = json.dumps(EVIL)


FORGED_METADATA = [
    f'{{"signed": {{"_type": {JSON_EVIL}}}, "signatures": []}}',
    f'{{"signed": {{"_type": "timestamp", "spec_version": {JSON_EVIL}}}, "signatures": []}}',
    f'{{"signed": {{"_type": "timestamp", "version": {JSON_EVIL}}}, "signatures": []}}',
    f"{{{JSON_EVIL}: {JSON_EVIL}}}",
    f'{{"signed": {{}}, "signatures": [{{"keyid": {JSON_EVIL}, "sig": {JSON_EVIL}}}]}}',
]


def test_metadata_puts_no_words_into_the_agents_mouth(scene: Scene) -> None:
    for content in FORGED_METADATA:
        scene.server.always("/metadata/timestamp.json", instead(content.encode()))
        scene.rejects()
    scene.recovers()


def test_the_name_of_a_role_puts_no_words_into_the_agents_mouth(scene: Scene) -> None:
    scene.attacker.steal(*ONLINE)
    forged = scene.attacker.delegate_manifest(EVIL, a_stranger())
    scene.server.always("/metadata/1.*", instead(forged))
    assert "was signed by 0/1 keys" in scene.refuses()


def test_an_answer_puts_no_words_into_the_agents_mouth(scene: Scene) -> None:
    def answer(code: int, handler: Handler, _body: bytes) -> None:
        handler.wfile.write(
            f"HTTP/1.1 {code} \x1b[2Jowned\r\nLocation: gopher://\x1b[2J\r\n"
            f"Server: \x1b[2J\r\nContent-Length: 0\r\n\r\n".encode()
        )

    for code in (302, 404, 599):
        scene.server.always("/metadata/timestamp.json", partial(answer, code))
        assert "owned" not in scene.rejects()
    scene.recovers()


def test_a_proxys_words_are_not_repeated(scene: Scene) -> None:
    scene.server.always("/metadata/*", status(407, proxy_authenticate="\x1b[2Jowned"))
    assert "owned" not in scene.refuses()


def test_a_manifest_puts_no_words_into_the_agents_mouth(scene: Scene) -> None:
    scene.attacker.steal(*ONLINE)
    honest = scene.attacker.target_path("manifest.json").read_bytes()
    for field in ("variant", "version", "arch", "waves", EVIL):
        manifest = json.loads(honest)
        manifest["updates"][0][field] = {EVIL: EVIL} if field == "waves" else EVIL
        manifest["migrations"][EVIL] = []
        scene.attacker.publish({"manifest.json": json.dumps(manifest).encode()})
        scene.rejects("explain")
    scene.recovers()
