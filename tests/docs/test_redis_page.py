"""
Every recipe of docs/redis.md, run as it stands on the page, on a real Redis and a real Valkey.

The logs are written by the product's own scripts; what a recipe must print is worked out from what was
written, not from another run of the recipe.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest
import redis

from syncer.ledger.client import LedgerClient
from syncer.model.attempt import Attempt, AttemptId, AttemptState, FailureClass, make_epoch
from syncer.model.record import Plan, attempt_record, intent_record, plan_record, skip_record
from syncer.runtime.supervise import beside
from tests.fakes.claimedlog import ClaimedLog
from tests.servers.redis import RedisServer
from tests.servers.users import acl_rule

ROOT: Final = Path(__file__).resolve().parents[2]
PAGE: Final = ROOT / "docs" / "redis.md"
_RECIPE: Final = re.compile(r"^<!-- recipe: (\S+) -->\n```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)
EPOCH: Final = make_epoch(0, "7")
T0: Final = 1_795_576_400_000
PASSWORD: Final = "of the reader"
#: As the page says it.
AS_READER: Final = 'redis-cli() { command redis-cli --user reader "$@"; }'
TEXT: Final = "the receiver is busy: “später” \n second line"


def recipes() -> dict[str, str]:
    """Commands of the page, by name."""
    return dict(_RECIPE.findall(PAGE.read_text(encoding="utf-8")))


@dataclass(frozen=True, slots=True)
class Store:
    """A server with logs in it."""

    url: str
    plain: redis.Redis

    def run(self, name: str) -> list[str]:
        """Run a recipe; returns the lines that it printed."""
        env = {
            "PATH": os.environ["PATH"], "REDIS_URL": self.url, "NL": "nl", "NL_UID": "u-retry",
            "LC_ALL": "C.UTF-8", "REDISCLI_AUTH": PASSWORD,
        }  # fmt: skip
        answer = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", f"{AS_READER}\n{recipes()[name]}"],
            capture_output=True, text=True, env=env, check=False, timeout=30,
        )  # fmt: skip
        assert answer.returncode == 0, answer.stderr
        assert not answer.stderr, answer.stderr
        return answer.stdout.splitlines()


async def _fill(url: str) -> None:
    """
    Four logs.

    u-sent: delivered and published. u-retry: one failure, one unknown, and a skip; published up to
    the plan. u-open: an intent stands open. u-other: another namespace, only planned, the oldest.
    """
    client = LedgerClient(url, prefix="nl", timeout=3.0)
    async with beside(client.run()):
        log = ClaimedLog(client)
        await client.open("ledger/notification-ledger@cluster")
        for n, (uid, name) in enumerate(
            (("u-sent", "demo/sent"), ("u-retry", "demo/disk-full"), ("u-open", "demo/open"),
             ("u-other", "team-b/other"))
        ):  # fmt: skip
            await log.claim(uid, EPOCH, name=name)
            at = T0 - 5000 if uid == "u-other" else T0 + n
            plan = Plan(("slack:ops", "e-mail:on call"), "RoutingRuleMatched", "rule", at, "0" * 16)
            await log.note(uid, plan_record(plan))
        await _attempt(log, "u-sent", 1, AttemptState.SUCCESS)
        await _attempt(log, "u-retry", 2, AttemptState.FAILED)
        await _attempt(log, "u-retry", 3, AttemptState.UNKNOWN)
        await log.note("u-retry", skip_record("skip:1", "slack:ops", at=T0 + 99, why="breaker"))
        await _attempt(log, "u-open", 4, None)
        for uid, position in (("u-sent", 3), ("u-retry", 1), ("u-other", 1)):
            snapshot = await log.read(uid)
            assert snapshot is not None
            ttl = 90_000 if uid == "u-sent" else 0
            await log.ack(uid, position, snapshot.records[position - 1].chain, ttl=ttl)


async def _attempt(log: ClaimedLog, uid: str, n: int, state: AttemptState | None) -> None:
    identity = AttemptId(f"{EPOCH}-{n}")
    intent = intent_record(identity, "slack:ops", at=T0 + n, by="me")
    await log.open(uid, EPOCH, intent)
    if state is None:
        return
    failed = state is not AttemptState.SUCCESS
    attempt = Attempt(
        identity, "slack:ops", state, ended=T0 + n + 10, due=T0 + n + 1000 if failed else 0,
        failure=FailureClass.TRANSIENT if failed else None, error=TEXT if failed else "",
        code=503 if failed else 200,
    )  # fmt: skip
    await log.outcome(uid, attempt_record(attempt), intent, name="demo/x")


@pytest.fixture(scope="module")
def store(redis_server: RedisServer) -> Iterator[Store]:
    """The run's server, emptied and filled once for all recipes."""
    redis_server.heal()
    redis_server.flush()
    asyncio.run(_fill(redis_server.url))
    plain = redis.Redis.from_url(redis_server.url)
    plain.set("somebody:else", "1")
    # Whoever follows the page needs no more rights than it says.
    plain.execute_command(*acl_rule("reader", PASSWORD))  # type: ignore[no-untyped-call]  # vendor
    yield Store(redis_server.url, plain)
    plain.acl_deluser("reader")
    plain.close()


