"""Repairs as they are planned: facts that are joined, logs that are built anew."""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from itertools import count
from typing import Any
from unittest.mock import AsyncMock, call

import pytest

from syncer.cli import verify
from syncer.cli.scan import Joined, Result
from syncer.cli.verify import (
    Step,
    carry_out,
    plan_repair,
    wait_clean,
)
from syncer.ledger.codec import encode_record
from syncer.ledger.reading import read_log
from syncer.model.attempt import Attempt, AttemptState, Epoch
from syncer.model.record import (
    LOG_ERROR_BYTES,
    Header,
    Kind,
    Record,
    attempt_record,
    skip_record,
)
from syncer.model.resource import NotificationRequest
from syncer.rules.advice import ADVICE
from syncer.rules.divergence import Divergence, Finding, Remedy
from tests.unit.syncer.cli.samples import (
    A1,
    A2,
    BOUNDS,
    NOW,
    PLAN,
    C,
    elements,
    entry,
    failed,
    opened,
    request,
)
from tests.unit.syncer.cli.world import Objects, World, logged, named


def allowing(**agreed: bool) -> argparse.Namespace:
    """What the operator has agreed to."""
    names = ("rebuild", "accept_loss", "unwitnessed")
    return argparse.Namespace(**{**dict.fromkeys(names, False), **agreed})


def joined(found: NotificationRequest, log: tuple[bytes, ...]) -> Joined:
    """An object and its log."""
    return Joined("u", "ns/n", found, log, ttl=-1)


def planned(
    spoilt: Joined, findings: Sequence[Finding] | None = None, /, **allowed: bool
) -> tuple[Step, ...]:
    """What is to be done."""
    wrong = spoilt.check(BOUNDS) if findings is None else findings
    return plan_repair(spoilt, wrong, allowed=allowing(**allowed), now=NOW, by="me")


def steps(spoilt: Joined, **allowed: bool) -> list[tuple[str, str]]:
    """What would be done, and the first words of it."""
    return [(s.act, s.text.partition(":")[0]) for s in planned(spoilt, **allowed)]


@pytest.fixture
def world() -> World:
    """A Redis and an API server without objects."""
    return World(Objects())


def test_facts_are_joined_although_a_log_is_not_replaced() -> None:
    """What may be mended is, beside what would need leave; behind damage nothing is appended."""
    beyond = elements(PLAN, header=Header("ns/n", Epoch("0.7"), acked=9))
    shown = joined(request(entry("failed")), beyond)
    assert [kind.value for kind, _ in shown.check(BOUNDS)] == ["mark-beyond", "log-behind"]
    assert steps(shown) == [
        ("nothing", "would need --rebuild"), ("nothing", "would need --unwitnessed"),
    ]  # fmt: skip
    assert steps(shown, unwitnessed=True) == [
        ("nothing", "would need --rebuild"), ("append", f"append seed.failed {A1}"),
        ("poke", "wake the owner"),
    ]  # fmt: skip
    assert steps(shown, rebuild=True) == [
        ("rebuild", "keep the log aside and replace it by one that is rebuilt"),
        ("poke", "have the owner check it"),
    ]  # fmt: skip
    damaged = (*beyond, b"damage")
    assert steps(joined(request(entry("failed")), damaged), rebuild=True) == [
        ("nothing", "would need --accept-loss")
    ]


def rebuilt(spoilt: Joined) -> tuple[Step, Header | None]:
    """The step that builds a log anew, and the header that it writes."""
    (step, *_) = planned(spoilt, rebuild=True, accept_loss=True)
    assert step.act == "rebuild"
    return step, read_log(step.elements).header


