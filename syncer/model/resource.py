"""
The NotificationRequest as the rest of the code sees it: parsed once, at the edge.

Identity is the uid; namespace and name are for people. What is kept per waiting object is small:
the fields that decide (priority, retry policy, retention, phase), the parsed status, and the object
itself as compact JSON bytes, from which `spec()` and `document()` are read when something is sent.
At ten thousand waiting objects that is a few tens of megabytes, where dictionaries would be hundreds.

Parsing is tolerant of unknown fields and strict about types: an object that the API server's schema
let through always parses. What a status holds of ours is in one of its conditions
(`syncer.model.carried`). Attempts that another controller wrote carry no id and get `0-<index>`;
`Status.nameless` remembers which. Texts that notifications have in common are kept once.
Times are Unix milliseconds (`syncer.model.times`). Writing a status is `syncer.model.rendering`.
"""

from __future__ import annotations

import contextlib
import json
import sys
from dataclasses import dataclass, field, fields
from functools import lru_cache
from itertools import count
from typing import Any, Final

import orjson

from syncer.model.attempt import (
    LONGEST_CALL,
    NO_IDS,
    Attempt,
    AttemptId,
    AttemptState,
    FailureClass,
    attempt_key,
    failure_of,
    parse_attempt_id,
    parse_epoch,
    shared_text,
)
from syncer.model.carried import expand
from syncer.model.conditions import Condition
from syncer.model.context import flatten_context, workflow_of
from syncer.model.event import EVENT, event_text
from syncer.model.incident import incident_of, incident_time
from syncer.model.packing import hash_of, packed
from syncer.model.record import MAX_INT
from syncer.model.times import time_of
from syncer.model.trace import TRACE, trace_of

GROUP: Final = "kubernaut.ai"
VERSION: Final = "v1alpha1"
PLURAL: Final = "notificationrequests"
KIND: Final = "NotificationRequest"
#: On an object, holds its deliveries back: present and not `false`.
HOLD_ANNOTATION: Final = "notification-ledger/hold"

PENDING: Final = "Pending"
SENDING: Final = "Sending"
RETRYING: Final = "Retrying"
SENT: Final = "Sent"
PARTIALLY_SENT: Final = "PartiallySent"
FAILED: Final = "Failed"
TERMINAL_PHASES: Final = frozenset({SENT, PARTIALLY_SENT, FAILED})

#: Prefix of the error of an attempt that the replaced controller took for final. Only the adoption of
#: its objects reads a text; our own attempts carry the class in a field.
PERMANENT_PREFIX: Final = "permanent failure"

#: Characters of a severity that are kept to match a hold.
_SEVERITY: Final = 253

Json = dict[str, Any]

_PRIORITY: Final = {"Critical": 0, "High": 1, "Medium": 2, "Low": 3}


def rank_of(priority: str) -> int:
    """Rank of a priority; a smaller rank goes first."""
    return _PRIORITY.get(priority, _PRIORITY["Medium"])


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Retry policy of a notification; seconds, and attempts per channel. Defaults are upstream's."""

    max_attempts: int = 5
    initial_backoff: int = 30
    multiplier: int = 2
    max_backoff: int = 480


_STANDARD: Final = RetryPolicy()
_shared_policy: Final = lru_cache(maxsize=256)(RetryPolicy)


@dataclass(frozen=True, slots=True)
class Spec:
    """What is to be sent. `context` is the nested mapping as stored; see `routing.attributes`."""

    type: str
    priority: str
    subject: str
    body: str
    severity: str = ""
    phase: str = ""
    review_source: str = ""
    cluster_id: str = ""
    remediation_request: str = ""
    context: Json = field(default_factory=dict)
    extensions: dict[str, str] = field(default_factory=dict)
    action_links: tuple[tuple[str, str, str], ...] = ()
    retention_days: int = 7


#: What is read of a spec: names of members, and their defaults.
_READ: Final = {part: [(f.name, f.default) for f in fields(part)] for part in (Spec, RetryPolicy)}


@dataclass(frozen=True, slots=True)
class ChannelStatus:
    """One target as the status shows it; `next_retry` is 0 where nothing is scheduled."""

    name: str
    state: str
    attempts: int = 0
    next_retry: int = 0


@dataclass(frozen=True, slots=True)
class ChannelRollup:
    """
    Failed attempts of one channel that were folded away to bound the status.

    Attributes:
        failed: How many entries were folded.
        last_id: Id of the newest of them; older failed ids are counted here.
        number: Highest attempt number among them.
        not_sent: How many of them count in no limit.
    """

    name: str
    failed: int
    last_id: AttemptId
    number: int
    not_sent: int = 0


