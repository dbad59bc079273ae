"""
Records that an operator adds: manual resolutions (`resolve`) and resend requests (`resend`).

Both are records like any other, appended under the guards of the log and never under a claim; the owner
is woken and acts upon them. A refusal comes before anything is written, and gives the reason:

- a manual resolution may raise the recorded state of an attempt and never lowers it. The log may have
  changed by the time it arrives, so its script checks the same once more, and the operator is shown the
  state on record;
- a resend request is for a channel that has ended without a success. A channel with attempts left is tried
  without a request, unless the controller doubts the status. A delivered channel cannot be sent again under
  this notification: the log refuses an attempt after a success for any caller, and the promise of no
  needless repeat depends on that.
"""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, NamedTuple

from syncer.cli.access import Access, access, operator_name
from syncer.cli.exits import DIFFERENT, NOT_COMPARED, OK, Absent, Misused, Refused
from syncer.cli.installation import check_names, namespaces_of, trusted_store
from syncer.cli.known import read_request
from syncer.cli.output import age, table, translated, write_answer, write_lines, write_remark
from syncer.cli.scan import Scan, walk
from syncer.cli.times import moment_of
from syncer.kube.notification_requests import Unreadable
from syncer.ledger.answers import Answer
from syncer.ledger.codec import encode_channel
from syncer.ledger.reading import read_log
from syncer.model.attempt import AttemptId, AttemptState
from syncer.model.conditions import doubted
from syncer.model.record import NO_CHANNEL, Record, resend_record, resolution_record
from syncer.model.resource import NotificationRequest, Status
from syncer.model.times import format_time
from syncer.rules.channel_state import ChannelState, State
from syncer.rules.fold import History, ReadLog
from syncer.rules.holds import DROPPED, on_channel
from syncer.rules.merge import Facts, channel_states_of, lacking
from syncer.rules.plan import given_up
from syncer.rules.text import cut, plain

#: Stands for every attempt whose result is not known.
EVERY: Final = "all"
#: Longest reason, in bytes; more does not help a reader.
MAX_REASON: Final = 256


class ManualRecord(NamedTuple):
    """A record to append, and its meaning for a person."""

    record: Record
    text: str
    #: History that the log must begin with: another log may lack deliveries. None if any log will do.
    read: History | None = None


def parse_reason(text: str) -> str:
    """Return a reason on one line; Misused if it is empty or too long."""
    reason = " ".join(text.split())
    if not reason:
        raise Misused("--reason must not be empty")
    if len(reason.encode("utf-8", "replace")) > MAX_REASON:
        raise Misused(f"--reason must not be longer than {MAX_REASON} bytes")
    return reason


def resolutions(
    log: ReadLog,
    *,
    attempt: str,
    channel: Sequence[str],
    delivered: bool,
    even_open: bool,
    at: int,
    by: str,
    reason: str,
) -> tuple[ManualRecord, ...]:
    """
    Return the records that state the results of attempts.

    Args:
        log: The log as read.
        attempt: Id of the attempt, or EVERY for each with an unknown result; empty for the only one.
        channel: Patterns of channels, or of receivers; empty for all.
        delivered: Whether they were delivered.
        even_open: Include attempts that may still be on the wire.
        at: Redis time in milliseconds.
        by: Name of the operator.
        reason: How the result is known.

    Raises:
        Refused: no attempt can be resolved this way.
    """
    _legible(log)
    view = log.view
    states = {AttemptState.UNKNOWN} | ({AttemptState.INTENT} if even_open else set())
    named = attempt if attempt != EVERY else ""
    if named and AttemptId(named) not in view.attempts:
        raise Refused(f"the log has no attempt {named}")
    chosen = [
        a for a in view.attempts.values()
        if (a.id == named if named else a.state in states) and on_channel(a.channel, channel)
    ]  # fmt: skip
    if len(chosen) > 1 and not attempt:
        listed = "".join(
            f"\n  --attempt {a.id}  on {a.channel}, {format_time(a.started) or 'at an unknown time'}"
            for a in chosen
        )
        raise Refused(
            f"{len(chosen)} attempts have an unknown result: which one? (--attempt {EVERY}: each of them)"
            f"{listed}"
        )
    if not chosen:
        where = f"on {', '.join(channel)}" if channel else "of this notification"
        tried = ", ".join(dict.fromkeys(a.channel for a in view.attempts.values())) or "none"
        raise Refused(f"no attempt {where} has an unknown result; channels with attempts: {tried}")
    target = AttemptState.SUCCESS if delivered else AttemptState.FAILED
    for one in chosen:
        if one.open and not even_open:
            raise Refused(
                f"attempt {one.id} is open: its owner will record its result, or that it is unknown;"
                " --even-open resolves it now"
            )
        if one.state >= target:
            raise Refused(f"attempt {one.id} is recorded as {one.state.word}, which stands")
    return tuple(
        ManualRecord(
            resolution_record(one, delivered=delivered, at=at, by=by, why=reason),
            f"attempt {one.id} on {one.channel}: {one.state.word} -> {target.word}",
        )
        for one in chosen
    )


