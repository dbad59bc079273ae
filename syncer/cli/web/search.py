"""The filters of a page of the list, and the position where it begins; its address contains both."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Final, NamedTuple

from syncer.cli.rows import EVENT, UNREAD, Head, Placed, Query, Row

#: Longest filter, in characters.
TEXT: Final = 253
#: States that a page can be limited to, besides phases, with the words that it shows.
STATES: Final = {
    "attention": "needs attention",
    "unfinished": "not finished",
    "lost": "lost",
    "held": "held",
    "quarantined": "quarantined",
    "unknown": "result unknown",
    "journaled": "journaled",
}
PHASES: Final = ("none", "pending", "sending", "retrying", "sent", "partiallysent", "failed")
#: Ranges of time that a page offers, in milliseconds.
RANGES: Final = {
    "15m": 900_000, "1h": 3_600_000, "6h": 21_600_000, "1d": 86_400_000, "7d": 604_800_000,
}  # fmt: skip


class Position(NamedTuple):
    """Position of a row in the order of all rows: by creation time, then by name."""

    created: int
    namespace: str
    name: str

    @property
    def token(self) -> str:
        """The position as text, for a page's address."""
        return f"{self.created}.{self.namespace}/{self.name}"

    @classmethod
    def parse(cls, text: str) -> Position | None:
        """Parse a token; None if it is invalid."""
        created, _, key = text.partition(".")
        namespace, _, name = key.partition("/")
        if not (created.isascii() and created.isdigit() and len(created) <= 15 and name):
            return None
        return cls(int(created), namespace, name)


def position_of(row: Row) -> Position:
    """Return the position of a row."""
    return Position(row.created, row.namespace, row.name)


@dataclass(frozen=True, slots=True)
class Search(Query):
    """
    A query with the conditions that only pages offer.

    Attributes:
        text: Text in the name, a channel, an error, the subject or the event, ignoring case.
        namespace: Namespace of the object.
        after: Only rows after this position, None for all.
    """

    text: str = ""
    namespace: str = ""
    after: Position | None = None

    def matches(self, row: Row, placed: Placed, head: Head = UNREAD) -> bool:
        """Whether a row meets every condition."""
        return (
            (not self.namespace or row.namespace == self.namespace)
            and (not self.text or self._has_text(row))
            and Query.matches(self, row, placed, head)
        )

    def _has_text(self, row: Row) -> bool:
        part = self.text.casefold()
        named, errors = (c.name for c in row.channels), (t.error for t in row.tries)
        return (
            # Names of objects are in lower case.
            part in row.key
            or ("*" in part and fnmatchcase(row.name, part))
            # Rows keep only this many characters, so no more of a longer text is compared.
            or any(part[:EVENT] in t.casefold() for t in (row.subject, row.event, *named, *errors))
        )


def search_of(words: Mapping[str, str], now: int) -> Search:
    """Parse the query of an address; invalid parts are ignored."""

    def word(name: str, known: Iterable[str] | None = None) -> str:
        found = words.get(name, "").strip()[:TEXT]
        return found if known is None else found.lower() if found.lower() in known else ""

    phase, state = word("phase", PHASES), word("state", STATES)
    span = RANGES.get(word("since"), 0)
    return Search(
        phases=(phase,) if phase else (), states=(state,) if state else (),
        receivers=(word("receiver"),) if word("receiver") else (), text=word("q"),
        namespace=word("namespace"), since=now - span if span else 0,
        after=Position.parse(words.get("after", "")[:600]),
    )  # fmt: skip