#: Records of a log, the places of those that are damaged and how many more elements are; what the object
#: shows; kind and id of the records of the new log before its note.
Built = tuple[tuple[Record, ...], tuple[int, ...], int, list[dict[str, Any]], list[tuple[str, str]]]
BUILT: dict[str, Built] = {
    "what both sides know": (
        (PLAN, opened(A1), failed(A1), opened(A2)), (2,), 1,
        [entry("failed"), entry("success", identity="0.7-9")],
        [("plan", "plan"), ("seed.unknown", A1), ("failed", A1), ("intent", A2), ("seed.success", "0.7-9")],
    ),
    "attempts by name alone": (
        (PLAN, opened(A1), opened(A2)), (2, 3), 2, [],
        [("plan", "plan"), ("seed.unknown", A1), ("seed.unknown", A2)],
    ),
    "a success by name alone, which must not be sent again, and no note without its text": (
        (PLAN, opened(A1), attempt_record(Attempt(A1, C, AttemptState.SUCCESS, ended=NOW)),
         skip_record("skip:1", C, at=NOW, why="w")), (3, 4), 0, [],
        [("plan", "plan"), ("intent", A1), ("seed.success", A1)],
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", BUILT)
def test_a_log_built_anew(case: str) -> None:
    """Of the old log what is legible, of the status what that lacks; no mark, and a note of the loss."""
    records, places, lost, shown, wanted = BUILT[case]
    broken = [*elements(*records), *[b"damage"] * lost]
    for n in places:
        broken[n] = broken[n][:-1] + b"\xff"
    step, header = rebuilt(joined(request(*shown), tuple(broken)))
    log = read_log(step.elements)
    assert (log.problem, header, step.lost) == ("", Header("ns/n", Epoch("0.7")), lost)
    *found, note = log.records
    assert [(r.kind.value, r.id) for r in found] == wanted
    did = f"rebuilt: {len(wanted)} record(s), {len(places)} of them by name alone, {lost} lost"
    assert step.text == f"keep the log aside and replace it by one that is {did}"
    assert (note.kind, note.id) == (Kind.REPAIR, f"repair:{NOW}")
    assert note.body.items() >= {"at": NOW, "by": "me", "what": "unreadable", "did": did}.items()
    unknown = {"at": NOW, "class": "uncertain", "error": "the record of this attempt was damaged"}
    assert all(r.body.items() >= unknown.items() for r in found if r.kind is Kind.SEED_UNKNOWN)


def test_the_header_of_a_log_built_anew() -> None:
    """The latest epoch that log or status name, and the object's own name."""
    for epoch, shown, wanted in (("0.9", "0.7-9", "0.9"), ("0.7", "0.8-9", "0.8")):
        log = (*elements(PLAN, header=Header("ns/old", Epoch(epoch))), b"damage")
        named = replace(joined(request(entry("success", identity=shown)), log), key="ns/old")
        _, header = rebuilt(named)
        assert header == Header("ns/n", Epoch(wanted))


#: Members of an attempt that a status may show, after an edit by hand, and no record can hold.
ODD: dict[str, dict[str, Any]] = {
    "a number": {"attempt": 10**17},
    "a code": {"code": 10**17},
    "the length of a call": {"durationSeconds": 1e300},
    "the end of time": {"timestamp": "9999-12-31T23:59:59Z"},
    "a text": {"error": "x" * 100_000},
}


@pytest.mark.parametrize("rebuild", [False, True])
@pytest.mark.parametrize("case", ODD)
def test_what_no_record_can_hold_is_cut(case: str, rebuild: bool) -> None:
    """A repair appends facts of whatever the status shows, as a claim does; none stops the others."""
    log = elements(PLAN, header=Header("ns/n", Epoch("0.7"), acked=9 if rebuild else 0))
    spoilt = joined(request(entry("failed") | ODD[case]), log)
    step = planned(spoilt, rebuild=rebuild, accept_loss=True, unwitnessed=True)[0]
    records = read_log(step.elements).records if rebuild else step.records
    (seed,) = [r for r in records if r.kind is Kind.SEED_FAILED]
    assert len(encode_record(seed)) < 2 * LOG_ERROR_BYTES


@pytest.mark.parametrize("kind", [kind for kind in ADVICE if kind.remedy is Remedy.PERSON])
def test_what_no_command_mends_is_advised(kind: Divergence) -> None:
    """The class with its advice stands in the place of a step."""
    steps = planned(joined(request(), elements(PLAN)), [Finding(kind, "t")])
    assert steps == (Step("nothing", f"{kind}: {ADVICE[kind]}"),)


# -- carrying it out ------------------------------------------------------------------------------


def lagging(world: World) -> Result:
    """A notification whose object shows an attempt that its log lacks, stored and checked."""
    there = replace(named("a"), status=request(entry("failed")).status)
    world.put("a", logged("a"))
    found = Joined("a", there.key, there, logged("a"), ttl=-1)
    return Result(found, found.check(BOUNDS))


def damaged(world: World) -> tuple[Result, tuple[Step, ...]]:
    """The same with a log that cannot be read, which is not stored yet, and how it is replaced."""
    result = lagging(world)
    spoilt = replace(result.joined, elements=(*logged("a"), b"damage"))
    result = Result(spoilt, spoilt.check(BOUNDS))
    return result, planned(result.joined, rebuild=True, accept_loss=True)


def records_of(world: World) -> list[Record]:
    """The records of the log as it is now."""
    return list(read_log(tuple(world.redis.twin.logs["nl:{a}"])).records)


async def test_facts_are_appended_and_the_repair_is_noted(world: World) -> None:
    """The log gets what it lacked and who mended it, not what was left alone; its owner is woken, once."""
    result = lagging(world)
    world.put("a", elements(header=Header("ns/na", Epoch("0.7"))))
    steps = (
        Step("nothing", "would need --rebuild"), Step("append", "append plan", records=(PLAN,)),
        *planned(result.joined, unwitnessed=True),
    )  # fmt: skip
    assert [s.act for s in steps] == ["nothing", "append", "append", "poke"]
    assert await carry_out(world.at, result, steps, by="me") == ""
    plan, seed, note = records_of(world)
    assert (plan.kind, seed.kind, seed.id) == (Kind.PLAN, Kind.SEED_FAILED, A1)
    assert (note.kind, note.id) == (Kind.REPAIR, f"repair:{NOW}")
    assert note.body["by"] == "me"
    assert note.body["what"] == " ".join(sorted({f.kind.value for f in result.findings}))
    assert note.body["did"] == "; ".join(s.text for s in steps[1:])
    assert world.redis.published == [("nl:poke", b"a")]


async def test_a_log_is_replaced_and_the_old_one_kept(world: World) -> None:
    """The new log stands in its place with its one note, the old one aside for a month."""
    result, steps = damaged(world)
    world.put("a", result.joined.elements)
    world.now = AsyncMock(side_effect=count(NOW + 1))  # type: ignore[method-assign]  # time goes on
    assert [s.act for s in steps] == ["rebuild", "poke"]
    assert await carry_out(world.at, result, steps, by="me") == ""
    assert tuple(world.redis.twin.logs["nl:{a}"]) == steps[0].elements
    assert [r.id for r in records_of(world) if r.kind is Kind.REPAIR] == [f"repair:{NOW}"]
    (aside,) = [key for key in world.redis.twin.logs if key != "nl:{a}"]
    assert tuple(world.redis.twin.logs[aside]) == result.joined.elements
    assert str(NOW + 1) in aside
    assert world.redis.execute("TTL", aside) == 30 * 86_400
    assert world.redis.published == [("nl:poke", b"a")]


async def test_a_log_that_changed_meanwhile_is_not_replaced(world: World) -> None:
    """What the owner wrote since it was read is not lost: nothing is replaced, and nobody is woken."""
    result, steps = damaged(world)
    done = await carry_out(world.at, result, steps, by="me")
    assert done == ("the log has changed meanwhile; run the command again")
    assert tuple(world.redis.twin.logs["nl:{a}"]) == logged("a")
    assert world.redis.published == []


async def test_a_log_that_takes_no_note_wakes_its_owner_all_the_same(world: World) -> None:
    """Where there is no log, the note is left out, and the owner makes one."""
    result = lagging(world)
    world.put("a", (b"no header",))
    await carry_out(world.at, result, [Step("poke", "w")], by="me")
    assert world.redis.twin.logs["nl:{a}"] == [b"no header"]
    assert world.redis.published == [("nl:poke", b"a")]


async def test_a_repair_is_waited_for(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is checked again until all agrees; what still differs at the end is returned."""
    result = lagging(world)
    found, pause = [[result], [result], []], AsyncMock()

    async def check_again(*asked: Any) -> AsyncIterator[Result]:
        assert asked[2:] == (replace(BOUNDS, settle=0), [("a", "ns/na")])
        for one in found.pop(0):
            yield one

    monkeypatch.setattr(verify, "check_again", check_again)
    monkeypatch.setattr(asyncio, "sleep", pause)
    assert await wait_clean(world.at, world.scan, BOUNDS, [result], seconds=60) == []
    assert (found, pause.await_args_list) == ([], [call(verify._WAIT_STEP)] * 2)
    found.append([result])
    assert await wait_clean(world.at, world.scan, BOUNDS, [result], seconds=0) == [result]
    assert await wait_clean(world.at, world.scan, BOUNDS, [], seconds=60) == []
