"""
The console channel: one info line through the process's own log.

There is no receiver that could refuse, so a send always succeeds; the logging library does not report
failures of its handlers.
"""

from __future__ import annotations

import logging

from notifier.contract import Channel, Message, Outcome
from syncer.runtime.logging import REDACTED

logger = logging.getLogger("notifier.console")


class ConsoleChannel(Channel):
    """Writes `[<priority>] [<type>] <subject>`, a line break and the body."""

    timeout_s = 1.0

    async def send(self, message: Message) -> Outcome:
        """Log the message."""
        # The text is already sanitised; the log would redact it again, at the same cost.
        logger.info("%s", console_text(message), extra={REDACTED: True})
        return Outcome.success()


def console_text(message: Message) -> str:
    """Return the text that is logged."""
    spec = message.spec
    return f"[{spec.priority}] [{spec.type}] {spec.subject}\n{spec.body}\n"
