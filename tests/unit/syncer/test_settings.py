"""What both commands need of the settings file: rules between members, and secrets in files."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import pytest

from syncer.configfile import build
from syncer.model.errors import ConfigError
from syncer.settings import (
    REDIS_CREDENTIAL,
    AdoptionSettings,
    RedisSettings,
    ShardingSettings,
    with_adoption,
    with_redis_secrets,
)

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
        "keyPrefix: must hold no `:`, which would put its keys among another prefix's keys"
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


# -- secrets in files -----------------------------------------------------------------------------


def secrets(tmp_path: Path, **redis: Any) -> Any:
    """The group `redis` as it is after its files were read; `+name` is the path of a file with name."""
    for key, value in redis.items():
        if isinstance(value, str) and value.startswith("+"):
            file = tmp_path / key
            file.write_text(f"{value[1:]}\n")
            redis[key] = str(file)
    return with_redis_secrets({"a": 1, "redis": redis}, {})["redis"]


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


@pytest.mark.parametrize(
    "before", ["", "now", "2026-01-31", "2026-01-31T12:00:00", "2226-01-31T12:00:00Z"]
)
def test_what_another_controller_has_done_is_of_the_past(before: str, tmp_path: Path) -> None:
    """Else every status to come would be believed; whichever of the three says so is named."""
    document: dict[str, Any] = {"delivery": {"credentials": {"dir": str(tmp_path)}}}
    past = "2026-01-31T12:00:00+02:00"
    file = tmp_path / "notification-ledger.adoption-before"
    assert build(AdoptionSettings, {"before": past}).before == past
    file.write_text(f"{past}\n")
    assert with_adoption(document, {"ADOPTION_BEFORE": before} if not before else {}) == {
        **document, "adoption": {"before": past},
    }  # fmt: skip
    if not before:
        return
    wrong = "must be a time in the past, such as 2026-01-31T12:00:00Z"
    assert refused(AdoptionSettings, before=before) == f"before: {wrong}"
    file.write_text(before)
    for source, env in ((str(file), {}), ("ADOPTION_BEFORE", {"ADOPTION_BEFORE": before})):
        with pytest.raises(ConfigError, match=f"^{source}: {wrong}"):
            with_adoption(document, env)


# -- what the operators' command reads ------------------------------------------------------------
