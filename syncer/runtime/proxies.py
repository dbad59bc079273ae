"""
Which proxy the environment names for a target.

The rules are those of Go's `net/http`, which kubectl and every controller in the cluster follow, so a
`NO_PROXY` that serves them serves this program too. The standard library's rules differ: they have no
CIDRs, so despite `NO_PROXY=10.0.0.0/8` an API server at 10.96.0.1 would be called through the proxy.
HTTP libraries that read the environment by themselves read `.netrc` as well, and would send the
credentials in it; so none of them is allowed to.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from contextlib import suppress
from functools import lru_cache
from urllib.parse import urlsplit

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def fold(host: str) -> str:
    """A host name as it is compared: lower case, without the final dot."""
    return host.rstrip(".").lower()


@lru_cache(maxsize=1024)
def literal(host: str) -> str:
    """The host if it is an IP address literal, else an empty string."""
    try:
        ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return ""
    return host


def is_loopback(host: str) -> bool:
    """Whether a host is a literal address of this machine; a name never is, whatever it resolves to."""
    return bool(literal(host)) and ipaddress.ip_address(host.partition("%")[0]).is_loopback


def in_clear(url: str) -> bool:
    """Whether data sent to a URL can be read on its way: http://, and not to this machine."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return False
    host = parts.hostname or ""
    return parts.scheme == "http" and host != "localhost" and not is_loopback(host)


def proxy_for(scheme: str, host: str, port: int, environment: Mapping[str, str]) -> str:
    """
    The proxy that the environment names for a target; empty for none.

    Reads `HTTP_PROXY`, `HTTPS_PROXY` and `NO_PROXY`, upper case or lower case (lower wins), as the
    replaced controller's client did: loopback is never proxied; `NO_PROXY` takes `*`, names (with
    their subdomains), `.suffix`, addresses, CIDRs, each with an optional port.
    """

    def lookup(name: str) -> str:
        return environment.get(name.lower()) or environment.get(name.upper()) or ""

    proxy = lookup(f"{scheme}_proxy")
    host = fold(host)
    if not proxy or host == "localhost" or host.endswith(".localhost"):
        return ""
    address = ipaddress.ip_address(host.partition("%")[0]) if literal(host) else None
    if address is not None and address.is_loopback:
        return ""
    for raw in lookup("no_proxy").split(","):
        entry = raw.strip().lower()
        if entry and _bypasses(entry, host, port, address):
            return ""
    return proxy if "://" in proxy else f"http://{proxy}"


def _bypasses(entry: str, host: str, port: int, address: Address | None) -> bool:
    if entry == "*":
        return True
    with suppress(ValueError):
        network = ipaddress.ip_network(entry, strict=False)
        return address is not None and network.version == address.version and address in network
    try:
        parts = urlsplit(f"//{entry}")
        name, wanted_port = fold(parts.hostname or ""), parts.port
    except ValueError:
        return False
    if not name or (wanted_port is not None and wanted_port != port):
        return False
    bare = name.lstrip("*").lstrip(".")
    if entry.startswith((".", "*.")):
        return host.endswith(f".{bare}")
    return host == bare or host.endswith(f".{bare}")
