import re
from collections.abc import Iterator
from pathlib import Path
from typing import get_args, get_origin, get_type_hints

import msgspec
import pytest

from signpost.sets import SetName
from updog.config import Config, DiskSettings, NetworkSettings, Paths, RebootSettings, load_config
from updog.errors import ConfigError
from updog.health import Limits
from updog.versions import LATEST, parse_version_lock

MINIMAL = """\
metadata_base_url = "https://updates.example/metadata"
targets_base_url = "https://updates.example/targets"
seed = 1311
"""


def config_file(directory: Path, text: str) -> Path:
    path = directory / "updog.toml"
    path.write_text(text)
    return path


def load(directory: Path, extra: str = "", *, without: str = "-") -> Config:
    lines = [line for line in MINIMAL.splitlines() if not line.startswith(without)]
    return load_config(config_file(directory, "\n".join([*lines, extra])))


def refusal(directory: Path, extra: str = "", *, without: str = "-") -> str:
    """Return the text of the error, without the file's name that it must begin with."""
    with pytest.raises(ConfigError) as caught:
        load(directory, extra, without=without)
    start = f"configuration {directory / 'updog.toml'}: "
    assert str(caught.value).startswith(start)
    assert "\n" not in str(caught.value)
    return str(caught.value).removeprefix(start)


def test_three_lines_are_enough_and_the_rest_has_defaults(tmp_path: Path) -> None:
    config = load(tmp_path)
    assert config.metadata_base_url == ("https://updates.example/metadata",)
    assert config.targets_base_url == ("https://updates.example/targets",)
    assert config.seed == 1311
    assert config.version_lock == LATEST
    assert config.ignore_waves is False
    assert config.https_proxy is None
    assert config.no_proxy == ()
    assert config.paths == Paths()
    assert config.disk == DiskSettings()
    assert config.reboot == RebootSettings(command=("/usr/bin/systemctl", "reboot"))


def test_every_setting_is_read(tmp_path: Path) -> None:
    config = load(
        tmp_path,
        """
        version_lock = ">=1.2,<1.4"
        ignore_waves = true
        https_proxy = "http://proxy.example:3128"
        no_proxy = ["localhost", "10.0.0.0/8"]
        [paths]
        trusted_root = "/a/root.json"
        metadata_cache = "/a/cache"
        migrations = "/a/migrations"
        state = "/a/state"
        os_release = "/a/os-release"
        [disk]
        path = "/dev/sda"
        active = "B"
        [reboot]
        command = ["/sbin/reboot", "now"]
        """,
    )
    assert config.version_lock == parse_version_lock(">=1.2,<1.4")
    assert config.ignore_waves is True
    assert config.https_proxy == "http://proxy.example:3128"
    assert config.no_proxy == ("localhost", "10.0.0.0/8")
    assert config.paths == Paths(
        trusted_root=Path("/a/root.json"),
        metadata_cache=Path("/a/cache"),
        migrations=Path("/a/migrations"),
        state=Path("/a/state"),
        os_release=Path("/a/os-release"),
    )
    assert config.disk == DiskSettings(path=Path("/dev/sda"), active=SetName.B)
    assert config.reboot.command == ("/sbin/reboot", "now")


@pytest.mark.parametrize("key", ["metadata_base_url", "targets_base_url"])
def test_an_address_may_be_one_of_several_mirrors(tmp_path: Path, key: str) -> None:
    config = load(tmp_path, f'{key} = ["https://a/m", "file:///b"]', without=key)
    assert getattr(config, key) == ("https://a/m", "file:///b")


def test_each_mirror_must_be_an_address(tmp_path: Path) -> None:
    wrong = 'targets_base_url = ["https://a/m", "b"]'
    assert refusal(tmp_path, wrong, without="targets").startswith("targets_base_url: 'b' is no")
    empty = "targets_base_url = []"
    assert refusal(tmp_path, empty, without="targets") == (
        'targets_base_url is empty; write an address like "https://updates.example/targets"'
    )


