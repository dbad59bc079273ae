"""A Redis URL taken apart, with every mistake and the rule that it breaks; secrets that enter it."""

from __future__ import annotations

import string
from pathlib import Path
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis.asyncio.connection import SSLConnection, parse_url

from notifier.settings import load as load_notifier
from syncer.configfile import build
from syncer.ledger.client import LedgerClient
from syncer.ledger.url import (
    RedisTarget,
    Topology,
    holds_password,
    parse_redis_url,
    place_of,
    with_password,
    with_sentinel_password,
)
from syncer.model.errors import ConfigError
from syncer.settings import RedisSettings, load
from syncer.yamlfile import Document

CANARY = "c4n4ry"

GOOD: dict[str, tuple[str, RedisTarget]] = {
    "one server": (
        "redis://u:p@h:1/2",
        RedisTarget(Topology.SINGLE, (), "", tls=False, server="redis://u:p@h:1/2"),
    ),
    "one server with TLS": (
        "rediss://h",
        RedisTarget(Topology.SINGLE, (), "", tls=True, server="rediss://h"),
    ),
    "a socket": (
        "unix:///run/redis?db=1",
        RedisTarget(Topology.SINGLE, (), "", tls=False, server="unix:///run/redis?db=1"),
    ),
    "Sentinels, one with the default port, and a database": (
        "redis+sentinel://u:p@a,b:2/svc/3",
        RedisTarget(
            Topology.SENTINEL, (("a", 26379), ("b", 2)), "svc", tls=False,
            server="redis://u:p@localhost/3",
        ),
    ),
    "Sentinels with credentials of their own and an option": (
        "rediss+sentinel://:p@a/svc?sentinel_username=w&sentinel_password=x%40y&ssl_cert_reqs=none",
        RedisTarget(
            Topology.SENTINEL, (("a", 26379),), "svc", tls=True,
            server="rediss://:p@localhost/0?ssl_cert_reqs=none",
            sentinel_username="w", sentinel_password="x@y",
        ),
    ),
    "a service with an escaped name": (
        "redis+sentinel://a/my%20svc/",
        RedisTarget(
            Topology.SENTINEL, (("a", 26379),), "my svc", tls=False, server="redis://localhost/0"
        ),
    ),
    "a cluster by two nodes, one by its IPv6 address, one named twice": (
        "redis+cluster://a,[::1]:7,a",
        RedisTarget(
            Topology.CLUSTER, (("a", 6379), ("::1", 7)), "", tls=False, server="redis://localhost/0"
        ),
    ),
    "a cluster that names the only database": (
        "rediss+cluster://u:p@a:1/0",
        RedisTarget(
            Topology.CLUSTER, (("a", 1),), "", tls=True, server="rediss://u:p@localhost/0"
        ),
    ),
}  # fmt: skip

BAD = {
    "nothing": ("", "must begin with redis://"),
    "another scheme": (f"http://{CANARY}", "must begin with redis://"),
    "another topology": (f"redis+{CANARY}://h", "must begin with redis://"),
    "TLS to a socket": ("unix+sentinel:///s", "must begin with redis://"),
    "several hosts of a single server": (
        f"redis://{CANARY}:1,h:2/0", "names several hosts: begin with redis\\+sentinel",
    ),
    "no host": ("redis:///0", "names no host"),
    "no socket": ("unix://", "names no socket"),
    "an impossible port": (f"redis://h:{CANARY}", "holds an address that is not host:port"),
    "a password that is not encoded": (f"redis://:a/{CANARY}@h", "in a password, write / "),
    "no service": (f"redis+sentinel://{CANARY}:1", "names no service"),
    "no Sentinel": ("redis+sentinel:///svc", "names no host"),
    "one host of several is missing": (f"redis+sentinel://{CANARY},/svc", "names no host"),
    "a port that is none": (
        f"redis+cluster://a:{CANARY}", "holds an address that is not host:port",
    ),
    "a port beyond the last": ("redis+cluster://a:99999", "holds an address that is not"),
    "a database of a cluster": ("redis+cluster://a/1", "has only database 0"),
    "a database of a cluster as an option": ("redis+cluster://a?db=1", "has only database 0"),
    "a database that is no number": (
        f"redis+sentinel://a/svc/{CANARY}", "must end with /SERVICE",
    ),
    "too long a path": (f"redis+sentinel://a/svc/0/{CANARY}", "must end with"),
    "too many hosts": (
        "redis+cluster://" + ",".join(f"h{n}" for n in range(65)), "names more than 64 hosts",
    ),
    "a bracket that is not closed": (f"redis://[{CANARY}", "is not a URL"),
}  # fmt: skip


