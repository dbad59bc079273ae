"""
Requests of a webhook in an operator's words: method, path, query, and a body of JSON, a form or text.

A receiver that keeps something (a message that can be edited, an alert that can be closed) has requests of
its own for what follows: `update` once it has answered with an id, `resolve` for the end of an incident.

Nothing of a notification becomes part of the host; of the path, only what cannot be anything but a segment:
our own key of the incident, and the id that this receiver has answered with.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import urlencode

from notifier.templates.expressions import Find, Unfit, compiled, is_true
from notifier.templates.places import LANGUAGES
from notifier.templates.text import Limit, Template
from notifier.templates.tree import Tree
from notifier.templates.wording import ITEM, NAMES, Wording, digest_of, texts_of

#: Members of an entry that are read here, and of `update` and `resolve`.
MEMBERS: Final = frozenset(
    {
        "method",
        "path",
        "query",
        "payload",
        "form",
        "text",
        "limits",
        "markup",
        "success",
        "retryAfter",
        "id",
    }
    | {"update", "resolve"}
)
METHODS: Final = ("POST", "PUT", "PATCH", "DELETE")
#: An id that a receiver has answered with; no other one becomes a part of a path.
ANSWER: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:=-]{0,127}")
_PATH: Final = re.compile(r"(?:/[A-Za-z0-9._~!$&'(*+,;=:@%)-]*)+")
_IN_PATH: Final = frozenset({"incident", "answer"})
_BODIES: Final = {
    "payload": "application/json",
    "form": "application/x-www-form-urlencoded",
    "text": "text/plain; charset=utf-8",
}
_NEEDS_ANSWER: Final = re.compile(r"\{\{[^}]*\banswer\b")
_LIMIT: Final = re.compile(r"([1-9][0-9]{0,6}) (chars|utf16|bytes)")
_CODES: Final = re.compile(r"[1-5][0-9]{2}")
_SECONDS: Final = 3600.0
#: A parameter of an address; no server takes one of more than some KiB.
_PARAMETER: Final = Limit(2000)


@dataclass(frozen=True, slots=True)
class Made:
    """A request that was made: what goes on the wire beside the receiver's own address."""

    method: str
    path: str
    query: str
    #: JSON's types, a text, or None for the webhook's own body.
    body: Any
    content_type: str
    #: What of the query is the entry's own, not a message's.
    fixed: str = ""


@dataclass(frozen=True, slots=True)
class Request:
    """One request, compiled; without a body, the webhook's own is sent."""

    method: str
    path: Template | None
    query: tuple[tuple[str, Template], ...]
    content_type: str
    body: Tree | Template | tuple[tuple[str, Template], ...] | None
    #: Whether it is about what the receiver has made before, by the id that it gave to that.
    needs_answer: bool

    def render(self, view: Mapping[str, Any]) -> Made:
        """Return the request for what templates see; Unfit if it does not fit."""
        path = self.path.render(view) if self.path else ""
        if path and not _PATH.fullmatch(path):
            raise Unfit("the path is none")
        body = self.body
        if isinstance(body, tuple):
            made: Any = urlencode(
                [(key, text.render(view)) for key, text in body], errors="replace"
            )
        else:
            made = None if body is None else body.render(view)
        query = urlencode([(key, text.render(view)) for key, text in self.query], errors="replace")
        fixed = urlencode([(key, text.text) for key, text in self.query if text.constant])
        return Made(self.method, path, query, made, self.content_type, fixed)


@dataclass(frozen=True, slots=True)
class Requests:
    """
    The requests of a webhook, and how its answers are read.

    Attributes:
        usual: What tells of a notification.
        update: What changes what an earlier one has made; None without.
        resolve: What ends it; None without.
        codes: Status codes of success; empty for any 2xx.
        when: Whether an answer tells of success, beside its code; None for any.
        retry_after: Seconds to wait, by the answer.
        answer: The id in an answer.
    """

    usual: Request
    update: Request | None
    resolve: Request | None
    codes: frozenset[int]
    when: Find | None = field(compare=False)
    retry_after: Find | None = field(compare=False)
    answer: Find | None = field(compare=False)

    @property
    def keeps_state(self) -> bool:
        """Whether the receiver keeps what it was told, so that the order matters."""
        return bool(self.update or self.resolve)

    def render(self, view: Mapping[str, Any]) -> Made:
        """Return the request that fits the state of the incident; Unfit if it does not fit."""
        request = self.usual
        known = ANSWER.fullmatch(str(view.get("answer") or ""))
        if view.get("state") == "resolved" and self.resolve:
            # What needs an id that nobody knows is told as something new.
            request = self.resolve if known or not self.resolve.needs_answer else self.usual
        elif self.update and known:
            request = self.update
        return request.render(view)


