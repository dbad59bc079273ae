"""Repairs as they are planned: facts that are joined, logs that are built anew."""

from __future__ import annotations

import argparse
import asyncio
from dataclasses import replace
from typing import Any

import pytest

from syncer.cli import verify
from syncer.cli.scan import Joined, Result
from syncer.cli.verify import (
    ASIDE_SECONDS,
    Step,
    carry_out,
    plan_repair,
    wait_clean,
)
from syncer.kube.notification_requests import ObjectPage
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
from tests.unit.syncer.cli.world import Objects, World, logged, named, page


def allowing(**agreed: bool) -> argparse.Namespace:
    """What the operator has agreed to."""
    names = ("rebuild", "accept_loss", "unwitnessed")
    return argparse.Namespace(**{**dict.fromkeys(names, False), **agreed})


def joined(found: NotificationRequest, log: tuple[bytes, ...]) -> Joined:
    """An object and its log."""
    return Joined("u", "ns/n", found, log, ttl=-1)


def steps(spoilt: Joined, **allowed: bool) -> list[tuple[str, str]]:
    """What would be done, and the first words of it."""
    planned = plan_repair(
        spoilt, spoilt.check(BOUNDS), allowed=allowing(**allowed), now=NOW, by="me"
    )
    return [(s.act, s.text.partition(":")[0]) for s in planned]


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


def test_rebuilt_log_holds_what_both_sides_know() -> None:
    """Of the old log what is legible, of the status what that lacks, the fence, and no mark."""
    broken = [*elements(PLAN, opened(A1), failed(A1), opened(A2)), b"damage"]
    broken[2] = broken[2][:-1] + b"\xff"
    shown = request(entry("failed"), entry("success", identity="0.7-9"))
    spoilt = joined(shown, tuple(broken))
    planned = plan_repair(
        spoilt, spoilt.check(BOUNDS), allowed=allowing(rebuild=True, accept_loss=True), now=NOW,
        by="me",
    )  # fmt: skip
    log = read_log(planned[0].elements)
    assert log.problem == ""
    assert log.header == Header("ns/n", Epoch("0.7"))
    assert [(r.kind.value, r.id) for r in log.records] == [
        ("plan", "plan"), ("seed.unknown", A1), ("failed", A1), ("intent", A2),
        ("seed.success", "0.7-9"), ("repair", f"repair:{NOW}"),
    ]  # fmt: skip
    assert log.view.attempts[A1].state is AttemptState.FAILED


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
    allowed = allowing(rebuild=rebuild, accept_loss=True, unwitnessed=True)
    planned = plan_repair(spoilt, spoilt.check(BOUNDS), allowed=allowed, now=NOW, by="me")
    records = read_log(planned[0].elements).records if rebuild else planned[0].records
    (seed,) = [r for r in records if r.kind is Kind.SEED_FAILED]
    assert len(encode_record(seed)) < 2 * LOG_ERROR_BYTES


# -- carrying it out ------------------------------------------------------------------------------


def lagging(world: World, uid: str = "a") -> Result:
    """A notification whose object shows an attempt that its log lacks, stored and checked."""
    found = named(uid)
    status = request(entry("failed"), log={"position": 1, "epoch": "0.7", "store": "s"}).status
    there = replace(found, status=status)
    world.put(uid, logged(uid))
    world.objects.kept[there.key] = there
    found_there = Joined(uid, there.key, there, logged(uid), ttl=-1)
    return Result(found_there, found_there.check(BOUNDS))


def planned(result: Result, **allowed: bool) -> tuple[Step, ...]:
    """What is to be done."""
    return plan_repair(
        result.joined, result.findings, allowed=allowing(**allowed), now=NOW, by="me"
    )


def records_of(world: World, uid: str = "a") -> list[Record]:
    """The records of a log as it is now."""
    return list(read_log(tuple(world.redis.twin.logs[f"nl:{{{uid}}}"])).records)


async def test_facts_are_appended_and_the_repair_is_noted(world: World) -> None:
    """The log gets what it lacked and who mended it, then its owner is woken, once."""
    result = lagging(world)
    steps = planned(result, unwitnessed=True)
    done = await carry_out(world.at, result, steps, by="me")
    assert done == ""
    plan, seed, note = records_of(world)
    assert (plan.kind, seed.kind, seed.id) == (Kind.PLAN, Kind.SEED_FAILED, A1)
    assert (note.kind, note.id) == (Kind.REPAIR, f"repair:{NOW}")
    assert note.body["by"] == "me"
    assert note.body["what"] == " ".join(sorted({f.kind.value for f in result.findings}))
    assert note.body["did"] == "; ".join(s.text for s in steps if not s.idle)
    assert world.redis.published == [("nl:poke", b"a")]