def resend_requests(
    request: NotificationRequest,
    log: ReadLog,
    *,
    channels: Sequence[str],
    at_most_once: bool,
    at: int,
    by: str,
    reason: str,
) -> tuple[ManualRecord, ...]:
    """
    Return the records that request one more attempt of channels.

    Args:
        request: The object.
        log: Its log as read.
        channels: Patterns of channels, or of receivers; empty for every one that has ended without a
            success.
        at_most_once: As the controller is configured.
        at: Redis time in milliseconds.
        by: Name of the operator.
        reason: Why.

    Raises:
        Refused: a channel cannot be sent again, or there is none that can.
    """
    _legible(log)
    view, status = log.view, request.status
    by_log = doubted(status.conditions)
    # A log that was created again after its expiry lacks the earlier records.
    if log.header is None or (not (by_log or view.whole) and lacking(view, status)):
        raise Refused(
            "its log is gone, so an earlier delivery cannot be ruled out; create a new notification"
        )
    if by_log:
        # The request overrules whatever the status says beyond the log.
        status = Status(phase=status.phase)
    facts = Facts(request.generation, request.policy, at_most_once)
    channel_states = {s.channel: s for s in channel_states_of(view, status, facts)}
    waiting = view.ordered
    for pattern in channels:
        if not any(on_channel(channel, (pattern,)) for channel in channel_states):
            raise Refused(
                f"{pattern} is not a channel of this notification; its channels are"
                f" {', '.join(channel_states) or 'none'}"
            )
    named = {c: s for c, s in channel_states.items() if channels and on_channel(c, channels)}
    for channel, channel_state in named.items():
        if channel_state.state is State.DELIVERED:
            raise Refused(
                f"{channel} was delivered, and nothing is sent after a recorded success; to send the"
                " message once more, create a new notification"
            )
        if channel in waiting:
            raise Refused(f"one more attempt of {channel} has already been requested")
        if not (by_log or _ended(channel_state, status)):
            raise Refused(f"{channel} is {channel_state.state}: it will be tried without a request")
    chosen = tuple(named) or tuple(
        s.channel
        for s in channel_states.values()
        if (by_log or _ended(s, status))
        and s.state is not State.DELIVERED
        and s.channel not in waiting
    )
    if by_log and view.plan is None:
        # The channels are not chosen yet.
        chosen = (NO_CHANNEL,)
    if not chosen:
        raise Refused("no channel has ended without success")
    # The id contains the number of attempts made, so that the same request made twice, by two operators at
    # once or after a lost reply, is one request.
    made = {channel: len(view.of_channel(channel)) for channel in chosen}
    return tuple(
        ManualRecord(
            resend_record(
                f"order:{encode_channel(channel)}:{number + 1}", channel, at=at, by=by, why=reason
            ),
            f"{channel}: one more attempt, after {number}",
            History(view.position, view.chain),
        )
        for channel, number in made.items()
    )


def _ended(channel_state: ChannelState, status: Status) -> bool:
    """Whether nothing more is sent on a channel without a request: a final phase ends all channels."""
    if channel_state.state is State.SENDING:
        return False
    return channel_state.state.finished or status.terminal


def _legible(log: ReadLog) -> None:
    if log.problem:
        raise Refused(f"the log cannot be read ({log.problem}); repair it first")


async def write_records(
    at: Access,
    request: NotificationRequest,
    records: tuple[ManualRecord, ...],
    options: argparse.Namespace,
    *,
    by: str,
) -> int:
    """
    Append records, unless it is a dry run, and wake the owner; write the result of each.

    Args:
        at: Open connections.
        request: The object.
        records: What to append, in this order.
        options: Options of the command: `dry_run`, `json`.
        by: Name of the operator, for the answer.

    Returns:
        The exit code.

    Raises:
        Refused: the log is gone, or is another one by now.
        PortError: Redis does not answer; appending again is safe.
    """
    code = OK
    for record, text, read in records:
        stands, done = "", "would record"
        if not options.dry_run:
            answer = await at.log.note(request.uid, record, read=read)
            if answer.answer is Answer.NOOP and answer.rank < 0:
                raise Refused(
                    "its log is gone, or was recreated since it was read; run `syncer verify --repair`,"
                    " which restores it from the status, and ask again"
                )
            done = "recorded" if answer.answer is Answer.OK else "recorded before"
            stands = AttemptState(answer.rank).word if answer.answer is Answer.DUP else ""
        line = f"{done}: {text}"
        if stands:
            line, code = f"not recorded: {text}; by now it is {stands}, which stands", DIFFERENT
        document = {
            "uid": request.uid, "object": request.key, "record": record.id,
            "kind": record.kind.value, "channel": record.channel, "by": by, "what": text,
            "appended": done == "recorded", "stands": stands or None, "dryRun": options.dry_run,
        }  # fmt: skip
        write_answer(document, [plain(line)], as_json=options.json)
    if not options.dry_run:
        await at.log.client.wake_up(request.uid)
    return code