@dataclass(frozen=True, slots=True)
class Rollup:
    """`through` is the number of entries folded so far; it never falls."""

    through: int = 0
    channels: tuple[ChannelRollup, ...] = ()


@dataclass(frozen=True, slots=True)
class LogMark:
    """Which log, and how much of it, a status shows. Never causes a write on its own."""

    position: int
    epoch: str
    store: str


@dataclass(frozen=True, slots=True)
class Status:
    """The status members that this controller writes; foreign members are left alone."""

    phase: str = ""
    reason: str = ""
    message: str = ""
    conditions: tuple[Condition, ...] = ()
    attempts: tuple[Attempt, ...] = ()
    #: Ids of entries that carry none and got one by their place in the list. Such an entry may be one of
    #: ours that came back without its id (`syncer.rules.recognise`).
    nameless: frozenset[AttemptId] = NO_IDS
    total_attempts: int = 0
    successful: int = 0
    failed: int = 0
    uncertain: int = 0
    queued_at: int = 0
    started_at: int = 0
    completed_at: int = 0
    observed_generation: int = 0
    channels: tuple[ChannelStatus, ...] = ()
    rollup: Rollup | None = None
    log: LogMark | None = None
    #: Name of the note under which attempts were journaled here (`syncer.model.journal`), None without.
    journal: str | None = None

    @property
    def terminal(self) -> bool:
        """Whether nothing more is sent."""
        return self.phase in TERMINAL_PHASES


#: Of an object to which nothing was written yet.
NO_STATUS: Final = Status()


@dataclass(frozen=True, slots=True)
class NotificationRequest:
    """
    One object as listed or watched.

    `type` and `severity` are those of the spec, the latter cut to what a pattern may name.
    `specified` is False for an object created without a spec, which the schema allows: it may come
    later, once, and until then there is nothing to send. `hold` is the value of the annotation by
    which an operator holds it back, None without one. `event` is what it was made of, in its sender's
    words, where a gateway made it. `incident` is what it is about, with its `state` and the gateway's
    time `at`; empty if it is about none. `trace` is the `traceparent` of whoever asked for it, empty
    without one.
    """

    uid: str
    namespace: str
    name: str
    resource_version: str
    generation: int = 0
    created: int = 0
    deleting: bool = False
    priority: str = ""
    policy: RetryPolicy = _STANDARD
    retention_days: int = 7
    status: Status = NO_STATUS
    raw: bytes = b""
    specified: bool = True
    hold: str | None = None
    event: str = ""
    type: str = ""
    severity: str = ""
    incident: str = ""
    state: str = ""
    at: int = 0
    trace: str = ""

    @property
    def order(self) -> tuple[int, int]:
        """Its place among those of its incident: the API server's second, then the gateway's time."""
        return self.created, self.at

    @property
    def key(self) -> str:
        """`namespace/name`, for people."""
        return f"{self.namespace}/{self.name}"

    def document(self) -> Json:
        """Return the object as a fresh dictionary, without managed fields."""
        document: Json
        try:
            document = orjson.loads(self.raw)
        except ValueError:
            document = json.loads(self.raw)
        return document

    def spec(self) -> Spec:
        """Parse the spec from the kept bytes."""
        return parse_spec(self.document().get("spec") or {})

    def content(self) -> tuple[Spec, str]:
        """
        The spec, and the SHA-256 of what is read of it, which the plan records.

        What is not read, or is what its absence means, is left out: a definition that gives members
        of no meaning here a default changes no digest, one that changes a message does.
        """
        spec = self.spec()
        read = {
            name: value
            for part in (spec, self.policy)
            for name, default in _READ[type(part)]
            if (value := getattr(part, name)) and value != default
        }
        read["context"] = [flatten_context(spec.context), *workflow_of(spec.context)]
        return spec, hash_of(read)

    def content_hash(self) -> str:
        """The digest of `content`; of a spec that cannot be read, one that no plan has."""
        try:
            return self.content()[1]
        except (TypeError, ValueError, AttributeError):
            return hash_of(self.document().get("spec"))