def test_the_network_table_is_read(tmp_path: Path) -> None:
    config = load(
        tmp_path,
        """
        [network]
        ca_file = "ca.pem"
        client_certificate = "/a/client.pem"
        client_key = "/a/client.key"
        max_bytes_per_second = 1024
        report_version_and_seed = true
        """,
    )
    assert config.network == NetworkSettings(
        ca_file=tmp_path / "ca.pem",
        client_certificate=Path("/a/client.pem"),
        client_key=Path("/a/client.key"),
        max_bytes_per_second=1024,
        report_version_and_seed=True,
    )


def test_nothing_is_reported_and_nothing_held_back_unless_it_is_wanted(tmp_path: Path) -> None:
    assert load(tmp_path).network == NetworkSettings(
        ca_file=None,
        client_certificate=None,
        client_key=None,
        max_bytes_per_second=None,
        report_version_and_seed=False,
    )


def test_a_password_is_not_told_by_an_error(tmp_path: Path) -> None:
    text = refusal(tmp_path, 'https_proxy = "socks5://user:pa55@proxy:1080"')
    assert text == "https_proxy: 'proxy:1080' is no proxy; write http://HOST:PORT"
    text = refusal(tmp_path, 'targets_base_url = "ftp://user:pa55@h/m"', without="targets")
    assert "pa55" not in text


def test_relative_paths_start_at_the_directory_of_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config_file(tmp_path, MINIMAL + '[disk]\npath = "disk.img"\nactive_file = "run/active-set"\n')
    monkeypatch.chdir(tmp_path)
    config = load_config(Path("updog.toml"))
    assert config.disk.path == tmp_path / "disk.img"
    assert config.disk.active_file == tmp_path / "run/active-set"


@pytest.mark.parametrize("seed", [0, 1, 2046, 2047])
def test_a_seed_may_be_any_from_0_to_2047(tmp_path: Path, seed: int) -> None:
    assert load(tmp_path, f"seed = {seed}", without="seed").seed == seed


@pytest.mark.parametrize("seed", [-1, 2048, 2**70])
def test_other_seeds_are_refused(tmp_path: Path, seed: int) -> None:
    text = refusal(tmp_path, f"seed = {seed}", without="seed")
    assert text == f"seed is {seed}; it must be from 0 to 2047"


def test_a_missing_file_is_named_with_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "none.toml"
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    assert str(caught.value) == (
        f"cannot read configuration {path}: No such file or directory; "
        "give --config or UPDOG_CONFIG"
    )


def test_a_directory_in_the_files_place_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="Is a directory; give --config or UPDOG_CONFIG"):
        load_config(tmp_path)


@pytest.mark.parametrize("content", [b"seed =", b"\xff\xfe", b"a = " + b"[" * 5000, b"a=1\na=2"])
def test_what_is_no_toml_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "updog.toml"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=f"configuration {path}: "):
        load_config(path)


def test_a_missing_setting_is_named_with_a_line_to_add(tmp_path: Path) -> None:
    assert refusal(tmp_path, without="seed") == (
        "seed is missing; add a line like seed = 1311 "
        "(a number from 0 to 2047, drawn once for each machine)"
    )
    assert refusal(tmp_path, without="targets") == (
        "targets_base_url is missing; add a line like "
        'targets_base_url = "https://updates.example/targets"'
    )


def test_a_mistyped_setting_is_named_with_the_nearest_known_one(tmp_path: Path) -> None:
    assert refusal(tmp_path, "ignore_wave = true") == (
        "unknown setting 'ignore_wave'; did you mean ignore_waves?"
    )
    assert refusal(tmp_path, '[paths]\ntrusted_rot = "x"') == (
        "unknown setting 'paths.trusted_rot'; did you mean paths.trusted_root?"
    )


