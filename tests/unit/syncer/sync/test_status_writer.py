"""The sync loop between a lease that is late and one that is lost."""

from __future__ import annotations

from typing import Any

import pytest

from syncer.model.attempt import AttemptState
from syncer.model.errors import (
    Conflict,
)
from syncer.model.resource import NotificationRequest
from syncer.sync.status_writer import Flushed
from tests.unit.syncer.sync.bench import Held, bench
from tests.unit.syncer.sync.writing import Shaky, delivered, writing


async def test_what_an_unreadable_log_hid_is_not_acknowledged(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It is readable again while the status that says otherwise is being written."""
    async with bench() as (here, notification):
        await delivered(here, notification)
        sync, _ = writing(here, Shaky())
        here.recorder.put_in_quarantine(notification, "the checksum of a record is wrong")
        patch = here.objects.patch

        async def mended(*args: Any, **options: Any) -> NotificationRequest:
            if notification.quarantine:
                await here.claimer.claim(notification, Held())
                assert not notification.quarantine
            return await patch(*args, **options)

        monkeypatch.setattr(here.objects, "patch", mended)
        await sync._one(notification)
        assert not notification.request.status.attempts
        assert notification.acked == 0
        await sync._one(notification)
        assert [a.state for a in notification.request.status.attempts] == [AttemptState.SUCCESS]
        assert notification.acked == notification.view.position


@pytest.mark.parametrize("taken", ["deliveryAttempts", "conditions"])
async def test_a_status_that_is_stored_without_its_attempts_is_not_acknowledged(
    taken: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A mutating webhook takes them away, and the server answers 200: said once, and tried again."""
    async with bench(most=3) as (here, notification):
        await delivered(here, notification)
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
            assert await here.sync.flush(notification) is Flushed.UNAVAILABLE
        assert notification.acked == 0
        mutating = False
        assert await here.sync.flush(notification) in (Flushed.WRITTEN, Flushed.EQUAL)
        assert notification.acked == notification.view.position
    assert sum("mutating admission" in r.message for r in caplog.records) == 1
