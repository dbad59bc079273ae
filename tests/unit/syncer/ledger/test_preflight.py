"""The preflight: which servers are refused, which are warned about, and what to do."""

from __future__ import annotations

import pytest

from syncer.ledger.preflight import Severity, preflight, unfit
from tests.unit.syncer.ledger.good_info import GOOD

REFUSE, WARN = Severity.REFUSE, Severity.WARN

CASES: dict[str, tuple[dict[str, str], dict[str, Severity], dict[str, Severity]]] = {
    "a fit server": ({}, {}, {}),
    "a server too old for script flags": (
        {"redis_version": "6.2.14"}, {"version": REFUSE}, {"version": REFUSE},
    ),
    "a later major version": ({"redis_version": "10.1.0"}, {}, {}),
    "an evicting server": (
        {"maxmemory_policy": "allkeys-lru"}, {"eviction": REFUSE}, {"eviction": REFUSE},
    ),
    "a server that evicts expiring keys only": (
        {"maxmemory_policy": "volatile-ttl"}, {"eviction": REFUSE}, {"eviction": REFUSE},
    ),
    "no append-only file": (
        {"aof_enabled": "0"}, {"persistence": WARN}, {"persistence": REFUSE},
    ),
    "records synced once a second": (
        {"appendfsync": "everysec"}, {}, {"appendfsync": REFUSE},
    ),
    "a setting that may not be read": ({"appendfsync": ""}, {}, {"appendfsync": REFUSE}),
    "a proxy that hides the server's history": (
        {"master_replid": ""}, {"replid": REFUSE}, {"replid": REFUSE},
    ),
    "a full disk": ({"aof_last_write_status": "err"}, {"disk": WARN}, {"disk": REFUSE}),
    "everything at once": (
        {"redis_version": "5.0.0", "maxmemory_policy": "allkeys-lfu", "aof_enabled": "0"},
        {"version": REFUSE, "eviction": REFUSE, "persistence": WARN},
        {"version": REFUSE, "eviction": REFUSE, "persistence": REFUSE},
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("durability", ["relaxed", "strict"])
def test_findings(case: str, durability: str) -> None:
    """Each fault has its name and its weight, which may depend on the promised durability."""
    changes, relaxed, strict = CASES[case]
    found = preflight(GOOD | changes, durability=durability)
    assert {f.name: f.severity for f in found} == (strict if durability == "strict" else relaxed)


def test_every_finding_names_its_fix() -> None:
    """A finding says what is wrong and what to do about it."""
    broken = {"redis_version": "5.0.0", "maxmemory_policy": "allkeys-lru", "aof_enabled": "0"}
    fixes = {f.name: f.fix for f in preflight(broken, durability="strict")}
    assert fixes == {
        "version": "use Redis 7.0, Valkey 7.2, or later",
        "replid": "use a server, or a proxy, that shows its master_replid",
        "eviction": "set maxmemory-policy noeviction",
        "persistence": "set appendonly yes",
        "appendfsync": "set appendfsync always on the server and say so in redis.appendfsync, or set"
        " redis.durability relaxed",
    }
    assert all(f.text for f in preflight(broken, durability="strict"))


def test_a_server_that_says_nothing() -> None:
    """A server without version and history is refused; only strict holds against it what it hides."""
    assert [f.name for f in preflight({}, durability="relaxed")] == ["version", "replid"]
    assert [f.name for f in preflight({}, durability="strict")] == [
        "version",
        "replid",
        "appendfsync",
    ]


def test_an_unfit_server_is_named_with_its_fix() -> None:
    """What refuses a server is one text with every reason; a warning alone does not refuse."""
    assert unfit(GOOD | {"aof_enabled": "0"}, durability="relaxed") is None
    text = unfit(GOOD | {"maxmemory_policy": "allkeys-lru"}, durability="relaxed")
    assert (
        text == "the eviction policy allkeys-lru may drop a record; set maxmemory-policy noeviction"
    )