def test_a_setting_like_no_other_is_named_with_all_known_ones(tmp_path: Path) -> None:
    assert refusal(tmp_path, "[auto]\nzzz = 1") == (
        "unknown setting 'auto.zzz'; there are enabled, install_in_windows"
    )


@pytest.mark.parametrize(
    ("extra", "expected"),
    [
        ("[[windows]]\nbeginn = 1", "unknown setting 'windows.1.beginn'; did you mean"),
        (
            '[health.checks."40-a.sh"]\ntimeout = 1',
            "unknown setting 'health.checks.40-a.sh.timeout'; did you mean",
        ),
        ("[[windows]]", 'windows[0].begin is missing; add a line like begin = "02:00"'),
        ("windows = 1", "windows: expected array, got int"),
        ('[[windows]]\nbegin = "2"\nend = "03:00"', "windows.1.begin is '2'; write a time of day"),
        (
            '[[windows]]\nbegin = "02:00"\nend = "03:00"\ndays = []',
            "windows.1.days is empty; name a day, or leave the line out",
        ),
        (
            '[[windows]]\nbegin = "02:00"\nend = "03:00"\ndays = ["Monday"]',
            "windows[0].days[0]: Invalid enum value 'Monday'",
        ),
        ('[reboot]\nstrategy = "window"', 'reboot.strategy is "window", but there is no window'),
        ('[reboot]\nstrategy = "later"', "reboot.strategy: Invalid enum value 'later'"),
        ("[auto]\ninstall_in_windows = true", "auto.install_in_windows is set, but there is no"),
        ("[health]\ntimeout_seconds = 0", "health.timeout_seconds is 0"),
        ("[health]\ntimeout_seconds = inf", "health.timeout_seconds is inf"),
        ("[health]\nretries = -1", "health.retries is -1; it must be from 0 to 1000"),
        (
            "[health.checks.a]\nretry_after_seconds = nan",
            "health.checks.'a'.retry_after_seconds is nan",
        ),
    ],
)
def test_a_schedule_or_a_limit_that_cannot_work_is_refused(
    tmp_path: Path, extra: str, expected: str
) -> None:
    assert refusal(tmp_path, extra).startswith(expected)


def test_a_check_has_the_limits_of_all_where_it_has_none_of_its_own(tmp_path: Path) -> None:
    text = '[health]\nretries = 2\n[health.checks."40-a.sh"]\ntimeout_seconds = 0.5'
    health = load(tmp_path, text).health
    assert health.limits("40-a.sh") == Limits(timeout_seconds=0.5, retries=2, retry_after_seconds=5)
    assert health.limits("50-b.sh") == Limits(timeout_seconds=60, retries=2, retry_after_seconds=5)


@pytest.mark.parametrize(
    ("extra", "expected"),
    [
        ('ignore_waves = "yes"', "ignore_waves: expected bool, got str"),
        ("version_lock = 1.2", "version_lock: expected str, got float"),
        ("no_proxy = [1]", "no_proxy[0]: expected str, got int"),
        ("paths = 1", "paths: expected object, got int"),
        ("[paths]\nstate = 1", "paths.state: expected str, got int"),
        ('[disk]\nactive = "C"', "disk.active: Invalid enum value 'C'"),
    ],
)
def test_a_value_of_another_type_is_named(tmp_path: Path, extra: str, expected: str) -> None:
    assert refusal(tmp_path, extra) == expected


