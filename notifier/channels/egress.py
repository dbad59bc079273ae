"""
Which addresses a request may be sent to.

Targets come only from operators' files, never from a notification. Still, a name may resolve to
something other than the operator intended (rebinding, a typo, a hijacked zone). Therefore the
*dialled address* is checked, not the name, and one refused address refuses the name: an answer that
mixes a public address with a metadata address is no accident.

Always refused: link-local and metadata addresses, multicast, unspecified. Addresses that contain
another address (v4-mapped, SIIT, NAT64, 6to4, Teredo, ISATAP) are also checked by that address.
`operator` mode allows private and loopback addresses; `strict` refuses them, and all IPv6 except global
unicast, unless they are listed. Listing never lifts the first rule. Any unexpected error refuses.

A proxy is the operator's own choice from the environment: only the first rule applies to it. It resolves
the names of receivers, and is then the egress control.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from functools import lru_cache
from typing import Final, Literal

from syncer.runtime.proxies import fold

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class EgressDenied(OSError):
    """
    The guard refused an address; nothing was dialled.

    Its text is one of a few fixed phrases and holds neither address nor name. An `OSError`, so that
    it travels through a connector like any other failed dial.
    """


#: Metadata services outside the link-local ranges: AWS, Google (IPv6), Alibaba, Oracle, Azure.
METADATA: Final = frozenset(
    ipaddress.ip_address(a)
    for a in (
        "fd00:ec2::254",
        "fd20:ce::254",
        "100.100.100.200",
        "192.0.0.192",
        "168.63.129.16",
    )
)
#: Results that a guard caches.
_REMEMBERED: Final = 1024
_THIS_NETWORK: Final = ipaddress.ip_network("0.0.0.0/8")
_NAT64: Final = tuple(ipaddress.ip_network(n) for n in ("64:ff9b::/96", "64:ff9b:1::/48"))
_V4_COMPATIBLE: Final = ipaddress.ip_network("::/96")
#: Prefixes of addresses that contain an IPv4 address: mapped, compatible, SIIT (RFC 2765), NAT64.
_SIIT: Final = ipaddress.ip_network("::ffff:0:0:0/96")
_TRANSLATED: Final = (ipaddress.ip_network("::ffff:0:0/96"), _V4_COMPATIBLE, _SIIT, *_NAT64)
#: The only part of IPv6 that is routed globally; the rest is not assigned yet.
_GLOBAL: Final = ipaddress.ip_network("2000::/3")
#: Upper half of an ISATAP interface's id, without and with the universal bit.
_ISATAP: Final = frozenset({0x00005EFE, 0x02005EFE})


class EgressGuard:
    """
    Allows or refuses addresses.

    Args:
        mode: `operator` or `strict`.
        allowed: Private targets that `strict` allows: addresses, CIDRs and host names, where
            `*.example.com` means all names below `example.com`; the settings have checked them.
    """

    def __init__(
        self, mode: Literal["operator", "strict"] = "operator", allowed: Iterable[str] = ()
    ) -> None:
        self.mode = mode
        self._networks: list[Network] = []
        self._hosts: set[str] = set()
        self._zones: tuple[str, ...] = ()
        for entry in allowed:
            try:
                self._networks.append(ipaddress.ip_network(entry, strict=False))
            except ValueError:
                if entry.startswith("*."):
                    self._zones += (fold(entry[1:]),)
                else:
                    self._hosts.add(fold(entry))
        # The same few receivers are dialled again and again, and the rules do not change.
        self._refusal = lru_cache(maxsize=_REMEMBERED)(self._reason)
        #: Number of addresses refused so far.
        self.denied = 0

    def check(self, address: str, *, host: str = "", proxy: bool = False) -> None:
        """
        Check one address that is about to be dialled.

        Args:
            address: The literal; an IPv6 scope is ignored.
            host: The name that resolved to it, for the list of allowed hosts.
            proxy: The address is a proxy's.

        Raises:
            EgressDenied: it may not be dialled, or it could not be checked.
        """
        try:
            reason = self._refusal(address, host, proxy=proxy)
        except Exception:  # noqa: BLE001 - whatever it is, nothing is dialled
            reason = "the address could not be judged"
        if reason:
            self.denied += 1
            raise EgressDenied(reason)

    def _reason(self, address: str, host: str, *, proxy: bool) -> str:
        outer = ipaddress.ip_address(address.partition("%")[0])
        forms = (outer, *_carried(outer))
        for form in forms:
            if reason := _never(form):
                return reason
        if proxy or self.mode == "operator" or (host and self._named(fold(host))):
            return ""
        for form in forms:
            if not _public(form) and not self._listed(form):
                return "private address"
        return ""

    def _named(self, host: str) -> bool:
        return host in self._hosts or host.endswith(self._zones)

    def _listed(self, address: Address) -> bool:
        return any(n.version == address.version and address in n for n in self._networks)


def _public(address: Address) -> bool:
    if isinstance(address, ipaddress.IPv4Address):
        return address.is_global
    known = address in _GLOBAL or any(address in n for n in _TRANSLATED)
    return known and address.is_global


def _never(address: Address) -> str:
    if address.is_link_local or address in METADATA:
        return "link-local or metadata address"
    special = isinstance(address, ipaddress.IPv4Address) and (
        address in _THIS_NETWORK or int(address) == 0xFFFFFFFF
    )
    if special or address.is_multicast or address.is_unspecified:
        return "multicast or unspecified address"
    return ""


def _carried(address: Address) -> tuple[Address, ...]:
    """Return the addresses that an IPv6 address contains."""
    if isinstance(address, ipaddress.IPv4Address):
        return ()
    inner: list[Address] = []
    if address.ipv4_mapped:
        inner.append(address.ipv4_mapped)
    if address.sixtofour:
        inner.append(address.sixtofour)
    if address.teredo:
        inner.extend(address.teredo)
    low = int(address) & 0xFFFFFFFF
    if int(address) >> 32 & 0xFFFFFFFF in _ISATAP:
        inner.append(ipaddress.IPv4Address(low))
    if address in _NAT64[1]:
        # The network's operator chose the length of the prefix (RFC 6052), so each position is possible.
        # The wrong ones yield arbitrary addresses, so only link-local and metadata addresses count.
        inner += [a for a in _placed(int(address)) if a.is_link_local or a in METADATA]
    embedded = address in _SIIT or any(address in n for n in _NAT64)
    # ::1 and :: lie in the v4-compatible range but contain no IPv4 address.
    if embedded or (address in _V4_COMPATIBLE and low > 1):
        inner.append(ipaddress.IPv4Address(low))
    return tuple(inner)


def _placed(address: int) -> tuple[ipaddress.IPv4Address, ...]:
    """The IPv4 address after a prefix of 48, 56 and 64 bits; bits 64 to 71 are skipped (RFC 6052)."""
    squeezed = (address >> 64 << 56) | (address & ((1 << 56) - 1))  # 120 bits
    return tuple(
        ipaddress.IPv4Address(squeezed >> (120 - length - 32) & 0xFFFFFFFF)
        for length in (48, 56, 64)
    )
