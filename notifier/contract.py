"""
The types that dispatch, the reconciler and the channels share: `Message`, `Outcome` and `Channel`.

A `Message` is one notification for one attempt on one channel (`notifier.content.message` composes it),
an `Outcome` (`syncer.model.outcome`) is the result of the send, and a `Channel` turns a message into an
outcome. This module is below all three packages, so that none has to import another for a type.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from syncer.model.incident import RESOLVED
from syncer.model.outcome import Outcome
from syncer.model.resource import Json, Spec

__all__ = ["GONE", "Channel", "Message", "Outcome", "Words", "may_be_gone"]

#: A valid name of a Kubernetes object.
_NAME: Final = re.compile(r"[a-z0-9](?:[-a-z0-9.]*[a-z0-9])?")
_NAME_CHARS: Final = 253
#: Longest address of a link, in characters, that every receiver accepts.
_URL_CHARS: Final = 2048


@dataclass(frozen=True, slots=True)
class Words:
    """
    The result of templates, apart from the subject, body and links, which they replace in the message.

    Attributes:
        body: Whether a template has produced the body, in the channel's own markup.
        payload: The part that only this kind of channel has; None without a template for it.
    """

    body: bool = False
    payload: Any = None


@dataclass(frozen=True, slots=True)
class Message:
    """
    One notification as a channel sees it; every text is sanitised.

    Attributes:
        uid: Identity of the notification.
        namespace: Namespace of the object.
        name: Name of the object; receivers get it as the correlation id.
        attempt_id: Id of this attempt; sent in a header only.
        idempotency_key: Equal for all attempts of this notification on this channel.
        spec: The spec, enriched and sanitised.
        metadata: Flattened context, then the extensions, which win.
        labels: Labels of the object.
        annotations: Annotations of the object.
        phase: Phase of the delivery when the message was composed; empty before the first status.
        successful: Number of channels delivered so far, from the status.
        failed: Number of channels failed so far, from the status.
        size: Characters of the largest texts together.
        document: Returns the whole object, sanitised; a function, because only the file channel needs it.
            Takes a callback to call every few milliseconds (`syncer.runtime.offload.Breath`), or nothing.
        data: Returns the alerts behind the notification as templates see them, sanitised.
        words: The result of the operators' templates, None without any.
        answer: The id that the receiver gave to an earlier message of the incident; empty without one.
        incident: The key by which receivers know the incident; empty if the notification has none.
        group: The key that Alertmanager's own integrations use for the incident; empty if it is no group.
        state: `firing` or `resolved`; empty without an incident.
        trace: The `traceparent` of the request that created the notification; empty without one.
        may_leave: Whether the first byte may still be sent. A channel that waits before it writes calls it
            right before the write, and returns *not sent* if it is false.
    """

    uid: str
    namespace: str
    name: str
    attempt_id: str
    idempotency_key: str
    spec: Spec = field(repr=False)
    metadata: dict[str, str] = field(repr=False)
    labels: dict[str, str] = field(repr=False)
    annotations: dict[str, str] = field(repr=False)
    phase: str
    successful: int
    failed: int
    size: int
    document: Callable[..., Json] = field(repr=False, compare=False)
    data: Callable[[], Json] = field(default=dict, repr=False, compare=False)
    words: Words | None = field(default=None, repr=False)
    answer: str = field(default="", repr=False)
    incident: str = field(default="", repr=False)
    group: str = field(default="", repr=False)
    state: str = field(default="", repr=False)
    trace: str = field(default="", repr=False)
    may_leave: Callable[[], bool] = field(default=lambda: True, repr=False, compare=False)

    @property
    def key(self) -> str:
        """`namespace/name`, for people."""
        return f"{self.namespace}/{self.name}"

    def fact(self, part: str, member: str) -> str:
        """Return a text of the sanitised context, such as `analysis`, `rootCause`; empty if absent."""
        facts = self.spec.context.get(part)
        value = facts.get(member) if isinstance(facts, Mapping) else None
        return value if isinstance(value, str) else ""

    @property
    def resolved(self) -> bool:
        """Whether it reports the end of an incident."""
        return self.state == RESOLVED

    @property
    def links(self) -> tuple[tuple[str, str, str], ...]:
        """Service, address and text of the links that people can follow; no text is empty."""
        return tuple(
            (service, url, " ".join((label or service).split()) or url)
            for service, url, label in self.spec.action_links
            if url.startswith(("https://", "http://")) and len(url) <= _URL_CHARS
        )

    def chat_command(self) -> str:
        """
        The command that opens a chat about the remediation; empty where there is none.

        People copy it into a shell, so only a valid name of an object is used: one with a blank, a `;`
        or a `$` gives no command.
        """
        remediation = self.fact("lineage", "remediationRequest")
        if len(remediation) > _NAME_CHARS or not _NAME.fullmatch(remediation):
            return ""
        return f"kubectl kubernaut chat rar/{remediation} -n {self.namespace}"


#: Status codes by which a receiver says that the object it made for an incident no longer exists.
GONE: Final = frozenset({404, 410})
#: Seconds from the end of a channel's `timeout_s` until its send is given up as unknown.
GRACE: Final = 2.0


def may_be_gone(code: int) -> bool:
    """Whether a code can mean that; a transient failure with such a code always does mean it."""
    return 400 <= code <= 499 and code != 429


class Channel(Protocol):
    """
    One way to one receiver.

    A channel turns a message into one call and the call into an `Outcome`. It never raises for anything
    that the receiver or the message did.

    Attributes:
        timeout_s: Longest time in seconds that a send may take; the lease's length is derived from
            the largest of them.
        shows_status: Whether it shows the object's status, which must then be up to date.
        keeps_state: Names the service that keeps an object for each incident, which later messages change;
            empty if the receiver keeps nothing.
    """

    timeout_s: float
    shows_status: bool = False
    keeps_state: str = ""

    async def send(self, message: Message) -> Outcome:
        """Deliver one message, once."""
