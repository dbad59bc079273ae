"""Which proxy the environment names."""

from __future__ import annotations

import pytest

from syncer.runtime.proxies import proxy_for

P = {"HTTP_PROXY": "http://proxy:3128", "https_proxy": "proxy:3129"}

PROXIES = {
    "by scheme, upper case": ("http", "a.example", 80, P, "http://proxy:3128"),
    "by scheme, lower case, without a scheme": ("https", "a.example", 443, P, "http://proxy:3129"),
    "lower case wins": ("http", "a.example", 80, {**P, "http_proxy": "http://b"}, "http://b"),
    "none": ("http", "a.example", 80, {}, ""),
    "loopback is never proxied": ("http", "127.0.0.1", 80, P, ""),
    "nor is its name": ("http", "localhost", 80, P, ""),
    "nor is it over IPv6": ("http", "::1", 80, P, ""),
    "a name": ("http", "a.example", 80, {**P, "NO_PROXY": "b, a.example"}, ""),
    "a name covers its subdomains": ("http", "x.a.example", 80, {**P, "NO_PROXY": "a.example"}, ""),
    "a name is no suffix of letters": (
        "http", "xa.example", 80, {**P, "NO_PROXY": "a.example"}, "http://proxy:3128",
    ),
    "a suffix": ("http", "x.a.example", 80, {**P, "no_proxy": ".a.example"}, ""),
    "a suffix does not cover the name": (
        "http", "a.example", 80, {**P, "no_proxy": ".a.example"}, "http://proxy:3128",
    ),
    "a port that fits": ("http", "a.example", 80, {**P, "no_proxy": "a.example:80"}, ""),
    "a port that does not": (
        "http", "a.example", 81, {**P, "no_proxy": "a.example:80"}, "http://proxy:3128",
    ),
    "a network": ("http", "10.9.9.9", 80, {**P, "no_proxy": "10.0.0.0/8"}, ""),
    "another network": (
        "http", "11.9.9.9", 80, {**P, "no_proxy": "10.0.0.0/8,::/0"}, "http://proxy:3128",
    ),
    "everything": ("http", "a.example", 80, {**P, "no_proxy": "*"}, ""),
    "garbage": ("http", "a.example", 80, {**P, "no_proxy": "[,a:b:c,,"}, "http://proxy:3128"),
}  # fmt: skip


@pytest.mark.parametrize("case", PROXIES)
def test_proxy_for(case: str) -> None:
    """The environment's proxy is found as other programs find it."""
    scheme, host, port, environment, wanted = PROXIES[case]
    assert proxy_for(scheme, host, port, environment) == wanted
