"""
A channel whose messages are rendered with the operators' templates.

If the templates do not fit a notification, or are not rendered in time, the usual text is sent, and the
outcome says so. Only a webhook with requests of its own has no usual text: then nothing is sent.
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

#: Seconds to render the templates, including the wait for other messages; the send keeps its full timeout.
_SECONDS: Final = GRACE / 2

#: Most alerts with which templates that have lists are rendered on the event loop. A template may compare
#: each alert with all others, so more alerts may take long and are rendered in a thread.
_ALERTS: Final = 16

_log = logging.getLogger("ledger.delivery")


class WordedChannel(Channel):
    """Renders each message with the templates, and sends it through another channel."""

    def __init__(self, channel: Channel, wording: Wording) -> None:
        """`wording` must be compiled for the channel's kind."""
        self._channel = channel
        self._wording = wording
        self.timeout_s = channel.timeout_s
        self.shows_status = channel.shows_status
        self.keeps_state = channel.keeps_state

    async def send(self, message: Message) -> Outcome:
        """Render and send; the outcome names the templates, and why they did not fit."""
        unworded = ""
        # Only the entry says what the receiver of such requests accepts, so there is no usual text to send.
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
