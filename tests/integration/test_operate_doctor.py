"""The doctor: a well-set installation has nothing to mend, each ill-set one is given its fix."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from syncer.cli.doctor import Grade, check_server, passes
from tests.e2e.harness import Stage, until
from tests.integration.examining import examine
from tests.integration.ledger_client import running
from tests.integration.operating import NO_SWEEPS, Operator, owner
from tests.servers.redis import RedisServer, find_binary
from tests.servers.topology import Sentinel, call, port_of

# -- Redis ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Case:
    """
    One ill-set server.

    Attributes:
        check: The check that must not pass.
        grade: What it must come to.
        fix: Part of the fix that it must name.
        options: Of the server.
        spoil: What is done to it once it runs.
        url: How it is reached.
        durability: As configured.
    """

    check: str
    grade: Grade
    fix: str
    options: dict[str, Any] = field(default_factory=dict)
    spoil: Callable[[int], object] = lambda _: None
    url: str = "redis://127.0.0.1:{port}"
    durability: str = "relaxed"


def full(port: int) -> None:
    """Leave almost no memory."""
    used = int(call(port, "INFO", "memory")["used_memory"])
    call(port, "CONFIG", "SET", "maxmemory", round(used * 1.03))


def fail_to_save(port: int) -> None:
    """Have it refuse everything because it cannot write: a directory is in the place of its file."""
    Path(call(port, "CONFIG", "GET", "dir")[1], "dump.rdb").mkdir()
    call(port, "CONFIG", "SET", "save", "3600 1")
    call(port, "BGSAVE")
    end = time.monotonic() + 20
    while call(port, "INFO", "persistence")["rdb_last_bgsave_status"] == "ok":
        assert time.monotonic() < end
        time.sleep(0.05)


ILL = {
    "an older record may be evicted": Case(
        "redis-eviction", Grade.FAIL, "set maxmemory-policy noeviction",
        {"settings": {"maxmemory-policy": "allkeys-lru", "maxmemory": "100mb"}},
    ),
    "nothing survives a restart": Case(
        "redis-persistence", Grade.WARN, "set appendonly yes", {"appendonly": False},
    ),
    "strict durability on a server that syncs every second": Case(
        "redis-appendfsync", Grade.FAIL, "set appendfsync always", durability="strict",
    ),
    "a password that is not given": Case(
        "redis-connect", Grade.FAIL, "put the right user and password into redis.url",
        {}, lambda port: call(port, "CONFIG", "SET", "requirepass", "p"),
    ),
    "a wrong password": Case(
        "redis-connect", Grade.FAIL, "put the right user and password into redis.url",
        {}, lambda port: call(port, "CONFIG", "SET", "requirepass", "p"),
        "redis://:c4n4ry@127.0.0.1:{port}",
    ),
    "a replica": Case(
        "redis-connect", Grade.FAIL, "name the primary, not a replica",
        {}, lambda port: call(port, "REPLICAOF", "127.0.0.1", "1"),
    ),
    "one node of a cluster, named as a server": Case(
        "redis-connect", Grade.FAIL, "write the URL as redis+cluster://host:port",
        {"settings": {"cluster-enabled": "yes"}},
    ),
    "a server, named as a cluster": Case(
        "redis-connect", Grade.FAIL, "write the URL as redis://", url="redis+cluster://127.0.0.1:{port}",
    ),
    "nobody listens": Case(
        "redis-connect", Grade.FAIL, "start the server, or correct host and port", url="redis://127.0.0.1:1",
    ),
    "the disk takes no more": Case(
        "redis-connect", Grade.FAIL, "free space on the server's disk", {}, fail_to_save,
    ),
    "memory is used up": Case(
        "redis-memory", Grade.WARN, "raise maxmemory", {}, full,
    ),
    "a user that may not ask for the time": Case(
        "redis-connect", Grade.FAIL, "give the user the permissions", {},
        lambda port: call(port, "ACL", "SETUSER", "u", "on", ">p", "~*", "&*", "+@all", "-info"),
        "redis://u:p@127.0.0.1:{port}",
    ),
    "logs of another format": Case(
        "redis-connect", Grade.FAIL, "use the version that wrote them", {},
        lambda port: call(port, "SET", "nl:meta", "format=9 installation=a store=b"),
    ),
    "a store that no controller has used": Case(
        "redis-store", Grade.WARN, "compare redis.url and redis.keyPrefix with its own",
    ),
}  # fmt: skip


@pytest.mark.parametrize("ill", ILL)
async def test_ill_set_server(ill: str, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """The check that is meant does not pass and names its fix; it is the same run that finds it."""
    case = ILL[ill]
    async with RedisServer(find_binary("redis-server"), **case.options) as server:
        case.spoil(port_of(server))
        url = case.url.format(port=port_of(server))
        config = tmp_path / "config.json"
        redis = {"url": url, "durability": case.durability, "timeout": "1s"}
        await asyncio.to_thread(config.write_text, json.dumps({"redis": redis}))
        code, checks = await examine(url, capsys, config)
    found = checks[case.check]
    assert found["grade"] == case.grade.value, found
    assert case.fix in found["fix"]
    # There is no way to the API server in this test, so something fails in any case.
    assert code == 1
    assert not [c for c in checks.values() if c["grade"] in {"warn", "fail"} and not c["fix"]]
    assert "c4n4ry" not in json.dumps(checks)


async def test_sentinel_named_as_a_server(capsys: pytest.CaptureFixture[str]) -> None:
    """A Sentinel behind a plain URL is distinguished from a server."""
    binary = find_binary("redis-server")
    async with (
        RedisServer(binary) as server,
        Sentinel(binary, port_of(server), quorum=1, patience_ms=5000) as sentinel,
    ):
        _, checks = await examine(f"redis://127.0.0.1:{sentinel.port}", capsys)
    assert checks["redis-connect"]["fix"] == (
        "write the URL as redis+sentinel://host:port,.../SERVICE"
    )


async def test_well_set_server(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """Of a server that syncs each write and that a controller uses, every check of its own passes."""
    async with RedisServer(find_binary("redis-server"), appendfsync="always") as server:
        async with running(server.url, installation="ns/notification-ledger@uid"):
            pass
        config = tmp_path / "config.json"
        redis = {"url": server.url, "durability": "strict"}
        await asyncio.to_thread(config.write_text, json.dumps({"redis": redis}))
        _, checks = await examine(server.url, capsys, config)
    odd = {n: c for n, c in checks.items() if n.startswith("redis-") and c["grade"] != "ok"}
    # Whose store it is, the server cannot tell alone.
    assert odd.pop("redis-store")["grade"] == "unknown"
    assert odd == {}
    assert sum(n.startswith("redis-") for n in checks) == 6


# -- everything -----------------------------------------------------------------------------------


@pytest.mark.parametrize("redis_binary", ["redis-server"], indirect=True)
async def test_well_set_installation(
    here: Stage, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With an owner at work nothing is to be mended, and all was looked at."""
    async with owner(here.notifier(sync=NO_SWEEPS)) as app:
        uid = await here.create("n")
        await until(lambda: here.watcher.phase(uid) == "Sent", "it is sent")
        monkeypatch.setenv("LEDGER_TESTING", str(app.loaded.path))  # the owner's number of shards
        answer = await Operator(here, capsys).run(
            "doctor", "-o", "json", "-n", here.namespace,
            config=str(app.loaded.path),
        )  # fmt: skip
        checks = {c["check"]: c for c in answer.lines}
        # Leases and objects of other tests may be there, and the file holds what a test alone may set.
        differs = ("other-installations", "settings", "namespaces")
        bad = {
            name: check for name, check in checks.items()
            if check["grade"] != "ok" and not any(word in name for word in differs)
        }  # fmt: skip
        assert (answer.code, bad) == (0, {})
        assert len(checks) == len(answer.lines) == 19
        # An account without any right, asked about instead.
        nobody = await Operator(here, capsys).run(
            "doctor", "-o", "json",
            "--service-account", f"{here.namespace}/nobody", config=str(app.loaded.path),
        )  # fmt: skip
        grades = {c["check"]: c["grade"] for c in nobody.lines}
        assert {n: g for n, g in grades.items() if n.startswith("rbac-")} == dict.fromkeys(
            ("rbac-objects", "rbac-status", "rbac-events", "rbac-leases"), "fail"
        )
        assert nobody.code == 1
        # For people: the fix stands below what it is for.
        text = await Operator(here, capsys).run(
            "doctor",
            "--service-account", f"{here.namespace}/nobody",
        )  # fmt: skip
        lines = text.out.splitlines()
        at = next(n for n, line in enumerate(lines) if line.startswith("fail    rbac-status"))
        assert lines[at + 1].lstrip().startswith("fix: apply the chart's roles")


