"""
A channel whose messages are worded by the operators' templates.

Templates that do not fit a notification, or are not rendered in time, keep nobody from being told: the
usual text goes out, and the outcome says so.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Final

from notifier.content.wording import worded
from notifier.contract import GRACE, Channel, Message, Outcome
from notifier.templates.expressions import Unfit
from notifier.templates.request import Requests
from notifier.templates.wording import Wording
from syncer.runtime.offload import SMALL, offload

#: For the words, and the wait for those of others: the send that follows has its whole time.
_SECONDS: Final = GRACE / 2

#: Alerts of which each may be held against all others at once; of more, that may take long.
_ALERTS: Final = 16

_log = logging.getLogger("ledger.delivery")


class WordedChannel(Channel):
    """Words each message, and has a channel send it."""

    def __init__(self, channel: Channel, wording: Wording) -> None:
        """`wording` is of the channel's kind."""
        self._channel = channel
        self._wording = wording
        self.timeout_s = channel.timeout_s
        self.shows_status = channel.shows_status
        self.keeps_state = channel.keeps_state

    async def send(self, message: Message) -> Outcome:
        """Word and send; an outcome names the templates, and why they did not fit."""
        unworded = ""
        # What the receiver of such requests takes is known to the entry alone.
        own = isinstance(self._wording.payload, Requests)
        try:
            seen, size = message, message.size
            if self._wording.lists and size <= SMALL:
                data = message.data()
                seen = replace(message, data=lambda: data)
                size = SMALL + 1 if len(data.get("alerts", ())) > _ALERTS else size
            message = await offload(
                lambda: worded(seen, self._wording),
                size=size,
                seconds=_SECONDS,
                author=message.namespace,
            )
        except TimeoutError:
            if own:
                return Outcome.not_sent("the templates were not rendered in time")
            unworded = "not rendered in time"
        except Exception as error:  # noqa: BLE001 - a poison message must not reach the worker
            unworded = str(error) if isinstance(error, Unfit) else type(error).__name__
            if own:
                outcome = Outcome.mistaken(f"the request does not fit the notification: {unworded}")
                return replace(outcome, digest=self._wording.digest, unworded=unworded)
        if unworded:
            _log.warning(
                "templates do not fit a notification, which is sent with its own text",
                extra={"object": message.key, "templates": self._wording.digest, "error": unworded},
            )
        outcome = await self._channel.send(message)
        return replace(outcome, digest=self._wording.digest, unworded=unworded)
