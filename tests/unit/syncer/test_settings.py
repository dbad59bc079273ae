"""What both commands need of the settings file: rules between members, and secrets in files."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import pytest

from syncer.configfile import build
from syncer.model.errors import ConfigError
from syncer.settings import (
    REDIS_CREDENTIAL,
    DeliveryRules,
    RedisSettings,
    ShardingSettings,
    SyncerSettings,
    SyncSettings,
    WatchRules,
    load,
    with_redis_secrets,
)
from syncer.yamlfile import Document, read_document

URL: Final = "redis://h"


def refused(model: type[Any], **members: Any) -> str:
    """What is wrong with a group."""
    with pytest.raises(ConfigError) as caught:
        build(model, members)
    return str(caught.value)


# -- rules ----------------------------------------------------------------------------------------


def test_the_prefix_of_keys() -> None:
    """Letters, digits and three marks, 64 at most; a colon has a sentence of its own."""
    for prefix in ("n", "x" * 64, "A-b_c.9"):
        assert build(RedisSettings, {"url": URL, "keyPrefix": prefix}).key_prefix == prefix
    for prefix in ("", "x" * 65, "a b", "{x}", "é"):
        assert refused(RedisSettings, url=URL, keyPrefix=prefix) == (
            "keyPrefix: must be 1 to 64 of letters, digits, `_`, `-` and `.`"
        )
    assert refused(RedisSettings, url=URL, keyPrefix="a:b") == (
        "keyPrefix: must hold no `:`, which would put its keys among another prefix's keys; choose one"
        " without, and move existing logs with `syncer export --key-prefix` and `syncer import`"
    )


def test_a_server_that_is_not_verified_is_warned_about() -> None:
    """The warning names the setting; a server that is verified has none."""
    assert build(RedisSettings, {"url": "rediss://h"}).remarks(Document({})) == []
    source = read_document("redis:\n  url: rediss://h?ssl_cert_reqs=none\n")
    (remark,) = build(RedisSettings, source.values["redis"]).remarks(source)
    assert remark.text == (
        "redis.url has ssl_cert_reqs=none, which lets any server pose as Redis and read the password;"
        " name its authority in ssl_ca_certs instead (line 2)"
    )


def test_what_the_operator_states_of_the_server() -> None:
    """It counts only where the server itself reports nothing."""
    stated = build(RedisSettings, {"url": URL, "appendfsync": "always"})
    assert stated.seen_in({}) == {"appendfsync": "always"}
    assert stated.seen_in({"appendfsync": "no", "a": "b"}) == {"appendfsync": "no", "a": "b"}
    assert build(RedisSettings, {"url": URL}).seen_in({"a": "b"}) == {"a": "b"}


@pytest.mark.parametrize("name", ["a", "a-b", "x" * 58, "9"])
def test_the_name_of_leases(name: str) -> None:
    """A DNS label, short enough for what is appended."""
    assert build(ShardingSettings, {"leaseName": name}).lease_name == name
    for bad in (f"{name}-", f"-{name}", "x" * 59, name.upper() + "A", "", "a.b"):
        assert refused(ShardingSettings, leaseName=bad) == (
            "leaseName: must be a DNS label of at most 58 characters"
        )


def test_renewals_come_before_the_deadline() -> None:
    """The period is shorter, by however little; a deadline that is wrong itself is said alone."""
    build(ShardingSettings, {"renewDeadline": 2.1, "retryPeriod": 2})
    assert refused(ShardingSettings, renewDeadline=2, retryPeriod=2) == (
        "retryPeriod: must be shorter than sharding.renewDeadline"
    )
    assert "retryPeriod" not in refused(ShardingSettings, renewDeadline="x", retryPeriod=59)


def test_the_duration_of_a_lease() -> None:
    """The deadline, the longest send and the margin follow each other."""
    members = {"renewDeadline": 4, "retryPeriod": 1, "margin": 2}
    assert build(ShardingSettings, members).lease_duration(10.5) == 16.5


def test_sweeps_of_what_has_ended_are_no_more_frequent() -> None:
    """As frequent at most; an interval that is wrong itself is said alone."""
    assert build(SyncSettings, {"liveSweep": 30, "finishedSweep": 30}).finished_sweep == 30.0
    assert build(SyncSettings, {"liveSweep": 600}).finished_sweep == 600.0
    # The default is looked at as well.
    assert "must not be shorter" in refused(SyncSettings, liveSweep=601)
    assert refused(SyncSettings, liveSweep=30, finishedSweep=29) == (
        "finishedSweep: must not be shorter than sync.liveSweep"
    )
    assert "finishedSweep" not in refused(SyncSettings, liveSweep="x", finishedSweep=1)


def test_namespaces() -> None:
    """A list, each once and in its order, or a star."""
    assert build(WatchRules, {"namespaces": ["b", "a", "b"]}).namespaces == ("b", "a")
    assert build(WatchRules, {"namespaces": ("x" * 63,)}).namespaces == ("x" * 63,)
    assert build(WatchRules, {"namespaces": "*"}).namespaces == "*"
    assert WatchRules().namespaces == ()
    for bad in ("a", 5, ["a", 5], {"a": 1}):
        assert refused(WatchRules, namespaces=bad) == (
            "namespaces: must be a list of namespaces, or `*`"
        )
    for name in ("", "A", "a_b", "-a", "a-", "x" * 64, "*"):
        assert refused(WatchRules, namespaces=["ok", name]) == (
            "namespaces: holds a name that no namespace can have"
        )


def test_the_guarantee() -> None:
    """By default a result that cannot be known is followed by another attempt."""
    assert not DeliveryRules().at_most_once
    assert build(DeliveryRules, {"guarantee": "atMostOnce"}).at_most_once


# -- secrets in files -----------------------------------------------------------------------------


def secrets(tmp_path: Path, **redis: Any) -> Any:
    """The group `redis` as it is after its files were read; `+name` is the path of a file with name."""
    for key, value in redis.items():
        if isinstance(value, str) and value.startswith("+"):
            file = tmp_path / key
            file.write_text(f"{value[1:]}\n")
            redis[key] = str(file)
    return with_redis_secrets({"a": 1, "redis": redis}, {})["redis"]


@pytest.mark.parametrize("camel", [True, False])
def test_secrets_are_put_into_the_url(camel: bool, tmp_path: Path) -> None:
    """The URL, its password and that of the Sentinels come from files, in either spelling."""

    def key(name: str) -> str:
        head, *rest = name.split("_")
        return head + "".join(part.capitalize() for part in rest) if camel else name

    assert secrets(tmp_path, **{key("url_file"): "+redis://x"})["url"] == "redis://x"
    found = secrets(tmp_path, url="redis://u@h/1", **{key("password_file"): "+p/w"})
    assert found["url"] == "redis://u:p%2Fw@h/1"
    both = {key("url_file"): "+redis+sentinel://h/s", key("password_file"): "+p"}
    found = secrets(tmp_path, **both, **{key("sentinel_password_file"): "+q"})
    assert found["url"] == "redis+sentinel://:p@h/s?sentinel_password=q"


def test_where_no_file_is_named_nothing_changes(tmp_path: Path) -> None:
    """An empty name is none, and what is no text is left to who checks the types."""
    for redis in (
        {"url": URL}, {"url": URL, "urlFile": "", "passwordFile": ""}, {"url": URL, "urlFile": None},
        {"urlFile": 5, "url": URL}, {"url": URL, "passwordFile": 5},
        {"url": 5, "passwordFile": "x"}, {"url": URL, "sentinelPasswordFile": ""},
    ):  # fmt: skip
        assert secrets(tmp_path, **redis) == redis
    assert with_redis_secrets({"redis": "x"}, {}) == {"redis": "x"}


@pytest.mark.parametrize("redis", [None, {}, {"url": "", "keyPrefix": "p"}, {"url": None}])
def test_where_redis_is_may_be_said_elsewhere(redis: dict[str, Any] | None, tmp_path: Path) -> None:
    """The file goes before the variable, that before the credential; without any, all are named."""
    document: dict[str, Any] = {"redis": redis, "delivery": {"credentials": {"dir": str(tmp_path)}}}
    with pytest.raises(ConfigError) as caught:
        with_redis_secrets(document, {"REDIS_URL": ""})
    file = tmp_path / REDIS_CREDENTIAL
    assert str(caught.value) == (
        "redis.url: is not set, and neither is the variable REDIS_URL, nor is there a file"
        f" {file}: one of the three must hold the URL of Redis"
    )
    file.write_text("redis://credential\n")
    found = with_redis_secrets(document, {})["redis"]
    assert found == {**(redis or {}), "url": "redis://credential"}
    env = {"REDIS_URL": "redis://variable"}
    assert with_redis_secrets(document, env)["redis"]["url"] == "redis://variable"
    document["redis"] = {"url": "redis://file"}
    assert with_redis_secrets(document, env)["redis"]["url"] == "redis://file"
    file.write_text("")
    with pytest.raises(ConfigError, match=f"^{file}: names a file that is empty"):
        with_redis_secrets({**document, "redis": redis}, {})
    for source, env in ((str(file), {}), ("REDIS_URL", {"REDIS_URL": "h:6379"})):
        file.write_text("h:6379")
        with pytest.raises(ConfigError, match=f"^{source}: must begin with redis://"):
            with_redis_secrets({**document, "redis": redis}, env)


def test_what_is_read_is_a_copy(tmp_path: Path) -> None:
    """The document that was given stays without the secret."""
    file = tmp_path / "f"
    file.write_text("p")
    redis = {"url": URL, "passwordFile": str(file)}
    document = {"redis": redis}
    assert with_redis_secrets(document, {})["redis"]["url"] == "redis://:p@h"
    assert document == {"redis": {"url": URL, "passwordFile": str(file)}}


#: Members of `redis` (`+x` stands for a file with x), the path of what is wrong, and what is said.
SAID_TWICE: Final[dict[str, tuple[dict[str, str], str, str]]] = {
    "two URLs": (
        {"url": URL, "urlFile": "+redis://x"}, "redis.urlFile", "must not be set beside redis.url",
    ),
    "two passwords": (
        {"url": "redis://:a@h", "passwordFile": "+b"}, "redis.passwordFile",
        "must not be set where the URL holds a password",
    ),
    "two passwords of Sentinels": (
        {"url": "redis+sentinel://h/s?sentinel_password=a", "sentinelPasswordFile": "+b"},
        "redis.sentinelPasswordFile", "must not be set where the URL holds sentinel_password",
    ),
    "a file that is empty": (
        {"url": URL, "passwordFile": "+"}, "redis.passwordFile", "names a file that is empty",
    ),
    "a URL that is empty": ({"urlFile": "+"}, "redis.urlFile", "names a file that is empty"),
}  # fmt: skip


@pytest.mark.parametrize("case", SAID_TWICE)
def test_a_secret_that_cannot_be_used(case: str, tmp_path: Path) -> None:
    """The setting that names the file is named, and nothing that it holds."""
    redis, path, says = SAID_TWICE[case]
    with pytest.raises(ConfigError) as caught:
        secrets(tmp_path, **redis)
    assert (caught.value.path, str(caught.value)) == (path, f"{path}: {says}")


# -- what the operators' command reads ------------------------------------------------------------


def test_a_url_of_the_command_line_wins_as_a_whole(tmp_path: Path) -> None:
    """What the file says of secrets belongs to its own URL; all else of the group stays."""
    file = tmp_path / "c.yaml"
    for names in (
        "urlFile: /none, passwordFile: /none, sentinelPasswordFile: /none",
        "url_file: /none, password_file: /none, sentinel_password_file: /none",
        "url: 'redis://other'",
    ):
        file.write_text(f"redis: {{{names}, keyPrefix: kept}}\nsync: {{window: 1s}}\n")
        settings = load(file, redis_url="redis://x").settings
        assert settings.redis.url.get_secret_value() == "redis://x"
        assert settings.redis.key_prefix == "kept"
        assert settings.sync.window == 1.0
    file.write_text("redis: none\n")
    assert load(file, redis_url="redis://x").settings.redis.key_prefix == "nl"


def test_what_is_warned_about(tmp_path: Path) -> None:
    """Keys that mean nothing in groups that are this command's alone, then what is not safe."""
    file = tmp_path / "c.yaml"
    file.write_text(
        "redis: {url: 'rediss://h?ssl_cert_reqs=none', ulr: x}\n"
        "controller: {metricsAddr: x}\ndelivery: {slack: {}}\nother: {}\nsync: null\n"
    )
    loaded = load(file)
    first, second = loaded.warnings
    assert first == "redis.ulr is unknown and ignored: did you mean url? (line 1)"
    assert second.startswith("redis.url has ssl_cert_reqs=none")
    assert loaded.settings == build(
        SyncerSettings, {"redis": {"url": "rediss://h?ssl_cert_reqs=none"}}
    )


def test_without_a_url_the_required_key_is_named() -> None:
    """Neither a file nor an option says where Redis is."""
    with pytest.raises(ConfigError, match=r"^redis\.url: is not set, and neither is"):
        load(None)
