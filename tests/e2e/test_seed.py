"""
The seed's own tests: what this project was started for, on a real API server and a real Redis.

A receiver fails, fails, succeeds, with the same words each time; the status must show three
attempts and the receiver must have counted three. Five writers publish at the same moment into one
object that a rival keeps editing; all five must be shown, every time.

The file channel has no script of faults of its own. It is made to fail by what fails in real life:
where its directory should be, there is a plain file, until each notification has failed twice. The
second attempts of all must be over before the first third one is due, so its back-off is long. All of
them must arrive, in any case.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import pytest

from syncer.model.attempt import AttemptState, Epoch, attempt_epoch
from syncer.sync.status_writer import MAX_CONFLICTS
from tests.benchmarks.naive import CHANNEL, RIVAL, WRITERS, Round, contend, naive_rounds
from tests.benchmarks.strategies import Product, product
from tests.beside import beside
from tests.e2e.checker import Kind, Log, Version
from tests.e2e.harness import BUSY, OK, QUICK, Stage, stage, until
from tests.servers.controlplane import ControlPlane

pytestmark = [
    pytest.mark.parametrize("redis_binary", ["redis-server"], indirect=True),
    pytest.mark.timeout(300),
]

CROWD: Final = 100
ROUNDS: Final = 100
#: Rounds at a time, each on an object of its own: while one backs off, another fights.
_AT_ONCE: Final = 3
#: Status writes that one attempt may cost under this load; each flush makes six at most.
_MOST_WRITES: Final = 6 * (MAX_CONFLICTS + 1)
WAIT: Final = 1.0
#: What every writer records; identical, so that only ids tell the attempts apart.
ERROR: Final = "slack webhook returned 503 (retryable)"
#: Seconds by which two stamps of ledger time may be off: it steps by the latency of a reply of Redis.
_STEP: Final = 0.5
#: Seconds between the second and the third attempt at the file channel, while the fault is ended.
_APART: Final = 10
#: Leases as long as by default, and as many: this is no test of takeovers.
_SHARDS: Final = {"shards": 16, "renewDeadline": "5s", "retryPeriod": "2s", "margin": "3s"}


def _three_attempts(version: Version, channel: str) -> None:
    """The status shows failed, failed, success, numbered 1, 2, 3, and counts to match."""
    shown = [(a["channel"], a["attempt"], a["status"]) for a in version.attempts]
    assert shown == [(channel, 1, "failed"), (channel, 2, "failed"), (channel, 3, "success")]
    first, second, third = version.attempts
    assert first["error"] == second["error"], "the texts are meant to be identical"
    assert "error" not in third
    assert len({a["id"] for a in version.attempts}) == 3
    counts = ("totalAttempts", "successfulDeliveries", "failedDeliveries", "uncertainAttempts")
    assert [version.status.get(c, 0) for c in counts] == [3, 1, 0, 0]


@pytest.mark.stage(default=(BUSY, BUSY, OK), sampled=True)
async def test_a_hundred_through_slack_show_all_three_attempts(here: Stage) -> None:
    """Fail, fail, success with identical bodies, a hundred at once: three attempts, three calls."""
    await here.notifier(sharding=_SHARDS).start().wait_ready()
    names = [f"n-{n:03}" for n in range(CROWD)]
    async with _alive(here) as others:
        uids = await asyncio.gather(*map(here.create, names))
        for name, uid in zip(names, uids, strict=True):
            _three_attempts(await here.wait_phase(uid, within=60), CHANNEL)
            calls = here.receiver.calls(name)
            assert [c.code for c in calls] == [503, 503, 200]
            waits = [after.at - before.answered for before, after in pairwise(calls)]
            assert min(waits) >= WAIT - _STEP, f"{name} was not waited for: {waits}"
    findings = await here.sound(uids + others)
    assert not findings.of(Kind.EXPLAINED)
    wanted = 3 * CROWD + len(others)
    assert (findings.calls, findings.attempts) == (wanted, wanted)


@asynccontextmanager
async def _alive(here: Stage) -> AsyncIterator[list[str]]:
    """
    Have the receiver take another message at once, every other second; gives the uids.

    Otherwise the circuit breaker would, rightly, take a receiver that refuses a hundred
    notifications in a row for dead, and try it ever more rarely, with one call at a time.
    """
    uids: list[str] = []

    async def one() -> None:
        name = f"other-{len(uids)}"
        here.script(name, OK)
        uids.append(await here.create(name))

    async def more() -> None:
        while True:
            await asyncio.sleep(2)
            await one()

    await one()
    await here.wait_phase(uids[0])
    async with beside(more()):
        yield uids
    await here.wait_sent(uids)


async def test_a_hundred_through_the_file_channel_show_all_three_attempts(here: Stage) -> None:
    """The directory is not one for two attempts of each: three attempts and one file each."""
    await here.notifier(to="file", sharding=_SHARDS).start().wait_ready()
    uids = await _fail_twice(here, [f"n-{n:03}" for n in range(CROWD)])
    for uid in uids:
        _three_attempts(await here.wait_phase(uid, within=60), "file")
    documents = [json.loads(path.read_text()) for path in here.output.iterdir()]
    written = Counter(d["metadata"]["uid"] for d in documents)
    assert written == dict.fromkeys(here.watcher.versions, 1), "one file each"
    await here.wait_acked(uids)
    _waited(await here.logs(uids))
    await here.sound()


async def _fail_twice(here: Stage, names: Sequence[str]) -> list[str]:
    """Create notifications at once while a plain file stands where the directory should be."""
    aside = here.folder / "aside"
    here.output.rename(aside)
    here.output.write_text("in the way")
    policy = {**QUICK, "backoffMultiplier": _APART}
    uids = await asyncio.gather(*(here.create(name, retryPolicy=policy) for name in names))

    async def enough() -> bool:
        # Header and plan, then intent and result of each attempt.
        return min(await here.lengths(uids)) >= 6

    await until(enough, "all have failed twice")
    here.output.unlink()
    aside.rename(here.output)
    return uids


def _waited(logs: Mapping[str, Log]) -> None:
    """Each next attempt began a back-off after the one before had ended, by ledger time."""
    for log in logs.values():
        intents = [r for r in log.records if r.kind.state is AttemptState.INTENT]
        results = [r for r in log.records if (r.kind.state or 0) > AttemptState.INTENT]
        pairs = zip(results, intents[1:], strict=False)
        waits = [int(intent.body["at"]) - int(result.body["at"]) for result, intent in pairs]
        assert len(waits) == 2
        assert min(waits) >= (WAIT - _STEP) * 1000, f"not waited for: {waits}"


# -- five concurrent status updates ---------------------------------------------------------------


@asynccontextmanager
async def _writers(here: Stage) -> AsyncIterator[list[Product]]:
    """
    Whole writing sides, which share nothing.

    Each has a log of its own (its own key prefix), so what it knows of the attempts of the others
    is what the object shows, and nothing else. That is the hardest case for the merge.
    """
    async with AsyncExitStack() as stack:
        yield [
            await stack.enter_async_context(
                product(
                    here.plane, here.redis_url,
                    prefix=f"{here.prefix}.{n}", epoch=Epoch(f"0.{101 + n}"), window=0.0,
                )
            )
            for n in range(WRITERS)
        ]  # fmt: skip


async def _publish(writer: Product, created: dict[str, Any], together: asyncio.Barrier) -> None:
    """Record one attempt, and have it published and acknowledged."""
    await writer.open(created)
    await together.wait()
    await writer.record(created, 0, ERROR)
    await writer.settle()


async def test_five_writers_and_a_rival_lose_nothing(
    control_plane: ControlPlane, namespace: str, redis_url: str, tmp_path: Path
) -> None:
    """Five writers at once on one object that a rival edits, a hundred times: all is shown."""
    # Nothing to sample: the logs are the writers' own, under other keys.
    unsampled = stage(control_plane, redis_url, tmp_path, sampled=False)
    async with unsampled as here, _writers(here) as writers:
        slots = asyncio.Semaphore(_AT_ONCE)

        async def one(n: int) -> Round:
            together = asyncio.Barrier(WRITERS)
            async with slots:
                return await contend(
                    here.api, f"round-{n:03}", lambda k, c: _publish(writers[k], c, together)
                )

        rounds = await asyncio.gather(*(one(n) for n in range(ROUNDS)))
        for n, done in enumerate(rounds):
            epochs = {attempt_epoch(a["id"]) for a in done.shown}
            assert epochs == {w.term.epoch for w in writers}
            assert [a["attempt"] for a in done.shown] == list(range(1, WRITERS + 1))
            assert done.object["status"]["totalAttempts"] == WRITERS
            assert not done.rival_lost, f"round {n}: {RIVAL} lost its last write"
        shown = {a["id"] for done in rounds for a in done.shown}
        assert shown == {f"{w.term.epoch}-{n}" for w in writers for n in range(1, ROUNDS + 1)}
        _fought(writers, rounds)
        versions = here.watcher.versions
        await until(
            lambda: sum(len(v) for v in versions.values()) >= WRITERS * ROUNDS,
            "the watch has seen the writes",
        )
        # No receiver takes part, so only what the versions say among themselves is judged.
        findings = await here.findings(finished=False)
        assert not findings.of(Kind.REGRESSED), str(findings)
        assert not findings.of(Kind.REORDERED), str(findings)


def _fought(writers: Sequence[Product], rounds: Sequence[Round]) -> None:
    """There were conflicts, all of them were settled, and none took many tries."""
    metric = "notification_ledger_status_conflicts_total"
    retried, requeued = (
        [w.registry.get_sample_value(metric, {"result": result}) or 0.0 for w in writers]
        for result in ("retried", "requeued")
    )
    assert sum(retried) > len(rounds), "hardly a conflict: the load proves nothing"
    assert all(retried)
    assert sum(r.rival.conflicts for r in rounds) > 0, "the rival never lost a race"
    costs = [n for w in writers for n in w.costs.writes.values()]
    text = (
        f"{sum(retried):g} retried, {sum(requeued):g} requeued, {sum(costs)} writes,"
        f" {max(costs)} at most"
    )
    assert max(costs) <= _MOST_WRITES, text
    assert sum(costs) <= len(costs) * 2 * (MAX_CONFLICTS + 1), text


async def test_the_same_load_loses_attempts_of_a_naive_writer(here: Stage) -> None:
    """Under the same load an overwriting writer loses attempts: the test above can fail."""
    # Each round loses some: a sixth of them shows it.
    rounds = await naive_rounds(here.api, ROUNDS // 6)
    assert sum(r.missing for r in rounds) > len(rounds)
    assert all(r.shown for r in rounds), "each write is accepted, and yet lost"
