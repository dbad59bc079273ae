"""Redis's secrets out of files: how they enter the URL, and every way in which that is refused."""

from __future__ import annotations

import string
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis.asyncio.connection import parse_url

from notifier.settings import load as load_notifier
from syncer.ledger.url import Topology, parse_redis_url, with_password, with_sentinel_password
from syncer.model.errors import ConfigError
from syncer.settings import load

CANARY = "c4n4ry p@ss/w:rd?#%é"
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
    | st.just(CANARY)
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
    (folder / "password").write_text(CANARY + "\r\n")
    (folder / "url").write_text(f"rediss://u:{'x' * 8}@h/1\n")
    (folder / "empty").write_text("\n")
    (folder / "latin").write_bytes(b"\xe9")
    return path


def test_both_commands_read_the_files(tmp_path: Path) -> None:
    """A password or a whole URL comes from a file; neither command warns about the keys."""
    path = config(tmp_path, "url: 'redis://u@h/1', passwordFile: @/password")
    for loaded in (load(path), load_notifier(path, ENV)):
        assert parse_url(loaded.settings.redis.url.get_secret_value())["password"] == CANARY
        assert loaded.warnings == ()
        assert CANARY not in repr(loaded)
    whole = load(config(tmp_path, "urlFile: @/url"))
    assert parse_url(whole.settings.redis.url.get_secret_value())["host"] == "h"
    both = load(
        config(
            tmp_path,
            "url: 'redis+sentinel://a/svc', password_file: @/password, sentinelPasswordFile: @/password",
        )
    )
    target = parse_redis_url(both.settings.redis.url.get_secret_value())
    assert (target.sentinel_password, parse_url(target.server)["password"]) == (CANARY, CANARY)


def test_a_given_url_is_complete(tmp_path: Path) -> None:
    """On the command line a URL replaces the file's, with the secrets that belong to it."""
    path = config(tmp_path, "url: 'redis://h', passwordFile: @/none, urlFile: @/none")
    loaded = load(path, redis_url="redis://other")
    assert loaded.settings.redis.url.get_secret_value() == "redis://other"


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
    "no text": ("url: 'redis://h', passwordFile: 1", "redis.passwordFile: must be a text"),
}  # fmt: skip


@pytest.mark.parametrize("case", FAULTS)
def test_a_fault_names_the_key_and_no_secret(case: str, tmp_path: Path) -> None:
    """What cannot be used ends the start with the key's path."""
    text, message = FAULTS[case]
    with pytest.raises(ConfigError) as caught:
        load(config(tmp_path, text))
    said = str(caught.value)
    assert message in said
    assert CANARY not in said
