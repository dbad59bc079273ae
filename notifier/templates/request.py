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
from typing import Annotated, Any, Final, Literal
from urllib.parse import urlencode

from notifier.templates.expressions import Find, Unfit, compiled, is_true, placed
from notifier.templates.places import LANGUAGES
from notifier.templates.text import Limit, Template
from notifier.templates.tree import Tree
from notifier.templates.wording import (
    ITEM,
    NAMES,
    Wording,
    digest_of,
    has_lists,
    template_at,
    texts_of,
)
from syncer.configfile import Listed, Section, key, or_else

Method = Annotated[Literal["POST", "PUT", "PATCH", "DELETE"], or_else("POST")]
#: Texts with names; in quotes where they look like something else.
Words = Annotated[dict[str, str], or_else({})]
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
_LIMIT: Final = re.compile(r"([1-9][0-9]{0,6}) (chars|utf16|bytes|json)")
_CODES: Final = re.compile(r"[1-5][0-9]{2}")
_SECONDS: Final = 3600.0
#: A parameter of an address; no server takes one of more than some KiB.
_PARAMETER: Final = Limit(2000)


class RequestSource(Section):
    """One request of a webhook, as its entry has it."""

    method: Method = key("`POST`, `PUT`, `PATCH` or `DELETE`; default `POST`.", "POST", typed=True)
    path: str | None = key(
        "What is added to the address; a template, of `{{ incident }}` and, in `update` and `resolve`,"
        " of `{{ answer }}`, the id.",
        None, typed=True,
    )  # fmt: skip
    query: Words = key("Parameters that are added to the address; templates.", {}, typed=True)
    payload: dict[str, Any] | None = key(
        "The body as a tree whose texts are templates, sent as JSON.", None, typed=True
    )
    form: Words | None = key("The body as a form; templates.", None, typed=True)
    text: str | None = key("The body as plain text; a template.", None, typed=True)


class FollowUp(RequestSource, extra="forbid"):
    """A request that follows another one."""


class Success(Section, extra="forbid"):
    """What an answer of success is."""

    codes: Listed[Any] = key("Status codes, default any 2xx.", (), typed=True)
    when: str | None = key("An expression over the answer.", None, typed=True)


class WebhookSource(RequestSource):
    """The requests of a webhook, as its entry has them."""

    limits: Words = key(
        "The longest texts by their paths in the body: `content: 2000 chars`, or `utf16`, `bytes`, or"
        " `json`, bytes with what JSON escapes.",
        {}, typed=True,
    )  # fmt: skip
    markup: Words = key(
        "Texts of the body that are `html`, `markdown`, `mrkdwn` or a `link`, by path.",
        {}, typed=True,
    )  # fmt: skip
    success: Success = key(
        "What an answer of success is: `codes`, default any 2xx, and `when`, an expression over it.",
        Success(), typed=True,
    )  # fmt: skip
    retry_after: str | None = key(
        "Seconds to wait, as an expression over an answer of failure.", None, typed=True
    )
    id: str | None = key(
        "The id of what was made, as an expression over the answer; kept on record.",
        None,
        typed=True,
    )
    gone: str | None = key(
        "Whether an answer of 4xx says that what was made is not there any more, as an expression over it;"
        " 404 and 410 say so by themselves.",
        None, typed=True,
    )  # fmt: skip
    update: FollowUp | None = key(
        "The request that changes what an earlier notification of the incident has made, where its id"
        " is known: `method`, `path`, `query`, and `payload`, `form` or `text`.",
        None, typed=True,
    )  # fmt: skip
    resolve: FollowUp | None = key(
        "The request that tells of the end of an incident, with the same members. Where it needs an id"
        " that is not known, the usual one is sent.",
        None, typed=True,
    )  # fmt: skip


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
    #: Whether it is about what the receiver has made before, by the id that it gave to that.
    about: bool = False


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
        return Made(self.method, path, query, made, self.content_type, fixed, self.needs_answer)


@dataclass(frozen=True, slots=True)
class Requests:
    """
    The requests of a webhook, and how its answers are read.

    Attributes:
        usual: What tells of a notification.
        update: What changes what an earlier one has made; None without.
        resolve: What ends it; None without.
        codes: Status codes of success; empty for any 2xx.
        when: Whether an answer tells of success, beside its code.
        retry_after: Seconds to wait, by the answer.
        answer: The id in an answer.
        gone: Whether an answer says that what has that id is gone.
    """

    usual: Request
    update: Request | None
    resolve: Request | None
    codes: frozenset[int]
    when: Find = field(compare=False)
    retry_after: Find = field(compare=False)
    answer: Find = field(compare=False)
    gone: Find = field(compare=False)

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


