"""A definition that drops the mark of journaled objects is found before anything is sent."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from syncer.model.attempt import AttemptId
from syncer.model.errors import Unavailable
from syncer.model.record import Plan
from syncer.model.resource import NotificationRequest
from syncer.sync.flushes import Flushed
from tests.unit.syncer.sync.test_holes import Bench, Held, bench

MARK = "0.9-1"
#: A replica of the API server serves the older definition.
ALWAYS, NEVER, REALLY = "always", "never", "except in a dry run"


def old_definition(here: Bench, *, prunes: str) -> None:
    """Have the API server drop the mark."""
    patch = here.objects.patch

    async def pruning(
        namespace: str, name: str, status: dict[str, Any], **more: Any
    ) -> NotificationRequest:
        dry = more.get("dry_run", False)
        if prunes == ALWAYS or (prunes == REALLY and not dry):
            status = {k: v for k, v in status.items() if k != "journal"}
        return await patch(namespace, name, status, **more)

    here.objects.patch = pruning  # type: ignore[method-assign]  # an older definition


async def test_a_mark_that_would_be_dropped_is_not_written() -> None:
    """The write ahead is tried first, and its attempt not made; the problem names the fix."""
    async with bench() as (here, entry):
        await here.claimer.claim(entry, Held())
        entry.view.plan = Plan(("console",), "RoutingRuleMatched", "m", 1)
        old_definition(here, prunes=ALWAYS)
        here.recorder.begin_journaled(entry, Held(), "console")
        with pytest.raises(Unavailable, match=r"prunes status\.journal"):
            await here.sync.write_ahead(entry, Held(), MARK)
        assert here.objects.written == []
        schema = here.sync.schema
        assert schema.journal_refused() is not None
        assert schema.problem is not None
        assert schema.problem.startswith("the served CRD prunes status.journal")
        assert "notifier crd" in schema.problem
        schema.on_log_back()
        assert schema.problem is None


async def test_a_replaced_definition_is_found() -> None:
    """After a while one attempt may find out, and a definition that keeps the mark ends it."""
    async with bench() as (here, entry):
        await here.claimer.claim(entry, Held())
        entry.view.plan = Plan(("console",), "RoutingRuleMatched", "m", 1)
        schema, now = here.sync.schema, 100.0
        schema._monotonic = lambda: now
        assert not schema.mark_is_kept(here.objects.request, MARK)
        now += 29
        assert "notifier crd" in (schema.journal_refused() or "")
        now += 1
        assert schema.journal_refused() is None
        here.recorder.begin_journaled(entry, Held(), "console")
        assert await here.sync.write_ahead(entry, Held(), MARK) is Flushed.WRITTEN
        assert (schema.keeps_mark, schema.problem) == (True, None)
        assert here.objects.request.status.journal == MARK


@pytest.mark.parametrize("marked", [True, False])
async def test_what_is_marked_during_a_write_ahead_is_written_behind_it(marked: bool) -> None:
    """Its turn may come while that write holds the entry, and no other one would come."""
    async with bench() as (here, entry):
        await here.claimer.claim(entry, Held())
        entry.view.plan = Plan(("console",), "RoutingRuleMatched", "m", 1)
        here.recorder.begin_journaled(entry, Held(), "console")
        here.cache.clean(entry)
        patch = here.objects.patch

        async def meanwhile(*arguments: Any, **more: Any) -> NotificationRequest:
            if marked and not more.get("dry_run"):
                here.cache.mark_dirty(entry, urgent=True)
                assert here.cache.take_due(here.cache.monotonic() + 60) is None
            return await patch(*arguments, **more)

        here.objects.patch = meanwhile  # type: ignore[method-assign]  # a turn comes
        assert await here.sync.write_ahead(entry, Held(), MARK) is Flushed.WRITTEN
        due = here.cache.take_due(here.cache.monotonic() + 60)
        assert due is (entry if marked else None)


async def test_a_mark_that_was_dropped_all_the_same_sends_nothing() -> None:
    """Another server prunes it in the write itself: the attempt is on record, and is not made."""
    async with bench() as (here, entry):
        await here.claimer.claim(entry, Held())
        entry.view.plan = Plan(("console",), "RoutingRuleMatched", "m", 1)
        old_definition(here, prunes=REALLY)
        here.recorder.begin_journaled(entry, Held(), "console")
        assert await here.sync.write_ahead(entry, Held(), MARK) is Flushed.UNCLEAR
        assert entry.journaled == ""
        assert "prunes status.journal" in (here.sync.schema.journal_refused() or "")
        assert "prunes status.journal" in (here.sync.schema.problem or "")


async def test_what_else_a_definition_drops_stays_a_problem() -> None:
    """That Redis is back mends nothing of it."""
    async with bench() as (here, entry):
        await here.claimer.claim(entry, Held())
        schema = here.sync.schema
        assert not schema.mark_is_kept(here.objects.request, MARK)
        status = replace(entry.request.status, nameless=frozenset({AttemptId("0-0")}))
        nameless = replace(here.objects.request, status=status)
        with pytest.raises(Unavailable, match="ids of attempts"):
            await schema.after_write(nameless, {"deliveryAttempts": []})
        schema.on_log_back()
        assert "drops the ids" in (schema.problem or "")


async def test_attempts_that_are_missing_in_an_answer_are_noticed() -> None:
    """However well the schema was verified: a webhook may have taken them away since."""
    async with bench() as (here, _):
        schema = here.sync.schema
        schema.verified = True
        with pytest.raises(Unavailable, match="without all of its attempts"):
            await schema.after_write(here.objects.request, {"deliveryAttempts": [{"id": "0.7-1"}]})
        assert (schema.verified, "mutating admission" in (schema.problem or "")) == (False, True)
        await schema.after_write(here.objects.request, {"phase": "Sending"})
        # A list that fell away: the merge patch has null in its place.
        await schema.after_write(here.objects.request, {"deliveryAttempts": None})