@pytest.mark.parametrize(("url", "target"), GOOD.values(), ids=GOOD)
def test_what_a_url_says(url: str, target: RedisTarget) -> None:
    """Topology, addresses, service and credentials are taken apart, the vendor's part kept."""
    assert parse_redis_url(url) == target


def test_as_many_hosts_as_there_may_be() -> None:
    """The limit itself is allowed."""
    url = "redis+cluster://" + ",".join(f"h{n}" for n in range(64))
    assert len(parse_redis_url(url).nodes) == 64


@pytest.mark.parametrize(("url", "reason"), BAD.values(), ids=BAD)
def test_a_url_that_cannot_be_used(url: str, reason: str) -> None:
    """The rule that is broken is named, nothing of the URL is quoted."""
    with pytest.raises(ValueError, match=reason) as caught:
        parse_redis_url(url)
    assert CANARY not in str(caught.value)
    with pytest.raises(ConfigError, match=f"^redis.url: .*{reason}") as refused:
        LedgerClient(url)
    assert refused.value.path == "redis.url"


PLACES = {
    f"redis://u:{CANARY}@h": "h:6379",
    f"rediss://:{CANARY}@h.ns.svc:7000/3?ssl_cert_reqs=none&x={CANARY}": "h.ns.svc:7000",
    "redis://[::1]:7000": "[::1]:7000",
    f"unix://u:{CANARY}@/run/redis.sock?db=1": "/run/redis.sock",
    f"redis+sentinel://u:{CANARY}@a,b:7/svc?sentinel_password={CANARY}": (
        "service svc of the Sentinels a:26379, b:7"
    ),
    f"redis+cluster://u:{CANARY}@a,b:7": "Redis Cluster a:6379, b:7",
    f"redis://{CANARY}/x@h:6379": "the address in redis.url",
}  # fmt: skip


@pytest.mark.parametrize("url", PLACES)
def test_a_place_is_hosts_and_ports(url: str) -> None:
    """What stands before them is not shown, not even where it was mistaken for a host."""
    assert place_of(parse_redis_url(url)) == PLACES[url]
    assert CANARY not in PLACES[url]


def test_nothing_of_a_url_is_shown() -> None:
    """A repr holds neither credentials nor addresses."""
    for url in (
        f"redis://:{CANARY}@{CANARY}",
        f"redis+sentinel://{CANARY}:{CANARY}@{CANARY}/{CANARY}?sentinel_password={CANARY}",
        f"redis+sentinel://a/s?sentinel_username={CANARY}",
    ):
        assert CANARY not in repr(parse_redis_url(url))
        assert CANARY not in repr(LedgerClient(url))


def test_the_vendor_reads_its_part() -> None:
    """Credentials, database, TLS and options reach the vendor as they were meant."""
    target = parse_redis_url("rediss+sentinel://u:p%40@a/svc/3?ssl_check_hostname=no")
    options = dict(parse_url(target.server))
    assert options["connection_class"] is SSLConnection
    assert (options["username"], options["password"], options["db"]) == ("u", "p@", 3)


