"""The preflight: which servers are refused or warned about, and how far two servers' clocks are apart."""

from __future__ import annotations

import pytest

from syncer.ledger import connection
from syncer.ledger.preflight import Clocks, Severity, preflight, unfit
from syncer.runtime.clock import LedgerTime, ServerTime

REFUSE, WARN = Severity.REFUSE, Severity.WARN
#: INFO of a server with nothing to object to.
GOOD = {
    "redis_version": "7.0.15",
    "master_replid": "8f6a",
    "maxmemory_policy": "noeviction",
    "aof_enabled": "1",
    "aof_last_write_status": "ok",
    "appendfsync": "always",
}

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


# -- clocks: which time decides what cannot be undone ----------------------------------------------

START = 1_800_000_000_000
DAY = 86_400_000


class Boot:
    """A boot clock that the test moves."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def monotonic(monkeypatch: pytest.MonkeyPatch) -> Boot:
    """A fresh one, also for what is read of a server."""
    made = Boot()
    monkeypatch.setattr(connection, "monotonic_clock", made)
    return made


@pytest.mark.parametrize(
    ("redis", "api", "certain"),
    [
        pytest.param(START + 8 * DAY, START, START, id="Redis is ahead"),
        pytest.param(START, START + 8 * DAY, START, id="the API server is ahead"),
        pytest.param(START, None, 0, id="the API server was not heard"),
    ],
)
def test_the_earlier_time_is_the_certain_one(
    monotonic: Boot, redis: int, api: int | None, certain: int
) -> None:
    """A clock that is ahead ends nothing, and nothing is over while only one is known."""
    api_time = ServerTime(monotonic)
    time = LedgerTime(monotonic, api_time=api_time)
    time.set(redis)
    if api is not None:
        api_time.set(api)
    assert time.certain() == certain
    assert time.now() == redis
    monotonic.now += 60
    assert time.certain() == (certain + 60_000 if certain else 0)


def test_without_the_api_servers_redis_time_is_all_there_is(monotonic: Boot) -> None:
    """As where a part of the product is used alone."""
    time = LedgerTime(monotonic)
    time.set(START)
    assert time.certain() == START


def info(now: int, run: str = "a") -> dict[str, str]:
    """What a server with that time says of itself."""
    return connection.with_clock({"run_id": run, "server_time_usec": str(now * 1000)})


def test_the_server_that_is_furthest_off_counts(monotonic: Boot) -> None:
    """Of several, by the last look at each; one that was replaced is forgotten."""
    api = ServerTime(monotonic)
    clocks = Clocks(api)
    assert clocks.ahead(info(START)) is None
    nothing = clocks.worst
    assert nothing is None
    api.set(START)
    assert clocks.ahead({"run_id": "a"}) is None
    assert clocks.ahead(info(START + 2000)) == 2.0
    assert clocks.ahead(info(START - 9000, "b")) == -9.0
    assert clocks.worst == -9.0
    monotonic.now += 50
    late = START + 50_000
    assert clocks.ahead(info(late + 1000)) == 1.0
    assert clocks.worst == -9.0
    monotonic.now += 20
    assert clocks.worst == 1.0


def test_a_server_that_is_not_looked_at_is_forgotten(monotonic: Boot) -> None:
    """After a minute, and for good: servers come and go for as long as a process runs."""
    api = ServerTime(monotonic)
    api.set(START)
    clocks = Clocks(api)
    clocks.ahead(info(START - 9000))
    monotonic.now += 60
    clocks.ahead(info(START + 60_000, "b"))
    assert clocks.worst == -9.0
    monotonic.now += 1
    clocks.ahead(info(START + 61_000, "c"))
    assert clocks.worst == 0.0
    assert set(clocks._seen) == {"b", "c"}


def test_an_old_look_is_no_difference(monotonic: Boot) -> None:
    """What a server said of itself stays right, however late it is looked at."""
    api = ServerTime(monotonic)
    api.set(START)
    said = info(START)
    monotonic.now += 3600
    assert Clocks(api).ahead(said) == 0.0


@pytest.mark.parametrize(
    ("ahead", "severity"),
    [
        (None, None), (0.0, None), (60.0, None), (-60.0, None),
        (61.0, Severity.WARN), (-900.0, Severity.WARN),
        (901.0, Severity.HOLD), (-8 * 86_400.0, Severity.HOLD),
    ],
)  # fmt: skip
def test_from_which_difference_on_attempts_are_held(
    ahead: float | None, severity: Severity | None
) -> None:
    """A minute is said, a quarter of an hour holds; the process does not end for either."""
    found = preflight(GOOD, durability="relaxed", ahead=ahead)
    assert [f.severity for f in found] == ([severity] if severity else [])
    why = unfit(GOOD, durability="relaxed", ahead=ahead)
    assert (why is not None) is (severity is Severity.HOLD)
    if why is not None:
        assert "ahead of" in why or "behind" in why
        assert "NTP" in why
