"""
The log channel: one line per notification on standard output, for a log collector to pick up.

The line is a JSON object of its own, not the message of a log record, so that standard output stays JSON
Lines. It is written in a single call.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TextIO

from notifier.contract import Channel, Message, Outcome
from syncer.model.times import format_time
from syncer.rules.text import escaped, escaped_json


@dataclass(eq=False)
class LogChannel(Channel):
    """
    Writes a line per notification.

    Attributes:
        form: `json`, or `text`; any other word means `json`.
        clock: Unix milliseconds, for the line's time.
        stream: Where the line is written; None for standard output, looked up at each send.
    """

    form: str = "json"
    clock: Callable[[], int] = lambda: time.time_ns() // 1_000_000
    stream: TextIO | None = None
    timeout_s: float = 1.0
    shows_status: bool = True

    async def send(self, message: Message) -> Outcome:
        """Write the line."""
        now = self.clock()
        build = log_text if self.form == "text" else log_json
        line = build(message, now)
        stream = self.stream or sys.stdout
        try:
            stream.write(f"{line}\n")
            stream.flush()
        except ValueError as exc:
            return Outcome.transient(f"failed to write log line: {type(exc).__name__}")
        except OSError as exc:
            # The stream still buffers what it could not write, and may write it with a later line.
            return Outcome.unknown(f"failed to write log line: {type(exc).__name__}")
        return Outcome.success()


def log_json(message: Message, now: int) -> str:
    """The line as JSON; `now` is in Unix milliseconds."""
    spec = message.spec
    line: dict[str, Any] = {
        "timestamp": format_time(now),
        "notification_name": message.name,
        "notification_namespace": message.namespace,
        "notification_uid": message.uid,
        "type": spec.type,
        "priority": spec.priority,
        "subject": spec.subject,
        "body": spec.body,
    }
    present = {
        "metadata": message.metadata,
        "labels": message.labels,
        "annotations": message.annotations,
        "phase": message.phase,
        "successful_deliveries": message.successful,
        "failed_deliveries": message.failed,
        "action_links": [
            {"service": service, "url": url, "label": label}
            for service, url, label in spec.action_links
        ],
    }
    line.update({k: v for k, v in present.items() if v})
    return escaped_json(json.dumps(line, ensure_ascii=False))


def log_text(message: Message, now: int) -> str:
    """
    The line as text; line breaks and terminal control characters are written as escapes.

    `now` is in Unix milliseconds.
    """
    spec = message.spec
    return escaped(f"[{format_time(now)}] {message.key} {spec.subject}: {spec.body}")
