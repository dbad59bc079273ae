"""Which addresses the guard lets through, and which proxy the environment names."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from notifier.channels.egress import EgressDenied, EgressGuard

NEVER = "link-local or metadata address"
ODD = "multicast or unspecified address"
PRIVATE = "private address"
UNJUDGED = "the address could not be judged"

#: Address, why the operator mode refuses it, why the strict mode does.
ADDRESSES = {
    "public": ("93.184.216.34", "", ""),
    "public, IPv6": ("2606:2800:220:1::1", "", ""),
    "private": ("10.1.2.3", "", PRIVATE),
    "private, the other": ("192.168.1.1", "", PRIVATE),
    "carrier grade": ("100.64.0.1", "", PRIVATE),
    "loopback": ("127.0.0.1", "", PRIVATE),
    "loopback, IPv6": ("::1", "", PRIVATE),
    "unique local": ("fd12::1", "", PRIVATE),
    "documentation": ("192.0.2.1", "", PRIVATE),
    "metadata": ("169.254.169.254", NEVER, NEVER),
    "link-local": ("169.254.1.1", NEVER, NEVER),
    "link-local, IPv6": ("fe80::1", NEVER, NEVER),
    "link-local with a scope": ("fe80::1%eth0", NEVER, NEVER),
    "metadata of AWS over IPv6": ("fd00:ec2::254", NEVER, NEVER),
    "metadata of Alibaba": ("100.100.100.200", NEVER, NEVER),
    "metadata of Azure": ("168.63.129.16", NEVER, NEVER),
    "mapped metadata": ("::ffff:169.254.169.254", NEVER, NEVER),
    "mapped private": ("::ffff:10.0.0.1", "", PRIVATE),
    "compatible metadata": ("::169.254.169.254", NEVER, NEVER),
    "compatible, this network": ("::2", ODD, ODD),
    "NAT64 metadata": ("64:ff9b::169.254.169.254", NEVER, NEVER),
    "NAT64 private": ("64:ff9b::10.0.0.1", "", PRIVATE),
    "local NAT64 metadata": ("64:ff9b:1::169.254.169.254", NEVER, NEVER),
    "local NAT64 metadata, 48 bits": ("64:ff9b:1:a9fe:a9:fe00::", NEVER, NEVER),
    "local NAT64 metadata, 56 bits": ("64:ff9b:1:a9:fe:a9fe::", NEVER, NEVER),
    "local NAT64 metadata, 64 bits": ("64:ff9b:1:7:a9:fea9:fe00:0", NEVER, NEVER),
    "local NAT64 metadata, bits 64 to 71 in use": ("64:ff9b:1:a9fe:ff01:200::", NEVER, NEVER),
    "NAT64 public": ("64:ff9b::93.184.216.34", "", ""),
    "SIIT metadata": ("::ffff:0:169.254.169.254", NEVER, NEVER),
    "SIIT metadata of Alibaba": ("::ffff:0:100.100.100.200", NEVER, NEVER),
    "SIIT private": ("::ffff:0:10.0.0.1", "", PRIVATE),
    "ISATAP metadata": ("2001:4860::5efe:169.254.169.254", NEVER, NEVER),
    "ISATAP metadata, universal": ("2001:4860::200:5efe:169.254.169.254", NEVER, NEVER),
    "ISATAP metadata, private prefix": ("fd12::5efe:169.254.169.254", NEVER, NEVER),
    "ISATAP private": ("2001:4860::5efe:10.0.0.1", "", PRIVATE),
    "site-local": ("fec0::1", "", PRIVATE),
    "site-local, its end": ("feff:ffff::1", "", PRIVATE),
    "not assigned": ("4000::1", "", PRIVATE),
    "discard only": ("100::1", "", PRIVATE),
    "6to4 metadata": ("2002:a9fe:a9fe::1", NEVER, NEVER),
    "Teredo metadata": ("2001:0:a9fe:a9fe::1", NEVER, NEVER),
    "unspecified": ("0.0.0.0", ODD, ODD),  # noqa: S104 - an address to refuse
    "this network": ("0.1.2.3", ODD, ODD),
    "unspecified, IPv6": ("::", ODD, ODD),
    "multicast": ("224.0.0.1", ODD, ODD),
    "multicast, IPv6": ("ff02::1", ODD, ODD),
    "broadcast": ("255.255.255.255", ODD, ODD),
    "no address": ("example.com", UNJUDGED, UNJUDGED),
    "nothing": ("", UNJUDGED, UNJUDGED),
}


def _verdict(guard: EgressGuard, address: str, **options: str | bool) -> str:
    try:
        guard.check(address, **options)  # type: ignore[arg-type]  # options of any type
    except EgressDenied as exc:
        return str(exc)
    return ""


@pytest.mark.parametrize("case", ADDRESSES)
def test_address(case: str) -> None:
    """Each mode has its verdict on each kind of address, with its reason."""
    address, operator, strict = ADDRESSES[case]
    assert _verdict(EgressGuard(), address) == operator
    assert _verdict(EgressGuard("strict"), address) == strict


@pytest.mark.parametrize(
    ("address", "host", "verdict"),
    [
        ("10.1.1.1", "h", ""), ("::ffff:10.1.1.1", "h", PRIVATE), ("fd12::5", "h", ""),
        ("192.168.0.1", "h", PRIVATE), ("192.168.0.1", "hooks", ""),
        ("169.254.169.254", "hooks", NEVER), ("172.16.200.1", "h", ""), ("172.17.0.5", "h", PRIVATE),
    ],
)  # fmt: skip
def test_listing_lifts_only_the_strict_rule(address: str, host: str, verdict: str) -> None:
    """
    A listed network or name is let through, link-local stays refused.

    An entry with bits behind its prefix is the network, as operators copy it from an interface.
    """
    listed = ["10.0.0.0/8", "169.254.0.0/16", "fd12::/16", "Hooks.", "172.16.0.5/16"]
    assert _verdict(EgressGuard("strict", listed), address, host=host) == verdict


@pytest.mark.parametrize(
    ("host", "passes"),
    [
        ("a.example.com", True), ("A.B.Example.COM.", True),
        ("example.com", False), ("aexample.com", False), ("example.com.evil.org", False), ("", False),
    ],
)  # fmt: skip
def test_listed_zone(host: str, passes: bool) -> None:
    """An entry with a star is every name below, and not the name itself."""
    guard = EgressGuard("strict", ("*.example.com",))
    assert _verdict(guard, "10.0.0.1", host=host) == ("" if passes else PRIVATE)
    assert _verdict(guard, "169.254.169.254", host=host) == NEVER


def test_refusals_are_counted() -> None:
    """What is refused, and what cannot be judged, counts once each; what passes does not."""
    guard = EgressGuard()
    for address in ("169.254.169.254", "no address", "93.184.216.34"):
        _verdict(guard, address)
    assert guard.denied == 2


def test_proxy_is_the_operators_choice() -> None:
    """A private proxy is let through in strict mode, a link-local one never."""
    guard = EgressGuard("strict")
    assert _verdict(guard, "10.0.0.1", proxy=True) == ""
    assert _verdict(guard, "169.254.169.254", proxy=True) == NEVER


@given(st.text(max_size=40) | st.ip_addresses().map(str))
def test_any_text(text: str) -> None:
    """The guard answers any text with a verdict and never with another error."""
    assert _verdict(EgressGuard("strict"), text) in {"", NEVER, ODD, PRIVATE, UNJUDGED}
