"""
The send of one attempt whose INTENT was accepted; it always ends with an outcome.

What stops a send before its first byte also gives an outcome: a missing channel, a receiver that does not
accept the namespace, a message that cannot be composed, a deletion, a lease that would end too early. The
lease is checked last, right before the send, and by the channel again before the first byte: a process
that is frozen while it connects finds its connection ready before it finds that its time is over.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, replace
from typing import Final

from notifier.contract import Channel, Outcome
from notifier.reconciler.composer import Composer
from notifier.router import Router
from syncer.model.ports import LeaseTerm
from syncer.model.record import Record
from syncer.runtime.clock import MonotonicClock
from syncer.sync.notification import Notification

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
