"""
What the receivers of a notification would get, as `notifier routes test --render` shows it.

Made by the channels' own code, without their credentials.
"""

from __future__ import annotations

from typing import Any, Final

import orjson

from notifier.channels.pagerduty import pagerduty_payload
from notifier.channels.slack import slack_payload
from notifier.channels.teams import teams_payload
from notifier.channels.webhook import webhook_payload
from notifier.content.message import compose
from notifier.content.wording import worded
from notifier.contract import Message
from notifier.routing.config import RoutingConfig
from notifier.templates.expressions import Unfit
from notifier.templates.request import Made
from syncer.model.resource import Json

#: Stands for a credential.
_SECRET: Final = "(a credential)"  # noqa: S105 (it is none)


def rendered(config: RoutingConfig, document: Json, channel: str) -> Json:
    """
    Return what a channel's receiver would get of a notification.

    `problem` is why its templates do not fit, so that the notification's own text is sent; empty if they
    do, or there are none.

    Raises:
        ValueError: the notification is not of the schema's shape.
    """
    target = config.targets[channel]
    message = compose(document, channel, "preview", live=False)
    digest = problem = ""
    if target.wording is not None:
        digest = target.wording.digest
        try:
            message = worded(message, target.wording)
        except Unfit as unfit:
            problem = str(unfit)
    return {"templates": digest, "problem": problem, "payload": _payload(target.kind, message)}


def pages(channel: str, shown: Json) -> list[str]:
    """Return what a channel's receiver would get as lines."""
    text = orjson.dumps(shown["payload"], option=orjson.OPT_INDENT_2).decode()
    return ["", f"{channel}:", *text.split("\n")]


def _payload(kind: str, message: Message) -> Any:
    page = message.words.payload if message.words else None
    match kind:
        case "slack":
            return slack_payload(message)
        case "teams":
            return teams_payload(message)
        case "pagerduty":
            return pagerduty_payload(message, _SECRET)
        case "webhook" if not isinstance(page, Made):
            return webhook_payload(message)
    if isinstance(page, Made):
        body = webhook_payload(message) if page.body is None else page.body
        return {"method": page.method, "path": page.path, "query": page.query, "body": body}
    found = {"subject": message.spec.subject, "body": message.spec.body, "html": page}
    return {key: value for key, value in found.items() if value is not None}