async def test_a_missing_plan_is_noted(world: World) -> None:
    """A plan is appended as a note: it makes no attempt."""
    result = lagging(world)
    steps = [Step("append", "append plan", records=(PLAN,)), Step("poke", "wake the owner")]
    world.put("a", elements(header=Header("ns/na", Epoch("0.7"))))
    await carry_out(world.at, result, steps, by="me")
    assert [r.kind for r in records_of(world)] == [Kind.PLAN, Kind.REPAIR]


async def test_a_log_is_replaced_and_the_old_one_kept(world: World) -> None:
    """The new log stands in its place, the old one aside for a while; its note is in it already."""
    result = lagging(world)
    damaged = (*logged("a"), b"damage")
    world.put("a", damaged)
    joined_now = replace(result.joined, elements=damaged)
    result = Result(joined_now, joined_now.check(BOUNDS))
    steps = planned(result, rebuild=True, accept_loss=True)
    assert [s.act for s in steps] == ["rebuild", "poke"]
    assert await carry_out(world.at, result, steps, by="me") == ""
    assert tuple(world.redis.twin.logs["nl:{a}"]) == steps[0].elements
    assert [r.kind for r in records_of(world)].count(Kind.REPAIR) == 1
    (aside,) = [key for key in world.redis.twin.logs if key != "nl:{a}"]
    assert tuple(world.redis.twin.logs[aside]) == damaged
    assert str(NOW) in aside
    assert world.redis.execute("TTL", aside) == ASIDE_SECONDS
    assert world.redis.published == [("nl:poke", b"a")]


async def test_a_log_that_changed_meanwhile_is_not_replaced(world: World) -> None:
    """What the owner wrote since it was read is not lost: nothing is replaced, and nobody is woken."""
    result = lagging(world)
    damaged = (*logged("a"), b"damage")
    joined_now = replace(result.joined, elements=damaged)
    result = Result(joined_now, joined_now.check(BOUNDS))
    steps = planned(result, rebuild=True, accept_loss=True)
    done = await carry_out(world.at, result, steps, by="me")
    assert done == ("the log has changed meanwhile; run the command again")
    assert tuple(world.redis.twin.logs["nl:{a}"]) == logged("a")
    assert world.redis.published == []


async def test_what_needs_leave_is_left_out(world: World) -> None:
    """A step that does nothing is passed over, in the note as well."""
    result = lagging(world)
    steps = [
        Step("nothing", "would need --rebuild"), Step("poke", "have the owner check it"),
    ]  # fmt: skip
    assert [s.idle for s in steps] == [True, False]
    await carry_out(world.at, result, steps, by="me")
    assert records_of(world)[-1].body["did"] == "have the owner check it"


async def test_a_log_that_takes_no_note_wakes_its_owner_all_the_same(world: World) -> None:
    """Where there is no log, the note is left out, and the owner makes one."""
    result = lagging(world)
    world.put("a", (b"no header",))
    await carry_out(world.at, result, [Step("poke", "w")], by="me")
    assert world.redis.twin.logs["nl:{a}"] == [b"no header"]
    assert world.redis.published == [("nl:poke", b"a")]


