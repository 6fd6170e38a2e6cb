"""Which proxy an address is reached through, if any.

Decides by the settings, and where those name no proxy by the environment: https_proxy for `https:`
addresses, http_proxy for `http:` ones, lower case before upper case. No proxy for the hosts of
no_proxy, where settings and environment add up: a name, also written `.NAME` or `*.NAME`, covers
itself and the names below it, an IP address (of version 6 also in brackets) itself, a network
(10.0.0.0/8) its addresses, `*` everything; with a port behind it, only that port. Refuses a proxy
that is no HTTP proxy. Resolves no names, and takes nothing else from the environment: not ALL_PROXY
either.
"""

from collections.abc import Iterable, Mapping
from ipaddress import ip_address, ip_network
from urllib.parse import urlsplit

import msgspec

from updog.errors import ConfigError
from updog.names import quoted

_PORTS = {"https": 443, "http": 80}


class Proxies(msgspec.Struct, frozen=True, kw_only=True):
    """The proxies for addresses of either scheme, and the hosts that are reached without."""

    http: str | None = None
    https: str | None = None
    no_proxy: tuple[str, ...] = ()

    def proxy_for(self, url: str) -> str | None:
        """Return the address of the proxy for an address; None to reach it directly."""
        proxy = self.https if urlsplit(url).scheme == "https" else self.http
        return None if proxy and bypasses_proxy(url, self.no_proxy) else proxy


def choose_proxies(
    *, https_proxy: str | None, no_proxy: Iterable[str], environment: Mapping[str, str]
) -> Proxies:
    """Settle which proxies count.

    Args:
        https_proxy: The setting, for addresses of both schemes; it wins.
        no_proxy: The setting.
        environment: The variables of this process.

    Raises:
        ConfigError: A variable that counts names no HTTP proxy.
    """
    excepted = (*no_proxy, *_read(environment, "no_proxy")[1].split(","))
    if https_proxy is not None:
        return Proxies(http=https_proxy, https=https_proxy, no_proxy=excepted)
    return Proxies(
        http=_proxy_of(environment, "http_proxy"),
        https=_proxy_of(environment, "https_proxy"),
        no_proxy=excepted,
    )


def is_web_address(url: str) -> bool:
    """Tell whether an address is one of HTTP or HTTPS, with a host."""
    try:
        parts = urlsplit(url)
        return parts.scheme in {"https", "http"} and bool(parts.hostname) and parts.port != 0
    except ValueError:  # a port that is no number, a broken IPv6 address
        return False


def without_password(url: str) -> str:
    """Return an address with three asterisks in place of its password."""
    parts = urlsplit(url)
    user, at, host = parts.netloc.rpartition("@")
    name, colon, _ = user.partition(":")
    return parts._replace(netloc=f"{name}:***{at}{host}").geturl() if colon else url


def without_user(text: str) -> str:
    """Return what may be shown of something that is perhaps no address."""
    return text.rpartition("@")[2]


def _read(environment: Mapping[str, str], name: str) -> tuple[str, str]:
    """Return a variable's name as it is set, and its value; lower case wins, even if empty."""
    for each in (name, name.upper()):
        if each in environment:
            return each, environment[each].strip()
    return name, ""


def _proxy_of(environment: Mapping[str, str], name: str) -> str | None:
    found, value = _read(environment, name)
    if not value:
        return None
    # HOST:PORT alone is common there, and every other client takes it.
    proxy = value if "://" in value else f"http://{value}"
    if not (is_web_address(proxy) and proxy.isprintable()):
        raise ConfigError(
            f"environment variable {found}: {quoted(without_user(value))} is no proxy that can be "
            "used; write http://HOST:PORT, or unset it; nothing was fetched"
        )
    return proxy


def bypasses_proxy(url: str, no_proxy: Iterable[str]) -> bool:
    """Tell whether an address is to be reached directly."""
    host, port = (urlsplit(url).hostname or "").rstrip("."), _port(url)
    for entry in no_proxy:
        name, only_port = _split_port(entry.strip().lower())
        if only_port in {"", port} and _covers(name, host):
            return True
    return False


def _port(url: str) -> str | None:
    parts = urlsplit(url)
    try:
        return str(parts.port or _PORTS.get(parts.scheme))
    except ValueError:  # of a redirect: no port that there could be
        return None


def _split_port(entry: str) -> tuple[str, str]:
    """Return what stands before a port, without brackets, and the port; empty if there is none."""
    if entry.startswith("["):
        name, _, rest = entry[1:].partition("]")
        return name, rest.removeprefix(":")
    if entry.count(":") == 1:  # more of them are an IPv6 address
        name, _, port = entry.partition(":")
        return name, port
    return entry, ""


def _covers(entry: str, host: str) -> bool:
    if entry == "*":
        return True
    name = entry.removeprefix("*").strip(".")
    return host == name or host.endswith(f".{name}") or _is_in_network(host, entry)


def _is_in_network(host: str, network: str) -> bool:
    try:
        return ip_address(host) in ip_network(network, strict=False)
    except ValueError:  # one of them is a name
        return False
