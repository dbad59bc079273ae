"""The sync loop between a lease that is late and one that is lost."""

from __future__ import annotations

from typing import Any, cast

import pytest

from syncer.model.attempt import Attempt, AttemptState
from syncer.model.errors import (
    Conflict,
)
from syncer.model.ports import Ownership
from syncer.model.record import Plan
from syncer.model.resource import NotificationRequest
from syncer.sync.cache import Entry
from syncer.sync.flushes import Flushed
from syncer.sync.status_writer import StatusWriter
from tests.unit.syncer.sync.test_holes import EPOCH, Bench, Held, bench


class Shaky:
    """A lease term that may be late, or gone."""

    def __init__(self) -> None:
        self.epoch = EPOCH
        self.late = False
        self.gone = False

    def term_of(self, uid: str) -> Shaky | None:
        """The lease term, while there is one."""
        del uid
        return None if self.gone else self

    def valid(self, now: float) -> bool:
        """Whether it was renewed in time."""
        return now >= 0 and not self.late


def writing(here: Bench, lease: Shaky) -> tuple[StatusWriter, list[str]]:
    """A sync loop that depends on the lease, and what it calls stale."""
    stale: list[str] = []
    ownership = cast("Ownership", lease)
    sync = StatusWriter(
        here.recorder, here.objects, ownership, here.sync.metrics, on_stale=stale.append
    )
    return sync, stale


async def test_what_an_unreadable_log_hid_is_not_acknowledged(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It is readable again while the status that says otherwise is being written."""
    async with bench() as (here, entry):
        await delivered(here, entry)
        sync, _ = writing(here, Shaky())
        here.recorder.put_in_quarantine(entry, "the checksum of a record is wrong")
        patch = here.objects.patch

        async def mended(*args: Any, **options: Any) -> NotificationRequest:
            if entry.quarantine:
                await here.claimer.claim(entry, Held())
                assert not entry.quarantine
            return await patch(*args, **options)

        monkeypatch.setattr(here.objects, "patch", mended)
        await sync._one(entry)
        assert not entry.request.status.attempts
        assert entry.acked == 0
        await sync._one(entry)
        assert [a.state for a in entry.request.status.attempts] == [AttemptState.SUCCESS]
        assert entry.acked == entry.view.position


async def delivered(here: Bench, entry: Entry) -> None:
    """One attempt, recorded and not published yet."""
    await here.claimer.claim(entry, Held())
    await here.recorder.plan(entry, Plan(("console",), "RoutingRuleMatched", "m", 1))
    _, intent = await here.recorder.open(entry, Held(), "console", limit=3)
    ended = here.recorder.time.now()
    success = Attempt(
        intent.attempt_id, "console", AttemptState.SUCCESS, started=ended - 40, ended=ended
    )
    assert await here.recorder.close(entry, success, intent, patience=1)


@pytest.mark.parametrize("taken", ["deliveryAttempts", "conditions"])
async def test_a_status_that_is_stored_without_its_attempts_is_not_acknowledged(
    taken: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A mutating webhook takes them away, and the server answers 200: said once, and tried again."""
    async with bench(most=3) as (here, entry):
        await delivered(here, entry)
        patch, mutating = here.objects.patch, True

        async def mutated(
            namespace: str, name: str, status: dict[str, Any], **more: Any
        ) -> NotificationRequest:
            if more["resource_version"] != here.objects.request.resource_version:
                raise Conflict("written a moment ago")
            if mutating:
                status = {k: v for k, v in status.items() if k != taken}
            return await patch(namespace, name, status, **more)

        here.objects.patch = mutated  # type: ignore[method-assign]  # as admission does
        for _ in range(3):
            assert await here.sync.flush(entry) is Flushed.UNAVAILABLE
        assert entry.acked == 0
        mutating = False
        assert await here.sync.flush(entry) in (Flushed.WRITTEN, Flushed.EQUAL)
        assert entry.acked == entry.view.position
    assert sum("mutating admission" in r.message for r in caplog.records) == 1


def refusing(here: Bench, monkeypatch: pytest.MonkeyPatch, *errors: Exception) -> list[int]:
    """Have the API server refuse as many writes; return the sizes of all that are tried."""
    patch, left, sizes = here.objects.patch, list(errors), list[int]()

    async def answered(*args: Any, **options: Any) -> NotificationRequest:
        sizes.append(len(str(args[2].get("deliveryAttempts", ""))))
        if left:
            raise left.pop(0)
        return await patch(*args, **options)

    monkeypatch.setattr(here.objects, "patch", answered)
    return sizes
