"""The doctor: a well-set installation has nothing to mend, each ill-set one is given its fix."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from syncer.cli.doctor import check_cluster, check_settings
from syncer.cli.doctor.cluster import ClusterFacts, check_clocks
from syncer.cli.doctor.redis import RedisFacts, check_redis
from syncer.cli.doctor.result import Grade
from syncer.cli.owner import ShardHolder
from syncer.model.attempt import Epoch
from tests.e2e.harness import Stage, until
from tests.integration.examining import examine
from tests.integration.ledger_client import running
from tests.integration.operating import NO_SWEEPS, Operator, owner
from tests.servers.redis import RedisServer, find_binary
from tests.servers.topology import Sentinel, call, port_of

# -- Redis ----------------------------------------------------------------------------------------


@contextmanager
def served(**options: Any) -> Iterator[RedisServer]:
    """A server of one's own."""
    server = RedisServer(find_binary("redis-server"), **options)
    try:
        server.launch()
        yield server
    finally:
        server.close()


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
        names: What the user may not, as it must say.
    """

    check: str
    grade: Grade
    fix: str
    options: dict[str, Any] = field(default_factory=dict)
    spoil: Callable[[int], object] = lambda _: None
    url: str = "redis://127.0.0.1:{port}"
    durability: str = "relaxed"
    names: str = ""


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


def forbid(command: str, port: int) -> None:
    """Make a user who may run all but one command."""
    call(port, "ACL", "SETUSER", "u", "on", ">p", "~*", "&*", "+@all", *f"-{command}".split())


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
        "redis://:wrong@127.0.0.1:{port}",
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
        "redis-memory", Grade.FAIL, "raise maxmemory", {}, full,
    ),
    "a user that may not run scripts": Case(
        "redis-scripts", Grade.FAIL, "let the user run EVALSHA", {},
        lambda port: call(port, "ACL", "SETUSER", "u", "on", ">p", "~*", "&*", "+@all", "-evalsha"),
        "redis://u:p@127.0.0.1:{port}",
    ),
    "a user that may not write": Case(
        "redis-write", Grade.FAIL, "give the user the permissions", {},
        lambda port: call(port, "ACL", "SETUSER", "u", "on", ">p", "%R~*", "&*", "+@all"),
        "redis://u:p@127.0.0.1:{port}", names="write keys that begin with nl:",
    ),
    "a user that may run no command that ends a key": Case(
        "redis-write", Grade.FAIL, "give the user the permissions", {}, partial(forbid, "set -expire -del"),
        "redis://u:p@127.0.0.1:{port}", names="run EXPIRE, DEL, SET",
    ),
    "a user that may make no key": Case(
        "redis-write", Grade.FAIL, "give the user the permissions", {}, partial(forbid, "set -rpush"),
        "redis://u:p@127.0.0.1:{port}", names="run SET, RPUSH",
    ),
    "a user that may read keys, and run one command less": Case(
        "redis-write", Grade.FAIL, "give the user the permissions", {},
        lambda port: call(port, "ACL", "SETUSER", "u", "on", ">p", "%R~*", "&*", "+@all", "-lset"),
        "redis://u:p@127.0.0.1:{port}", names="run LSET, nor write keys that begin with nl:",
    ),
    **{
        f"a user that may not run {command}": Case(
            check, Grade.FAIL, fix, {}, partial(forbid, command), "redis://u:p@127.0.0.1:{port}",
            names="run " + command.replace("|", " ").upper(),
        )
        for check, fix, commands in (
            ("redis-write", "give the user the permissions", ("rpush", "lset", "expire", "persist", "del")),
            ("redis-scripts", "let the user run EVALSHA", ("script|load",)),
            ("redis-connect", "give the user the permissions", ("time",)),
        )
        for command in commands
    },
    "a command that the server lacks": Case(
        "redis-write", Grade.FAIL, "give the user the permissions",
        {"settings": {"rename-command lset": "renamed"}}, names="run LSET",
    ),
    "a user that may not publish": Case(
        "redis-poke", Grade.WARN, "let the user run PUBLISH and SUBSCRIBE", {},
        lambda port: call(port, "ACL", "SETUSER", "u", "on", ">p", "~*", "resetchannels", "+@all"),
        "redis://u:p@127.0.0.1:{port}",
    ),
    "a user that may not scan": Case(
        "redis-scan", Grade.FAIL, "let the user run SCAN", {},
        lambda port: call(port, "ACL", "SETUSER", "u", "on", ">p", "~*", "&*", "+@all", "-scan"),
        "redis://u:p@127.0.0.1:{port}",
    ),
    "logs of another format": Case(
        "redis-connect", Grade.FAIL, "use the version that wrote them", {},
        lambda port: call(port, "SET", "nl:meta", "format=9 installation=a store=b"),
    ),
    "a store that no controller has used": Case(
        "redis-stamp", Grade.WARN, "compare redis.url and redis.keyPrefix with its own",
    ),
}  # fmt: skip


@pytest.mark.parametrize("ill", ILL)
async def test_ill_set_server(ill: str, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """The check that is meant does not pass and names its fix; it is the same run that finds it."""
    case = ILL[ill]
    with served(**case.options) as server:
        case.spoil(port_of(server))
        url = case.url.format(port=port_of(server))
        config = tmp_path / "config.json"
        redis = {"url": url, "durability": case.durability, "timeout": "1s"}
        await asyncio.to_thread(config.write_text, json.dumps({"redis": redis}))
        code, checks = await examine(url, capsys, config)
        keys = call(port_of(server), "KEYS", "nl:doctor:*") if case.names else ()
        stay = [key for key in keys if call(port_of(server), "TTL", key) == -1]
    found = checks[case.check]
    assert found["grade"] == case.grade.value, found
    assert case.fix in found["fix"]
    assert not case.names or found["found"].endswith(f"the user may not {case.names}")
    assert not stay, "what was tried is gone"
    # There is no way to the API server in this test, so something fails in any case.
    assert code == 1
    assert not [c for c in checks.values() if c["grade"] in {"warn", "fail"} and not c["fix"]]
    assert "wrong" not in json.dumps(checks)


async def test_sentinel_named_as_a_server(capsys: pytest.CaptureFixture[str]) -> None:
    """A Sentinel behind a plain URL is distinguished from a server."""
    with served() as server:
        binary = find_binary("redis-server")
        sentinel = Sentinel(binary, port_of(server), quorum=1, patience_ms=5000)
        try:
            await asyncio.to_thread(sentinel.launch)
            _, checks = await examine(f"redis://127.0.0.1:{sentinel.port}", capsys)
        finally:
            sentinel.close()
    assert checks["redis-connect"]["fix"] == (
        "write the URL as redis+sentinel://host:port,.../SERVICE"
    )


async def test_well_set_server(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """Of a server that syncs each write and that a controller uses, every check of its own passes."""
    with served(appendfsync="always") as server:
        async with running(server.url, installation="ns/notification-ledger@uid"):
            pass
        config = tmp_path / "config.json"
        redis = {"url": server.url, "durability": "strict"}
        await asyncio.to_thread(config.write_text, json.dumps({"redis": redis}))
        _, checks = await examine(server.url, capsys, config)
        keys = call(port_of(server), "KEYS", "*")
    odd = {n: c for n, c in checks.items() if n.startswith("redis-") and c["grade"] != "ok"}
    # Whose store it is, the server cannot tell alone.
    assert odd.pop("redis-stamp")["grade"] == "unknown"
    assert odd == {}
    assert sum(n.startswith("redis-") for n in checks) >= 15
    assert sorted(k.split(":")[1] for k in keys) == ["meta"], "what was tried is gone"


# -- everything -----------------------------------------------------------------------------------


@pytest.mark.parametrize("redis_binary", ["redis-server"], indirect=True)
async def test_well_set_installation(
    here: Stage, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With an owner at work nothing is to be mended, and 28 things were looked at."""
    async with owner(here.notifier(sync=NO_SWEEPS)) as app:
        uid = await here.create("n")
        await until(lambda: here.watcher.phase(uid) == "Sent", "it is sent")
        monkeypatch.setenv("LEDGER_TESTING", str(app.loaded.path))  # the owner's number of shards
        answer = await Operator(here, capsys).run(
            "doctor", "-o", "json", "-n", here.namespace,
            config=str(app.loaded.path),
        )  # fmt: skip
        checks = {c["check"]: c for c in answer.lines}
        # Whose Leases of tests before are still believed differs; and the settings file holds what a test
        # alone may set.
        differs = ("other-installations", "settings")
        bad = {
            name: check for name, check in checks.items()
            if check["grade"] != "ok" and not any(word in name for word in differs)
        }  # fmt: skip
        assert (answer.code, bad) == (0, {})
        assert len(checks) == len(answer.lines) >= 28
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

