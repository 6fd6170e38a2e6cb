"""Which hosts are reached without the proxy.

Decides by the host of an address and the entries of a NO_PROXY list: a name covers itself and the
names below it, an IP address itself, a network (10.0.0.0/8) its addresses, `*` everything. Resolves
no names.
"""

from collections.abc import Iterable
from ipaddress import ip_address, ip_network
from urllib.parse import urlsplit


def bypasses_proxy(url: str, no_proxy: Iterable[str]) -> bool:
    """Tell whether an address is to be reached directly."""
    host = (urlsplit(url).hostname or "").rstrip(".")
    return any(_covers(entry.strip().lower(), host) for entry in no_proxy)


def _covers(entry: str, host: str) -> bool:
    if entry == "*":
        return True
    name = entry.strip(".")
    return host == name or host.endswith(f".{name}") or _is_in_network(host, entry)


def _is_in_network(host: str, network: str) -> bool:
    try:
        return ip_address(host) in ip_network(network, strict=False)
    except ValueError:  # one of them is a name
        return False
