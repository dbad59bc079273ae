"""The long run sees a loss, a repeat, a log that is gone and memory that grows."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path
from typing import Any, cast

import pytest
import redis.asyncio as redis_asyncio

from syncer.ledger.codec import encode_element, stored
from syncer.model.attempt import Attempt, AttemptState, Epoch, FailureClass, make_attempt_id
from syncer.model.record import Header, attempt_record, intent_record
from syncer.rules.fold import ROOT_CHAIN
from tests.benchmarks.goals import FLAT
from tests.benchmarks.soak import (
    EXPECTED,
    MIX,
    QUICK,
    CountingReceiver,
    Result,
    Sample,
    Scale,
    Soak,
    Tally,
    growth,
    kind_of,
    measure,
    told,
)
from tests.benchmarks.watching import FinalWatcher
from tests.e2e.checker import Log
from tests.servers.controlplane import ControlPlane

EPOCH = Epoch("0.7")
CHANNEL = "slack:ops"
ANSWERS = {"good": [200], "flaky": [503, 503, 200], "refused": [400], "hopeless": [503, 503]}


def log_of(codes: list[int], *, failure: FailureClass = FailureClass.TRANSIENT) -> Log:
    """A log with one attempt for each code; 0 leaves it open."""
    elements, chain, position = [Header("n/n", EPOCH).encode()], ROOT_CHAIN, 0
    for n, code in enumerate(codes, 1):
        identity = make_attempt_id(EPOCH, n)
        records = [intent_record(identity, CHANNEL, at=n, by="bench")]
        if code:
            good = code == 200
            records.append(
                attempt_record(
                    Attempt(
                        identity, CHANNEL, AttemptState.SUCCESS if good else AttemptState.FAILED,
                        ended=n, failure=None if good else failure, code=code,
                    )
                )
            )  # fmt: skip
        for record in records:
            elements.append(encode_element(record, chain))
            position += 1
            chain = stored(record, chain, position).chain
    return Log.read(elements)


def counted(name: str, received: list[int], log: Log | None, *, phase: str = "") -> Tally:
    """What a notification comes to that the receiver answered so and that has such a log."""
    receiver, watcher = CountingReceiver(), FinalWatcher(cast("Any", None))
    receiver.heard[name] = len(received)
    receiver.taken[name] = received.count(200)
    kind = name.partition("-")[0]
    if kind in EXPECTED:
        watcher.finals[name] = phase or EXPECTED[kind][0]
    soak = Soak(cast("Any", None), watcher, receiver, cast("Any", None), QUICK)
    soak._count(name, log)
    assert soak.tally.counted == 1
    assert soak.tally.calls == len(received)
    return soak.tally


def noticed(tally: Tally) -> dict[str, int]:
    """What is not as it should be."""
    names = ("lost", "invented", "repeated", "wrong")
    return {name: n for name in names if (n := getattr(tally, name))}


@pytest.mark.parametrize(("kind", "codes"), ANSWERS.items())
def test_nothing_is_noticed_where_all_is_well(kind: str, codes: list[int]) -> None:
    """Of each kind; an attempt given up before it was sent is none that the receiver lacks."""
    assert not noticed(counted(f"{kind}-1", codes, log_of(codes)))
    given_up = log_of([999, *codes], failure=FailureClass.NOT_SENT)
    if len(codes) == 1 and codes != [400]:
        assert not noticed(counted(f"{kind}-1", codes, given_up))


@pytest.mark.parametrize(
    ("name", "received", "recorded", "phase", "expected"),
    [
        pytest.param("flaky-1", [503, 503, 200], [503, 200], "", {"lost": 1}, id="a call is lost"),
        pytest.param("good-1", [200], [503], "", {"lost": 1}, id="a success is recorded as failed"),
        pytest.param(
            "flaky-1", [503, 503, 503], [503, 503, 200], "", {"invented": 1},
            id="a success is recorded that was none",
        ),
        pytest.param(
            "flaky-1", [503, 200], [503, 503, 200], "", {"invented": 1, "wrong": 1},
            id="an attempt is recorded that was never received",
        ),
        pytest.param(
            "good-1", [200, 200], [200, 200], "", {"repeated": 1}, id="a message comes twice"
        ),
        pytest.param("good-1", [200], [200], "Failed", {"wrong": 1}, id="the status is wrong"),
        pytest.param("good-1", [200], [0], "", {"lost": 1}, id="the result is not recorded"),
        pytest.param("good-1", [200], None, "", {"lost": 1, "wrong": 1}, id="the log is gone"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_noticed(
    name: str, received: list[int], recorded: list[int] | None, phase: str, expected: dict[str, int]
) -> None:
    """The receiver's count and the record are held against each other, and the end against the kind."""
    log = None if recorded is None else log_of(recorded)
    assert noticed(counted(name, received, log, phase=phase)) == expected


