"""
Translates a request into the objects that should exist. No I/O, no clock.

The server and `notifier gateway test` share this code.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from notifier.gateway.draft import Draft, Incoming, Kind, Options
from notifier.gateway.identity import Identity, hashed, identity_of
from notifier.gateway.manifest import Reading, Rules, manifest, object_of
from syncer.model.incident import INCIDENT, incident_label, incident_of
from syncer.model.resource import Json
from syncer.model.trace import TRACE, trace_of


@dataclass(frozen=True, slots=True)
class Rate:
    """
    How many notifications a source may create in one namespace: in a minute, and at once.

    With `digest`, events above the rate become one notification; else they are refused for now.
    """

    per_minute: int
    burst: int
    digest: bool


@dataclass(frozen=True, slots=True)
class Source:
    """
    One source, ready to read.

    Attributes:
        name: Name in the path of its requests.
        namespaces: Namespaces in which its notifications may be created.
        window: Seconds within which an equal event is a duplicate.
        patience: Seconds for which a request may wait for the API server.
        retry_after: Longest `Retry-After` of a 503, in seconds.
        rate: Rate of notifications; None for no limit.
        expect_every: Seconds within which it is expected to send; 0 if it may be silent.
    """

    name: str
    kind: Kind
    options: Options
    rules: Rules
    namespaces: tuple[str, ...]
    window: float
    patience: float
    retry_after: int
    rate: Rate | None = None
    expect_every: float = 0.0


@dataclass(frozen=True, slots=True)
class Desired:
    """
    An object that should exist.

    Attributes:
        identity: Its name, and the name of the previous occurrence.
        repeat: Whether the source says that this repeats an earlier event.
        opposite: Name of the same event in the other state; empty if it is unknown.
    """

    namespace: str
    identity: Identity
    manifest: Json
    repeat: bool
    opposite: str = ""

    @property
    def incident(self) -> tuple[str, str]:
        """The incident and its state; both empty without one."""
        return incident_of(self.manifest.get("spec", {}).get("extensions", {}))


@dataclass(frozen=True, slots=True)
class Conditional:
    """
    The end of an incident: an object that should exist only if the incident is open.

    Attributes:
        label: Label value of the incident.
        unknown: Whether the object should also exist if nothing is known of the incident.
        make: Makes the object. It is made late: there may be tens of thousands, and few of them are wanted.
    """

    namespace: str
    label: str
    unknown: bool
    make: Callable[[], Desired]


def translate(
    source: Source, incoming: Incoming, now: float
) -> tuple[tuple[Desired, ...], tuple[Conditional, ...]]:
    """
    Translate a request into objects that should exist, and ends that should exist if an incident is open.

    Args:
        source: The source of the request.
        incoming: The request.
        now: Unix seconds.

    Raises:
        Refused: the request never becomes a notification, however often it is sent.
    """
    wanted, conditional = [], []
    for draft in source.kind.read(incoming, source.options):
        if draft.whole is None:
            wanted.append(_desired(source, incoming, now, draft))
            continue
        reading = Reading(source.rules, draft)
        incident = reading.incident(source.name, 0)[INCIDENT]
        conditional.append(
            Conditional(
                namespace=reading.namespace(source.namespaces),
                label=incident_label(incident),
                unknown=draft.unknown,
                make=partial(_desired, source, incoming, now, draft),
            )
        )
    return tuple(wanted), tuple(conditional)


def _desired(source: Source, incoming: Incoming, now: float, draft: Draft) -> Desired:
    draft = draft.whole() if draft.whole else draft
    reading, opposite = Reading(source.rules, draft), ""
    if draft.opposite is not None and not reading.given:
        opposite = hashed(source.kind.prefix, source.name, "event", *draft.opposite).name
    identity = identity_of(
        source.name,
        source.kind,
        draft,
        given=reading.given,
        body=incoming.body,
        now=now,
        window=source.window,
        timeless=source.options.timeless,
    )
    namespace = reading.namespace(source.namespaces)
    body = manifest(
        reading, identity, source=source.name, namespace=namespace, now=round(now * 1000)
    )
    if trace := trace_of(incoming.header("traceparent")):
        body["metadata"]["annotations"][TRACE] = trace
    return Desired(namespace, identity, body, draft.repeat, opposite)


def own_notice(
    identity: Identity, source: Source, namespace: str, event: str, spec: Json
) -> Desired:
    """Return a notification that the gateway itself makes about a source, with this spec."""
    if source.rules.retry_policy:
        spec["retryPolicy"] = dict(source.rules.retry_policy)
    manifest = object_of(identity, source=source.name, namespace=namespace, event=event, spec=spec)
    return Desired(namespace, identity, manifest, repeat=False)
