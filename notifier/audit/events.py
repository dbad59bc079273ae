"""
Makes audit events from the records of a log; pure.

An event states what a record states, so the log is the only source: nothing is audited that was
not recorded, and everything recorded is audited, whichever process reads the log. The shape is
that of the replaced controller's audit store; `event_data` repeats `event_type`, by which that
store tells its payloads apart, and adds `event_id`, `notification_uid`, `attempt_id` and, where
the controller did not see the result itself, `evidence`.

- If no sender of this controller saw a result, `evidence` says where the result comes from: `restored`
  (a status or a replica's cache, after the log had lost it), or `resolved by` an operator. If such a result
  ends the notification, the event of the end has the same evidence, or `adopted` if the attempt was one of
  the replaced controller's.
- Every settled attempt yields one `sent` or `failed` event, placed at the record that gave the attempt its
  highest state. If a manual resolution came before the receiver's refusal, that is the record that gave the
  attempt its class. `error_type` is the class: transient, permanent, notSent, uncertain. An attempt audited
  as failed (its result was unknown) and found to have succeeded later yields a `sent` event, too: a
  correction, under an id of its own. An attempt that a newer notification of its incident has superseded
  yields none: it neither arrived nor failed.
- The record that ends a notification yields one more event: `acknowledged` if every channel was delivered;
  `escalated` if none was, whatever the priority, because no receiver got it. For a partly sent notification
  there are only the events of its attempts; it was neither acknowledged nor escalated.
- Attempts that the replaced controller made (ids `0-<n>`) were audited by it and yield nothing.

The id of an event is `<uid>/<attempt id>/<kind>`: equal records give equal ids, so a receiver
that gets an event twice can detect it. Every text that comes from the object or a receiver is
sanitised.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, Final

from notifier.content.message import compose
from notifier.content.sanitise import sanitise
from notifier.contract import Message
from syncer.model.attempt import (
    NO_EPOCH,
    Attempt,
    AttemptId,
    AttemptState,
    FailureClass,
    attempt_epoch,
)
from syncer.model.record import Kind, Record
from syncer.model.resource import (
    GROUP,
    KIND,
    PLURAL,
    Json,
    NotificationRequest,
    RetryPolicy,
    Status,
)
from syncer.model.resource import VERSION as API_VERSION
from syncer.model.times import format_time
from syncer.rules.channel_state import ChannelState, State, deciding, state_of, superseded
from syncer.rules.fold import LogView
from syncer.rules.merge import Facts, channel_states_of

VERSION: Final = "1.0"
CATEGORY: Final = "notification"
ACTOR: Final = "notification-controller"
_PREFIX: Final = "notification.message"
_CLOUD_PREFIX: Final = "notification-ledger.message"
#: Evidence for an end that is due to an attempt of the replaced controller.
_ADOPTED: Final = "adopted"


class EventKind(StrEnum):
    """Last part of an event's type and of its id."""

    SENT = "sent"
    FAILED = "failed"
    ACKNOWLEDGED = "acknowledged"
    ESCALATED = "escalated"


@dataclass(frozen=True, slots=True)
class AuditEvent:
    """
    One event.

    Attributes:
        id: `<uid>/<attempt id>/<kind>`.
        kind: What happened.
        position: Position of the record from which it was made.
        at: When it happened, in Unix milliseconds.
        line: The event as compact JSON in ASCII, without a line break.
    """

    id: str
    kind: EventKind
    position: int
    at: int
    line: bytes


@dataclass(frozen=True, slots=True)
class Ending:
    """The record that ended a notification: position, attempt or record id, time, event kind, evidence."""

    position: int
    id: str
    at: int
    kind: EventKind | None
    evidence: str = ""