def requests_of(source: Mapping[str, Any]) -> Requests:
    """
    Compile the requests of an entry.

    Raises:
        ValueError: one cannot be used; the text begins with the member.
    """
    limits = {name: _limit(name, text) for name, text in _pairs(source, "limits").items()}
    markup = _pairs(source, "markup")
    for name, language in markup.items():
        if str(language) not in LANGUAGES:
            raise ValueError(f"markup.{name}: must be one of {', '.join(sorted(LANGUAGES))}")
    usual = _request(source, limits, markup)
    success = _mapping(source, "success", {"codes", "when"})
    listed = success.get("codes", [])
    codes = list(map(str, listed)) if isinstance(listed, list) else [""]
    if any(not _CODES.fullmatch(code) for code in codes):
        raise ValueError("success.codes: must be a list of status codes: [200, 201]")
    others = {
        name: _request(
            _mapping(source, name, {"method", "path", "query", "payload", "form", "text"}),
            limits,
            markup,
        )
        for name in ("update", "resolve")
        if source.get(name) is not None
    }
    known = {"form." + key for key in _pairs(source, "form")} | {"text"}
    for request in (usual, *others.values()):
        known |= request.body.texts if isinstance(request.body, Tree) else set()
    for member, names in (("limits", limits), ("markup", markup)):
        for name in sorted(set(names) - known):
            raise ValueError(f"{member}.{name}: no text of a body has this path")
    return Requests(
        usual,
        others.get("update"),
        others.get("resolve"),
        frozenset(map(int, codes)),
        _expression(success.get("when"), "success.when"),
        _expression(source.get("retryAfter"), "retryAfter"),
        _expression(source.get("id"), "id"),
    )


def webhook_wording(source: Mapping[str, Any], templates: Mapping[str, Any]) -> Wording:
    """Compile what words a webhook: its requests, and its receiver's templates; raises ValueError."""
    digest = digest_of([dict(source), dict(templates)])
    return Wording("webhook", digest, texts_of("webhook", templates), requests_of(source))


def seconds_of(value: Any) -> float | None:
    """The seconds that an answer asks to wait, None if it does not hold a number of them."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not value >= 0:
        return None
    return float(min(value, _SECONDS))


def _request(
    source: Mapping[str, Any], limits: Mapping[str, Limit], markup: Mapping[str, str]
) -> Request:
    method = source.get("method") or "POST"
    if method not in METHODS:
        raise ValueError(f"method: must be one of {', '.join(METHODS)}")
    given = [name for name in _BODIES if source.get(name) is not None]
    if len(given) > 1:
        raise ValueError(f"{given[1]}: excludes {given[0]}")
    kind = given[0] if given else ""
    body: Any = None
    if kind == "payload":
        if not isinstance(source[kind], Mapping):
            raise ValueError("payload: must be a mapping")
        try:
            body = Tree(
                source[kind], names=NAMES, item=ITEM, limits=limits,
                language=lambda path, _: markup.get(path, "text"),
            )  # fmt: skip
        except ValueError as error:
            raise ValueError(f"payload: {error}") from None
    elif kind == "form":
        body = tuple(
            (
                key,
                _text(
                    f"form.{key}",
                    text,
                    markup.get(f"form.{key}", "text"),
                    limits.get(f"form.{key}"),
                ),
            )
            for key, text in _pairs(source, kind).items()
        )
    elif kind:
        body = _text(kind, source[kind], markup.get(kind, "text"), limits.get(kind))
    query = tuple(
        (key, _text(f"query.{key}", text, limit=_PARAMETER))
        for key, text in _pairs(source, "query").items()
    )
    return Request(
        method,
        _path(source.get("path")),
        query,
        _BODIES.get(kind, "application/json"),
        body,
        _NEEDS_ANSWER.search(json.dumps(source)) is not None,
    )


def _path(source: Any) -> Template | None:
    if source is None:
        return None
    template = _text("path", source, "segment", names=_IN_PATH)
    own = re.sub(r"\{\{.*?\}\}", "x", source, flags=re.DOTALL)
    if not _PATH.fullmatch(own) or re.search(r"/\.\.?(?:/|$)", own):
        raise ValueError("path: must begin with a slash, and hold nothing that a path may not")
    return template


def _text(
    place: str,
    source: Any,
    language: str = "text",
    limit: Limit | None = None,
    names: frozenset[str] = NAMES,
) -> Template:
    if not isinstance(source, str):
        raise ValueError(f"{place}: must be a text in quotes")  # noqa: TRY004 (of a file)
    try:
        return Template(source, names=names, item=ITEM, language=language, limit=limit)
    except ValueError as error:
        raise ValueError(f"{place}: {error}") from None


def _expression(source: Any, place: str) -> Find | None:
    if source is None:
        return None
    if not isinstance(source, str):
        raise ValueError(f"{place}: must be an expression over the answer")  # noqa: TRY004 (of a file)
    try:
        return compiled(source, None)
    except ValueError as error:
        raise ValueError(f"{place}: {error}") from None


def _limit(name: str, text: Any) -> Limit:
    found = _LIMIT.fullmatch(str(text))
    if not found:
        raise ValueError(f"limits.{name}: must be a number and a unit: 2000 chars, utf16 or bytes")
    return Limit(int(found[1]), found[2])


def _mapping(source: Mapping[str, Any], key: str, members: set[str]) -> Mapping[str, Any]:
    found = source.get(key) or {}
    if not isinstance(found, Mapping) or set(found) - members:
        raise ValueError(f"{key}: must be a mapping, with some of {', '.join(sorted(members))}")
    return found


def _pairs(source: Mapping[str, Any], key: str) -> dict[str, Any]:
    found = source.get(key) or {}
    if not isinstance(found, Mapping):
        raise ValueError(f"{key}: must be a mapping of texts")  # noqa: TRY004 (of a file)
    return dict(found)


def succeeded(requests: Requests, code: int, answer: Any) -> bool:
    """Whether an answer tells of success, by its code and by what it holds."""
    fits = code in requests.codes if requests.codes else 200 <= code <= 299
    try:
        return fits and (requests.when is None or is_true(requests.when(answer)))
    except Unfit:
        return False
