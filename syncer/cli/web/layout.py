"""
What all pages share: the frame, tables, times, commands, and notes about what is missing.

Every page is complete without a script. With one, the content of `main` is fetched again when something
changes.

No I/O, no clock.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final
from urllib.parse import quote, urlencode

from syncer.cli.output import age, in_words
from syncer.cli.web.html import Safe, join, tag
from syncer.model.times import format_time

#: The pages that are always at hand.
_NAVIGATION: Final = (
    ("/", "Notifications"), ("/receivers", "Receivers"), ("/shards", "Shards"), ("/health", "Health"),
)  # fmt: skip
_TONES: Final = {
    "Sent": "good", "Failed": "bad", "PartiallySent": "bad", "Retrying": "odd", "Sending": "odd",
    "Delivered": "good", "Exhausted": "bad", "Uncertain": "odd",
}  # fmt: skip


def page(
    title: str, here: str, body: Iterable[object], *, events: str = "", missing: Sequence[str] = ()
) -> str:
    """
    Return a whole document.

    Args:
        title: Of the page.
        here: Address of the page in the navigation, empty for none.
        body: What it shows.
        events: Address of the stream of changes, empty for none.
        missing: What could not be read; sentences.
    """
    navigation = [
        tag("a", name, href=where, aria_current="page" if where == here else None)
        for where, name in _NAVIGATION
    ]
    document = tag(
        "html",
        tag(
            "head",
            tag("meta", charset="utf-8"),
            tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
            tag("title", f"{title} · notification-ledger"),
            tag("link", rel="icon", href="/assets/icon.svg", type="image/svg+xml"),
            tag("link", rel="stylesheet", href="/assets/explorer.css"),
            tag("script", src="/assets/explorer.js", defer=True),
        ),
        tag(
            "body",
            tag("a", "Skip to the content", href="#live", class_="skip"),
            tag(
                "header",
                tag("strong", "notification-ledger"),
                tag("nav", navigation, aria_label="Pages"),
                tag("span", "", id="state", role="status", class_="state"),
            ),
            tag(
                "main", banner(missing), tag("h1", title), body, id="live", tabindex="-1",
                data_events=events or None,
            ),
            tag("footer", "Read-only: nothing can be changed here."),
        ),
        lang="en",
    )  # fmt: skip
    return f"<!DOCTYPE html>{document}"


def banner(missing: Sequence[str]) -> Safe | None:
    """Return a banner that says what could not be read, None if nothing is missing."""
    if not missing:
        return None
    lines = [tag("li", text) for text in dict.fromkeys(missing)]
    return tag(
        "section", tag("p", "Not all of this is up to date:"), tag("ul", lines), class_="missing",
        aria_label="What is missing",
    )  # fmt: skip


def table(label: str, head: Sequence[str], rows: Iterable[Sequence[object]]) -> Safe:
    """
    Return a table; on a narrow screen each row becomes a block, each cell with its column's name.

    Args:
        label: What it holds.
        head: Names of the columns.
        rows: Cells.
    """
    columns = [tag("th", name, scope="col") for name in head]
    lines = [
        tag("tr", [tag("td", cell, data_label=name) for name, cell in zip(head, row, strict=True)])
        for row in rows
    ]
    return tag(
        "table", tag("caption", label), tag("thead", tag("tr", columns)), tag("tbody", lines)
    )


def badge(text: str, tone: str = "") -> Safe:
    """Return a word in the colour of its meaning."""
    return tag("span", text or "none yet", class_=f"badge {tone or _TONES.get(text, '')}".strip())


def ago(then: int, now: int) -> Safe | None:
    """Return how long ago something was, with the time as title; None if that is not known."""
    if not then:
        return None
    moment = format_time(then)
    return tag("time", age(now - then), datetime=moment, title=moment)


def moment_of(then: int, now: int) -> Safe | None:
    """Return a time, and how far it is in the past or future; None if it is not known."""
    if not then:
        return None
    text = format_time(then)
    far = f"in {in_words(then - now)}" if then > now else f"{in_words(now - then)} ago"
    return join([tag("time", text, datetime=text), " (", far, ")"])


def command(text: str) -> Safe:
    """Return a command to be copied."""
    return tag("code", text, class_="command")


def link(path: str, query: Mapping[str, str]) -> str:
    """Return the address of a page with a query."""
    return f"{path}?{urlencode(query)}" if query else path


def link_to(namespace: str, name: str) -> str:
    """Return the address of a notification's page."""
    return f"/n/{quote(namespace, safe='')}/{quote(name, safe='')}"
