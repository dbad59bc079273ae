"""
`syncer verify`: fold every log again, compare it with its status, and, with `--repair`, repair it.

`plan_repair` is pure: it computes the steps from a log, its object and the findings. A step appends
facts (attempts and the plan that the status shows and the log lacks), replaces a log that cannot be
read by a legible one, or wakes the owner, who alone claims and writes statuses. Every repair leaves a
`repair` record in the log, which names who did it and why; appending it also removes a wrong expiry.

No repair discards known facts: facts are joined, and a rebuilt log holds everything legible of the old log
and of the status, and an `unknown` for each attempt of which only the name is legible. So the worst effect
of a repair is that one send fewer is allowed than might have been.
"""

from __future__ import annotations

import argparse
import asyncio
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Final, Literal

from syncer.cli.access import Access, access, operator_name
from syncer.cli.exits import DIFFERENT, OK, Misused
from syncer.cli.installation import namespaces_of, trusted_store
from syncer.cli.known import read_request
from syncer.cli.output import Columns, Table, write_answer, write_remark
from syncer.cli.scan import Joined, Result, Scan, bounds_of, check_again, diverging
from syncer.ledger.answers import Answer
from syncer.ledger.codec import encode_log, salvage
from syncer.ledger.reading import read_log
from syncer.model.attempt import (
    NO_EPOCH,
    Attempt,
    AttemptState,
    FailureClass,
    epoch_key,
)
from syncer.model.errors import ContractError
from syncer.model.record import Header, Kind, Record, attempt_record, plan_record, repair_record
from syncer.model.resource import NotificationRequest
from syncer.rules.advice import ADVICE
from syncer.rules.divergence import VERIFIED, Divergence, Finding, Remedy
from syncer.rules.fold import LogView
from syncer.rules.merge import lacking
from syncer.rules.restore import highest_epoch, missing_plan, seed_of
from syncer.rules.text import plain
from syncer.rules.verification import Bounds

#: Seconds to wait for the owner to do its part.
WAIT = 30.0
#: Seconds for which the copy of a replaced log is kept.
ASIDE_SECONDS: Final = 30 * 86_400
_WAIT_STEP: Final = 0.5


#: What a step does.
Act = Literal["append", "rebuild", "poke", "nothing"]


@dataclass(frozen=True, slots=True)
class Step:
    """
    One step of a repair.

    Attributes:
        text: Description for a person.
        records: Records to append.
        elements: Elements of the log that replaces the old one.
        lost: Number of elements of which nothing is legible, so that the rebuilt log lacks them.
        phase: Final phase to accept although no attempt leads to it.
    """

    act: Act
    text: str
    records: tuple[Record, ...] = ()
    elements: tuple[bytes, ...] = ()
    lost: int = 0
    phase: str = ""

    @property
    def idle(self) -> bool:
        """Whether the step does nothing."""
        return self.act == "nothing"