GOOD = RedisFacts(
    info={
        "redis_version": "7.2.4", "role": "master", "master_replid": "8f6a", "aof_enabled": "1",
        "appendfsync": "everysec",
        "maxmemory_policy": "noeviction", "aof_last_write_status": "ok",
    },
    meta={"format": "1", "installation": "i", "store": "s"},
)  # fmt: skip


def graded(facts: RedisFacts, **options: Any) -> dict[str, Grade]:
    """Grades of Redis, of the checks that did not pass."""
    url = options.pop("url", "redis://localhost:6379")
    durability = options.pop("durability", "relaxed")
    installation = options.pop("installation", "i")
    found = check_redis(facts, url=url, durability=durability, installation=installation, **options)
    assert all(c.fix for c in found if c.grade in {Grade.WARN, Grade.FAIL})
    return {c.name: c.grade for c in found if c.grade is not Grade.OK}


def change(**members: Any) -> RedisFacts:
    """Good facts with changes."""
    facts = RedisFacts(**{n: getattr(GOOD, n) for n in RedisFacts.__slots__})
    for name, value in members.items():
        setattr(
            facts,
            name,
            {**getattr(facts, name), **value} if value and isinstance(value, dict) else value,
        )
    return facts


@pytest.mark.parametrize(
    ("facts", "options", "wanted"),
    [
        (GOOD, {}, {}),
        (change(info={"redis_version": "6.2.1"}), {}, {"redis-version": Grade.FAIL}),
        (change(info={"master_replid": ""}), {}, {"redis-replid": Grade.FAIL}),
        (change(info={"aof_last_write_status": "err"}), {}, {"redis-disk": Grade.WARN}),
        (change(info={"connected_slaves": "2"}), {}, {"redis-replicas": Grade.WARN}),
        (change(info={"connected_slaves": "2", "min_slaves_good_slaves": "2"}), {}, {}),
        (
            change(info={"connected_slaves": "2", "appendfsync": "always"}),
            {"durability": "strict"}, {},
        ),
        (change(info={"min_slaves_good_slaves": "0"}), {}, {"redis-replicas": Grade.FAIL}),
        (change(info={"maxmemory": "100", "used_memory": "85"}), {}, {"redis-memory": Grade.WARN}),
        (change(offset=-5_000), {}, {"redis-clock": Grade.WARN}),
        (change(offset=90_000), {}, {"redis-clock": Grade.FAIL}),
        (GOOD, {"installation": "j"}, {"redis-stamp": Grade.FAIL}),
        (GOOD, {"installation": ""}, {"redis-stamp": Grade.UNKNOWN}),
        (change(meta={}), {}, {"redis-stamp": Grade.FAIL}),
        (change(meta={}), {"installation": ""}, {"redis-stamp": Grade.WARN}),
        (GOOD, {"url": "redis://far:6379"}, {"redis-transport": Grade.WARN}),
        (GOOD, {"url": "redis://u:p@far:6379"}, {"redis-transport": Grade.WARN}),
        (GOOD, {"url": "rediss://u:p@far:6379"}, {}),
        (GOOD, {"url": "rediss://u:p@far/0?ssl_ca_certs=/c&ssl_cert_reqs=none"},
         {"redis-transport": Grade.WARN}),
        (GOOD, {"url": "rediss+sentinel://u:p@a,b/svc?ssl_cert_reqs=none"},
         {"redis-transport": Grade.WARN}),
        (GOOD, {"url": "rediss+cluster://u:p@a,b?ssl_cert_reqs=required"}, {}),
    ],
)  # fmt: skip
def test_checks_of_redis(
    facts: RedisFacts, options: dict[str, Any], wanted: dict[str, Grade]
) -> None:
    """One thing that is not right gives one finding, of its weight."""
    assert graded(facts, **options) == wanted


