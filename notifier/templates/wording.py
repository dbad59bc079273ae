"""
What an operator's templates make of a notification, for the channels of one receiver.

A template is compiled once for each kind of channel, since a text is in the language of its receiver: a
body is Slack's mrkdwn, Teams' Markdown, plain text elsewhere. What expressions may begin with is known, and
so is the language of each text of a payload; both are checked when the routing file is read.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from notifier.templates.expressions import Unfit, placed
from notifier.templates.text import Limit, Template
from notifier.templates.tree import Around, Tree

#: What expressions see, and what the items of its lists have: alerts and links.
NAMES: Final = frozenset(
    {
        "alerts", "answer", "body", "cluster", "commonAnnotations", "commonLabels", "context",
        "groupLabels", "id", "incident", "labels", "links", "name", "namespace", "phase", "priority",
        "severity", "state", "status", "subject", "truncatedAlerts", "type",
    }
)  # fmt: skip
ITEM: Final = frozenset(
    {"annotations", "endsAt", "label", "labels", "service", "startsAt", "status", "url"}
)
#: Templates of what one kind of channel has beside texts.
PAYLOADS: Final = {"slack": "slackBlocks", "pagerduty": "pagerduty", "email": "mailHtml"}
#: Members of an event that its templates may set; `details` are added to the custom ones.
EVENT: Final = frozenset(
    {"summary", "source", "severity", "component", "group", "class", "details"}
)
SEVERITIES: Final = frozenset({"critical", "error", "warning", "info"})

#: Templates of texts that every channel has: the language of each, and how long it may be.
_TEXTS: Final = {
    "subject": ("text", Limit(1000)), "body": ("text", Limit(128 * 1024)),
    "titleLink": ("link", Limit(2048)),
}  # fmt: skip
#: Bodies of kinds whose receivers have a language of their own.
_BODIES: Final = {
    "slack": ("mrkdwn", Limit(3000, "utf16")), "teams": ("markdown", Limit(20_000, "bytes")),
}  # fmt: skip
_PAGE: Final = Limit(256 * 1024, "bytes")
#: What Slack takes: blocks, members of one, and characters of a text where it is not 3000.
_MOST_BLOCKS: Final = 50
_MOST_OF_BLOCK: Final = {
    "actions": ("elements", 25), "context": ("elements", 10), "section": ("fields", 10),
}  # fmt: skip
_BLOCK_TEXTS: Final = {
    "header": 150,
    "button": 75,
    "field": 2000,
    "image": 2000,
    "markdown": 12_000,
}
_TEXT_OBJECTS: Final = frozenset({"mrkdwn", "plain_text"})


class Rendering(Protocol):
    """What makes something of what templates see."""

    def render(self, view: Any) -> Any:
        """Return it; Unfit if it does not fit."""


@dataclass(frozen=True, slots=True)
class Wording:
    """
    The templates of a receiver for one kind of channel.

    Attributes:
        digest: Of the templates as they are written.
        texts: Of subject, body and title link, as far as there are any.
        payload: Of what only this kind has: a tree, a page of HTML, requests, or None.
        lists: Whether they have lists, in which each item may be held against all others: much work of few
            characters.
    """

    digest: str
    texts: Mapping[str, Template] = field(compare=False, repr=False)
    payload: Rendering | None = field(compare=False, repr=False)
    lists: bool = False


def wording_of(kind: str, source: Mapping[str, Any]) -> Wording:
    """
    Compile the templates of a receiver for a kind of channel.

    Raises:
        ValueError: one cannot be used; the text begins with its name.
    """
    texts, place = texts_of(kind, source), PAYLOADS.get(kind, "")
    with placed(place):
        payload = _payload(kind, source[place]) if place in source else None
    return Wording(digest_of(source), texts, payload, has_lists(source))


def texts_of(kind: str, source: Mapping[str, Any]) -> dict[str, Template]:
    """Compile the templates of texts that every kind of channel has; raises as `wording_of` does."""
    found: dict[str, Template] = {}
    for name, usual in _TEXTS.items():
        if name not in source:
            continue
        language, limit = _BODIES.get(kind, usual) if name == "body" else usual
        found[name] = template_at(name, source[name], language, limit)
    return found


def template_at(
    place: str,
    text: str,
    language: str = "text",
    limit: Limit | None = None,
    names: frozenset[str] = NAMES,
) -> Template:
    """Compile one template; the text of a ValueError begins with its place."""
    with placed(place):
        return Template(text, names=names, item=ITEM, language=language, limit=limit)


def digest_of(source: Any) -> str:
    """Twelve hex digits that stand for templates as they are written."""
    text = json.dumps(source, sort_keys=True)
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()[:12]


def has_lists(source: Any) -> bool:
    """Whether templates show each item of a list."""
    return "each" in json.dumps(source)


def _payload(kind: str, source: Any) -> Tree | Template:
    if kind == "email":
        return Template(source, names=NAMES, item=ITEM, language="html", limit=_PAGE)
    if kind == "slack":
        if not isinstance(source, list):
            raise ValueError("must be a list of blocks")
        return _Blocks(
            _verbatim(source),
            names=NAMES,
            item=ITEM,
            language=_of_block,
            limit=_limit_of_block,
            scalars=True,
        )
    if not isinstance(source, Mapping) or set(source) - EVENT:
        raise ValueError(f"must be a mapping, with some of {', '.join(sorted(EVENT))}")
    details = source.get("details", {})
    if not isinstance(details, Mapping) or any(name.startswith("$") for name in details):
        raise ValueError("details must be a mapping")
    limits = {"summary": Limit(1024)}
    return Tree(dict(source), names=NAMES, item=ITEM, limit=lambda path, _: limits.get(path))


def _verbatim(source: Any) -> Any:
    """Blocks in which Slack looks for no mention or link by itself, as it would for `@channel`."""
    if isinstance(source, list):
        return [_verbatim(item) for item in source]
    if not isinstance(source, Mapping):
        return source
    found = {key: _verbatim(value) for key, value in source.items()}
    return {**found, "verbatim": True} if found.get("type") == "mrkdwn" else found


def _of_block(path: str, around: Around) -> str:
    name = path.rpartition(".")[2]
    kind = around[-1].get("type", "") if around else ""
    if not isinstance(kind, str) or "{{" in kind:
        raise ValueError(f"{path}: the type of a block must be a plain word")
    if name == "url" or name.endswith("_url"):
        return "link"
    return kind if kind in {"mrkdwn", "markdown"} and name == "text" else "text"


def _limit_of_block(path: str, around: Around) -> Limit:
    """How long Slack takes a text of a block."""
    if path.rpartition(".")[2] not in {"text", "alt_text"}:
        return Limit(3000, "utf16")
    owner = around[-2 if around[-1].get("type") in _TEXT_OBJECTS and len(around) > 1 else -1]
    kind = "field" if path.endswith("fields.text") else owner.get("type", "")
    return Limit(_BLOCK_TEXTS.get(kind, 3000), "utf16")


class _Blocks(Tree):
    """Slack's blocks; of what it would refuse as a whole, the usual message is sent."""

    def render(self, view: Any) -> Any:
        """Return the blocks; Unfit if there are more than Slack takes, or a text is empty."""
        blocks = super().render(view)
        if not 0 < len(blocks) <= _MOST_BLOCKS:
            raise Unfit(f"yields {len(blocks)} blocks, where Slack takes {_MOST_BLOCKS}")
        _check_block(blocks)
        return blocks


def _check_block(node: Any) -> None:
    if isinstance(node, list):
        for item in node:
            _check_block(item)
    if not isinstance(node, dict):
        return
    kind = node.get("type")
    if kind in _TEXT_OBJECTS and not str(node.get("text") or "").strip():
        raise Unfit("yields an empty text, which Slack refuses")
    name, most = _MOST_OF_BLOCK.get(str(kind), ("", 0))
    if name and len(node.get(name, ())) > most:
        raise Unfit(f"yields more {name} in a block than Slack takes")
    for value in node.values():
        _check_block(value)
