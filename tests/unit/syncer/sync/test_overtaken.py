"""
What arrives while an answer is on its way.

A read, or a write's own answer, tells of the past: meanwhile the watch may have brought a later version,
which it will not bring again. And what the sync loop reads in the log itself, such as an order, is news
that nobody else will find.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from syncer.model.attempt import Attempt, AttemptState, FailureClass
from syncer.model.record import Plan, resend_record
from syncer.model.resource import NotificationRequest, parse_object
from syncer.sync.cache import Entry
from syncer.sync.flushes import Flushed
from syncer.sync.status_writer import StatusWriter
from tests.unit.syncer.sync.test_holes import Bench, Held, Objects, Ours, bench


def version(of: NotificationRequest, number: str, **status: Any) -> NotificationRequest:
    """Another version of an object, with another status."""
    document = of.document()
    document["metadata"]["resourceVersion"] = number
    document["status"] = status
    return parse_object(document)


@dataclass
class Slow(Objects):
    """An API server whose answers come behind what its watch brings."""

    meanwhile: Callable[[], None] = lambda: None

    async def get(self, namespace: str, name: str, _known: object = None, /) -> NotificationRequest:
        """Read, and answer late."""
        answer = await super().get(namespace, name)
        self.meanwhile()
        return answer

    async def patch(self, *args: Any, **kwargs: Any) -> NotificationRequest:
        """Write, and answer late."""
        answer = await super().patch(*args, **kwargs)
        self.meanwhile()
        return answer


async def _refused(here: Bench, entry: Entry, *, failure: FailureClass) -> None:
    await here.claimer.claim(entry, Held())
    await here.recorder.plan(entry, Plan(("console",), "RoutingRuleMatched", "m", 1))
    _, intent = await here.recorder.open(entry, Held(), "console", limit=1)
    failed = Attempt(intent.attempt_id, "console", AttemptState.FAILED, ended=2, failure=failure)
    assert await here.recorder.close(entry, failed, intent, patience=1)


@pytest.mark.parametrize(
    ("known", "answer", "kept"),
    [
        pytest.param("5", "6", "6", id="nothing came meanwhile"),
        pytest.param("5", "5", "5", id="nothing has changed"),
        pytest.param("7", "6", "7", id="the watch was ahead"),
        pytest.param("7", "10", "10", id="the watch was behind"),
        pytest.param("5", "2", "2", id="the server was restored"),
    ],
)
async def test_the_later_version_is_kept(known: str, answer: str, kept: str) -> None:
    """Asked at version 5; an older answer counts only if nothing else was heard since."""
    async with bench() as (here, entry):
        entry.request = version(here.objects.request, known)
        entry.take(version(here.objects.request, answer), since="5")
        assert entry.request.resource_version == kept


async def test_a_claim_does_not_forget_what_the_watch_brought() -> None:
    """A slow read at the claim answers with a version from before a wipe that the watch has shown."""
    async with bench({"phase": "Sending"}) as (here, entry):
        slow = Slow(here.objects.request)
        here.claimer.objects = slow
        wiped = version(slow.request, "9")

        def meanwhile() -> None:
            entry.request = wiped

        slow.meanwhile = meanwhile
        await here.claimer.claim(entry, Held())
        assert entry.request is wiped


@pytest.mark.parametrize("conflict", [False, True])
async def test_a_write_does_not_forget_what_the_watch_brought(conflict: bool) -> None:
    """Our own write's answer, or the read after a conflict, comes behind somebody else's change."""
    async with bench() as (here, entry):
        await _refused(here, entry, failure=FailureClass.PERMANENT)
        slow = Slow(here.objects.request)
        wiped = version(slow.request, "9")

        def meanwhile() -> None:
            slow.meanwhile = lambda: None
            entry.request = slow.request = wiped

        async def rival() -> None:
            slow.meanwhile = meanwhile

        if conflict:
            slow.conflicts.append(rival)
        else:
            slow.meanwhile = meanwhile
        sync = StatusWriter(here.recorder, slow, Ours(), here.sync.metrics)
        await sync.flush(entry)
        assert int(entry.request.resource_version) >= 9
        here.cache.mark_dirty(entry, urgent=True)
        assert await sync.flush(entry) in (Flushed.WRITTEN, Flushed.EQUAL)
        assert (entry.request.status.phase, slow.request.status.phase) == ("Failed", "Failed")


async def test_an_order_that_the_sync_loop_finds_is_told() -> None:
    """It looks into the log before it says Failed; an order there must reach who carries it out."""
    told: list[str] = []
    async with bench() as (here, entry):
        await _refused(here, entry, failure=FailureClass.TRANSIENT)
        sync = StatusWriter(
            here.recorder, here.objects, Ours(), here.sync.metrics, on_stale=told.append
        )
        await here.log.note(
            "u", resend_record("order:console:2", "console", at=3, by="me", why="w")
        )
        assert await sync.flush(entry) is Flushed.WRITTEN
        assert (told, set(entry.ordered)) == (["u"], {"console"})
        assert entry.request.status.phase != "Failed"


async def test_nothing_is_told_where_the_log_says_nothing_new() -> None:
    """The usual end: the log is read once more, and nobody needs to look again."""
    told: list[str] = []
    async with bench() as (here, entry):
        await _refused(here, entry, failure=FailureClass.PERMANENT)
        sync = StatusWriter(
            here.recorder, here.objects, Ours(), here.sync.metrics, on_stale=told.append
        )
        assert await sync.flush(entry) is Flushed.WRITTEN
        assert (told, entry.request.status.phase) == ([], "Failed")
