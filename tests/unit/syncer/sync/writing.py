"""Objects whose status is written, and API servers that refuse it."""

from __future__ import annotations

from typing import Any, cast

import pytest

from syncer.model.attempt import Attempt, AttemptState
from syncer.model.ports import Ownership
from syncer.model.record import Plan
from syncer.model.resource import NotificationRequest
from syncer.sync.notification import Notification
from syncer.sync.status_writer import StatusWriter
from tests.fakes.notifications import recording
from tests.unit.syncer.sync.bench import EPOCH, Bench, Held


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
    here.cache.check = stale.append
    return StatusWriter(here.recorder, here.objects, ownership, here.sync.metrics), stale


async def delivered(here: Bench, notification: Notification) -> None:
    """One attempt, recorded and not published yet."""
    await here.claimer.claim(notification, Held())
    await here.recorder.freeze(notification, Plan(("console",), "RoutingRuleMatched", "m", 1))
    _, intent = await recording(here.recorder).open(notification, Held(), "console", limit=3)
    ended = here.recorder.time.now()
    success = Attempt(
        intent.attempt_id, "console", AttemptState.SUCCESS, started=ended - 40, ended=ended
    )
    assert await recording(here.recorder).close(notification, success, intent, patience=1)


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
