"""
An operator's word: what became of an attempt (`resolve`), and try once more (`resend`).

Both are records like any other, appended under the guards of the log and never under a claim; the owner
is poked and acts upon them. What is refused is refused before anything is written, with the reason:

- a verdict may raise what is known of an attempt and never lower it. The log has moved on by the time it
  arrives, so its script asks the same once more, and whoever gave it is told what stands;
- an order is for a channel that has ended without a success. One with attempts left will be tried by
  itself. One that was delivered cannot be sent again under this notification: the log refuses an attempt
  after a success whoever asks, which is what the promise of no needless repeat rests on.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from syncer.cli.access import Access
from syncer.ledger.codec import encode_channel
from syncer.ledger.log import Answer
from syncer.model.attempt import AttemptId, AttemptState
from syncer.model.errors import LedgerError
from syncer.model.record import Record, order_record, verdict_record
from syncer.model.resource import NotificationRequest, Status
from syncer.rules.channel_state import ChannelState, State
from syncer.rules.fold import LogView, ReadLog
from syncer.rules.merge import Facts, channel_states_of, ordered_channels

#: Bytes of a reason; more does not help whoever reads it.
MAX_REASON: Final = 256


class Refused(LedgerError):
    """What the operator asks for makes no sense here; nothing was written."""


@dataclass(frozen=True, slots=True)
class Said:
    """A record to append, and what it is for."""

    record: Record
    text: str


@dataclass(frozen=True, slots=True)
class Told:
    """
    What became of a record.

    Attributes:
        said: The record.
        fresh: It was appended just now.
        stands: What the log says of its attempt instead, None if the record is in the log.
    """

    said: Said
    fresh: bool
    stands: AttemptState | None = None


def reason_of(text: str) -> str:
    """
    Check a reason.

    Raises:
        Refused: it is empty or too long.
    """
    reason = " ".join(text.split())
    if not reason:
        raise Refused("--reason must say why")
    if len(reason.encode("utf-8", "replace")) > MAX_REASON:
        raise Refused(f"--reason must not be longer than {MAX_REASON} bytes")
    return reason


def verdicts(
    log: ReadLog,
    *,
    attempt: str,
    channel: str,
    delivered: bool,
    even_open: bool,
    at: int,
    by: str,
    why: str,
) -> tuple[Said, ...]:
    """
    What to append to say what became of attempts.

    Args:
        log: The log as read.
        attempt: Id of the attempt; empty for every one whose result is not known.
        channel: Only of this channel; empty for all.
        delivered: The verdict.
        even_open: Attempts that may still be on the wire, too.
        at: Redis time in milliseconds.
        by: Who says so.
        why: How that is known.

    Raises:
        Refused: there is nothing of which that could be said.
    """
    _legible(log)
    view = log.view
    if attempt:
        known = view.attempts.get(AttemptId(attempt))
        if known is None:
            raise Refused(f"the log knows no attempt {attempt}")
        chosen = [known]
    else:
        states = {AttemptState.UNKNOWN} | ({AttemptState.INTENT} if even_open else set())
        chosen = [a for a in view.attempts.values() if a.state in states]
    chosen = [a for a in chosen if not channel or a.channel == channel]
    if not chosen:
        raise Refused("no attempt has an unknown result; name one with --attempt")
    target = AttemptState.SUCCESS if delivered else AttemptState.FAILED
    for one in chosen:
        if one.open and not even_open:
            raise Refused(
                f"attempt {one.id} is open: its owner records what becomes of it, or settles it as"
                " unknown; --even-open says it all the same"
            )
        if one.state >= target:
            raise Refused(f"attempt {one.id} is recorded as {one.state.word}, which stands")
    return tuple(
        Said(
            verdict_record(one, delivered=delivered, at=at, by=by, why=why),
            f"attempt {one.id} on {one.channel}: {one.state.word} -> {target.word}",
        )
        for one in chosen
    )


def orders(
    request: NotificationRequest,
    log: ReadLog,
    *,
    channels: tuple[str, ...],
    at_most_once: bool,
    at: int,
    by: str,
    why: str,
) -> tuple[Said, ...]:
    """
    What to append to have channels tried once more.

    Args:
        request: The object.
        log: Its log as read.
        channels: Which; empty for every one that has ended without a success.
        at_most_once: As the controller is configured.
        at: Redis time in milliseconds.
        by: Who wishes it.
        why: Why.

    Raises:
        Refused: a channel cannot be ordered, or there is none that can.
    """
    _legible(log)
    if log.header is None:
        raise Refused(
            "its log is gone, so an earlier delivery cannot be ruled out; create a new notification"
        )
    view, status = log.view, request.status
    facts = Facts(request.generation, request.policy, at_most_once)
    channel_states = {s.channel: s for s in channel_states_of(view, status, facts)}
    waiting = ordered_channels(view, status)
    for channel in channels:
        if channel not in channel_states:
            known = ", ".join(channel_states) or "none"
            raise Refused(f"{channel} is no channel of this notification; it has {known}")
        channel_state = channel_states[channel]
        if channel_state.state is State.DELIVERED:
            raise Refused(
                f"{channel} was delivered, and nothing is sent after a recorded success; to send the"
                " message once more, create a new notification"
            )
        if channel in waiting:
            raise Refused(f"{channel} is ordered already and will be tried")
        if not _ended(channel_state, status):
            raise Refused(f"{channel} is {channel_state.state}: it is tried without being told")
    chosen = channels or tuple(
        s.channel
        for s in channel_states.values()
        if _ended(s, status) and s.state is not State.DELIVERED and s.channel not in waiting
    )
    if not chosen:
        raise Refused("no channel has ended without a success")
    return tuple(
        Said(
            order_record(_order_id(view, channel), channel, at=at, by=by, why=why),
            f"{channel}: one more attempt, after {len(view.of_channel(channel))}",
        )
        for channel in chosen
    )


def _ended(channel_state: ChannelState, status: Status) -> bool:
    """Whether nothing more is sent on a channel by itself: a final phase ends all that are left."""
    if channel_state.state is State.SENDING:
        return False
    return channel_state.state.finished or status.terminal


def _order_id(view: LogView, channel: str) -> str:
    """
    Id of the next order of a channel.

    It counts the attempts made: the same wish said twice, by two operators at once or after a lost
    reply, is one order.
    """
    return f"order:{encode_channel(channel)}:{len(view.of_channel(channel)) + 1}"


def _legible(log: ReadLog) -> None:
    if log.problem:
        raise Refused(f"the log cannot be read ({log.problem}); repair it first")


async def append(at: Access, uid: str, said: tuple[Said, ...]) -> list[Told]:
    """
    Append records and tell the owner.

    Returns:
        What became of each.

    Raises:
        Refused: there is no log any more.
        PortError: Redis does not answer; saying it again is safe.
    """
    out = []
    for one in said:
        answer = await at.log.note(uid, one.record)
        if answer.answer is Answer.NOOP and answer.rank < 0:
            raise Refused("its log is gone; `syncer repair` restores it from the status")
        stands = AttemptState(answer.rank) if answer.answer is Answer.DUP else None
        out.append(Told(one, answer.answer is Answer.OK, stands))
    await at.log.wake_owner(uid)
    return out