def plan_repair(
    joined: Joined, findings: Sequence[Finding], *, allowed: argparse.Namespace, now: int, by: str
) -> tuple[Step, ...]:
    """
    Return the steps that would repair one notification.

    Args:
        joined: Its log and object as read.
        findings: What is wrong with it.
        allowed: What the operator has agreed to: `rebuild`, `accept_loss`, `unwitnessed`.
        now: Redis time in milliseconds.
        by: Name of the operator.
    """
    kinds = {f.kind for f in findings}
    remedies = {k.remedy for k in kinds}
    steps: list[Step] = []
    replaced = False
    if Remedy.REBUILD in remedies:
        rebuilt, refusal = _rebuilt(joined, kinds, now=now, by=by), ""
        if not allowed.rebuild:
            refusal = f"would need --rebuild: {rebuilt.text}"
        elif rebuilt.lost and not allowed.accept_loss:
            refusal = (
                f"would need --accept-loss: of {rebuilt.lost} record(s) nothing is legible, so a success"
                " among them could be sent again"
            )
        replaced = not refusal
        steps.append(Step("nothing", refusal) if refusal else rebuilt)
    # Records appended after one that cannot be read would not be read either.
    if not replaced and Remedy.FACTS in remedies and Divergence.UNREADABLE not in kinds:
        records = _facts(joined.request, read_log(joined.elements).view)
        texts = [f"{r.kind} {r.id}" for r in records]
        what = f"append {', '.join(texts)}" if texts else "append a note, which removes the expiry"
        if records and not allowed.unwitnessed:
            steps.append(Step("nothing", f"would need --unwitnessed: {what}"))
        else:
            steps += [Step("append", what, tuple(records)), Step("poke", "wake the owner")]
    elif replaced or Remedy.OWNER in remedies:
        steps.append(Step("poke", "have the owner check it"))
    phase = joined.request.status.phase if joined.request and allowed.unwitnessed else ""
    if phase and Divergence.PHASE in kinds:
        steps.append(Step("poke", f"accept the phase {phase}", phase=phase))
        kinds.discard(Divergence.PHASE)
    left = [kind for kind in Divergence if kind in kinds and kind.remedy is Remedy.PERSON]
    return (*steps, *(Step("nothing", f"{kind}: {ADVICE[kind]}") for kind in left))


def _facts(request: NotificationRequest | None, view: LogView) -> list[Record]:
    """Return the facts of the status that the log lacks, as seeds; the plan last, since it needs a log."""
    if request is None:
        return []
    records = [seed_of(attempt) for attempt in lacking(view, request.status)]
    plan = missing_plan(view, request.status)
    return records if plan is None else [*records, plan_record(plan)]


def _rebuilt(joined: Joined, kinds: Iterable[Divergence], *, now: int, by: str) -> Step:
    """Return the step that replaces the log by a rebuilt one."""
    log = read_log(joined.elements)
    records: list[Record] = list(log.records)
    lost = damaged = 0
    for element in joined.elements[1 + len(log.records) :]:
        remains = salvage(element)
        if remains is None:
            lost += 1
            continue
        record = remains.record
        if record is None:
            damaged += 1
            record = _from_name(remains.bare, now)
        if record is not None:
            records.append(record)
    epochs = [NO_EPOCH, *([log.header.epoch] if log.header is not None else [])]
    epochs += [highest_epoch(joined.request.status)] if joined.request is not None else []
    key = joined.request.key if joined.request is not None else joined.key
    # The highest known epoch; nothing is marked as published.
    header = Header(key, max(epochs, key=epoch_key))
    records += _facts(joined.request, read_log(encode_log(header, records)).view)
    did = f"rebuilt: {len(records)} record(s), {damaged} of them by name alone, {lost} lost"
    what = " ".join(sorted(kinds))
    records.append(repair_record(f"repair:{now}", at=now, by=by, what=what, did=did))
    text = f"keep the log aside and replace it by one that is {did}"
    return Step("rebuild", text, elements=tuple(encode_log(header, records)), lost=lost)


def _from_name(bare: Record, now: int) -> Record | None:
    """Return the record that the name of a damaged one implies; None for a note, whose text is lost."""
    state = bare.kind.state
    if state is None:
        return None
    attempt = Attempt(bare.attempt_id, bare.channel, AttemptState.SUCCESS, ended=now)
    if state is not AttemptState.SUCCESS:
        # It is no longer known whether the attempt failed for good or is still on the wire.
        attempt = replace(
            attempt, state=AttemptState.UNKNOWN, failure=FailureClass.UNCERTAIN,
            error="the record of this attempt was damaged",
        )  # fmt: skip
    return attempt_record(attempt, seed=True)


# -- carrying it out -------------------------------------------------------------------------------------


