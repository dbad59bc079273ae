"""
Mending a divergence: what would be done, and doing it.

`plan_repair` is pure: a joined with its findings in, steps out. A step appends facts (attempts and the plan
that the status shows and the log lacks), puts a legible log in the place of one that nobody can read, or
pokes the owner, who alone claims and writes statuses. Whatever is done leaves a `repair` record in the
log, which says who did it and why; appending it also takes a wrong expiry off.

Nothing here lowers what is known: facts are joined, and a log that is built anew holds everything legible
of the old one, of the status, and an `unknown` for each attempt of which only the name can still be told.
So the worst that a repair can do is to leave one send less allowed than there might have been.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

from syncer.cli.access import Access
from syncer.cli.advice import ADVICE
from syncer.cli.scan import Joined, Result, Scan, check_again
from syncer.ledger.codec import encode_element, salvage, stored
from syncer.ledger.log import Answer
from syncer.ledger.reading import read_log
from syncer.model.attempt import (
    NO_EPOCH,
    Attempt,
    AttemptId,
    AttemptState,
    Epoch,
    FailureClass,
    epoch_key,
)
from syncer.model.errors import ContractError
from syncer.model.record import (
    Header,
    Kind,
    Record,
    attempt_record,
    plan_record,
    repair_record,
)
from syncer.rules.divergence import Divergence, Finding, Remedy
from syncer.rules.fold import ROOT_CHAIN, LogView
from syncer.rules.merge import lacking
from syncer.rules.restore import highest_epoch, plan_of_status
from syncer.rules.verification import Bounds

#: How long the copy of a log that was replaced is kept.
ASIDE_SECONDS: Final = 30 * 86_400
_WAIT_STEP: Final = 0.5


class Act(StrEnum):
    """What a step does."""

    APPEND = "append"
    REBUILD = "rebuild"
    POKE = "poke"
    NOTHING = "nothing"


@dataclass(frozen=True, slots=True)
class Step:
    """
    One step of a repair.

    Attributes:
        act: What it does.
        text: What it does, for a person.
        records: What is appended.
        elements: What takes the place of the log.
        lost: Elements of which nothing is legible, so that a log built anew would not hold them.
    """

    act: Act
    text: str
    records: tuple[Record, ...] = ()
    elements: tuple[bytes, ...] = ()
    lost: int = 0


@dataclass(frozen=True, slots=True)
class Allowed:
    """What the operator has agreed to besides facts and pokes."""

    rebuild: bool = False
    accept_loss: bool = False


def plan_repair(
    joined: Joined, findings: Sequence[Finding], *, allowed: Allowed, now: int, by: str
) -> tuple[Step, ...]:
    """
    What would mend a joined.

    Args:
        joined: As read.
        findings: What is wrong with it.
        allowed: What the operator has agreed to.
        now: Redis time in milliseconds.
        by: Who repairs.
    """
    kinds = {f.kind for f in findings}
    remedies = {k.remedy for k in kinds}
    steps: list[Step] = []
    replaced = False
    if Remedy.REBUILD in remedies:
        rebuilt = _rebuilt(joined, kinds, now=now, by=by)
        refusal = _refusal(rebuilt, allowed)
        replaced = not refusal
        steps.append(Step(Act.NOTHING, refusal) if refusal else rebuilt)
    # Behind a record that cannot be read nothing that is appended would be read either.
    if not replaced and Remedy.FACTS in remedies and Divergence.UNREADABLE not in kinds:
        records = _facts(joined)
        texts = [f"{r.kind} {r.id}" for r in records]
        said = f"append {', '.join(texts)}" if texts else "append a note, which ends the expiry"
        steps += [Step(Act.APPEND, said, tuple(records)), Step(Act.POKE, "tell the owner")]
    elif replaced or Remedy.OWNER in remedies:
        steps.append(Step(Act.POKE, "have the owner look at it"))
    steps += [
        Step(Act.NOTHING, f"{kind}: {ADVICE[kind]}")
        for kind in Divergence
        if kind in kinds and kind.remedy is Remedy.PERSON
    ]
    return tuple(steps)


def _refusal(rebuilt: Step, allowed: Allowed) -> str:
    """Why a log is not built anew, empty if it is."""
    if not allowed.rebuild:
        return f"would need --rebuild: {rebuilt.text}"
    if rebuilt.lost and not allowed.accept_loss:
        return (
            f"would need --accept-loss: of {rebuilt.lost} record(s) nothing is legible, so a success"
            " among them could be sent again"
        )
    return ""


def _facts(joined: Joined) -> list[Record]:
    """What the status shows and the log lacks, as seeds; the plan last, it needs a log."""
    if joined.request is None:
        return []
    status, view = joined.request.status, read_log(joined.elements).view
    records = [attempt_record(a, seed=True) for a in lacking(view, status)]
    if view.plan is None and status.channels:
        records.append(plan_record(plan_of_status(status)))
    return records


def _rebuilt(joined: Joined, kinds: Iterable[Divergence], *, now: int, by: str) -> Step:
    """The log as it would be built anew."""
    log = read_log(joined.elements)
    records: list[Record] = list(log.records)
    lost = damaged = 0
    for element in joined.elements[1 + len(log.records) :]:
        remains = salvage(element)
        if remains is None:
            lost += 1
            continue
        told = remains.record
        if told is None:
            damaged += 1
            told = _told(remains.kind, remains.id, remains.channel, now)
        if told is not None:
            records.append(told)
    view = _folded(records)
    if joined.request is not None:
        status = joined.request.status
        records += [attempt_record(a, seed=True) for a in lacking(view, status)]
        if view.plan is None and status.channels:
            records.append(plan_record(plan_of_status(status)))
    did = f"built anew: {len(records)} record(s), {damaged} of them by name alone, {lost} lost"
    what = " ".join(sorted(kinds))
    records.append(repair_record(f"repair:{now}", at=now, by=by, what=what, did=did))
    elements = [_header(joined, log.header).encode()]
    chain = ROOT_CHAIN
    for position, record in enumerate(records, 1):
        elements.append(encode_element(record, chain))
        chain = stored(record, chain, position).chain
    text = f"keep the log aside and put in its place one that is {did}"
    return Step(Act.REBUILD, text, elements=tuple(elements), lost=lost)


def _told(kind: Kind, identity: str, channel: str, now: int) -> Record | None:
    """What the name of a record alone still tells; None for a note, whose words are gone."""
    state = kind.state
    if state is None:
        return None
    bare = Record(kind, identity, channel)
    attempt = Attempt(AttemptId(bare.attempt_id), channel, AttemptState.SUCCESS, ended=now)
    if state is not AttemptState.SUCCESS:
        # Whether it failed for good, or is still on the wire, cannot be told any more.
        attempt = replace(
            attempt, state=AttemptState.UNKNOWN, failure=FailureClass.UNCERTAIN,
            error="the record of this attempt was damaged",
        )  # fmt: skip
    return attempt_record(attempt, seed=True)


def _folded(records: Sequence[Record]) -> LogView:
    view, chain = LogView(), ROOT_CHAIN
    for position, record in enumerate(records, 1):
        placed = stored(record, chain, position)
        view.apply(placed)
        chain = placed.chain
    return view


def _header(joined: Joined, header: Header | None) -> Header:
    """The header of a log built anew: the same fence, nothing marked."""
    key = joined.request.key if joined.request is not None else joined.key
    epochs: list[Epoch] = [NO_EPOCH]
    if header is not None:
        epochs.append(header.epoch)
    if joined.request is not None:
        epochs.append(highest_epoch(joined.request.status))
    return Header(key, max(epochs, key=epoch_key))


# -- doing it -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Done:
    """What came of a repair: steps in words, and what was left out because it changed meanwhile."""

    result: Result
    did: tuple[str, ...]
    problem: str = ""


async def perform(at: Access, result: Result, steps: Sequence[Step], *, by: str) -> Done:
    """
    Carry steps out.

    Raises:
        PortError: Redis does not answer; may be done in part, and doing it again is safe.
    """
    joined, did = result.joined, list[str]()
    noted = False
    for step in steps:
        match step.act:
            case Act.APPEND:
                for record in step.records:
                    if record.kind is Kind.PLAN:
                        await at.log.note(joined.uid, record)
                    else:
                        await at.log.outcome(joined.uid, record, None, name=joined.key)
            case Act.REBUILD:
                mark = await at.now()
                aside = await at.log.keep_aside(
                    joined.uid, joined.elements, mark=mark, ttl=ASIDE_SECONDS
                )
                answer = await at.log.rebuild(joined.uid, joined.elements, step.elements)
                if answer is not Answer.OK:
                    return Done(result, tuple(did), "the log has changed meanwhile; look again")
                did.append(f"kept the old log as {aside}")
                noted = True
            case Act.POKE:
                if not noted:
                    await _note(at, result, steps, by=by)
                    noted = True
                await at.log.wake_owner(joined.uid)
            case Act.NOTHING:
                continue
        did.append(step.text)
    return Done(result, tuple(did))


async def _note(at: Access, result: Result, steps: Sequence[Step], *, by: str) -> None:
    """Put on record who did it; a log that cannot take a record is left as it is."""
    now = await at.now()
    record = repair_record(
        f"repair:{now}",
        at=now,
        by=by,
        what=" ".join(sorted({f.kind for f in result.findings})),
        did="; ".join(s.text for s in steps if s.act is not Act.NOTHING)[:512],
    )
    try:
        await at.log.note(result.joined.uid, record)
    except ContractError:
        return


async def wait_clean(
    at: Access, scan: Scan, bounds: Bounds, repaired: Sequence[Result], *, seconds: float
) -> list[Result]:
    """
    Wait until what was repaired agrees, or the time is over; what is still wrong.

    The time a record may take to be published is not granted here: it is what is waited for.
    """
    impatient = replace(bounds, settle=0)
    left = [(v.joined.uid, v.joined.key) for v in repaired]
    deadline = asyncio.get_running_loop().time() + seconds
    while True:
        wrong = [v async for v in check_again(at, scan, impatient, left)] if left else []
        left = [(v.joined.uid, v.joined.key) for v in wrong]
        if not left or asyncio.get_running_loop().time() >= deadline:
            return wrong
        await asyncio.sleep(_WAIT_STEP)
