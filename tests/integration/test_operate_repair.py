"""
Every class of divergence, planted in a real Redis and API server: verify names it, repair mends it.

Each case has an owner that sweeps only once an hour, so whatever is mended is mended by the repair and its
wake-up. A class that only a person can mend is named with what to do, and left alone.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import pytest

from syncer.cli.scan import STUCK
from syncer.ledger.answers import Answer, Proof
from syncer.model.attempt import (
    Attempt,
    AttemptState,
    Epoch,
    make_attempt_id,
)
from syncer.model.record import Kind, Plan, attempt_record, intent_record, plan_record
from tests.e2e.harness import BRISK, CHANNEL, OK, Stage, Step, until
from tests.integration.operating import (
    BY,
    NO_SWEEPS,
    Operator,
    RawLog,
    ledger,
    owner,
    patch,
    waiting,
)
from tests.servers.definition import serve, upstream_form

pytestmark = pytest.mark.parametrize("redis_binary", ["redis-server"], indirect=True)

BUSY = Step(503, "busy")
SLOW: dict[str, Any] = {
    "maxAttempts": 5, "initialBackoffSeconds": 300, "maxBackoffSeconds": 300,
}  # fmt: skip


@pytest.fixture
async def here(here: Stage) -> AsyncIterator[Stage]:
    """An installation."""
    yield here
    # What nobody can parse would be in the answers that tests behind this one get.
    assert (await here.api.ask("DELETE", f"{here.api.requests}/n")).code in {200, 404}


# -- planting -------------------------------------------------------------------------------------


async def finished(here: Stage) -> RawLog:
    """A notification that is sent, published, and whose log expires."""
    uid = await here.create("n")
    raw = RawLog(here, uid)
    await here.wait_phase(uid)
    await raw.wait_expiry()
    return raw


async def tried(here: Stage, step: Step = BUSY, *, policy: dict[str, Any] = SLOW) -> RawLog:
    """A notification with one attempt in vain, published, that waits for its next one."""
    here.script("n", step)
    return await waiting(here, "n", await here.create("n", retryPolicy=policy))


async def unreadable(here: Stage) -> RawLog:
    """Flip a byte in the map of the last record."""
    raw = await finished(here)
    element = (await raw.elements())[-1]
    await raw.spoil(-1, element[:-1] + bytes([element[-1] ^ 1]))
    return raw


async def marked(here: Stage, **changed: Any) -> RawLog:
    """Change the header of a finished log."""
    raw = await finished(here)
    await raw.head(lambda h: replace(h, **changed))
    return raw


async def told(here: Stage, *, command: str) -> RawLog:
    """Have Redis do this to a finished log."""
    raw = await finished(here)
    await here.redis.execute_command(command, raw.key)  # type: ignore[no-untyped-call]  # redis has no type for it
    return raw


async def shortened(here: Stage, *, kept: slice, acked: int) -> RawLog:
    """Keep some records of a finished log, of which so many are marked."""
    raw = await finished(here)
    header, records = await raw.read()
    await raw.write(replace(header, acked=acked, audited=acked), records[kept])
    return raw


async def expiring(here: Stage) -> RawLog:
    """Let the log of an unfinished notification expire."""
    raw = await tried(here)
    await here.redis.expire(raw.key, 5000)
    return raw


async def _late_success(here: Stage, raw: RawLog) -> None:
    _, records = await raw.read()
    attempt = Attempt(
        records[-1].attempt_id, CHANNEL, AttemptState.SUCCESS, ended=int(records[-1].body["at"]) + 1
    )
    async with ledger(here) as log:
        answer = await log.outcome(
            raw.uid, attempt_record(attempt), None, name=f"{here.namespace}/n"
        )
    assert answer.answer is Answer.OK


async def status_behind(here: Stage) -> RawLog:
    """Record a success, of an attempt with an unknown result, of which the owner is not notified."""
    raw = await tried(here, Step(drop="after"))
    await _late_success(here, raw)
    return raw


async def acked(here: Stage) -> RawLog:
    """The same, and mark it as published."""
    raw = await status_behind(here)
    _, records = await raw.read()
    await raw.head(lambda h: replace(h, acked=len(records)))
    return raw


async def status_differs(here: Stage) -> RawLog:
    """Have somebody write a counter into a finished status."""
    raw = await finished(here)
    await patch(here, "n", {"status": {"failedDeliveries": 7}}, status=True)
    return raw


async def open_attempt(here: Stage) -> RawLog:
    """Open an attempt that nobody carries out."""
    raw = await tried(here)
    header, records = await raw.read()
    record = intent_record(
        make_attempt_id(header.epoch, 999), CHANNEL, at=int(records[0].body["at"]) - 600_000, by="x"
    )
    async with ledger(here) as log:
        claimed = await log.claim(raw.uid, header.epoch, name=header.object)
        proof = Proof(header.epoch, claimed.stamp)
        answer = await log.intent(raw.uid, proof, record, limit=9, guard=lambda: True)
    assert answer.answer is Answer.OK
    return raw


async def orphan(here: Stage) -> RawLog:
    """Leave a log whose object is gone."""
    raw = RawLog(here, "11111111-2222-3333-4444-555555555555")
    async with ledger(here) as log:
        plan = plan_record(Plan((CHANNEL,), at=1))
        await log.claim(raw.uid, Epoch("0.1"), name=f"{here.namespace}/gone", seeds=[plan])
    return raw


@dataclass(frozen=True)
class Case:
    """How it is planted, and what a repair needs to be allowed to."""

    plant: Callable[[Stage], Awaitable[RawLog]]
    options: tuple[str, ...] = ()
    says: str = ""
    stuck: int = STUCK


MENDED = {
    "unreadable": Case(unreadable, ("--rebuild",), "record 3: checksum does not match"),
    "misnamed": Case(partial(marked, object="elsewhere/other"), ("--rebuild",)),
    "mark-beyond": Case(
        partial(marked, acked=99), ("--rebuild",), "marked up to 99, and there are 3 record(s)"
    ),
    "log-missing": Case(partial(told, command="DEL"), ("--unwitnessed",)),
    # As a failover cuts the newest record off.
    "log-behind": Case(
        partial(shortened, kept=slice(-1), acked=1),
        ("--unwitnessed",),
        "the log lacks 1 attempt(s) or result(s) of the status",
    ),
    "plan-missing": Case(partial(shortened, kept=slice(1, None), acked=2), ("--unwitnessed",)),
    "expiring": Case(expiring),
    "status-behind": Case(status_behind),
    "acked": Case(acked),
    "status-differs": Case(status_differs, (), "the log says otherwise: failedDeliveries"),
    "open-attempt": Case(open_attempt, stuck=1_000),
    "unacked": Case(partial(marked, acked=1)),
    "no-expiry": Case(partial(told, command="PERSIST")),
    "orphan": Case(orphan),
}


@pytest.mark.parametrize("kind", MENDED)
async def test_divergence_is_named_and_mended(kind: str, here: Stage, operator: Operator) -> None:
    """Verify names it, a dry run says what would be done and does nothing, repair does it for good."""
    case = MENDED[kind]
    checking = tuple(o for o in case.options if o not in ("--rebuild", "--unwitnessed"))
    async with owner(here.notifier(sync=NO_SWEEPS)):
        assert (await operator.verify()).code == 0, "all is well before"
        raw = await case.plant(here)
        before = await raw.elements()
        calls = len(here.receiver.book)

        named = await operator.verify(*checking, stuck=case.stuck)
        assert (named.code, named.classes) == (1, {kind}), named.out
        (line, summary) = named.lines
        assert line["uid"] == raw.uid
        assert case.says in line["what"]
        assert summary["summary"]["classes"] == {kind: 1}

        dry = await operator.repair(*case.options, "--dry-run", stuck=case.stuck)
        assert dry.code == 1
        assert dry.lines[0]["classes"] == [kind]
        acts = [s["act"] for s in dry.lines[0]["steps"]]
        assert acts[-1] == "poke", "the owner would be woken"
        assert await raw.elements() == before, "a dry run leaves everything as it is"

        done = await operator.repair(*case.options, stuck=case.stuck)
        assert done.code == 0, done.out + done.err
        assert done.lines[-1]["summary"]["repaired"] == 1
        clean = await operator.verify(*checking, stuck=case.stuck)
        assert (clean.code, clean.classes) == (0, set()), clean.out

        repairs = await raw.by(Kind.REPAIR)
        assert [(r.body["by"], r.body["what"]) for r in repairs] == [(BY, kind)]
        assert repairs[0].body["did"]
        assert len(here.receiver.book) == calls, "nothing is sent because of a repair"


async def test_damaged_success_is_never_forgotten(here: Stage, operator: Operator) -> None:
    """Of a success whose map is damaged the name is enough: it stays one, and nothing is sent again."""
    async with owner(here.notifier(sync=NO_SWEEPS)) as app:
        raw = await status_behind(here)
        element = (await raw.elements())[-1]
        await raw.spoil(-1, element[:-1] + bytes([element[-1] ^ 1]))
        app.cache.entries[raw.uid].news()
        app.queue.add(raw.uid)
        await until(lambda: bool(app.cache.entries[raw.uid].quarantine), "it is held")
        done = await operator.repair("--rebuild")
        assert done.code == 0, done.out + done.err
        await here.wait_phase(raw.uid)
        assert (await raw.kinds())[-2:] == ["seed.success", "repair"]
    assert len(here.receiver.book) == 1


# -- what only a person can mend ------------------------------------------------------------------


async def unparsed(here: Stage) -> None:
    """An object with a member of a type that it cannot have."""
    await finished(here)
    await here.rewrite("n", lambda d: d["spec"].update(retentionDays="a week"))


# Without a namespace it looks at what every test before has left on the server.
@pytest.mark.timeout(400)
async def test_keys_of_another_program_are_left_alone(here: Stage, operator: Operator) -> None:
    """Verify names each, repair touches none and says what to do; keys of nobody have no namespace."""
    async with owner(here.notifier(sync=NO_SWEEPS)):
        await here.redis.set(f"{here.prefix}:{{a}}", "text")
        await here.redis.rpush(f"{here.prefix}:{{b}}", "no header")
        named = await operator.run("verify", "-o", "json", settle=0)
        assert (named.code, "foreign" in named.classes) == (1, True), named.out
        left = await operator.run("verify", "--repair", "--dry-run", "-o", "json", settle=0)
        assert left.code == 1
        (one, other) = (line for line in left.lines if "foreign" in line.get("classes", ()))
        for line in (one, other):
            steps = [step for step in line["steps"] if step["what"].startswith("foreign:")]
            assert [step["act"] for step in steps] == ["nothing"]


async def test_a_definition_that_gains_a_default(here: Stage, operator: Operator) -> None:
    """A neighbour's upgrade that changes no message is no divergence, one that does is; both are sent."""
    definition = upstream_form()
    (version,) = definition["spec"]["versions"]
    members = version["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]
    async with owner(here.notifier(sync=NO_SWEEPS)):
        raw = await tried(here, policy={"initialBackoffSeconds": 10})
    here.script("n", OK)
    try:
        for member, found in (("urgency", set()), ("severity", {"spec"})):
            members.setdefault(member, {"type": "string"})["default"] = "critical"
            await asyncio.to_thread(serve, here.plane, definition)
            await until(lambda m=member: _specified(here, m), "it has a default")  # type: ignore[misc]  # bound now
            verify = await operator.run("verify", "-n", here.namespace, "-o", "json")
            assert verify.classes & {"spec"} == found, verify.out
        async with owner(here.notifier(sync=NO_SWEEPS)):
            await raw.wait_expiry()
        _, records = await raw.read()
        assert {r.channel for r in records if r.kind is Kind.INTENT} == {CHANNEL}
    finally:
        await asyncio.to_thread(serve, here.plane, upstream_form())


async def _specified(here: Stage, member: str) -> bool:
    return member in (await here.api.ask("GET", f"{here.api.requests}/n")).body["spec"]


@pytest.mark.parametrize("mended", [True, False], ids=["mended", "deleted"])
async def test_object_that_parses_again_is_in_order(
    mended: bool, here: Stage, operator: Operator
) -> None:
    """What verify advises is right: mended or deleted, the object is no divergence any more."""
    async with owner(here.notifier(sync=NO_SWEEPS)):
        await unparsed(here)
        before = await operator.verify()
        assert (before.code, before.classes) == (1, {"object"})
        assert "a week" not in before.out
        if mended:
            await here.rewrite("n", lambda d: d["spec"].pop("retentionDays"))
        else:
            reply = await here.api.ask("DELETE", f"{here.api.requests}/n")
            assert reply.code == 200, reply.body
        after = await operator.verify()
        assert (after.code, after.classes) == (0, set()), after.out


async def test_raised_incarnation_is_the_fix_of_epochs_ahead(
    here: Stage, operator: Operator
) -> None:
    """What verify advises is right: with a raised incarnation the very same log is in order."""
    process = here.notifier(sync=NO_SWEEPS, sharding=BRISK)
    async with owner(process):
        # As in a log from a cluster that was further on.
        await marked(here, epoch=Epoch("0.99999999999999"))
        config = str(process._config)
        assert (await operator.verify(config=config)).classes == {"epoch-ahead"}
    raised = here.notifier(sync=NO_SWEEPS, sharding={"incarnation": 1})
    async with owner(raised):
        found = await operator.verify(config=str(raised._config))
        assert (found.code, found.classes) == (0, set())


async def test_named_objects_alone(here: Stage, operator: Operator) -> None:
    """Named objects are repaired and no others; a name that nobody bears is exit code 3."""
    async with owner(here.notifier(sync=NO_SWEEPS)):
        raw = await told(here, command="PERSIST")
        absent = await operator.run("verify", "--repair", f"{here.namespace}/nobody")
        assert (absent.code, absent.err) == (
            3, f"syncer: there is no object {here.namespace}/nobody\n",
        )  # fmt: skip
        named = await operator.run(
            "verify", "--repair", f"{here.namespace}/n", "--by", BY, settle=0
        )
        assert named.code == 0, named.err
        assert await raw.expires()