def parse_object(document: Json, known: NotificationRequest | None = None) -> NotificationRequest:
    """
    Read an object as the API server sent it; `known` itself if that is the same in every byte.

    Raises:
        ValueError: metadata without uid, namespace or name, or a member of an impossible type.
    """
    meta = document.get("metadata") or {}
    uid, namespace, name = (meta.get(k) or "" for k in ("uid", "namespace", "name"))
    if not (uid and namespace and name):
        raise ValueError("object without uid, namespace or name")
    spec = document.get("spec") or {}
    annotations = meta.get("annotations") or {}
    extensions = spec.get("extensions") or {}
    incident, state = incident_of(extensions)
    kept = {
        "apiVersion": document.get("apiVersion", f"{GROUP}/{VERSION}"),
        "kind": document.get("kind", KIND),
        "metadata": {k: v for k, v in meta.items() if k != "managedFields"},
        "spec": spec,
        "status": document.get("status") or {},
    }
    raw = packed(kept)
    if known is not None and raw == known.raw:
        return known
    return NotificationRequest(
        uid=uid,
        namespace=sys.intern(str(namespace)),
        name=name,
        resource_version=str(meta.get("resourceVersion") or ""),
        generation=int(meta.get("generation") or 0),
        created=time_of(meta.get("creationTimestamp")),
        deleting=bool(meta.get("deletionTimestamp")),
        priority=shared_text(str(spec.get("priority") or "Medium")),
        policy=parse_policy(spec.get("retryPolicy")),
        retention_days=int(spec.get("retentionDays") or 7),
        status=parse_status(document.get("status") or {}),
        raw=raw,
        specified=bool(spec),
        hold=annotations.get(HOLD_ANNOTATION),
        event=event_text(annotations.get(EVENT) or ""),
        # Few different ones, on each of a hundred thousand objects.
        type=sys.intern(str(spec.get("type") or "")),
        severity=shared_text(str(spec.get("severity") or "")[:_SEVERITY]),
        incident=incident,
        state=state,
        at=incident_time(extensions) if incident else 0,
        trace=trace_of(annotations.get(TRACE)),
    )


def parse_spec(spec: Json) -> Spec:
    """Read a spec; the schema has checked it, so defaults only fill what is absent."""
    return Spec(
        type=str(spec.get("type") or ""),
        priority=str(spec.get("priority") or "Medium"),
        subject=str(spec.get("subject") or ""),
        body=str(spec.get("body") or ""),
        severity=str(spec.get("severity") or ""),
        phase=str(spec.get("phase") or ""),
        review_source=str(spec.get("reviewSource") or ""),
        cluster_id=str(spec.get("clusterID") or ""),
        remediation_request=str((spec.get("remediationRequestRef") or {}).get("name") or ""),
        context=dict(spec.get("context") or {}),
        extensions={str(k): str(v) for k, v in (spec.get("extensions") or {}).items()},
        action_links=tuple(
            (str(a.get("service", "")), str(a.get("url", "")), str(a.get("label", "")))
            for a in spec.get("actionLinks") or []
        ),
        retention_days=int(spec.get("retentionDays") or 7),
    )


def parse_policy(policy: Json | None) -> RetryPolicy:
    """Read a retry policy; absent members keep upstream's defaults."""
    if not policy:
        return _STANDARD
    return _shared_policy(
        int(policy.get("maxAttempts") or _STANDARD.max_attempts),
        int(policy.get("initialBackoffSeconds") or _STANDARD.initial_backoff),
        int(policy.get("backoffMultiplier") or _STANDARD.multiplier),
        int(policy.get("maxBackoffSeconds") or _STANDARD.max_backoff),
    )


def parse_status(status: Json) -> Status:
    """Read a status, ours or one that the replaced controller wrote."""
    return _read(expand(status)) if status else NO_STATUS


def _read(status: Json) -> Status:
    """Read an expanded status."""
    channels = tuple(
        ChannelStatus(
            sys.intern(str(c.get("name", ""))),
            shared_text(str(c.get("state", ""))),
            int(c.get("attempts") or 0),
            time_of(c.get("nextRetryTime")),
        )
        for c in status.get("channels") or []
    )
    log = status.get("log")
    entries = status.get("deliveryAttempts") or []
    ids, nameless = _ids_of(entries)
    return Status(
        phase=shared_text(str(status.get("phase") or "")),
        reason=shared_text(str(status.get("reason") or "")),
        message=shared_text(str(status.get("message") or "")),
        conditions=tuple(
            Condition(
                shared_text(str(c.get("type", ""))),
                shared_text(str(c.get("status", ""))),
                shared_text(str(c.get("reason", ""))),
                shared_text(str(c.get("message", ""))),
                time_of(c.get("lastTransitionTime")),
                int(c.get("observedGeneration") or 0),
            )
            for c in status.get("conditions") or []
        ),
        attempts=_parse_attempts(entries, ids, channels),
        nameless=nameless,
        total_attempts=int(status.get("totalAttempts") or 0),
        successful=int(status.get("successfulDeliveries") or 0),
        failed=int(status.get("failedDeliveries") or 0),
        uncertain=int(status.get("uncertainAttempts") or 0),
        queued_at=time_of(status.get("queuedAt")),
        started_at=time_of(status.get("processingStartedAt")),
        completed_at=time_of(status.get("completionTime")),
        observed_generation=int(status.get("observedGeneration") or 0),
        channels=channels,
        rollup=_parse_rollup(status.get("rollup")),
        log=LogMark(
            int(log.get("position") or 0),
            _epoch_of(str(log.get("epoch") or "")),
            shared_text(str(log.get("store") or "")),
        )
        if log
        else None,
        journal=str((status.get("journal") or {}).get("outage") or "") or None,
    )