def events_of(
    records: Sequence[Record],
    request: NotificationRequest,
    *,
    after: int = 0,
    at_most_once: bool = False,
) -> tuple[AuditEvent, ...]:
    """
    Return the events of the records above a position of a log, in the order of the records.

    Args:
        records: The whole log, oldest first.
        request: The object. A stand-in without content (for a deleted object) gives events without
            subject, body and priority.
        after: Position up to which all events have been handed over.
        at_most_once: Whether an attempt whose result is unknown ends its channel.

    Raises:
        ValueError: the positions of the records are not consecutive.
    """
    view, settled, ending = _walk(records, request.policy, at_most_once=at_most_once)
    fresh = [(a, at) for a, at in settled.items() if at.position > after]
    ended = ending.kind if ending.position > after else None
    if not fresh and ended is None:
        return ()
    writer = _Writer(request)
    events = [writer.attempt(view.attempts[a], at) for a, at in fresh]
    if ended is not None:
        events.append(writer.ending(ending, ended))
    # The sort is stable: the end of a notification follows the attempt that caused it.
    return tuple(sorted(events, key=lambda e: e.position))


def _walk(
    records: Sequence[Record], policy: RetryPolicy, *, at_most_once: bool
) -> tuple[LogView, dict[AttemptId, Record], Ending]:
    """Fold a log; also return the record that settled each attempt, and the end of the notification."""
    view = LogView()
    settled: dict[AttemptId, Record] = {}
    channel_states: dict[str, ChannelState] = {}
    ending = Ending(0, "", 0, None)
    for record in records:
        state = record.kind.state
        known = view.attempts.get(record.attempt_id) if state is not None else None
        view.apply(record)
        if state is not None:
            new = view.attempts[record.attempt_id]
            same = known and (known.state, known.failure) == (new.state, new.failure)
            if state is AttemptState.INTENT or same:
                continue
            if (
                attempt_epoch(record.attempt_id) != NO_EPOCH
                and new.failure is not FailureClass.SUPERSEDED
            ):
                settled[record.attempt_id] = record
        elif record.kind is not Kind.PLAN:
            continue
        if ending.position or view.plan is None:
            continue
        channels = view.plan.channels
        for channel in channels if record.kind is Kind.PLAN else (record.channel,):
            channel_states[channel] = state_of(
                channel,
                view.of_channel(channel),
                max_attempts=policy.max_attempts,
                at_most_once=at_most_once,
                before_order=view.orders.get(channel),
            )
        final: Sequence[ChannelState] = [channel_states[c] for c in channels]
        if view.plan.fallbacks:
            # With fallbacks, the state of a channel depends on the others.
            final = channel_states_of(view, Status(), Facts(0, policy, at_most_once))
        if all(s.state.finished for s in final):
            words = {_word(view, state, settled) for state in deciding(final)} - {""}
            ending = replace(_ending(record, final), evidence=", ".join(sorted(words)))
    return view, settled, ending


def _evidence(record: Record) -> str:
    """Return where the result of an attempt comes from; empty if its sender recorded it."""
    if record.kind.resolution:
        return f"resolved by {record.body.get('by', '')}"
    return "restored" if record.kind.value.startswith("seed.") else ""


def _word(view: LogView, state: ChannelState, settled: Mapping[AttemptId, Record]) -> str:
    """Return the evidence for the end of a channel; empty if a sender recorded one of its successes."""
    made = view.of_channel(state.channel)
    ends = [a for a in made if a.state is AttemptState.SUCCESS] or made[-1:]
    return min(
        (_evidence(settled[a.id]) if a.id in settled else _ADOPTED for a in ends), default=""
    )


def _ending(record: Record, final: Sequence[ChannelState]) -> Ending:
    delivered = sum(s.state is State.DELIVERED for s in final)
    kind: EventKind | None = None
    deciders = deciding(final)
    if deciders and delivered == len(deciders):
        kind = EventKind.ACKNOWLEDGED
    elif not delivered and not superseded(final):
        kind = EventKind.ESCALATED
    identity = record.attempt_id if record.kind.state is not None else record.id
    return Ending(record.position, identity, int(record.body.get("at", 0)), kind)