# -- the commands ---------------------------------------------------------------------------------


async def run(options: argparse.Namespace) -> int:
    """Record resend requests, or a manual resolution; returns the exit code."""
    many = options.command == "resend" and not options.object
    if many and not (options.receiver or options.failed):
        raise Misused("name a notification; or, after an incident, --receiver PATTERN or --failed")
    if options.command == "resend" and options.failed and not many:
        raise Misused("name a notification, or --failed")
    where = f"receiver {', '.join(options.receiver)}" if options.receiver else "every receiver"
    usual = options.reason or (f"after an incident of {where}" if many else "")
    reason, by = parse_reason(usual), operator_name(options.by)
    async with access(options) as at:
        await trusted_store(at, writes=not options.dry_run)

        async def record(
            request: NotificationRequest, channels: Sequence[str], about: Sequence[str] = ()
        ) -> int:
            log, now = read_log(await at.log.elements(request.uid)), await at.now()
            if options.command == "resolve":
                made = resolutions(
                    log, attempt=options.attempt or "", channel=channels, by=by, reason=reason, at=now,
                    delivered=options.result == "delivered", even_open=options.even_open,
                )  # fmt: skip
            else:
                made = resend_requests(
                    request, log, channels=channels, by=by, reason=reason, at=now,
                    at_most_once=at.settings.delivery.at_most_once,
                )  # fmt: skip
            if about and not options.json:
                write_lines(table([about]))
            return await write_records(at, request, made, options, by=by)

        if many:
            return await _each(at, options, record)
        return await record(await read_request(at, options.object), options.receiver or ())


async def _each(
    at: Access,
    options: argparse.Namespace,
    record: Callable[[NotificationRequest, Sequence[str], Sequence[str]], Awaitable[int]],
) -> int:
    """
    Request one more attempt of each channel that failed; the rule refuses delivered ones.

    Channels that an operator has dropped are left out unless requested: a person decided to drop them.
    """
    pause, requested, unread, left_out, chosen = 1 / options.rate, 0, 0, 0, []
    now, scan = await at.now(), Scan()
    since = moment_of(options.since, "--since", now) if options.since else 0
    async for one in walk(at, namespaces_of(at, options), scan):
        if isinstance(one, Unreadable):
            unread += 1
        elif failed := _failed(one, options, since, dropped=True):
            kept = _failed(one, options, since)
            left_out += len(kept) < len(failed)
            chosen += [(one.created, one.key, one.uid)] if kept else []
    await check_names(at, options, scan)
    for _, key, uid in sorted(chosen):
        try:
            request = await read_request(at, key)
            failed = _failed(request, options, since) if request.uid == uid else {}
            if failed:
                await asyncio.sleep(pause if requested and not options.dry_run else 0)
                about = (
                    key, f"{age(now - request.created)} old", cut(request.spec().subject, 60),
                    "; ".join(f"{name}: {translated(text)}" for name, text in failed.items()),
                )  # fmt: skip
                await record(request, tuple(failed), about)
                requested += 1
        except (Absent, Refused) as error:
            write_remark(f"{key}: {error}")
    summary = {
        "requested": requested, "leftOut": left_out, "unread": unread, "dryRun": options.dry_run,
    }  # fmt: skip
    done = "would be requested" if options.dry_run else "requested"
    line = f"one more attempt {done} for {requested} notification(s)"
    write_answer({"summary": summary}, [line], as_json=options.json)
    if left_out:
        write_remark(
            f"{left_out} left out that an operator has dropped (--even-dropped takes them)"
        )
    elif not chosen:
        write_remark("nothing that matches has failed, or what has is being tried again")
    return NOT_COMPARED if unread else OK if requested else DIFFERENT


def _failed(
    request: NotificationRequest, options: argparse.Namespace, since: int, *, dropped: bool = False
) -> dict[str, str]:
    """Return the requested channels that failed for good by the status, with their last errors."""
    last = {a.channel: (a.ended or a.started, a.error) for a in request.status.attempts}
    return {
        c.name: error
        for c in request.status.channels
        for at, error in [last.get(c.name, (0, ""))]
        if c.state in {State.FAILED, State.EXHAUSTED, State.UNCERTAIN}
        and on_channel(c.name, options.receiver or ())
        and at >= since
        and (dropped or options.even_dropped or not given_up(error).startswith(DROPPED))
    }