def requests_of(source: WebhookSource) -> Requests:
    """
    Compile the requests of an entry.

    Raises:
        ValueError: one cannot be used; the text begins with the member.
    """
    limits = {name: _limit(name, text) for name, text in source.limits.items()}
    for name, language in source.markup.items():
        if language not in LANGUAGES:
            raise ValueError(f"markup.{name}: must be one of {', '.join(sorted(LANGUAGES))}")
    codes = list(map(str, source.success.codes))
    if any(not _CODES.fullmatch(code) for code in codes):
        raise ValueError("success.codes: must be a list of status codes: [200, 201]")
    usual = _request(source, limits, source.markup)
    update, resolve = (
        _request(given, limits, source.markup) if given is not None else None
        for given in (source.update, source.resolve)
    )
    known = {"form." + key for key in source.form or ()} | {"text"}
    for request in (usual, update, resolve):
        known |= request.body.texts if request and isinstance(request.body, Tree) else set()
    for member, names in (("limits", limits), ("markup", source.markup)):
        for name in sorted(set(names) - known):
            raise ValueError(f"{member}.{name}: no text of a body has this path")
    return Requests(
        usual,
        update,
        resolve,
        frozenset(map(int, codes)),
        _expression(source.success.when, "success.when", default=True),
        _expression(source.retry_after, "retryAfter"),
        _expression(source.id, "id"),
        _expression(source.gone, "gone"),
    )


def webhook_wording(source: WebhookSource, templates: Mapping[str, Any]) -> Wording:
    """Compile what words a webhook: its requests, and its receiver's templates; raises ValueError."""
    texts = texts_of("webhook", templates)
    own = source.model_dump(include=set(WebhookSource.model_fields), exclude_unset=True)
    written = [own, dict(templates)]
    return Wording(digest_of(written), texts, requests_of(source), has_lists(written))


def seconds_of(value: Any) -> float | None:
    """The seconds that an answer asks to wait, None if it does not hold a number of them."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not value >= 0:
        return None
    return float(min(value, _SECONDS))


def _request(
    source: RequestSource, limits: Mapping[str, Limit], markup: Mapping[str, str]
) -> Request:
    given = [name for name in _BODIES if getattr(source, name) is not None]
    if len(given) > 1:
        raise ValueError(f"{given[1]}: excludes {given[0]}")
    kind = given[0] if given else ""
    body: Any = None
    if source.payload is not None:
        with placed("payload"):
            body = Tree(
                source.payload, names=NAMES, item=ITEM, limit=lambda path, _: limits.get(path),
                language=lambda path, _: markup.get(path, "text"),
            )  # fmt: skip
    elif source.form is not None:
        body = tuple(
            (key, template_at(at, text, markup.get(at, "text"), limits.get(at)))
            for key, text in source.form.items()
            for at in (f"form.{key}",)
        )
    elif source.text is not None:
        body = template_at(kind, source.text, markup.get(kind, "text"), limits.get(kind))
    query = tuple(
        (key, template_at(f"query.{key}", text, limit=_PARAMETER))
        for key, text in source.query.items()
    )
    # Without the requests that follow it.
    own = source.model_dump(include=set(RequestSource.model_fields), exclude_unset=True)
    return Request(
        source.method,
        _path(source.path),
        query,
        _BODIES.get(kind, "application/json"),
        body,
        _NEEDS_ANSWER.search(json.dumps(own)) is not None,
    )


def _path(source: str | None) -> Template | None:
    if source is None:
        return None
    template = template_at("path", source, "segment", names=_IN_PATH)
    own = re.sub(r"\{\{.*?\}\}", "x", source, flags=re.DOTALL)
    if not _PATH.fullmatch(own) or re.search(r"/\.\.?(?:/|$)", own):
        raise ValueError("path: must begin with a slash, and hold nothing that a path may not")
    return template


def _expression(source: str | None, place: str, default: Any = None) -> Find:
    """Compile an expression over answers, which finds null in one that it does not fit."""
    if source is None:
        return lambda _: default
    with placed(place):
        look = compiled(source, None)

    def find(answer: Any) -> Any:
        try:
            return look(answer)
        except Unfit:
            return None

    return find


def _limit(name: str, text: str) -> Limit:
    found = _LIMIT.fullmatch(text)
    if not found:
        raise ValueError(
            f"limits.{name}: must be a number and a unit: 2000 chars, utf16, bytes or json"
        )
    return Limit(int(found[1]), found[2])


def succeeded(requests: Requests, code: int, answer: Any) -> bool:
    """Whether an answer tells of success, by its code and by what it holds."""
    fits = code in requests.codes if requests.codes else 200 <= code <= 299
    return fits and is_true(requests.when(answer))
