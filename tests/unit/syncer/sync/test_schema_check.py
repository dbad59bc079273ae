"""A definition that drops the mark of journaled objects is found before anything is sent."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from syncer.model.attempt import AttemptId
from syncer.model.errors import Unavailable
from syncer.model.record import Plan
from syncer.model.resource import NotificationRequest, parse_object
from syncer.sync.flushes import Flushed
from tests.unit.syncer.sync.test_holes import Bench, Held, bench

MARK = "0.9-1"
#: A replica of the API server serves the older definition.
ALWAYS, NEVER, REALLY = "always", "never", "except in a dry run"


def old_definition(here: Bench, *, prunes: str, member: str = "journal") -> None:
    """Have the API server drop the mark, or another member of the status."""
    patch = here.objects.patch

    async def pruning(
        namespace: str, name: str, status: dict[str, Any], **more: Any
    ) -> NotificationRequest:
        dry = more.get("dry_run", False)
        if prunes == ALWAYS or (prunes == REALLY and not dry):
            status = {k: v for k, v in status.items() if k != member}
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


async def test_members_that_a_definition_begins_to_drop_are_noticed(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """An older definition is applied while the controller runs, and the present one again."""
    async with bench(most=3) as (here, _):
        schema, now, whole = here.sync.schema, 100.0, {"phase": "Sending", "channels": [{}]}
        schema._monotonic = lambda: now
        schema.verified = True
        document = here.objects.request.document()

        async def after(patch: dict[str, Any], stored: dict[str, Any]) -> str:
            await schema.after_write(parse_object({**document, "status": stored}), patch)
            return schema.problem or ""

        bare = {"phase": "Sending"}
        lost = "the served CRD prunes status.channels; apply the CRD of this version (notifier crd)"
        assert await after(whole, whole) == ""
        now += 29
        assert await after(whole, bare) == "", "answers are compared now and then"
        now += 1
        assert await after(whole, bare) == lost
        assert await after(whole, bare) == lost
        assert [r.getMessage() for r in caplog.records] == [lost]
        assert await after(bare, bare) == lost, "that write did not have the member"
        assert await after(whole, whole) == ""


async def test_what_nobody_writes_any_more_is_forgotten(caplog: pytest.LogCaptureFixture) -> None:
    """The present definition may be back while nothing is written, and the replica waits to be ready."""
    async with bench(most=3) as (here, _):
        schema, now, patch = here.sync.schema, 100.0, {"phase": "Sending", "channels": [{}]}
        schema._monotonic = lambda: now
        schema.verified = True
        lacking = parse_object({**here.objects.request.document(), "status": {"phase": "Sending"}})
        for _ in range(2):
            await schema.after_write(lacking, patch)
            now += 599
            assert "status.channels" in (schema.problem or "")
            now += 1
            assert schema.problem is None
        assert len(caplog.records) == 2, "it is news again"


async def test_a_definition_that_is_replaced_ends_what_it_dropped() -> None:
    """The ids were verified meanwhile all the same; a member that no write has again is forgotten."""
    async with bench(most=3) as (here, _):
        schema, now, keep = here.sync.schema, 100.0, here.objects.patch
        schema._monotonic = lambda: now

        async def write(**status: Any) -> str:
            request, place = here.objects.request, ("ns", "n")
            await schema.before_write(request, status)
            version = request.resource_version
            stored = await here.objects.patch(*place, status, resource_version=version)
            await schema.after_write(stored, status)
            return schema.problem or ""

        old_definition(here, prunes=ALWAYS, member="rollup")
        assert "status.rollup" in await write(phase="Sending", rollup={"count": 1})
        assert schema.verified
        now += 599
        assert "status.rollup" in await write(phase="Sending")
        now += 1
        assert await write(phase="Sending") == ""
        now += 30
        assert "status.rollup" in await write(rollup={"count": 1})
        here.objects.patch = keep  # type: ignore[method-assign]  # the present one is applied
        assert await write(rollup={"count": 1}) == ""