def meta(here: Store) -> None:
    """The stamp."""
    (line,) = here.run("meta")
    assert re.fullmatch(
        r"format=\d+ installation=ledger/notification-ledger@cluster store=[0-9a-f]{16}", line
    )


def raw(here: Store) -> None:
    """As many elements as there are, the header first, bytes that are no text escaped."""
    lines = here.run("raw")
    assert lines[0].startswith('1) "nl1 object=demo/disk-full epoch=0.7 acked=1 ')
    kinds = [re.match(r'\d\) "(\w+) \S+ \S+ [0-9a-f]{8} [0-9a-f]{8} \\x8', e) for e in lines[1:]]
    assert [k and k[1] for k in kinds] == ["plan", "intent", "failed", "intent", "unknown", "skip"]


def decoded(here: Store) -> None:
    """Every record with its map as JSON."""
    lines = here.run("decoded")
    assert [line.split(" ", 4)[:4] for line in lines[1:]] == [
        ["1", "plan", "plan", "-"],
        ["2", "intent", "0.7-2", "slack:ops"],
        ["3", "failed", "0.7-2", "slack:ops"],
        ["4", "intent", "0.7-3", "slack:ops"],
        ["5", "unknown", "0.7-3", "slack:ops"],
        ["6", "skip", "skip:1", "slack:ops"],
    ]
    bodies = [json.loads(line.split(" ", 4)[4]) for line in lines[1:]]
    assert bodies[2] == {
        "v": 1, "at": T0 + 12, "due": T0 + 1002, "code": 503, "class": "transient", "error": TEXT,
    }  # fmt: skip
    assert bodies[5]["why"] == "breaker"


def headers(here: Store) -> None:
    """One header for each log, and nothing of others."""
    found = sorted(line.split(" ")[1] for line in here.run("headers"))
    assert found == [
        "object=demo/disk-full", "object=demo/open", "object=demo/sent", "object=team-b/other",
    ]  # fmt: skip


def largest(here: Store) -> None:
    """The log with most records first."""
    lines = [line.split("\t") for line in here.run("largest")]
    assert lines[0][2] == "nl:{u-retry}"
    assert {line[2]: int(line[1]) for line in lines} == {
        "nl:{u-retry}": 7, "nl:{u-sent}": 4, "nl:{u-open}": 3, "nl:{u-other}": 2,
    }  # fmt: skip
    sizes = [int(line[0]) for line in lines]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[-1] > 50


def oldest(here: Store) -> None:
    """By the time of the plan."""
    lines = here.run("oldest")
    assert lines[0] == f"{T0 - 5000} nl:{{u-other}}"
    assert [line.split(" ")[1] for line in lines[1:]] == [
        "nl:{u-sent}",
        "nl:{u-retry}",
        "nl:{u-open}",
    ]


def dump(here: Store) -> None:
    """Each element of each log, as JSON, equal to what the list holds."""
    lines = [json.loads(line) for line in here.run("dump")]
    lengths = {
        uid: here.plain.llen(f"nl:{{{uid}}}") for uid in ("u-sent", "u-retry", "u-open", "u-other")
    }
    assert {uid: sum(line["uid"] == uid for line in lines) for uid in lengths} == lengths
    failed = [line for line in lines if line.get("kind") == "failed"]
    assert [(line["uid"], line["position"], line["body"]["error"]) for line in failed] == [
        ("u-retry", 3, TEXT)
    ]
    for line in lines:
        element = here.plain.lindex(f"nl:{{{line['uid']}}}", line["position"])
        assert isinstance(element, bytes)
        if line["position"]:
            assert element.startswith(
                f"{line['kind']} {line['id']} {line['channel']} {line['crc32']} {line['chain']} ".encode()
            )
        else:
            assert element.decode() == line["header"]


def fit(here: Store) -> None:
    """All that matters is said."""
    text = "\n".join(here.run("fit"))
    for word in ("maxmemory_policy:noeviction", "aof_enabled:1", "role:master", "master_replid:"):
        assert word in text


