"""
The Teams channel: an adaptive card to a Workflows webhook.

The URL's signature is the credential. 202 means accepted; nothing more can be learnt. A body may have
28 KiB: the longest text, in a block or in a fact, is cut at a code point, and this is repeated until the
body fits.
"""

from __future__ import annotations

from typing import Final

from notifier.channels.base import Provider, cut_to_size, encode
from notifier.channels.http import HttpClient
from notifier.channels.vendor import VendorChannel
from notifier.content.links import only_safe_links
from notifier.content.trim import head
from notifier.contract import Channel, Message
from syncer.model.resource import Json

KIND: Final = "teams"
BODY_BYTES: Final = 28 * 1024

#: Maximum number of links in a card, and maximum characters of a link's text.
ACTIONS: Final = 6
ACTION_CHARS: Final = 75
_HEADLINE: Final = {"Critical": ("CRITICAL: ", "attention"), "High": ("HIGH: ", "warning")}


def teams_channel(http_client: HttpClient, url: Provider, *, timeout_s: float) -> Channel:
    """Return the channel of one Workflows webhook, whose URL is the credential."""
    return VendorChannel(
        http_client, KIND, url, "teams webhook URL", lambda m, _: teams_body(m), timeout_s=timeout_s
    )


def teams_payload(message: Message) -> Json:
    """The card before it is cut to size."""
    spec = message.spec
    prefix, color = ("", "good") if message.resolved else _HEADLINE.get(spec.priority, ("", ""))
    headline: Json = {
        "type": "TextBlock",
        "text": f"{prefix}{_shown(spec.subject)}",
        "weight": "bolder",
        "size": "medium",
        "wrap": True,
    }
    if color:
        headline["color"] = color
    blocks: list[Json] = [
        headline,
        {
            "type": "TextBlock",
            "text": f"Priority: {spec.priority.upper()} | Type: {spec.type}",
            "isSubtle": True,
            "spacing": "none",
        },
        {
            "type": "TextBlock",
            "text": _shown(spec.body),
            "wrap": True,
            "spacing": "medium",
        },
        *_facts(
            "medium",
            {
                "Root Cause": message.fact("analysis", "rootCause"),
                "Confidence": message.fact("workflow", "confidence"),
                "Affected Resource": message.fact("target", "targetResource"),
            },
        ),
        *_by_type(message),
        *_facts("small", {"Correlation ID": message.name}),
    ]
    card: Json = {
        "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
        "type": "AdaptiveCard",
        "version": "1.0",
        "body": blocks,
    }
    if message.links:
        card["actions"] = [
            {"type": "Action.OpenUrl", "title": text[:ACTION_CHARS], "url": url}
            for _, url, text in message.links[:ACTIONS]
        ]
    return {
        "type": "message",
        "attachments": [
            {"contentType": "application/vnd.microsoft.card.adaptive", "content": card}
        ],
    }


def teams_body(message: Message, *, limit: int = BODY_BYTES) -> bytes:
    """
    The card as bytes, at most `limit` of them.

    Raises:
        ValueError: the parts that cannot be cut are larger than that.
    """
    payload = teams_payload(message)
    blocks: list[Json] = payload["attachments"][0]["content"]["body"]
    # Each text as its object and member; the last block, the correlation id, is never cut.
    holders = [(block, "text") for block in blocks[:-1] if "text" in block]
    holders += [(fact, "value") for block in blocks[:-1] for fact in block.get("facts", ())]
    return cut_to_size(
        payload, limit, holders, order=lambda holder, member: -len(encode({"": holder[member]}))
    )


def _shown(text: str) -> str:
    """Return a text with safe links only; the part beyond the size of a card is dropped unprocessed."""
    return only_safe_links(head(text, BODY_BYTES))


def _by_type(message: Message) -> list[Json]:
    spec = message.spec
    if spec.type == "Approval" and (command := message.chat_command()):
        return [{"type": "TextBlock", "text": f"`{command}`", "wrap": True, "spacing": "medium"}]
    if spec.type in {"StatusUpdate", "Completion"}:
        return _facts(
            "medium",
            {
                "Verification Outcome": message.fact("verification", "outcome"),
                "Verification Reason": message.fact("verification", "reason"),
            },
        )
    if spec.type == "Escalation":
        return [
            {
                "type": "TextBlock",
                "text": f"CRITICAL ESCALATION — Priority: {spec.priority.upper()}",
                "weight": "bolder",
                "color": "attention",
                "wrap": True,
                "spacing": "medium",
            }
        ]
    return []


def _facts(spacing: str, facts: dict[str, str]) -> list[Json]:
    present = [{"title": title, "value": _shown(value)} for title, value in facts.items() if value]
    return [{"type": "FactSet", "facts": present, "spacing": spacing}] if present else []