async def carry_out(at: Access, result: Result, steps: Sequence[Step], *, by: str) -> str:
    """
    Carry out the steps of a repair; returns why they were not carried out, empty if they were.

    Args:
        at: Open connections.
        result: The notification with its findings.
        steps: Steps from `plan_repair`.
        by: Name of the operator.

    Raises:
        PortError: Redis does not answer; some steps may have been carried out, and repeating them is safe.
    """
    joined, doing = result.joined, [step for step in steps if not step.idle]
    for step in doing:
        for record in step.records:
            if record.kind is Kind.PLAN:
                await at.log.note(joined.uid, record)
            else:
                await at.log.outcome(joined.uid, record, None, name=joined.key)
        if step.elements:
            mark = await at.now()
            await at.log.keep_aside(joined.uid, joined.elements, mark=mark, ttl=ASIDE_SECONDS)
            answer = await at.log.rebuild(joined.uid, joined.elements, step.elements)
            if answer is not Answer.OK:
                return "the log has changed meanwhile; run the command again"
    # A rebuilt log already contains the note.
    if doing and not any(step.elements for step in doing):
        now, what = await at.now(), " ".join(sorted({f.kind for f in result.findings}))
        did, phase = "; ".join(s.text for s in doing)[:512], "".join(s.phase for s in doing)
        note = repair_record(f"repair:{now}", at=now, by=by, what=what, did=did, phase=phase)
        # A log that cannot take a record stays as it is.
        with suppress(ContractError):
            await at.log.note(joined.uid, note)
    if doing:
        await at.log.client.wake_up(joined.uid)
    return ""


async def wait_clean(
    at: Access, scan: Scan, bounds: Bounds, repaired: Sequence[Result], *, seconds: float
) -> list[Result]:
    """
    Wait until the repaired notifications agree, or the time is over; returns those that are still wrong.

    The check does not tolerate unpublished records (`settle` is 0), since this waits for their publication.

    Args:
        at: Open connections.
        scan: Its latest epoch is kept up to date.
        bounds: Of the check.
        repaired: The repaired notifications.
        seconds: Seconds to wait at most.
    """
    left = [r.joined.name for r in repaired]
    deadline = asyncio.get_running_loop().time() + seconds
    while True:
        wrong = (
            [r async for r in check_again(at, scan, replace(bounds, settle=0), left)]
            if left
            else []
        )
        left = [r.joined.name for r in wrong]
        if not left or asyncio.get_running_loop().time() >= deadline:
            return wrong
        await asyncio.sleep(_WAIT_STEP)


# -- the command ----------------------------------------------------------------------------------


async def repair(options: argparse.Namespace) -> int:
    """Repair diverging notifications; returns the exit code."""
    if (options.unwitnessed or options.moved) and not options.by:
        raise Misused(
            f"{'--moved' if options.moved else '--unwitnessed'} requires --by, the name of who vouches for"
            " what the status says"
        )
    by = operator_name(options.by)
    async with access(options) as at:
        # `--moved` runs before the controller first starts, on a store that nobody has used.
        await trusted_store(at, writes=not options.dry_run, new=options.moved)
        scan, bounds = Scan(), bounds_of(at)
        planned = await _plan(at, scan, bounds, options, by=by)
        for result, steps in planned:
            _write_plan(result, steps, options, by=by)
        idle = sum(all(step.idle for step in steps) for _, steps in planned)
        found, done = len(planned), []
        for result, steps in () if options.dry_run else planned:
            problem = await carry_out(at, result, steps, by=by)
            if problem:
                write_remark(f"{result.joined.key}: {problem}")
            elif not all(step.idle for step in steps):
                done.append(result)
        # With `--moved` the owner is yet to start, and does its part later.
        wrong = [] if options.moved else await wait_clean(at, scan, bounds, done, seconds=WAIT)
    for joined, findings in wrong:
        for kind, text in findings:
            write_remark(f"still {kind}: {joined.key} ({text})")
    repaired = len(done) - len(wrong)
    summary = {"found": found, "leftAlone": idle, "dryRun": options.dry_run}
    if planned and not options.dry_run:
        # Notifications that were left alone, or had changed by then, still diverge.
        summary = {
            "found": found, "repaired": repaired, "leftAlone": idle, "stillDiverging": found - repaired,
        }  # fmt: skip
    line = ", ".join(f"{k} {v}" for k, v in summary.items()) if found else "nothing to repair"
    write_answer({"summary": summary}, [line], as_json=options.json)
    return OK if repaired == found else DIFFERENT