@pytest.mark.parametrize(
    ("redis", "api", "grade"),
    [
        (0, 500, Grade.OK),
        (90_000, 90_000, Grade.OK),
        (0, -61_000, Grade.WARN),
        (901_000, 0, Grade.FAIL),
        (0, None, Grade.UNKNOWN),
    ],
)
def test_checks_of_clocks(redis: int, api: int | None, grade: Grade) -> None:
    """What counts is whether Redis and the API server agree, not what ours shows."""
    _, check = check_clocks(redis, api)
    assert (check.name, check.grade) == ("clocks", grade)
    assert check.fix or grade is Grade.OK


def grade_cluster(facts: ClusterFacts, epoch: str = "0.5") -> dict[str, Grade]:
    """Grades of the API server, of the checks that did not pass."""
    found = check_cluster(facts, RedisFacts(epoch=Epoch(epoch)), shards=2, incarnation=0, home="h")
    assert all(c.fix for c in found if c.grade in {Grade.WARN, Grade.FAIL})
    return {c.name: c.grade for c in found if c.grade is not Grade.OK}


def cluster(**members: Any) -> ClusterFacts:
    """Facts of a cluster, good but for what is given."""
    good = {
        "version": "100",
        "shards": [ShardHolder("a")] * 2,
        "installation": "i",
        "offset": 0,
        "routing": {"a": ("as its file", "")},
    }
    return ClusterFacts(**{**good, **members})