class _Writer:
    """Writes the events of one notification; its content is sanitised once."""

    def __init__(self, request: NotificationRequest) -> None:
        self._request = request
        # Only receivers need the channel and the attempt of a message.
        self._message: Message | None = compose(request.document(), "", "") if request.raw else None

    def attempt(self, attempt: Attempt, settled: Record) -> AuditEvent:
        success = attempt.state is AttemptState.SUCCESS
        kind = EventKind.SENT if success else EventKind.FAILED
        data = self._data("subject", "body", "priority") | {"channel": attempt.channel}
        if success:
            data |= self._data("type")
        else:
            data["error_type"] = (attempt.failure or FailureClass.TRANSIENT).value
            if attempt.error:
                data["error"] = sanitise(attempt.error)
        if evidence := _evidence(settled):
            data["evidence"] = sanitise(evidence)
        return self._event(kind, attempt.id, settled.position, attempt.ended, data)

    def ending(self, ending: Ending, kind: EventKind) -> AuditEvent:
        data = self._data("subject", "priority")
        if kind is EventKind.ESCALATED:
            priority = data.get("priority", self._request.priority)
            data["reason"] = f"Escalated due to {priority} priority"
        if ending.evidence:
            data["evidence"] = sanitise(ending.evidence)
        return self._event(kind, ending.id, ending.position, ending.at, data)

    def _data(self, *members: str) -> Json:
        if self._message is None:
            return {}
        spec = self._message.spec
        content = {
            "subject": spec.subject,
            "body": spec.body,
            "priority": spec.priority,
            "type": spec.type,
        }
        return {m: content[m] for m in members}

    def _event(
        self, kind: EventKind, attempt: str, position: int, at: int, data: Json
    ) -> AuditEvent:
        request, message = self._request, self._message
        spec = message.spec if message else None
        identity = f"{request.uid}/{attempt}/{kind}"
        body: Json = {
            "version": VERSION,
            "event_type": f"{_PREFIX}.{kind}",
            "event_timestamp": format_time(at) or format_time(request.created),
            "event_category": CATEGORY,
            "event_action": "sent" if kind is EventKind.FAILED else kind.value,
            "event_outcome": "failure" if kind is EventKind.FAILED else "success",
            "actor_type": "service",
            "actor_id": ACTOR,
            "resource_type": KIND,
            "resource_id": request.name,
            "correlation_id": (spec.remediation_request if spec else "") or request.uid,
            "namespace": request.namespace,
        }
        if spec and spec.cluster_id:
            body["cluster_id"] = spec.cluster_id
        body["event_data"] = {
            "event_type": body["event_type"],
            "event_id": identity,
            "notification_uid": request.uid,
            "attempt_id": attempt,
            "notification_id": request.name,
            **data,
        }
        if message and message.metadata:
            body["event_data"]["metadata"] = message.metadata
        line = json.dumps(_storable(body), separators=(",", ":")).encode()
        return AuditEvent(identity, kind, position, at, line)


def cloud_event(line: bytes) -> bytes:
    """
    Return the event of a line as the data of a CloudEvent.

    The source is the API path of the object. The id is the event's own, so a repeat can be detected.
    """
    event = json.loads(line)
    objects = f"/apis/{GROUP}/{API_VERSION}/namespaces/{event['namespace']}/{PLURAL}"
    head = {
        "specversion": "1.0",
        "id": event["event_data"]["event_id"],
        "source": f"{objects}/{event['resource_id']}",
        "type": f"{_CLOUD_PREFIX}.{event['event_type'].rpartition('.')[2]}",
        "subject": event["event_data"]["notification_uid"],
        "time": event["event_timestamp"],
        "datacontenttype": "application/json",
    }
    return json.dumps(head, separators=(",", ":")).encode()[:-1] + b',"data":' + line + b"}"


def _storable(value: Any) -> Any:
    """
    Replace NUL and lone surrogates, which an object may hold and many stores refuse.

    Such a refusal would recur with every try and hold the event up for good.
    """
    if isinstance(value, str):
        return (
            value.replace("\0", "\ufffd")
            .encode("utf-16", "surrogatepass")
            .decode("utf-16", "replace")
        )
    if isinstance(value, dict):
        return {_storable(k): _storable(v) for k, v in value.items()}
    return value
