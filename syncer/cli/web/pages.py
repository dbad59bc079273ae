"""
The pages: the templates next to this module turn data into HTML; nothing is read here.

Names, errors and reasons come from tenants and receivers. Every value that a template writes is escaped,
and characters that control a terminal or change the direction of a text are replaced. No template writes
event handlers, styles, or links to other sites, and every `href` is made by `link` or `link_to`.

The story of one notification (what happened, in order, with the wait before each attempt) comes from the
log and from facts that only the status shows; if the log is gone or cannot be read, from the status alone.

No I/O, no clock.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Final
from urllib.parse import quote, urlencode

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from syncer.cli.explanation import (
    VERBS,
    asked_by,
    final,
    next_step,
    of_deleted,
    result_of,
    silences,
    summary,
    word_of,
)
from syncer.cli.output import age, in_words
from syncer.cli.rows import UNREAD
from syncer.cli.web.search import PHASES, RANGES, STATES
from syncer.model.attempt import AttemptState, receiver_of
from syncer.model.record import NO_CHANNEL, Kind, Record
from syncer.model.resource import NotificationRequest
from syncer.model.times import format_time
from syncer.rules.advice import ADVICE
from syncer.rules.fold import LogView, ReadLog
from syncer.rules.holds import selector_of
from syncer.rules.text import neutral

_RESULTS: Final = {
    AttemptState.SUCCESS: "good", AttemptState.FAILED: "bad", AttemptState.UNKNOWN: "odd",
}  # fmt: skip
#: Latest moments that are shown; the records of a log grow in number with the attempts.
MOST: Final = 500


def span(ms: int) -> str:
    """Return a span of time in words, a short one in milliseconds or tenths of a second."""
    return f"{ms} ms" if ms < 1000 else f"{ms / 1000:.1f} s" if ms < 60_000 else in_words(ms)


@dataclass(frozen=True, slots=True)
class Moment:
    """
    Something that happened.

    Attributes:
        at: Unix milliseconds, 0 if that is not known.
        tone: `good`, `bad`, `odd`, or empty.
        channel: The channel, empty for all.
        attempt: Id of the attempt, empty if this is no attempt.
        wait: Milliseconds since the channel was planned or last tried, -1 if that is not known.
        duration: Milliseconds that the call took, -1 if that is not known.
        code: Status code of the answer, 0 without one.
        detail: The error, or the reason.
        by: Who requested it, or did it by hand; empty if it was due anyway.
        restored: It is known from the status alone.
    """

    at: int
    title: str
    tone: str = ""
    channel: str = ""
    attempt: str = ""
    wait: int = -1
    duration: int = -1
    code: int = 0
    detail: str = ""
    by: str = ""
    restored: bool = False

    @property
    def facts(self) -> list[str]:
        """Further details, in words."""
        tried = bool(self.attempt)
        said = [
            f"attempt {self.attempt}" if tried else "",
            f"after a wait of {span(self.wait)}" if tried and self.wait >= 0 else "",
            f"took {span(self.duration)}" if tried and self.duration >= 0 else "",
            f"code {self.code}" if self.code else "",
            f"{'requested ' if tried else ''}by {self.by}" if self.by else "",
            "known from the status alone" if self.restored else "",
        ]
        return [text for text in said if text]


def tell(request: NotificationRequest | None, log: ReadLog | None) -> list[Moment]:
    """Return what happened, the earliest first; object and log are None if they could not be read."""
    view = log.view if log is not None else LogView()
    records = log.records if log is not None else ()
    moments: list[Moment] = []
    if request is not None and request.created:
        moments.append(Moment(request.created, "created"))
    if view.plan is not None:
        where = ", ".join(view.plan.channels) or "no channel"
        detail = ": ".join(t for t in (view.plan.reason, view.plan.message) if t)
        moments.append(Moment(view.plan.at, f"routed to {where}", detail=detail))
    held = {(h.channel, h.since): h.text for h in silences(records)}
    moments += [_noted(r, held) for r in records if r.kind is Kind.SKIP or r.kind in VERBS]
    moments += _attempts(request, view, records)
    if request is not None and request.status.completed_at:
        status = request.status
        tone, text = _TONES.get(status.phase, ""), f"ended: {status.phase}"
        moments.append(Moment(status.completed_at, text, tone, detail=status.message))
    # Moments without a time come first. Equal times keep their order.
    return sorted(moments, key=lambda moment: moment.at)


def _noted(record: Record, held: Mapping[tuple[str, int], str]) -> Moment:
    """Return the moment of a skip, or of an operator's record."""
    body, about = record.body, record.channel if record.channel != NO_CHANNEL else ""
    at, detail = int(body.get("at", 0)), str(body.get("why") or body.get("did") or "")
    if record.kind is Kind.SKIP:
        return Moment(at, "not sent", "odd", about, detail=held.get((about, at), detail))
    by = str(body.get("by") or "somebody")
    return Moment(at, VERBS[record.kind], "", about, detail=detail, by=by)


