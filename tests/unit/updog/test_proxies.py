import pytest

from updog.proxies import bypasses_proxy


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
    ],
)
def test_other_hosts_are_not(entry: str, url: str) -> None:
    assert not bypasses_proxy(url, [entry])


def test_an_empty_list_sends_everything_through_the_proxy() -> None:
    assert not bypasses_proxy("http://127.0.0.1/", [])
