"""What the feed does with its answers; the feed as a whole runs on a real Redis (`test_audit_feed`)."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import pytest

from notifier.audit.feed import AuditFeed, LogPart
from syncer.ledger.answers import Mark
from syncer.model.resource import Status, parse_object
from syncer.rules.fold import LogView
from syncer.sync.cache import Cache, Entry

NONE = cast("Any", None)


@pytest.mark.parametrize("grows", [False, True], ids=["at rest", "grown"])
async def test_the_last_mark_retires(*, grows: bool) -> None:
    """The mark at the end of a log sets its expiry; one that was overtaken by a record has set none."""
    cache = Cache(window=1.0, audit_limit=9)
    request = parse_object({"metadata": {"uid": "u", "namespace": "n", "name": "u"}})
    entry = Entry(replace(request, status=Status(phase="Sent")), LogView(position=2), acked=2)
    cache.entries["u"] = entry

    async def ack(*_: Any, **__: Any) -> Mark:
        if grows:
            entry.view = LogView(position=3)
            cache.mark_unaudited(entry)
        return Mark.EXPIRING

    feed = AuditFeed(
        cache=cache, log=cast("Any", SimpleNamespace(ack=ack)), ownership=NONE, sinks=(),
        metrics=NONE, now=lambda: 0,
    )  # fmt: skip
    assert await feed._mark([LogPart(entry, (), 2, "00")]) == {"u"}
    assert (entry.expiring, "u" in cache.entries) == (not grows, grows)