def _attempts(
    request: NotificationRequest | None, view: LogView, records: tuple[Record, ...]
) -> Iterator[Moment]:
    intents = {r.id: r for r in records if r.kind in (Kind.INTENT, Kind.SEED_INTENT)}
    shown = request.status.attempts if request is not None else ()
    known = [*view.attempts.values(), *(a for a in shown if a.id not in view.attempts)]
    # Attempts whose result was stated by somebody other than their sender.
    stated = {r.attempt_id for r in records if r.kind.state and r.kind.value != r.kind.state.word}
    # The wait before the first attempt of a channel counts from the plan, or from the object's creation.
    began = view.plan.at if view.plan is not None else request.created if request is not None else 0
    before: dict[str, int] = {}
    for attempt in sorted(known, key=lambda a: a.started or a.ended):
        start = attempt.started or max(0, attempt.ended - attempt.duration)
        since = before.get(attempt.channel, began)
        before[attempt.channel] = attempt.ended or start
        word = word_of(attempt, records) if attempt.id in stated else ""
        took = attempt.duration or (-1 if word else attempt.ended - start)
        order = str(intents[attempt.id].body.get("order", "")) if attempt.id in intents else ""
        yield Moment(
            start, ", ".join(filter(None, [result_of(attempt), word])), _RESULTS.get(attempt.state, ""),
            attempt.channel, attempt.id, max(0, start - since) if since and start else -1,
            took if attempt.ended and took >= 0 else -1, attempt.code, attempt.error,
            by=asked_by(order, records),
            restored=attempt.id not in view.attempts,
        )  # fmt: skip


#: The tone of a word, which is shown together with the colour.
_TONES: Final = {
    "Sent": "good", "Failed": "bad", "PartiallySent": "bad", "Retrying": "odd", "Sending": "odd",
    "Delivered": "good", "Exhausted": "bad", "Uncertain": "odd", "ok": "good", "LOOK": "bad", "?": "odd",
    "warn": "odd", "fail": "bad", "unknown": "odd", "good": "good", "bad": "bad",
}  # fmt: skip

#: A time as `format_time` writes it.
_MOMENT: Final = re.compile(r"\d{4}-\d\d-\d\dT[\d:.]{8,12}Z")


def link(path: str, query: Mapping[str, str]) -> str:
    """Return the address of a page with a query; parts without a value are left out."""
    words = {name: text for name, text in query.items() if text}
    return f"{path}?{urlencode(words)}" if words else path


def link_to(key: str) -> str:
    """Return the address of a notification's page."""
    namespace, _, name = key.partition("/")
    return f"/n/{quote(namespace, safe='')}/{quote(name, safe='')}"


def far(then: int, now: int) -> str:
    """How far a time is in the past or future, in words."""
    return f"in {in_words(then - now)}" if then > now else f"{in_words(now - then)} ago"


def timed(text: str) -> Markup:
    """Return a text whose times are marked up, so that the page can show them in the reader's time zone."""
    mark = r'<time datetime="\g<0>">\g<0></time>'
    return Markup(_MOMENT.sub(mark, str(escape(neutral(text)))))  # noqa: S704 - escaped before


@cache
def _environment() -> Environment:
    made = Environment(
        loader=PackageLoader("syncer.cli.web"), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
        finalize=lambda value: neutral(value)
        if isinstance(value, str) and not isinstance(value, Markup)
        else "" if value is None else value,
    )  # fmt: skip
    made.globals.update({
        "link": link, "link_to": link_to, "far": far, "age": age, "time": format_time, "timed": timed,
        "tones": _TONES, "phases": PHASES, "states": STATES, "ranges": RANGES, "next_step": next_step,
        "summary": summary, "final": final, "asked_by": asked_by, "of_deleted": of_deleted,
        "advice": ADVICE, "selector_of": selector_of, "receiver_of": receiver_of,
        "quote": shlex.quote, "unread": UNREAD, "most": MOST,
        "pairs": lambda names: [(name, name) for name in names],
    })  # fmt: skip
    return made


def page(template: str, **facts: Any) -> str:
    """Return a whole document; `missing` is what could not be read, and `events` the stream of changes."""
    facts = {"missing": (), "events": "", **facts}
    return _environment().get_template(f"{template}.html").render(facts)
