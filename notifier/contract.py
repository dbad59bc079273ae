"""
What dispatch, the reconciler and the channels share: a message, its outcome, and the channel between them.

A `Message` is one notification for one attempt on one channel (`notifier.content.message` composes it),
an `Outcome` (`syncer.model.outcome`) is what the send came to, and a `Channel` turns the one into the
other. They stand below all three packages, so that none of these has to import another for the sake of a
type.
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

#: What Kubernetes takes for the name of an object.
_NAME: Final = re.compile(r"[a-z0-9](?:[-a-z0-9.]*[a-z0-9])?")
_NAME_CHARS: Final = 253
#: Characters of a link's address that every receiver takes.
_URL_CHARS: Final = 2048


@dataclass(frozen=True, slots=True)
class Words:
    """
    What templates make of a message, beside its subject, body and links, which they replace.

    Attributes:
        body: Whether the body is theirs, in the channel's own language.
        payload: What only this kind of channel has; None without a template for it.
    """

    body: bool = False
    payload: Any = None


@dataclass(frozen=True, slots=True)
class Message:
    """
    One notification as a channel sees it; every text is sanitised.

    Attributes:
        uid: Identity of the notification.
        namespace: Of the object.
        name: Of the object; receivers get it as the correlation id.
        attempt_id: Of this attempt; sent in a header only.
        idempotency_key: Equal for all attempts of this notification on this channel.
        spec: Enriched and sanitised.
        metadata: Flattened context, then the extensions, which win.
        labels: Of the object.
        annotations: Of the object.
        phase: Phase of the delivery at the moment of composing; empty before the first status.
        successful: Channels delivered so far, by the status.
        failed: Channels failed so far, by the status.
        size: Characters of the texts that take the most.
        document: Makes the whole object, sanitised, since only the file channel wants it; takes a function
            to call every few milliseconds (`syncer.runtime.offload.Breath`), or nothing.
        data: Makes what templates see of the alerts behind it, sanitised.
        words: What the operators' templates make of it, None without any.
        answer: The id that the receiver gave to an earlier message of the incident; empty without one.
        incident: What receivers know its incident by; empty if it is about none.
        group: What Alertmanager's own integrations tell receivers in its place; empty if it is no group.
        state: Whether that fires or is resolved; empty without one.
        trace: The `traceparent` of whoever asked for it; empty without one.
        may_leave: Whether the first byte may still leave. A channel that waits before it writes asks right
            before it writes, and answers *not sent* if not.
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
        """A text of the sanitised context, for example `analysis`, `rootCause`; empty if absent."""
        facts = self.spec.context.get(part)
        value = facts.get(member) if isinstance(facts, Mapping) else None
        return value if isinstance(value, str) else ""

    @property
    def resolved(self) -> bool:
        """Whether it tells of the end of an incident."""
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

        People copy it into a shell, so it is made only of what can be the name of an object: a name
        with a blank, a `;` or a `$` in it names none.
        """
        remediation = self.fact("lineage", "remediationRequest")
        if len(remediation) > _NAME_CHARS or not _NAME.fullmatch(remediation):
            return ""
        return f"kubectl kubernaut chat rar/{remediation} -n {self.namespace}"


#: Answers to a request about what a receiver has made of an incident, by which that is not there any more.
GONE: Final = frozenset({404, 410})
#: Seconds from the end of a channel's `timeout_s` until its send is given up as unknown.
GRACE: Final = 2.0


def may_be_gone(code: int) -> bool:
    """Whether an answer may say so; where it does, the failure is transient, as of no other such one."""
    return 400 <= code <= 499 and code != 429


class Channel(Protocol):
    """
    One way to one receiver.

    A channel turns a message into one call and the call into an `Outcome`. It never raises for anything
    that the receiver or the message did.

    Attributes:
        timeout_s: Longest time in seconds that a send may take; the lease's length is derived from
            the largest of them.
        shows_status: Whether it shows the object's status, which must then be the current one.
        keeps_state: Names what keeps what it was told of an incident, and is to be asked to change it;
            empty if the receiver keeps nothing.
    """

    timeout_s: float
    shows_status: bool = False
    keeps_state: str = ""

    async def send(self, message: Message) -> Outcome:
        """Deliver one message, once."""
