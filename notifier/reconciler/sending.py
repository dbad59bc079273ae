"""
The send of one attempt whose INTENT was accepted; it always ends with an outcome.

What stops a send before its first byte also gives an outcome: a missing channel, a receiver that does not
accept the namespace, a message that cannot be composed, a deletion, a lease that would end too early. The
lease is checked last, right before the send, and by the channel again before the first byte: a process
that is frozen while it connects finds its connection ready before it finds that its time is over.

`Composer` composes the messages, off the event loop if they are large. The spec of an object never
changes, so the sanitised spec of a large one is kept for a while: its channels are tried one after the
other, and sanitising costs more than the rest of an attempt.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Final
from urllib.parse import quote

from notifier.content.message import compose
from notifier.contract import Channel, Message, Outcome
from notifier.reconciler.decisions import Decisions
from notifier.router import Router
from syncer.model.ports import LeaseTerm
from syncer.model.record import Record
from syncer.model.rendering import render_status
from syncer.model.resource import Json, Spec
from syncer.rules.merge import merge
from syncer.runtime.clock import LedgerTime, MonotonicClock
from syncer.runtime.offload import SMALL, Breath, offload
from syncer.sync.notifications import Notification

#: Seconds within which a large message must be composed, including the wait for others.
_SECONDS: Final = 10.0
#: Large notifications whose sanitised specs are kept.
_KEPT: Final = 16


@dataclass(eq=False)
class Composer:
    """Composes messages, and keeps the sanitised specs of large ones."""

    time: LedgerTime
    decisions: Decisions
    #: The installation's id, which incidents are told apart by.
    installation: Callable[[], str]
    #: Address of the explorer, empty if no message is to have a link there.
    explorer: str = ""
    #: By uid and generation: the spec may come after the object.
    _specs: dict[tuple[str, int], Spec] = field(default_factory=dict, init=False)

    async def compose(self, entry: Notification, intent: Record, *, with_status: bool) -> Message:
        """
        The message of one attempt.

        Args:
            entry: The notification.
            intent: The attempt's intent.
            with_status: Show the status as merged now, because the object's own lags behind.

        Raises:
            ValueError: the spec is not of the schema's shape.
            TimeoutError: the message is large, and was not composed in time.
        """
        request = entry.request
        status: Json | None = None
        if with_status:
            facts = self.decisions.facts(entry)
            merged = merge(entry.status, entry.view, facts, now=self.time.now())
            status = render_status(merged.status)
        size = len(request.raw)
        known = (request.uid, request.generation)

        def work() -> Message:
            document = request.document()
            if status is not None:
                document["status"] = status
            message = compose(
                document,
                intent.channel,
                intent.attempt_id,
                spec=self._specs.get(known),
                live=with_status,
                installation=self.installation(),
                breath=Breath() if size > SMALL else None,
            )
            if size > SMALL:
                self._specs[known] = message.spec
                while len(self._specs) > _KEPT:
                    self._specs.pop(next(iter(self._specs)))
            return message

        message = await offload(work, size=size, seconds=_SECONDS, author=request.namespace)
        if not self.explorer:
            return message
        # What `explain` says, for whoever reads the message; behind the links of its author.
        page = f"{self.explorer.rstrip('/')}/n/{quote(request.namespace)}/{quote(request.name)}"
        links = (
            *message.spec.action_links,
            ("explorer", page, "What happened to this notification"),
        )
        return replace(message, spec=replace(message.spec, action_links=links))


logger = logging.getLogger("ledger.delivery")

#: A send that has not ended this many seconds after its channel's own timeout is given up as unknown.
_GRACE: Final = 2.0


@dataclass(eq=False)
class Sender:
    """Composes and sends the message of an attempt."""

    router: Router
    composer: Composer
    monotonic: MonotonicClock

    async def send(  # noqa: PLR0911 (one outcome for each thing that stops a send)
        self,
        entry: Notification,
        term: LeaseTerm,
        intent: Record,
        channel: Channel | None,
        *,
        answer: str = "",
    ) -> Outcome:
        """
        Send; never raises because of a receiver, a channel or a message.

        Args:
            entry: The notification.
            term: The lease term that must cover the send.
            intent: The intent that the log accepted.
            channel: The channel as configured now, None if there is none with the intent's name.
            answer: The id that its receiver gave to what it made of the incident before.
        """
        if channel is None:
            return Outcome.permanent(
                f"channel not registered: {intent.channel}"
                " (DD-NOT-007: use RegisterChannel() to register)"
            )
        if reason := self.router.denial(intent.channel, entry.request.namespace):
            return Outcome.denied(reason)
        try:
            message = await self.composer.compose(entry, intent, with_status=channel.shows_status)
        except ValueError as error:
            return Outcome.permanent(f"the message cannot be composed ({type(error).__name__})")
        except TimeoutError:
            return Outcome.not_sent("the message was not composed in time")
        if entry.cancelled:
            return Outcome.not_sent("the notification was deleted before it was sent")
        # The last check here: nothing but the send itself may follow it.
        if not term.may_send(self.monotonic(), channel.timeout_s):
            return Outcome.not_sent("the lease would not have covered the send")
        entry.in_flight.leave(intent.attempt_id)
        message = replace(
            message, answer=answer, may_leave=lambda: term.may_send(self.monotonic(), 0.0)
        )
        try:
            async with asyncio.timeout(channel.timeout_s + _GRACE):
                return await channel.send(message)
        except TimeoutError:
            return Outcome.unknown("the channel did not end within its own deadline")
        except Exception as error:
            logger.exception(
                "a channel raised; it must answer with an outcome",
                extra={"uid": entry.uid, "channel": intent.channel, "attempt": intent.id},
            )
            return Outcome.unknown(f"the channel failed unexpectedly ({type(error).__name__})")