#: Options of a URL, and what is wrong with them; `@` is the folder of files.
OPTIONS: Final = {
    "unknown": ("colour=1", "option colour of the URL is not known"),
    "unknown, behind one that is known": (
        "ssl_check_hostname=no&colour=1", "option colour of the URL is not known"
    ),
    "a number that is none": (
        "health_check_interval=soon",
        "option health_check_interval of the URL has a value that cannot be used"
    ),
    "a word that is not one of them": (
        "ssl_cert_reqs=maybe", "option ssl_cert_reqs of the URL has a value that cannot be used"
    ),
    "a piece of a password": (f"p=x&{CANARY}=1@h", "an option in the URL cannot be used"),
    "no name of an option": (f"{CANARY}=1", "an option in the URL cannot be used"),
    "an authority that is not there": (
        "ssl_ca_certs=@/none",
        "option ssl_ca_certs of the URL names a file that cannot be read: No such file or directory",
    ),
    "a key that is a folder": (
        "ssl_keyfile=@", "option ssl_keyfile of the URL names a file that cannot be read: Is a directory"
    ),
    "an authority that is none": (
        "ssl_ca_certs=@/text",
        "option ssl_ca_certs of the URL names a file that holds no certificate in PEM"
    ),
    "a certificate that is none": (
        "ssl_certfile=@/text&ssl_keyfile=@/text",
        ("options ssl_certfile and ssl_keyfile of the URL name files that are not a certificate"
        " and its key in PEM"),
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", OPTIONS)
@pytest.mark.parametrize("url", ["rediss://h", "rediss+sentinel://h/svc", "rediss+cluster://h"])
def test_an_option_that_cannot_be_used(case: str, url: str, tmp_path: Path) -> None:
    """It is refused at the start, by its name, and not at the first call as a server that is away."""
    query, reason = OPTIONS[case]
    (tmp_path / "text").write_text(CANARY)
    with pytest.raises(ConfigError) as caught:
        LedgerClient(f"{url}?{query.replace('=@', f'={tmp_path}')}")
    assert str(caught.value) == f"redis.url: {reason}"
    assert CANARY not in str(caught.value)


@pytest.mark.parametrize("url", ["rediss://h/0", "rediss+sentinel://h/s", "rediss+cluster://h"])
def test_tls_without_a_certificate_is_told(url: str) -> None:
    """`ssl_cert_reqs=none` is allowed, and both commands warn of it; the warning quotes nothing."""
    for query, unverified in (
        ("", False), ("?ssl_cert_reqs=required", False), ("?ssl_cert_reqs=none", True),
        ("?ssl_ca_certs=/x&ssl_cert_reqs=NONE", True),
    ):  # fmt: skip
        assert parse_redis_url(url + query).unverified is unverified
        remarks = build(RedisSettings, {"url": url + query}).remarks(Document({}))
        assert bool(remarks) is unverified
        assert all("ssl_cert_reqs=none" in remark.text for remark in remarks)
    assert not parse_redis_url("redis://h?ssl_cert_reqs=none").unverified
    assert build(RedisSettings, {"url": "redis://h"}).remarks(Document({})) == []


@pytest.mark.parametrize(
    "url",
    [
        f"redis://:{CANARY}@h", f"rediss+sentinel://a/s?sentinel_password={CANARY}",
        f"redis://h?password={CANARY}", f"redis://u:{CANARY}@h:port",
    ],
)  # fmt: skip
def test_every_password_in_a_url_is_seen(url: str) -> None:
    """User part and options, in a URL that can be used or not."""
    assert holds_password(url)
    assert not holds_password("redis://u@h:6379/0?ssl_ca_certs=/x")
    assert not holds_password("redis://h:6379")


# -- secrets out of files -------------------------------------------------------------------------

PASSWORD = "c4n4ry p@ss/w:rd?#%é"
ENV = {"KUBERNAUT_CONTROLLER_NAMESPACE": "alerts"}

URLS: dict[str, tuple[str, str | None]] = {
    "no user": ("redis://h:1/2", None),
    "a user": ("rediss://u@h:1/0?ssl_ca_certs=/x", "u"),
    "a user and an empty password": ("redis://u:@h", "u"),
    "Sentinels": ("redis+sentinel://u@a,b:2/svc/3", "u"),
    "a cluster with IPv6": ("redis+cluster://[::1]:7,a", None),
}


@pytest.mark.parametrize("case", URLS)
@given(
    password=st.text(st.characters(codec="utf-8", exclude_characters="\r\n\0"), min_size=1)
    | st.just(PASSWORD)
)
def test_a_password_arrives_as_it_was(case: str, password: str) -> None:
    """Whatever a password holds, the vendor reads it out of the URL unchanged, and nothing else."""
    url, user = URLS[case]
    before, target = parse_redis_url(url), parse_redis_url(with_password(url, password))
    read = parse_url(target.server)
    assert read["password"] == password
    assert read.get("username") == user
    assert (target.topology, target.nodes, target.tls) == (
        before.topology,
        before.nodes,
        before.tls,
    )
    assert read.get("db") == parse_url(before.server).get("db")


@given(st.text(string.printable.strip(), min_size=1))
def test_sentinels_have_a_password_of_their_own(password: str) -> None:
    """It becomes an option of the URL, the only one or beside others, apart from the server's."""
    for options in ("", "?ssl_cert_reqs=none"):
        url = with_sentinel_password(f"rediss+sentinel://:p@a/svc{options}", password)
        target = parse_redis_url(url)
        assert target.topology is Topology.SENTINEL
        assert target.sentinel_password == password
        assert target.server == f"rediss://:p@localhost/0{options}"


def config(folder: Path, redis: str) -> Path:
    """Write a settings file; `@` in its group is the folder."""
    path = folder / "config.yaml"
    path.write_text(f"redis: {{{redis.replace('@/', f'{folder}/')}}}\n")
    (folder / "password").write_text(PASSWORD + "\r\n")
    (folder / "url").write_text(f"rediss://u:{'x' * 8}@h/1\n")
    (folder / "empty").write_text("\n")
    (folder / "latin").write_bytes(b"\xe9")
    return path


def test_both_commands_read_the_files(tmp_path: Path) -> None:
    """A password or a whole URL comes from a file; neither command warns about the keys."""
    path = config(tmp_path, "url: 'redis://u@h/1', passwordFile: @/password")
    loaded = load_notifier(path, ENV)
    for settings, warnings in (load(path), (loaded.settings, loaded.warnings)):
        assert parse_url(settings.redis.url.get_secret_value())["password"] == PASSWORD
        assert warnings == ()
        assert PASSWORD not in repr(settings)
    assert PASSWORD not in repr(loaded)
    whole, _ = load(config(tmp_path, "urlFile: @/url"))
    assert parse_url(whole.redis.url.get_secret_value())["host"] == "h"
    both, _ = load(
        config(
            tmp_path,
            "url: 'redis+sentinel://a/svc', password_file: @/password, sentinelPasswordFile: @/password",
        )
    )
    target = parse_redis_url(both.redis.url.get_secret_value())
    assert (target.sentinel_password, parse_url(target.server)["password"]) == (PASSWORD, PASSWORD)


def test_a_given_url_is_complete(tmp_path: Path) -> None:
    """On the command line a URL replaces the file's, with the secrets that belong to it."""
    path = config(tmp_path, "url: 'redis://h', passwordFile: @/none, urlFile: @/none")
    settings, _ = load(path, redis_url="redis://other")
    assert settings.redis.url.get_secret_value() == "redis://other"


FAULTS: dict[str, tuple[str, str]] = {
    "a file that is not there": (
        "url: 'redis://h', passwordFile: @/none",
        "redis.passwordFile: cannot be read: No such file or directory",
    ),
    "an empty file": ("urlFile: @/empty", "redis.urlFile: names a file that is empty"),
    "a file that is not text": ("urlFile: @/latin", "redis.urlFile: is not UTF-8"),
    "two URLs": (
        "url: 'redis://h', urlFile: @/url", "redis.urlFile: must not be set beside redis.url"
    ),
    "two passwords": (
        "url: 'redis://:x@h', passwordFile: @/password",
        "redis.passwordFile: must not be set where the URL holds a password",
    ),
    "a password for Sentinels that are not there": (
        "url: 'redis://h', sentinelPasswordFile: @/password",
        "redis.sentinelPasswordFile: must not be set where the URL names no Sentinels",
    ),
    "two passwords for Sentinels": (
        "url: 'redis+sentinel://a/s?sentinel_password=x', sentinelPasswordFile: @/password",
        "redis.sentinelPasswordFile: must not be set where the URL holds sentinel_password",
    ),
    "a password without a URL": ("passwordFile: @/password", "redis.url: is not set, and neither"),
    "no text": ("url: 'redis://h', passwordFile: 1", "redis.passwordFile: must be a string"),
}  # fmt: skip


@pytest.mark.parametrize("case", FAULTS)
def test_a_fault_names_the_key_and_no_secret(case: str, tmp_path: Path) -> None:
    """What cannot be used ends the start with the key's path."""
    text, message = FAULTS[case]
    with pytest.raises(ConfigError) as caught:
        load(config(tmp_path, text))
    said = str(caught.value)
    assert message in said
    assert PASSWORD not in said