# -- checking alone --------------------------------------------------------------------------------

GOOD = {
    "redis_version": "7.2.4", "role": "master", "master_replid": "8f6a", "aof_enabled": "1",
    "appendfsync": "everysec", "maxmemory_policy": "noeviction", "aof_last_write_status": "ok",
}  # fmt: skip
NEAR = "redis://localhost:6379"


@pytest.mark.parametrize(
    ("more", "url", "durability", "wanted"),
    [
        ({}, NEAR, "relaxed", {}),
        ({"redis_version": "6.2.1"}, NEAR, "relaxed", {"redis-version": Grade.FAIL}),
        ({"master_replid": ""}, NEAR, "relaxed", {"redis-replid": Grade.FAIL}),
        ({"aof_last_write_status": "err"}, NEAR, "relaxed", {"redis-disk": Grade.WARN}),
        ({"connected_slaves": "2"}, NEAR, "relaxed", {"redis-replicas": Grade.WARN}),
        ({"connected_slaves": "2", "min_slaves_good_slaves": "2"}, NEAR, "relaxed", {}),
        ({"connected_slaves": "2", "appendfsync": "always"}, NEAR, "strict", {}),
        ({"maxmemory": "100", "used_memory": "85"}, NEAR, "relaxed", {"redis-memory": Grade.WARN}),
        ({}, "redis://u:p@far:6379", "relaxed", {"redis-transport": Grade.WARN}),
        ({}, "rediss://u:p@far:6379", "relaxed", {}),
        ({}, "rediss://u:p@far/0?ssl_ca_certs=/c&ssl_cert_reqs=none", "relaxed",
         {"redis-transport": Grade.WARN}),
        ({}, "rediss+sentinel://u:p@a,b/svc?ssl_cert_reqs=none", "relaxed",
         {"redis-transport": Grade.WARN}),
        ({}, "rediss+cluster://u:p@a,b?ssl_cert_reqs=required", "relaxed", {}),
    ],
)  # fmt: skip
def test_checks_of_redis(
    more: dict[str, str], url: str, durability: str, wanted: dict[str, Grade]
) -> None:
    """One thing that is not right gives one finding, of its weight."""
    found = check_server(GOOD | more, url, durability)
    assert all(c.fix for c in found if c.grade is not Grade.OK)
    assert {c.name: c.grade for c in found if c.grade is not Grade.OK} == wanted


@pytest.mark.parametrize(
    ("problem", "bad", "result"),
    [
        ("", Grade.FAIL, ("n", Grade.OK, "t", "")),
        ("p", Grade.FAIL, ("n", Grade.FAIL, "p", "f")),
        ("p", Grade.WARN, ("n", Grade.WARN, "p", "f")),
    ],
)
def test_a_check_that_passes_says_what_is_so(
    problem: str, bad: Grade, result: tuple[object, ...]
) -> None:
    """One that does not, what is wrong, and what to do."""
    assert passes("n", "t", problem, "f", bad=bad) == result
