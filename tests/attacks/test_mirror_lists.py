"""Several mirrors, own authorities, and proxies of the environment."""

from pathlib import Path

import pytest
from tuf.api.metadata import MetaFile

from tests.attacks.bench import Bench, copy_repository
from tests.attacks.certificates import self_signed
from tests.attacks.scene import Scene
from tests.helpers.http_server import Misbehaviour, cut, instead, serving, status


def put_first(scene: Scene, url: str) -> None:
    """Let the machine ask another mirror before the honest one."""
    for part in ("metadata", "targets"):
        honest = f'"{scene.server.url}/{part}"'
        scene.machine.configure(honest, f'["{url}/{part}", {honest}]')


@pytest.mark.parametrize("misbehaviour", [status(404), status(403), cut(after_bytes=10)])
def test_a_mirror_that_fails_is_followed_by_the_next(
    scene: Scene, misbehaviour: Misbehaviour
) -> None:
    with serving(scene.machine.repository) as bad:
        bad.always("/metadata/timestamp.json", misbehaviour)
        bad.always("/targets/*", misbehaviour)
        put_first(scene, bad.url)
        scene.is_immune()


def test_a_mirror_that_lies_is_believed_by_nobody(scene: Scene) -> None:
    scene.attacker.make_keys("timestamp")
    with scene.attacker.forging("timestamp"):
        pass
    with serving(scene.attacker.directory) as bad:
        put_first(scene, bad.url)
        run = scene.machine.updog("check-update").succeeded()
    assert run.stdout == scene.offer
    assert f"{bad.url}/metadata: timestamp was signed by 0/1 keys" in run.stderr


def test_an_authority_of_ones_own_counts_and_no_other(scene: Scene, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    certificate, tls = self_signed(tmp_path)
    other, _ = self_signed(tmp_path / "other")
    with serving(scene.machine.repository, tls=tls) as server:
        scene.machine.configure(scene.server.url, server.url)
        config = scene.machine.config.read_text()
        scene.machine.config.write_text(f'{config}\n[network]\nca_file = "{certificate}"\n')
        scene.is_immune()
        scene.machine.config.write_text(f'{config}\n[network]\nca_file = "{other}"\n')
        assert "certificate" in scene.rejects()


def test_a_proxy_of_the_environment_is_no_more_than_a_mirror(scene: Scene) -> None:
    with serving(scene.machine.directory / "nothing") as proxy:
        proxy.always("*", instead(b"<html>"))
        variables = dict.fromkeys(("HTTPS_PROXY", "HTTP_PROXY", "https_proxy"), proxy.url)
        scene.machine.environment |= variables
        run = scene.machine.updog("check-update")
        for name in variables:
            del scene.machine.environment[name]
    assert "cannot trust the metadata" in run.failed()
    assert run.stdout == ""
    scene.recovers()


def test_a_half_published_mirror_does_not_make_a_whole_one_look_old(scene: Scene) -> None:
    before = scene.look()
    ahead = copy_repository(scene.machine.repository, scene.machine.directory / "ahead")
    bench = Bench(ahead, publisher_keys=scene.keys)
    bench.steal("timestamp")
    with bench.forging("timestamp") as timestamp:
        timestamp.snapshot_meta = MetaFile(2)
    with serving(ahead) as half_published:
        put_first(scene, half_published.url)
        for _ in range(2):
            assert scene.machine.updog("check-update").succeeded().stdout == scene.offer
    scene.judge_cache(before)