def test_kinds_take_turns() -> None:
    """Twenty in a row are the mix, and never do three in a row fail: the breaker would open."""
    kinds = [kind_of(n) for n in range(200)]
    assert Counter(kinds[:20]) == Counter(MIX)
    bad = [k in {"flaky", "refused", "hopeless"} for k in kinds]
    assert not any(all(bad[n : n + 3]) for n in range(len(bad) - 2))


def test_growth_is_the_rise_of_a_line() -> None:
    """Per hour, and as a share of the median; noise around a level is none."""
    hourly, share = growth([(n, 100 + n / 100) for n in range(0, 901, 5)])
    assert hourly == pytest.approx(36)
    assert share == pytest.approx(9 / 104.5)
    level = [(float(n), 100 + (-1) ** n) for n in range(200)]
    assert abs(growth(level)[1]) < 0.001


@pytest.mark.parametrize(
    ("rise", "verdict"), [pytest.param(3, "met", id="3 %"), pytest.param(7, "missed", id="7 %")]
)
def test_memory_that_grows_is_noticed(rise: float, verdict: str) -> None:
    """In a run that is long enough, the second half alone is judged."""
    scale = Scale(1800, 20, 5)
    samples = [
        Sample(at, 50 + at / 18 if at < 900 else 100 + rise * (at - 900) / 900, 20, at / 100, 2, 400, 1, 1,
               0, 0)
        for at in range(0, 1800, 5)
    ]  # fmt: skip
    result = Result(samples, Tally(1, 1, 1), 1, 1, 1, 50, scale.seconds)
    report = told(result, scale)
    (judged,) = [f for f in report.figures if f.name.startswith("resident memory: growth")]
    assert (judged.verdict, judged.goal) == (verdict, FLAT)
    short = told(Result(samples, Tally(1, 1, 1), 1, 1, 1, 50, 90), QUICK)
    assert not any(f.goal for f in short.figures if "growth" in f.name)


async def steal(redis_url: str) -> str:
    """Take the last record of one log that was let go; returns its text."""
    async with redis_asyncio.Redis.from_url(redis_url) as client:
        while True:
            async for key in client.scan_iter(match="*:{*}"):
                if await client.ttl(key) > 0 and "/good-" in str(await client.lindex(key, 0)):
                    return str(await client.rpop(key))
            await asyncio.sleep(0.05)


@pytest.mark.parametrize("redis_binary", ["redis-server"], indirect=True)
async def test_a_stolen_record_is_the_only_thing_noticed(
    control_plane: ControlPlane, redis_url: str, tmp_path: Path
) -> None:
    """A few seconds of the whole thing: all end, are deleted and counted, and nothing is left."""
    scale = Scale(5, 8, 1, 1, 1)
    thief = asyncio.create_task(steal(redis_url))
    result = await measure(control_plane, redis_url, tmp_path / "stage", scale)
    assert "success" in await thief
    assert (result.tally.created, result.tally.counted) == (40, 40)
    # Twelve, four, one, two and one of twenty; a hopeless one is called up to three times.
    assert 2 * 28 <= result.tally.calls <= 2 * 30
    assert noticed(result.tally) == {"lost": 1}
    assert result.keys_after == 1
    assert len(result.samples) >= 5
    assert all(s.rss > 20 and s.fds > 5 for s in result.samples)
