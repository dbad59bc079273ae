"""
Rows of a list of notifications, page by page; nothing is claimed.

Only headers and lengths of logs are read: a list shows what status and header hold.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, Final

from syncer.cli.access import Access
from syncer.cli.output import Progress, age
from syncer.cli.scan import Problem, Scan, objects
from syncer.ledger.answers import LogHead
from syncer.ledger.codec import decode_header
from syncer.model.conditions import QUARANTINED, find_condition
from syncer.model.errors import ContractError
from syncer.model.resource import NotificationRequest
from syncer.model.times import format_time

HEAD: Final = (
    "NAMESPACE", "NAME", "PHASE", "AGE", "ATTEMPTS", "UNSYNCED", "UNKNOWN", "QUARANTINED", "HELD",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Row:
    """
    One notification.

    Attributes:
        request: The object.
        unsynced: Records of its log that are not marked as published; -1 where it has none.
        quarantined: Its log cannot be read, or the self-audit holds it.
    """

    request: NotificationRequest
    unsynced: int
    quarantined: bool

    def cells(self, now: int) -> tuple[str, ...]:
        """Return the row as cells of a table."""
        r, s = self.request, self.request.status
        return (
            r.namespace, r.name, s.phase or "-", age(now - r.created), str(s.total_attempts),
            "-" if self.unsynced < 0 else str(self.unsynced), str(s.uncertain),
            "yes" if self.quarantined else "-", "-" if r.hold is None else "yes",
        )  # fmt: skip

    def as_json(self) -> dict[str, Any]:
        """Return the row as one JSON object; the keys are an interface."""
        r, s = self.request, self.request.status
        return {
            "namespace": r.namespace,
            "name": r.name,
            "uid": r.uid,
            "phase": s.phase,
            "created": format_time(r.created),
            "priority": r.priority,
            "attempts": s.total_attempts,
            "unsynced": None if self.unsynced < 0 else self.unsynced,
            "unknown": s.uncertain,
            "quarantined": self.quarantined,
            "held": r.hold is not None,
        }


@dataclass(frozen=True, slots=True)
class Filter:
    """
    Conditions of a list; a row must meet each that is set.

    Attributes:
        phases: Any of these, `none` for no phase yet; empty for all.
        name: Pattern of the name, `*` and `?`.
        older: Milliseconds of age, at least.
        unsynced: Only with records that are not published.
        unknown: Only with attempts whose result is unknown.
        quarantined: Only those that are held because of their log.
        held: Only those that an annotation holds back.
    """

    phases: tuple[str, ...] = ()
    name: str = ""
    older: int = 0
    unsynced: bool = False
    unknown: bool = False
    quarantined: bool = False
    held: bool = False

    def takes(self, row: Row, now: int) -> bool:
        """Whether a row meets every condition."""
        request, status = row.request, row.request.status
        return (
            (not self.phases or (status.phase.lower() or "none") in self.phases)
            and (not self.name or fnmatchcase(request.name, self.name))
            and now - request.created >= self.older
            and (not self.unsynced or row.unsynced > 0)
            and (not self.unknown or status.uncertain > 0)
            and (not self.quarantined or row.quarantined)
            and (not self.held or request.hold is not None)
        )


async def rows(
    at: Access,
    wanted: Filter,
    namespaces: Sequence[str],
    progress: Progress,
    *,
    now: int,
    unread: list[str],
) -> AsyncGenerator[list[Row], None]:
    """
    List matching rows, page by page.

    Args:
        at: Open connections.
        wanted: Which rows.
        namespaces: Only these; empty for all.
        progress: Counts each object.
        now: Redis time in milliseconds.
        unread: Gets a line for each object that exists and cannot be shown.

    Raises:
        PortError: a server does not answer, or refuses.
    """
    async with aclosing(objects(at, Scan(), namespaces)) as pages:
        async for page in pages:
            unread += [f"{o.key}: {o.text}" for o in page if isinstance(o, Problem)]
            requests = [o for o in page if not isinstance(o, Problem)]
            heads = await at.log.read_headers([r.uid for r in requests])
            found = []
            for request, head in zip(requests, heads, strict=True):
                row = _row(request, head)
                if wanted.takes(row, now):
                    found.append(row)
            progress.step(len(page))
            yield found


def _row(request: NotificationRequest, head: LogHead) -> Row:
    condition = find_condition(request.status.conditions, QUARANTINED)
    quarantined = condition is not None and condition.status == "True"
    if head.element is None:
        return Row(request, -1, quarantined)
    try:
        header = decode_header(head.element)
    except ContractError:
        return Row(request, -1, quarantined=True)
    return Row(request, max(0, head.length - 1 - header.acked), quarantined)
