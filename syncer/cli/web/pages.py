"""
The pages: what was read becomes HTML by the templates beside this module; nothing is read here.

Names, errors and reasons come from tenants and receivers. Every value that a template writes is escaped,
and what commands a terminal or turns the direction of a text is replaced. No template writes event
handlers, styles, or links to other sites, and what stands behind `href` is made by `link` and `link_to`
alone.

No clock.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from functools import cache
from typing import Any, Final
from urllib.parse import quote, urlencode

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from syncer.cli.explanation import next_step, summary
from syncer.cli.output import age, in_words
from syncer.cli.rows import PHASES, RANGES, STATES, UNREAD
from syncer.model.attempt import receiver_of
from syncer.model.times import format_time
from syncer.rules.advice import ADVICE
from syncer.rules.holds import selector_of
from syncer.rules.text import neutral

#: The tone of a word, which stands beside its colour.
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
    """Return a text in which the reader's own clock shows each time."""
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
        "summary": summary, "advice": ADVICE, "selector_of": selector_of, "receiver_of": receiver_of,
        "quote": shlex.quote, "unread": UNREAD, "pairs": lambda names: [(name, name) for name in names],
    })  # fmt: skip
    return made


def page(template: str, **facts: Any) -> str:
    """Return a whole document; `missing` is what could not be read, and `events` the stream of changes."""
    facts = {"missing": (), "events": "", **facts}
    return _environment().get_template(f"{template}.html").render(facts)
