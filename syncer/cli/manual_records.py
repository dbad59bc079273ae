"""
Records that an operator adds: manual resolutions (`resolve`) and resend requests (`resend`).

Both are records like any other, appended under the guards of the log and never under a claim; the owner
is woken and acts upon them. What is refused is refused before anything is written, with the reason:

- a manual resolution may raise what is known of an attempt and never lowers it. The log may have moved on
  when it arrives, so its script checks the same once more, and the operator is shown what is on record;
- a resend request is for a channel that has ended without a success. One with attempts left is tried
  without it, unless the controller doubts the status. One that was delivered cannot be sent again under
  this notification: the log refuses an attempt after a success for any caller, and the promise of no
  needless repeat rests on that.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple, TypedDict

from syncer.cli.access import Access, access, operator_name, where_of
from syncer.cli.exits import DIFFERENT, OK, Misused, Refused
from syncer.cli.lookup import read_request
from syncer.cli.output import write_answer
from syncer.cli.store import trusted_store
from syncer.ledger.answers import Answer
from syncer.ledger.codec import encode_channel
from syncer.ledger.reading import read_log
from syncer.model.attempt import AttemptId, AttemptState
from syncer.model.conditions import doubted
from syncer.model.record import NO_CHANNEL, Record, resend_record, resolution_record
from syncer.model.resource import NotificationRequest, Status
from syncer.model.times import format_time
from syncer.rules.channel_state import ChannelState, State
from syncer.rules.fold import LogView, ReadLog
from syncer.rules.holds import on_channel
from syncer.rules.merge import Facts, channel_states_of
from syncer.rules.text import plain

#: Stands for every attempt whose result is not known.
EVERY: Final = "all"
#: Bytes of a reason; more does not help a reader.
MAX_REASON: Final = 256


class ManualRecord(NamedTuple):
    """A record to append, and its meaning for a person."""

    record: Record
    text: str


class Appended(NamedTuple):
    """
    The result of appending a record.

    Attributes:
        fresh: It was appended just now.
        stands: The state of its attempt that the log keeps instead, None if the record is in the log.
    """

    manual: ManualRecord
    fresh: bool
    stands: AttemptState | None = None


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
    Return the records that state what became of attempts.

    Args:
        log: The log as read.
        attempt: Id of the attempt, or EVERY whose result is not known; empty for the only one.
        channel: Patterns of channels, or of receivers; empty for all.
        delivered: Whether they were delivered.
        even_open: Attempts that may still be on the wire, too.
        at: Redis time in milliseconds.
        by: Name of the operator.
        reason: How that is known.

    Raises:
        Refused: there is no attempt that could be resolved so.
    """
    _legible(log)
    view = log.view
    if attempt and attempt != EVERY:
        known = view.attempts.get(AttemptId(attempt))
        if known is None:
            raise Refused(f"the log has no attempt {attempt}")
        chosen = [known]
    else:
        states = {AttemptState.UNKNOWN} | ({AttemptState.INTENT} if even_open else set())
        chosen = [a for a in view.attempts.values() if a.state in states]
    chosen = [a for a in chosen if on_channel(a.channel, channel)]
    if len(chosen) > 1 and not attempt:
        listed = "".join(
            f"\n  --attempt {a.id}  on {a.channel}, {format_time(a.started) or 'at an unknown time'}"
            for a in chosen
        )
        raise Refused(
            f"{len(chosen)} attempts have an unknown result: which one? (--attempt {EVERY}: each of them)"
            f"{listed}"
        )
    if not chosen and channel:
        tried = ", ".join(dict.fromkeys(a.channel for a in view.attempts.values())) or "none"
        raise Refused(
            f"no attempt on {', '.join(channel)} has an unknown result; channels with attempts: {tried}"
        )
    if not chosen:
        raise Refused("no attempt has an unknown result; name one with --attempt")
    target = AttemptState.SUCCESS if delivered else AttemptState.FAILED
    for one in chosen:
        if one.open and not even_open:
            raise Refused(
                f"attempt {one.id} is open: its owner records what becomes of it, or settles it as"
                " unknown; --even-open resolves it all the same"
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
    channels: tuple[str, ...],
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
    if log.header is None:
        raise Refused(
            "its log is gone, so an earlier delivery cannot be ruled out; create a new notification"
        )
    view, status = log.view, request.status
    if by_log := doubted(status.conditions):
        # What the log does not say is what the request overrules.
        status = Status(phase=status.phase)
    facts = Facts(request.generation, request.policy, at_most_once)
    channel_states = {s.channel: s for s in channel_states_of(view, status, facts)}
    waiting = view.ordered
    for pattern in channels:
        if not any(on_channel(channel, (pattern,)) for channel in channel_states):
            known = ", ".join(channel_states) or "none"
            raise Refused(
                f"{pattern} is not a channel of this notification; its channels are {known}"
            )
    named = tuple(c for c in channel_states if channels and on_channel(c, channels))
    for channel in named:
        channel_state = channel_states[channel]
        if channel_state.state is State.DELIVERED:
            raise Refused(
                f"{channel} was delivered, and nothing is sent after a recorded success; to send the"
                " message once more, create a new notification"
            )
        if channel in waiting:
            raise Refused(f"one more attempt of {channel} has already been requested")
        if not (by_log or _ended(channel_state, status)):
            raise Refused(f"{channel} is {channel_state.state}: it will be tried without a request")
    chosen = named or tuple(
        s.channel
        for s in channel_states.values()
        if (by_log or _ended(s, status))
        and s.state is not State.DELIVERED
        and s.channel not in waiting
    )
    if by_log and view.plan is None:
        # The channels are yet to be chosen.
        chosen = (NO_CHANNEL,)
    if not chosen:
        raise Refused("no channel has ended without success")
    return tuple(
        ManualRecord(
            resend_record(_request_id(view, channel), channel, at=at, by=by, why=reason),
            f"{channel}: one more attempt, after {len(view.of_channel(channel))}",
        )
        for channel in chosen
    )


def _ended(channel_state: ChannelState, status: Status) -> bool:
    """Whether nothing more is sent on a channel without a request: a final phase ends all channels."""
    if channel_state.state is State.SENDING:
        return False
    return channel_state.state.finished or status.terminal


def _request_id(view: LogView, channel: str) -> str:
    """
    Return the id of the next resend request of a channel.

    It counts the attempts made: the same request made twice, by two operators at once or after a lost
    reply, is one request.
    """
    return f"order:{encode_channel(channel)}:{len(view.of_channel(channel)) + 1}"


def _legible(log: ReadLog) -> None:
    if log.problem:
        raise Refused(f"the log cannot be read ({log.problem}); repair it first")


async def append(at: Access, uid: str, records: tuple[ManualRecord, ...]) -> list[Appended]:
    """
    Append records and wake the owner.

    Args:
        at: Open connections.
        uid: Of the notification.
        records: What to append, in this order.

    Returns:
        The result of each.

    Raises:
        Refused: there is no log any more.
        PortError: Redis does not answer; appending again is safe.
    """
    out = []
    for one in records:
        answer = await at.log.note(uid, one.record)
        if answer.answer is Answer.NOOP and answer.rank < 0:
            raise Refused("its log is gone; `syncer verify --repair` restores it from the status")
        stands = AttemptState(answer.rank) if answer.answer is Answer.DUP else None
        out.append(Appended(one, answer.answer is Answer.OK, stands))
    await at.log.wake_owner(uid)
    return out


class Stamp(TypedDict):
    """What every record says: Redis time in milliseconds, who records it, and why."""

    at: int
    by: str
    reason: str


async def record(
    options: argparse.Namespace,
    make: Callable[[Access, NotificationRequest, ReadLog, Stamp], tuple[ManualRecord, ...]],
) -> int:
    """Read a notification and write the records that `make` returns for it; returns the exit code."""
    reason, by = parse_reason(options.reason), operator_name(options.by)
    async with access(where_of(options)) as at:
        await trusted_store(at, writes=not options.dry_run)
        request = await read_request(at, options.object)
        log = read_log(await at.log.elements(request.uid))
        stamp: Stamp = {"at": await at.now(), "by": by, "reason": reason}
        return await write_records(at, request, make(at, request, log, stamp), options, by=by)


async def write_records(
    at: Access,
    request: NotificationRequest,
    records: tuple[ManualRecord, ...],
    options: argparse.Namespace,
    *,
    by: str,
) -> int:
    """
    Append records, unless it is a dry run, and write the result of each; returns the exit code.

    Args:
        at: Open connections.
        request: The object.
        records: What to append.
        options: Of the command: `dry_run`, `json`.
        by: Name of the operator, for the answer.

    Raises:
        Refused: as `append`.
        PortError: as `append`.
    """
    if options.dry_run:
        results = [Appended(record, True) for record in records]
    else:
        results = await append(at, request.uid, records)
    for result in results:
        record, text = result.manual
        stands = result.stands
        document = {
            "uid": request.uid, "object": request.key, "record": record.id,
            "kind": record.kind.value, "channel": record.channel, "by": by,
            "what": text, "appended": result.fresh and not options.dry_run,
            "stands": stands.word if stands is not None else None,
            "dryRun": options.dry_run,
        }  # fmt: skip
        done = "recorded" if result.fresh else "recorded before"
        line = f"{'would record' if options.dry_run else done}: {text}"
        if stands is not None:
            line = f"not recorded: {text}; by now it is {stands.word}, which stands"
        write_answer(document, [plain(line)], as_json=options.json)
    return DIFFERENT if any(result.stands is not None for result in results) else OK