async def test_a_repair_is_waited_for(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is checked again until all agrees; what still differs at the end is returned."""
    monkeypatch.setattr(verify, "_WAIT_STEP", 0.01)
    result = lagging(world)
    world.objects.pages["ns"] = [page() for _ in range(1_000)]

    class Mended(Objects):
        async def list_page(self, *asked: Any, **options: Any) -> ObjectPage:
            if len(self.asked) == 2:
                self.kept["ns/na"] = named("a")
            return await super().list_page(*asked, **options)

    mended = Mended()
    mended.pages, mended.kept = world.objects.pages, dict(world.objects.kept)
    world.objects = mended
    pauses: list[float] = []
    sleep = asyncio.sleep

    async def pause(seconds: float) -> None:
        pauses.append(seconds)
        await sleep(0)

    monkeypatch.setattr(asyncio, "sleep", pause)
    assert await wait_clean(world.at, world.scan, BOUNDS, [result], seconds=60) == []
    assert (len(mended.asked), pauses.count(0.01)) == (3, 2)

    lagging(world)
    (wrong,) = await wait_clean(world.at, world.scan, BOUNDS, [result], seconds=0)
    assert wrong.joined.uid == "a"
    assert await wait_clean(world.at, world.scan, BOUNDS, [], seconds=60) == []


def rebuilt(spoilt: Joined) -> tuple[Step, Header | None]:
    """The step that builds a log anew, and the header that it writes."""
    (step, *_) = plan_repair(
        spoilt, spoilt.check(BOUNDS), allowed=allowing(rebuild=True, accept_loss=True), now=NOW,
        by="me",
    )  # fmt: skip
    assert step.act == "rebuild"
    return step, read_log(step.elements).header


def test_the_header_of_a_log_built_anew() -> None:
    """The latest epoch that log or status name, and the object's own name."""
    for epoch, shown, wanted in (("0.9", "0.7-9", "0.9"), ("0.7", "0.8-9", "0.8")):
        log = (*elements(PLAN, header=Header("ns/old", Epoch(epoch))), b"damage")
        named = replace(joined(request(entry("success", identity=shown)), log), key="ns/old")
        _, header = rebuilt(named)
        assert header == Header("ns/n", Epoch(wanted))


def test_what_a_log_built_anew_lost_is_counted() -> None:
    """Records that are whole, those of which the name alone is left, and those of which nothing is."""
    broken = [*elements(PLAN, opened(A1), opened(A2)), b"damage", b"more"]
    for n in (2, 3):
        broken[n] = broken[n][:-1] + b"\xff"
    step, _ = rebuilt(joined(request(), tuple(broken)))
    did = "rebuilt: 3 record(s), 2 of them by name alone, 2 lost"
    assert (step.text, step.lost) == (
        f"keep the log aside and replace it by one that is {did}",
        2,
    )
    *_, one, other, note = read_log(step.elements).records
    assert (note.kind, note.body["did"], note.body["by"], note.body["at"]) == (
        Kind.REPAIR, did, "me", NOW,
    )  # fmt: skip
    assert note.body["what"] == "unreadable"
    assert [(r.kind, r.id) for r in (one, other)] == [
        (Kind.SEED_UNKNOWN, A1), (Kind.SEED_UNKNOWN, A2),
    ]  # fmt: skip
    assert (one.body["at"], one.body["class"]) == (NOW, "uncertain")
    assert one.body["error"] == "the record of this attempt was damaged"


def test_a_success_of_which_the_name_alone_is_left_stays_one() -> None:
    """It must not be sent again; a note of which the text is gone is left out."""
    sent = attempt_record(Attempt(A1, C, AttemptState.SUCCESS, ended=NOW))
    skip = skip_record("skip:1", C, at=NOW, why="w")
    broken = list(elements(PLAN, opened(A1), sent, skip))
    for n in (3, 4):
        broken[n] = broken[n][:-1] + b"\xff"
    step, _ = rebuilt(joined(request(), tuple(broken)))
    assert [r.kind for r in read_log(step.elements).records] == [
        Kind.PLAN, Kind.INTENT, Kind.SEED_SUCCESS, Kind.REPAIR,
    ]  # fmt: skip
    assert "3 record(s), 2 of them by name alone, 0 lost" in step.text


def test_how_long_a_copy_is_kept() -> None:
    """A month, in seconds: long enough for who was away."""
    assert ASIDE_SECONDS == 2_592_000


@pytest.mark.parametrize("kind", [kind for kind in ADVICE if kind.remedy is Remedy.PERSON])
def test_what_no_command_mends_is_advised(kind: Divergence) -> None:
    """The class with its advice stands in the place of a step."""
    steps = plan_repair(
        joined(request(), elements(PLAN)),
        [Finding(kind, "t")],
        allowed=allowing(),
        now=NOW,
        by="me",
    )
    assert steps == (Step("nothing", f"{kind}: {ADVICE[kind]}"),)


async def test_a_log_built_anew_gets_no_second_note(world: World) -> None:
    """Its own says it all, however long the steps take."""
    result = lagging(world)
    damaged = (*logged("a"), b"damage")
    world.put("a", damaged)
    joined_now = replace(result.joined, elements=damaged)
    result = Result(joined_now, joined_now.check(BOUNDS))
    steps = planned(result, rebuild=True, accept_loss=True)
    times = iter(range(NOW + 1, NOW + 9))

    async def now() -> int:
        return next(times)

    world.now = now  # type: ignore[method-assign]  # time goes on
    await carry_out(world.at, result, steps, by="me")
    assert [r.id for r in records_of(world) if r.kind is Kind.REPAIR] == [f"repair:{NOW}"]
