"""
The Slack channel: an incoming webhook and three blocks.

Slack accepts 150 characters in a header and 3000 in a section, and refuses the whole message beyond that.
The longest and often most important messages would fail permanently, so both texts are cut, with a mark.
`verbatim` tells Slack to parse nothing by itself: otherwise `@channel` and channel names in plain text
become mentions and links. Any 2xx is a delivery, whatever the body says. Slack has no idempotency key: a
retry after an unknown outcome may be a second message.
"""

from __future__ import annotations

from typing import Any, Final

from notifier.channels.base import Provider, encode
from notifier.channels.http import HttpClient
from notifier.channels.vendor import VendorChannel
from notifier.content.mrkdwn import CUT, shorten, shorten_plain, to_mrkdwn
from notifier.contract import Channel, Message
from notifier.templates.places import escape_mrkdwn

KIND: Final = "slack"
HEADER_CHARS: Final = 150
SECTION_CHARS: Final = 3000
#: Characters of a body that are converted: more than a section holds, because markup, empty lines and empty
#: code blocks are dropped.
SOURCE_CHARS: Final = 4 * SECTION_CHARS

_EMOJI: Final = {"Critical": "🚨", "High": "⚠️", "Medium": "ℹ️", "Low": "💬"}  # noqa: RUF001 - upstream's
#: Maximum number of buttons in a message, and maximum characters of a button's text.
BUTTONS: Final = 10
BUTTON_CHARS: Final = 75


def slack_channel(http_client: HttpClient, url: Provider, *, timeout_s: float) -> Channel:
    """Return the channel of one incoming webhook, whose URL is the credential."""
    return VendorChannel(
        http_client, KIND, url, "slack webhook URL", lambda m, _: encode(slack_payload(m)),
        timeout_s=timeout_s,
    )  # fmt: skip


def slack_section(body: str) -> str:
    """The body as mrkdwn; only as much as can be shown is converted."""
    section = shorten(to_mrkdwn(body[:SOURCE_CHARS]), SECTION_CHARS)
    if len(body) <= SOURCE_CHARS or section.endswith(CUT):
        return section
    return shorten(section, SECTION_CHARS - len(CUT), "") + CUT


def slack_payload(message: Message) -> dict[str, Any]:
    """Header, section and context block of a message, and its links as buttons."""
    spec = message.spec
    emoji = "✅" if message.resolved else _EMOJI.get(spec.priority, "📢")
    words = message.words
    if words and words.payload is not None:
        return {"blocks": words.payload}
    section = spec.body if words and words.body else slack_section(spec.body)
    buttons = [
        {
            "type": "button",
            "text": {"type": "plain_text", "text": shorten_plain(text, BUTTON_CHARS)},
            "url": url,
        }
        for _, url, text in message.links[:BUTTONS]
    ]
    return {
        "blocks": [
            {
                "type": "header",
                "text": {
                    "type": "plain_text",
                    "text": shorten_plain(f"{emoji} {spec.subject}", HEADER_CHARS),
                },
            },
            {
                "type": "section",
                "text": {
                    "type": "mrkdwn",
                    "verbatim": True,
                    # Slack refuses an empty text, and a body of empty code blocks becomes one.
                    "text": section if section.strip() else "_(empty)_",
                },
            },
            {
                "type": "context",
                "elements": [
                    {
                        "type": "mrkdwn",
                        "verbatim": True,
                        "text": escape_mrkdwn(f"*Priority:* {spec.priority} | *Type:* {spec.type}"),
                    }
                ],
            },
            *([{"type": "actions", "elements": buttons}] if buttons else []),
        ]
    }
