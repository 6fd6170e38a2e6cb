"""Proxies and authorities that an environment, or a configuration, puts in the way."""

from pathlib import Path

from tests.attacks.certificates import self_signed
from tests.attacks.scene import Scene
from tests.helpers.http_server import instead, serving

_AUTHORITIES = ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE"]


def test_an_authority_that_the_environment_names_is_not_trusted(
    scene: Scene, tmp_path: Path
) -> None:
    certificate, tls = self_signed(tmp_path)
    scene.machine.environment |= dict.fromkeys(_AUTHORITIES, str(certificate))
    with serving(scene.machine.repository, tls=tls) as attacker:
        config = scene.machine.config.read_text()
        scene.machine.configure(scene.server.url, attacker.url)
        line = scene.rejects()
        scene.machine.config.write_text(config)
    assert "its certificate is not trusted" in line
    scene.recovers()


def test_a_password_in_a_netrc_is_handed_to_no_server(scene: Scene, tmp_path: Path) -> None:
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login me password hunter2\n")
    scene.machine.environment |= {"HOME": str(tmp_path), "NETRC": str(tmp_path / ".netrc")}
    scene.is_immune()
    assert all("Authorization" not in each.headers for each in scene.server.requests)


def test_a_proxy_that_lies_is_no_more_than_a_mirror(scene: Scene) -> None:
    with serving(scene.machine.directory / "nothing") as proxy:
        proxy.always("*", instead(b"<html>"))
        config = scene.machine.config.read_text()
        scene.machine.config.write_text(f'https_proxy = "{proxy.url}"\n{config}')
        line = scene.rejects()
        scene.machine.config.write_text(config)
        assert proxy.requests[0].target.startswith(scene.server.url)
    assert "no TUF repository is served there" in line
    scene.recovers()


def test_an_odd_environment_changes_nothing(scene: Scene) -> None:
    scene.machine.environment |= {"LC_ALL": "xx_YY.nonsense", "LANG": "", "COLUMNS": "1"}
    scene.machine.environment |= {"PYTHONWARNINGS": "default", "NO_COLOR": "", "HOME": "/nowhere"}
    scene.is_immune()