def _ids_of(entries: list[Json]) -> tuple[list[AttemptId], frozenset[AttemptId]]:
    """
    Return their ids, and which of those were not given.

    An entry without an id, with a malformed one or with that of an entry before it gets `0-<index>`, or a
    later number where another has that.
    """
    given: dict[AttemptId, int] = {}
    for index, entry in enumerate(entries):
        if identity := _id_of(entry.get("id")):
            given.setdefault(identity, index)
    at = {index: identity for identity, index in given.items()}
    spare = (i for n in count(len(entries)) if (i := AttemptId(f"0-{n}")) not in given)
    out, nameless = [], []
    for index in range(len(entries)):
        identity = at.get(index)
        if identity is None:
            identity = AttemptId(f"0-{index}")
            identity = identity if identity not in given else next(spare)
            nameless.append(identity)
        out.append(identity)
    return out, frozenset(nameless) or NO_IDS


def _id_of(text: str | None) -> AttemptId | None:
    """An id, None for what is none: whoever may write a status may write anything there."""
    with contextlib.suppress(ValueError):
        return parse_attempt_id(text) if text else None
    return None


def _parse_attempts(
    entries: list[Json], ids: list[AttemptId], channels: tuple[ChannelStatus, ...]
) -> tuple[Attempt, ...]:
    due_of = {c.name: c.next_retry for c in channels}
    waiting = range(len(entries)) if any(due_of.values()) else ()
    by_id = sorted(waiting, key=lambda n: attempt_key(ids[n]))
    newest = {str(entries[n].get("channel", "")): n for n in by_id}
    out = []
    for index, entry in enumerate(entries):
        channel = str(entry.get("channel", ""))
        error = str(entry.get("error") or "")
        state = _STATE_OF_WORD.get(str(entry.get("status", "")), AttemptState.FAILED)
        seconds = float(entry.get("durationSeconds") or 0)
        refused = FailureClass.PERMANENT if error.startswith(PERMANENT_PREFIX) else ""
        out.append(
            Attempt(
                id=ids[index],
                # As in `read_attempt`: the log's view has the same texts, and other attempts mostly do.
                channel=sys.intern(channel),
                state=state,
                started=time_of(entry.get("startedAt")),
                ended=time_of(entry.get("timestamp")),
                due=due_of.get(channel, 0) if newest.get(channel) == index else 0,
                duration=round(max(-LONGEST_CALL, min(seconds * 1000, LONGEST_CALL))),
                failure=failure_of(state, entry.get("class") or refused),
                error=shared_text(error),
                code=int(entry.get("code") or 0),
                number=int(entry.get("attempt") or 0),
            )
        )
    return tuple(out)


#: `timeout` and `invalid` are allowed by upstream's schema and never written by it.
_STATE_OF_WORD: Final = {
    "success": AttemptState.SUCCESS,
    "failed": AttemptState.FAILED,
    "timeout": AttemptState.FAILED,
    "invalid": AttemptState.FAILED,
    "unknown": AttemptState.UNKNOWN,
}


def _epoch_of(text: str) -> str:
    """An epoch, empty for what is none: it names no owner."""
    with contextlib.suppress(ValueError):
        return shared_text(parse_epoch(text))
    return ""


def _parse_rollup(rollup: Json | None) -> Rollup | None:
    if not rollup:
        return None
    return Rollup(
        # No writer of ours reaches MAX_INT, and nothing could be added to what an edit can show.
        through=n if (n := int(rollup.get("through") or 0)) < MAX_INT else 0,
        channels=tuple(
            ChannelRollup(
                str(c.get("name", "")),
                min(MAX_INT, int(c.get("failed") or 0)),
                # Of what is none, nothing counts as folded: it is shown again rather than lost.
                _id_of(c.get("lastId")) or AttemptId("0-0"),
                int(c.get("number") or 0),
                min(MAX_INT, int(c.get("notSent") or 0)),
            )
            for c in rollup.get("channels") or []
        ),
    )


def version_key(resource_version: str) -> tuple[int, str]:
    """Sort key of a resourceVersion: a decimal number, so by length, then lexically."""
    return len(resource_version), resource_version
