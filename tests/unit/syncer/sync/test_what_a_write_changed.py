"""
What a status write is said to have changed, whoever brings the news of it first.

The watch can show an object with our own write in it before the answer to that write is read, and an
answer can be lost altogether. Events and metrics of an ending hang on what is told here: each ending
is told once, with the status from before the write.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from syncer.model.attempt import Attempt, AttemptState, FailureClass
from syncer.model.errors import Ambiguous
from syncer.model.record import Plan
from syncer.model.resource import NotificationRequest, Status
from syncer.rules.merge import Merged
from syncer.sync.cache import Entry
from syncer.sync.flushes import Flushed
from syncer.sync.status_writer import StatusWriter
from tests.unit.syncer.sync.test_holes import Bench, Held, Objects, Ours, bench


class Overtaken(Objects):
    """An API server whose watch is quicker than its answers, or whose answers are lost."""

    def __init__(
        self, request: NotificationRequest, watch: Callable[[NotificationRequest], None], lost: int
    ) -> None:
        """`watch` is told of each write first; the first `lost` answers never come."""
        super().__init__(request)
        self._watch = watch
        self._lost = lost

    async def patch(self, *args: Any, **kwargs: Any) -> NotificationRequest:
        """Write, show it to the watch, then answer."""
        stored = await super().patch(*args, **kwargs)
        self._watch(stored)
        if self._lost:
            self._lost -= 1
            raise Ambiguous("the answer was lost")
        return stored


async def _fail_for_good(here: Bench, entry: Entry) -> None:
    await here.claimer.claim(entry, Held())
    await here.recorder.plan(entry, Plan(("console",), "RoutingRuleMatched", "m", 1))
    _, intent = await here.recorder.open(entry, Held(), "console", limit=1)
    failed = Attempt(
        intent.attempt_id, "console", AttemptState.FAILED, ended=2, failure=FailureClass.PERMANENT
    )
    assert await here.recorder.close(entry, failed, intent, patience=1)


@pytest.mark.parametrize("watch_first", [False, True])
@pytest.mark.parametrize("lost", [0, 1])
async def test_an_ending_is_told_once(watch_first: bool, lost: int) -> None:
    """Whether the watch comes first, and whether the answer comes at all, makes no difference."""
    told: list[tuple[str, int, str, int]] = []

    def settled(entry: Entry, before: Status, merged: Merged) -> None:
        after = entry.request.status
        told.append((before.phase, len(before.attempts), after.phase, len(after.attempts)))
        assert merged.status.phase == after.phase

    async with bench() as (here, entry):
        await _fail_for_good(here, entry)

        def watch(stored: NotificationRequest) -> None:
            if watch_first:
                entry.request = stored

        objects = Overtaken(here.objects.request, watch, lost)
        sync = StatusWriter(here.recorder, objects, Ours(), here.sync.metrics, on_settled=settled)
        outcome = await sync.flush(entry)
        assert outcome is (Flushed.EQUAL if lost else Flushed.WRITTEN)
        assert await sync.flush(entry) is Flushed.EQUAL
    assert len(objects.written) == 1
    assert told == [("", 0, "Failed", 1)]