CHECKS: Final[dict[str, Callable[[Store], None]]] = {
    check.__name__: check for check in (meta, raw, decoded, headers, largest, oldest, dump, fit)
}
_LINE: Final = " ".join(TEXT.split())
#: What the others print; SCAN returns keys in any order, so the lines of some are sorted.
PRINTED: Final = {
    "find": ["nl:{u-retry}"],
    # It has not ended.
    "ttl": ["-1"],
    "namespaces": ["3 demo", "1 team-b"],
    "unsynced": [
        "nl:{u-open} demo/open acked=0 last=2", "nl:{u-retry} demo/disk-full acked=1 last=6",
    ],
    # The failed and the delivered ones are not named.
    "unknowns": ["nl:{u-open} 0.7-4 slack:ops intent", "nl:{u-retry} 0.7-3 slack:ops unknown"],
    # The newest first, each on one line.
    "errors": [f"{T0 + 13} 0.7-3 {_LINE}", f"{T0 + 12} 0.7-2 {_LINE}"],
}  # fmt: skip
_SORTED: Final = ("unsynced", "unknowns")


def test_the_page_says_how_to_log_in() -> None:
    """The recipes are run with no more rights, and in no other way, than the page says."""
    assert AS_READER in PAGE.read_text()


def test_every_recipe_has_a_check() -> None:
    """The page has these recipes and no block of commands beside them, but the one that sets names."""
    assert set(recipes()) == {*CHECKS, *PRINTED}
    blocks = re.findall(r"^```sh$", PAGE.read_text(), re.MULTILINE)
    assert len(blocks) == len(CHECKS) + len(PRINTED) + 1


def test_recipes_can_only_read() -> None:
    """Scripts are run read-only, and no command of the page writes."""
    commands = "\n".join(recipes().values())
    assert not re.search(r"\b(EVAL|EVALSHA)\b(?!_RO)", commands)
    writing = r"redis-cli[^|\n]*\b(DEL|SET|RPUSH|LPUSH|LSET|LTRIM|EXPIRE|PERSIST|FLUSH\w*|RENAME)\b"
    assert not re.search(writing, commands)


@pytest.mark.parametrize("name", sorted({*CHECKS, *PRINTED}))
def test_recipe(name: str, store: Store) -> None:
    """A recipe prints what the page says, and leaves every log as it was."""
    assert shutil.which("redis-cli"), "redis-cli is missing; it comes with redis-server"
    before = {key: _dump(store, key) for key in sorted(store.plain.scan_iter("nl:*"))}
    if name in CHECKS:
        CHECKS[name](store)
    else:
        printed = [" ".join(line.split()) for line in store.run(name)]
        assert (sorted(printed) if name in _SORTED else printed) == PRINTED[name]
    assert {key: _dump(store, key) for key in sorted(store.plain.scan_iter("nl:*"))} == before


def _dump(store: Store, key: bytes) -> object:
    return store.plain.lrange(key, 0, -1) if key != b"nl:meta" else store.plain.get(key)


def test_a_record_that_cannot_be_read_is_shown_as_such(store: Store) -> None:
    """A broken record hides none of the others."""
    whole = store.plain.lindex("nl:{u-retry}", 3)
    assert whole is not None
    store.plain.lset("nl:{u-retry}", 3, "garbage")
    try:
        lines = store.run("decoded")
        dumped = [json.loads(line) for line in store.run("dump")]
    finally:
        store.plain.lset("nl:{u-retry}", 3, whole)  # type: ignore[arg-type]  # bytes do, too
    assert lines[3] == "3 UNREADABLE"
    assert lines[6].startswith("6 skip skip:1 slack:ops {")
    assert [d["unreadable"] for d in dumped if "unreadable" in d] == [b"garbage".hex()]


def test_a_log_is_found_over_a_bounded_number_of_connections(store: Store) -> None:
    """Looking for a name opens as many connections for five hundred logs as for five."""

    def opened() -> int:
        before = store.plain.info("stats")["total_connections_received"]
        assert store.run("find") == ["nl:{u-retry}"]
        return int(store.plain.info("stats")["total_connections_received"] - before)

    few = opened()
    keys = [f"nl:{{more-{n}}}" for n in range(500)]
    for key in keys:
        store.plain.rpush(key, "nl1 object=demo/else epoch=0.7 acked=0 audited=0")
    try:
        assert opened() == few
    finally:
        store.plain.delete(*keys)


def test_the_page_names_every_key() -> None:
    """Whatever the code keeps under the prefix has a row in the key map."""
    source = "".join(path.read_text() for path in (ROOT / "syncer").rglob("*.py"))
    names = set(re.findall(r"""prefix\}?:([a-z]+|\{\{)""", source))
    assert {"{{", "meta", "poke", "aside"} <= names
    rows = re.findall(r"^\| `nl:([a-z]+|\{)", PAGE.read_text(), re.MULTILINE)
    assert sorted(names) == sorted(row.replace("{", "{{") for row in rows)
