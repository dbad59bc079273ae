"""
Redis URLs: topology, addresses and credentials.

Pure, and without the vendor: settings check a URL with it before anything is connected, the ledger
builds its connections from the result, so both accept the same URLs.

    redis://[user:pass@]host[:port][/db]                       one server; `unix://` for a socket
    redis+sentinel://[user:pass@]host[:port],.../service[/db]  Sentinels that know the master
    redis+cluster://[user:pass@]host[:port],...                some nodes of a Redis Cluster

`rediss` instead of `redis` means TLS everywhere, the Sentinels included. Options of the connection
follow as a query (`ssl_ca_certs`, `ssl_cert_reqs`, ...); `sentinel_username` and
`sentinel_password` are the Sentinels' own credentials. A URL is a secret as a whole: no text made
here quotes any of it but hosts, ports and the path of a socket (`place_of`), and the parts that hold
credentials are not part of a repr.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, TypeAlias
from urllib.parse import SplitResult, parse_qsl, quote, unquote, urlencode, urlsplit

#: Host and port.
Address: TypeAlias = tuple[str, int]

_REDIS_PORT: Final = 6379
_SENTINEL_PORT: Final = 26379
#: More addresses than this are a mistake; each may cost a connection attempt.
_MOST_NODES: Final = 64
#: What a password that was not encoded looks like as well.
_NO_ADDRESS: Final = (
    "holds an address that is not host:port (in a password, write / ? # @ as %2F %3F %23 %40)"
)


class Topology(StrEnum):
    """How many servers there are, and how the one to write to is found."""

    SINGLE = "single"
    SENTINEL = "sentinel"
    CLUSTER = "cluster"


@dataclass(frozen=True, slots=True)
class RedisTarget:
    """
    A parsed URL.

    Attributes:
        nodes: The Sentinels, or nodes of the cluster to begin with; empty for one server.
        service: Name of the master that the Sentinels watch, else empty.
        tls: Whether connections are encrypted.
        server: URL of one server in the vendor's own grammar, with credentials, database and
            options; its host means nothing where there are `nodes`.
        sentinel_username: Of the Sentinels themselves.
        sentinel_password: Of the Sentinels themselves.
    """

    topology: Topology
    nodes: tuple[Address, ...] = field(repr=False)
    service: str = field(repr=False)
    tls: bool
    server: str = field(repr=False)
    sentinel_username: str = field(default="", repr=False)
    sentinel_password: str = field(default="", repr=False)

    @property
    def unverified(self) -> bool:
        """Whether TLS does not verify the certificate, so that a man in the middle is not noticed."""
        options = dict(parse_qsl(urlsplit(self.server).query))
        return self.tls and options.get("ssl_cert_reqs", "").lower() == "none"


def split_redis_url(url: str) -> SplitResult:
    """
    Split a URL that may name several hosts; ValueError if it is none.

    `urlsplit` refuses brackets that are not around all of the host, as those of an IPv6 address in a list,
    since Python 3.11.4, and Debian's 3.11.2 with its patches does too.
    """
    scheme, mark, rest = url.partition("://")
    if "+" not in scheme:
        return urlsplit(url)
    authority = re.split(r"[/?#]", rest)[0]
    return urlsplit(f"{scheme}{mark}{rest[len(authority) :]}")._replace(netloc=authority)


def parse_redis_url(url: str) -> RedisTarget:
    """Parse a URL; the ValueError for one that cannot be used names the rule and quotes nothing."""
    try:
        parts = split_redis_url(url)
    except ValueError:
        raise ValueError("is not a URL") from None
    family, _, kind = parts.scheme.partition("+")
    if family == "unix" and not kind:
        if not parts.path:
            raise ValueError("names no socket")
        return RedisTarget(Topology.SINGLE, (), "", tls=False, server=url)
    if family not in {"redis", "rediss"} or kind not in {"", "sentinel", "cluster"}:
        raise ValueError(
            "must begin with redis://, rediss:// or unix://, or with redis+sentinel:// or"
            " redis+cluster:// (TLS: rediss+...)"
        )
    tls = family == "rediss"
    if not kind:
        _check_single(parts)
        return RedisTarget(Topology.SINGLE, (), "", tls=tls, server=url)
    credentials, _, hosts = parts.netloc.rpartition("@")
    nodes = _nodes(hosts, _SENTINEL_PORT if kind == "sentinel" else _REDIS_PORT)
    path = [unquote(part) for part in parts.path.split("/")[1:] if part]
    options = dict(parse_qsl(parts.query))
    username = options.pop("sentinel_username", "")
    password = options.pop("sentinel_password", "")
    if kind == "cluster":
        if path not in ([], ["0"]) or options.get("db", "0") != "0":
            raise ValueError("names a database, and a Redis Cluster has only database 0")
        service, database = "", "0"
    else:
        service, database = _service(path)
    login = f"{credentials}@" if credentials else ""
    query = f"?{urlencode(options)}" if options else ""
    return RedisTarget(
        Topology(kind),
        nodes,
        service,
        tls=tls,
        server=f"{family}://{login}localhost/{database}{query}",
        sentinel_username=username,
        sentinel_password=password,
    )


def place_of(target: RedisTarget) -> str:
    """The address in a URL, for logs and errors: hosts and ports, never the credentials before them."""
    nodes = ", ".join(f"{host}:{port}" for host, port in target.nodes)
    if target.topology is Topology.SENTINEL:
        return f"service {target.service} of the Sentinels {nodes}"
    if target.topology is Topology.CLUSTER:
        return f"Redis Cluster {nodes}"
    parts = urlsplit(target.server)
    if parts.scheme == "unix":
        return parts.path
    if "@" in parts.path or "@" in parts.query or "@" in parts.fragment:
        # A password that was not encoded: what looks like the host may be a part of it.
        return "the address in redis.url"
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    return f"{host}:{parts.port or _REDIS_PORT}"


def holds_password(url: str) -> bool:
    """Whether a URL, usable or not, has a password in it, the Sentinels' included."""
    authority = re.split(r"[/?#]", url.partition("://")[2])[0]
    user = authority.rpartition("@")[0]
    return ":" in user or "password=" in url.partition("?")[2]


