import pytest

from updog.errors import ConfigError
from updog.proxies import Proxies, bypasses_proxy, choose_proxies, without_password


@pytest.mark.parametrize(
    ("entry", "url"),
    [
        ("*", "https://anything.example/"),
        ("updates.example", "https://updates.example/metadata"),
        ("Updates.Example", "https://UPDATES.example./"),
        ("example", "https://updates.example:8443/"),
        (".example", "https://updates.example/"),
        (" updates.example ", "http://user:secret@updates.example/"),
        ("10.1.2.3", "http://10.1.2.3:8000/"),
        ("10.0.0.0/8", "http://10.1.2.3/"),
        ("::1", "http://[::1]:8000/"),
        ("fd00::/8", "http://[fd12::1]/"),
        ("[::1]", "http://[::1]:8000/"),
        ("[::1]:8000", "http://[::1]:8000/"),
        ("updates.example:8443", "https://updates.example:8443/"),
        ("updates.example:443", "https://updates.example/"),
        ("example:80", "http://updates.example/"),
        ("10.1.2.3:8000", "http://10.1.2.3:8000/"),
        ("*.example", "https://updates.example/"),
        ("*.Example:443", "https://updates.example/"),
        ("*:8000", "http://10.1.2.3:8000/"),
    ],
)
def test_a_listed_host_is_reached_directly(entry: str, url: str) -> None:
    assert bypasses_proxy(url, ["other.test", entry])


@pytest.mark.parametrize(
    ("entry", "url"),
    [
        ("", "https://updates.example/"),
        (".", "https://updates.example/"),
        ("updates.example", "https://evil-updates.example/"),
        ("updates.example", "https://example/"),
        ("updates.example", "https://updates.example.evil/"),
        ("10.0.0.0/8", "http://11.1.2.3/"),
        ("10.0.0.0/8", "http://10.example/"),
        ("fd00::/8", "http://10.1.2.3/"),
        ("[::1]:8000", "http://[::1]:8001/"),
        ("[::2]", "http://[::1]/"),
        ("updates.example:8443", "https://updates.example/"),
        ("updates.example:443", "http://updates.example/"),
        ("updates.example:x", "https://updates.example/"),
        ("updates.example:443", "https://updates.example:99999/"),
        ("*.updates.example", "https://evil-updates.example/"),
        ("*.", "https://updates.example/"),
        (":443", "https://updates.example/"),
        ("[]", "https://updates.example/"),
    ],
)
def test_other_hosts_are_not(entry: str, url: str) -> None:
    assert not bypasses_proxy(url, [entry])


def test_an_empty_list_sends_everything_through_the_proxy() -> None:
    assert not bypasses_proxy("http://127.0.0.1/", [])


HTTP, HTTPS = "http://updates.example/", "https://updates.example/"


def choose(
    environment: dict[str, str], *, https_proxy: str | None = None, no_proxy: tuple[str, ...] = ()
) -> Proxies:
    return choose_proxies(https_proxy=https_proxy, no_proxy=no_proxy, environment=environment)


def chosen(proxies: Proxies) -> tuple[str | None, str | None]:
    return proxies.proxy_for(HTTP), proxies.proxy_for(HTTPS)


def test_without_setting_and_environment_there_is_no_proxy() -> None:
    assert chosen(choose({})) == (None, None)


def test_the_setting_serves_both_schemes_and_wins() -> None:
    environment = {"https_proxy": "http://other:1", "HTTP_PROXY": "socks5://useless"}
    proxies = choose(environment, https_proxy="http://ours:2")
    assert chosen(proxies) == ("http://ours:2", "http://ours:2")


@pytest.mark.parametrize("names", [("http_proxy", "https_proxy"), ("HTTP_PROXY", "HTTPS_PROXY")])
def test_the_environment_names_one_for_each_scheme(names: tuple[str, str]) -> None:
    assert chosen(choose({names[0]: "http://a:1"})) == ("http://a:1", None)
    assert chosen(choose({names[1]: "http://b:2"})) == (None, "http://b:2")


def test_lower_case_wins_also_if_it_is_empty() -> None:
    assert chosen(choose({"https_proxy": "http://a:1", "HTTPS_PROXY": "http://b:2"}))[1] == (
        "http://a:1"
    )
    assert chosen(choose({"https_proxy": "", "HTTPS_PROXY": "http://b:2"}))[1] is None


def test_a_host_and_a_port_are_enough_in_the_environment() -> None:
    assert chosen(choose({"https_proxy": "proxy.example:3128"}))[1] == "http://proxy.example:3128"


@pytest.mark.parametrize("name", ["no_proxy", "NO_PROXY"])
def test_the_exceptions_of_settings_and_environment_add_up(name: str) -> None:
    environment = {"http_proxy": "http://a:1", name: "other.test, updates.example"}
    assert chosen(choose(environment)) == (None, None)
    proxies = choose(environment, https_proxy="http://ours:2", no_proxy=("third.test",))
    assert chosen(proxies) == (None, None)
    assert proxies.proxy_for("https://third.test/") is None
    assert proxies.proxy_for("https://fourth.test/") == "http://ours:2"


def test_a_star_in_the_environment_excepts_everything() -> None:
    assert chosen(choose({"https_proxy": "http://a:1", "no_proxy": "*"})) == (None, None)


def test_all_proxy_does_not_count() -> None:
    assert chosen(choose({"ALL_PROXY": "http://a:1", "all_proxy": "http://a:1"})) == (None, None)


@pytest.mark.parametrize(
    ("name", "value", "shown"),
    [
        ("HTTPS_PROXY", "socks5://user:pa55@proxy:1080", "proxy:1080"),
        ("https_proxy", "http://user:pa55@proxy:x", "proxy:x"),
        ("http_proxy", "http://", "http://"),
        ("HTTP_PROXY", "http://a\x1b", "http://a\\x1b"),
    ],
)
def test_an_unusable_one_in_the_environment_is_named(name: str, value: str, shown: str) -> None:
    with pytest.raises(ConfigError) as caught:
        choose({name: value})
    assert str(caught.value) == (
        f"environment variable {name}: '{shown}' is no proxy that can be used; "
        "write http://HOST:PORT, or unset it; nothing was fetched"
    )


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("http://proxy:3128", "http://proxy:3128"),
        ("http://user@proxy:3128", "http://user@proxy:3128"),
        ("http://user:pa55@proxy:3128", "http://user:***@proxy:3128"),
        ("http://user:p@55:x@[::1]:3128/a", "http://user:***@[::1]:3128/a"),
        ("http://h:80/a:b@c", "http://h:80/a:b@c"),
    ],
)
def test_a_password_is_never_shown(url: str, shown: str) -> None:
    assert without_password(url) == shown