@pytest.mark.parametrize(
    ("facts", "wanted"),
    [
        (cluster(), {}),
        (cluster(listing="not served"), {"api-objects": Grade.FAIL}),
        (cluster(shards=[ShardHolder("a")] * 3), {"shards": Grade.FAIL}),
        (cluster(shards=[ShardHolder("a"), ShardHolder("")]), {"owners": Grade.FAIL}),
        (cluster(shards=[ShardHolder("a", "no Redis")] * 2), {"owners": Grade.FAIL}),
        (cluster(shards=()), {"shards": Grade.WARN, "other-installations": Grade.UNKNOWN}),
        (cluster(problem="no"), {"shards": Grade.UNKNOWN}),
        (cluster(offset=-70_000), {"api-clock": Grade.FAIL, "clocks": Grade.WARN}),
        (cluster(offset=None), {"api-clock": Grade.UNKNOWN, "clocks": Grade.UNKNOWN}),
        (cluster(missing={"rbac-status": ["patch in n"]}), {"rbac-status": Grade.FAIL}),
        (cluster(version="4"), {"incarnation": Grade.FAIL}),
    ],
)
def test_checks_of_a_cluster(facts: ClusterFacts, wanted: dict[str, Grade]) -> None:
    """One thing that is not right gives one finding."""
    assert grade_cluster(facts) == wanted


def test_no_cluster_is_one_finding() -> None:
    """Without a way to the API server nothing about it is guessed."""
    check, *_ = check_cluster(
        ClusterFacts("no kubeconfig"), RedisFacts(), shards=2, incarnation=0, home=""
    )
    assert (check.name, check.grade) == ("api-connect", Grade.FAIL)
    assert "--kubeconfig" in check.fix


def test_checks_of_settings() -> None:
    """Keys that mean nothing are named; without a file the check cannot be made."""
    assert check_settings([], given=True).grade is Grade.OK
    assert check_settings(["unknown key x"], given=True).grade is Grade.WARN
    assert check_settings([], given=False).grade is Grade.UNKNOWN
