"""A later owner claims the log between the two claims of ours."""

from __future__ import annotations

import pytest

from syncer.model.attempt import Epoch
from syncer.model.errors import Unavailable
from syncer.model.resource import NotificationRequest
from syncer.rules.reconcile import Action
from tests.unit.syncer.sync.bench import Held, bench
from tests.unit.syncer.sync.shown import shown


async def test_a_log_that_is_taken_while_it_is_restored_is_left_to_its_owner() -> None:
    """It is no fault: the next look is told that it is fenced."""
    async with bench(shown()) as (here, notification):
        get = here.objects.get

        async def overtaken(
            namespace: str, name: str, _known: object = None, /
        ) -> NotificationRequest:
            await here.log.claim("u", Epoch("0.9"), name="ns/n")
            return await get(namespace, name)

        here.objects.get = overtaken  # type: ignore[method-assign]  # the reader of this test alone
        with pytest.raises(Unavailable, match="changed under its claim"):
            await here.claimer.claim(notification, Held())
        assert notification.claim is None
        assert Action.STOP in await here.claimer.claim(notification, Held())