def with_password(url: str, password: str) -> str:
    """Put a password into a URL, beside its user if there is one; ValueError if it has a password."""
    scheme, mark, rest = url.partition("://")
    authority = re.split(r"[/?#]", rest)[0]
    login, _, hosts = authority.rpartition("@")
    user, _, old = login.partition(":")
    if old:
        raise ValueError("must not be set where the URL holds a password")
    return f"{scheme}{mark}{user}:{quote(password, safe='')}@{hosts}{rest[len(authority) :]}"


def with_sentinel_password(url: str, password: str) -> str:
    """Put the Sentinels' own password into a URL; ValueError if it has one, or names no Sentinels."""
    parts = split_redis_url(url)
    if not parts.scheme.endswith("+sentinel"):
        raise ValueError("must not be set where the URL names no Sentinels")
    if "sentinel_password" in dict(parse_qsl(parts.query)):
        raise ValueError("must not be set where the URL holds sentinel_password")
    query = f"sentinel_password={quote(password, safe='')}"
    return parts._replace(query=f"{parts.query}&{query}" if parts.query else query).geturl()


def _check_single(parts: SplitResult) -> None:
    if "," in parts.netloc.rpartition("@")[2]:
        raise ValueError("names several hosts: begin with redis+sentinel:// or redis+cluster://")
    try:
        _ = parts.port
    except ValueError:
        raise ValueError(_NO_ADDRESS) from None
    if not parts.hostname:
        raise ValueError("names no host")


def _nodes(hosts: str, port: int) -> tuple[Address, ...]:
    nodes = []
    for text in hosts.split(","):
        try:
            one = urlsplit(f"//{text.strip()}")
            # The port of an address is checked when it is read.
            address = (one.hostname or "", one.port or port)
        except ValueError:
            raise ValueError(_NO_ADDRESS) from None
        if not address[0]:
            raise ValueError("names no host")
        nodes.append(address)
    if len(nodes) > _MOST_NODES:
        raise ValueError(f"names more than {_MOST_NODES} hosts")
    return tuple(dict.fromkeys(nodes))


def _service(path: list[str]) -> tuple[str, str]:
    if not path:
        raise ValueError("names no service: redis+sentinel://host:port,.../SERVICE is expected")
    database = path[1] if len(path) > 1 else "0"
    if len(path) > 2 or not (database.isascii() and database.isdigit()):
        raise ValueError("must end with /SERVICE or /SERVICE/DATABASE")
    return path[0], database