@pytest.mark.parametrize(
    ("extra", "expected"),
    [
        ('[paths]\nstate = ""', "paths.state: is empty; give a path or leave the line out"),
        (
            '[disk]\npath = "a\\u0000b"',
            r"disk.path holds a character that cannot be shown: 'a\x00b'; remove it",
        ),
        (
            'no_proxy = ["a\\nb"]',
            r"no_proxy holds a character that cannot be shown: 'a\nb'; remove it",
        ),
        (
            'version_lock = "newest"',
            (
                "version_lock: 'newest' locks no version; write latest, one version like 1.2.0, "
                "or a range like >=1.2,<1.4"
            ),
        ),
        (
            '[network]\nclient_key = "/k"',
            (
                "network.client_certificate and network.client_key belong together; "
                "give both or none"
            ),
        ),
        (
            "[network]\nmax_bytes_per_second = 1023",
            "network.max_bytes_per_second is 1023; it must be at least 1024, or left out",
        ),
        (
            'https_proxy = "proxy.example:3128"',
            "https_proxy: 'proxy.example:3128' is no proxy; write http://HOST:PORT",
        ),
        (
            '[disk]\nactive = "A"\nactive_file = "x"',
            "disk.active and disk.active_file both say what runs; keep one",
        ),
    ],
)
def test_a_value_that_cannot_work_is_named(tmp_path: Path, extra: str, expected: str) -> None:
    assert refusal(tmp_path, extra) == expected


@pytest.mark.parametrize("command", ["[]", '["reboot"]', '[""]', '["./reboot"]'])
def test_a_reboot_command_that_is_no_absolute_path_is_refused(tmp_path: Path, command: str) -> None:
    assert refusal(tmp_path, f"[reboot]\ncommand = {command}") == (
        "reboot.command must begin with the absolute path of a program, "
        'like ["/usr/bin/systemctl", "reboot"]'
    )


@pytest.mark.parametrize(
    "url",
    ["https://h/m", "http://127.0.0.1:8000", "http://[::1]:8000/m/", "file:///srv/repository/m"],
)
def test_addresses_of_directories_are_taken(tmp_path: Path, url: str) -> None:
    config = load(tmp_path, f'metadata_base_url = "{url}"', without="metadata")
    assert config.metadata_base_url == (url,)


@pytest.mark.parametrize(
    "url",
    ["", "updates.example", "ftp://h/m", "https://", "https:///m", "http://h:x/", "http://[::1/m",
     "file://host/m", "file:m", "file:///srv/m%00x"],
)  # fmt: skip
def test_other_addresses_are_refused(tmp_path: Path, url: str) -> None:
    assert refusal(tmp_path, f'targets_base_url = "{url}"', without="targets") == (
        f"targets_base_url: '{url}' is no address of a directory; "
        "write https://HOST/DIRECTORY, http://HOST/DIRECTORY or file:///DIRECTORY"
    )


@pytest.mark.parametrize("url", ["https://h/m?token=x", "https://h/m#x"])
def test_an_address_that_file_names_cannot_be_put_behind_is_refused(
    tmp_path: Path, url: str
) -> None:
    text = refusal(tmp_path, f'metadata_base_url = "{url}"', without="metadata")
    assert text == f"metadata_base_url: '{url}' holds a query or a fragment; remove it"


def settings(shape: type, prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yield (table, setting) for everything that a configuration may hold."""
    hints = get_type_hints(shape)
    for each in msgspec.structs.fields(shape):
        inner = hints[each.name]
        if get_origin(inner) is tuple and issubclass(get_args(inner)[0], msgspec.Struct):
            inner = get_args(inner)[0]
        if isinstance(inner, type) and issubclass(inner, msgspec.Struct):
            yield from settings(inner, each.name)
        else:
            yield prefix, each.name


def test_every_setting_is_described_in_the_manual() -> None:
    text = (Path(__file__).parents[3] / "docs" / "configuration.md").read_text()
    tables = dict(
        zip(
            re.findall(r"^## `?\[*([\w ]+)", text, re.MULTILINE),
            text.split("\n## ")[1:],
            strict=True,
        )
    )
    expected = {(table or "Top level", name) for table, name in settings(Config)}
    described = {
        (table, name)
        for table, part in tables.items()
        for name in re.findall(r"^\| `(\w+)` \|", part, re.MULTILINE)
    }
    assert described == expected