async def _plan(
    at: Access, scan: Scan, bounds: Bounds, options: argparse.Namespace, *, by: str
) -> list[tuple[Result, tuple[Step, ...]]]:
    """Return the notifications to repair, each with its steps."""
    options.unwitnessed = options.unwitnessed or options.moved
    planned: list[tuple[Result, tuple[Step, ...]]] = []
    if options.object:
        requests = [await read_request(at, key) for key in options.object]
        found = check_again(at, scan, bounds, [(r.uid, r.key) for r in requests])
    else:
        found = diverging(at, scan, bounds, namespaces_of(at, options))
    async for joined, findings in found:
        wanted = tuple(f for f in findings if not options.moved or f.kind is Divergence.LOG_MISSING)
        if wanted:
            steps = plan_repair(joined, wanted, allowed=options, now=await at.now(), by=by)
            planned.append((Result(joined, wanted), steps))
    return planned


def _write_plan(
    result: Result, steps: Sequence[Step], options: argparse.Namespace, *, by: str
) -> None:
    joined = result.joined
    kinds = sorted({f.kind.value for f in result.findings})
    document = {
        "uid": joined.uid, "object": joined.key or None, "classes": kinds, "by": by,
        "steps": [{"act": s.act, "what": s.text} for s in steps],
        "dryRun": options.dry_run,
    }  # fmt: skip
    verb = "would" if options.dry_run else "do"
    lines = [
        f"{joined.key or '?'}  {joined.uid}  {' '.join(kinds)}",
        *(f"  {'leave' if s.idle else verb}: {plain(s.text)}" for s in steps),
    ]
    write_answer(document, lines, as_json=options.json)


async def run(options: argparse.Namespace) -> int:
    """Report divergences, or repair them; returns the exit code."""
    if options.repair:
        return await repair(options)
    async with access(options) as at:
        store, scan = await trusted_store(at), Scan()
        # Since its Lease exists, this installation alone works on new notifications.
        began = store.map.created if store.map is not None else 0
        since = at.settings.adoption.moment or began or None
        bounds = replace(bounds_of(at), since=since)
        results = [r async for r in diverging(at, scan, bounds, namespaces_of(at, options))]
    rows = [(joined, finding) for joined, findings in results for finding in findings]
    Table(_COLUMNS, json=options.json, as_json=lambda row: {
        "uid": row[0].uid, "object": row[0].key or None, "class": row[1].kind.value,
        "remedy": row[1].kind.remedy.value, "what": row[1].text, "cause": ADVICE[row[1].kind].cause,
        "do": ADVICE[row[1].kind].do,
    }).write(rows)  # fmt: skip
    counts = Counter(finding.kind for _, finding in rows)
    advice = [f"{kind}: {ADVICE[kind]}" for kind in VERIFIED if kind in counts]
    summary = {
        "objects": scan.objects, "logs": scan.logs, "records": scan.records,
        "diverging": len(results), "classes": {kind.value: n for kind, n in sorted(counts.items())},
    }  # fmt: skip
    said = (
        f"{scan.objects} objects, {scan.logs} logs, {scan.records} records:"
        f" {len(results) or 'none'} diverging"
    )
    lines = [*([""] if advice else []), *advice, said]
    write_answer({"summary": summary}, lines, as_json=options.json)
    return DIFFERENT if counts else OK


_COLUMNS: Final[Columns] = {
    "NOTIFICATION": lambda row: row[0].key or "?",
    "UID": lambda row: row[0].uid,
    "CLASS": lambda row: row[1].kind,
    "WHAT": lambda row: row[1].text,
}
