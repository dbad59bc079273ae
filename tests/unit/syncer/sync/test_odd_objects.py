"""Objects that the API server takes and that no controller would write: they cost only themselves."""

from __future__ import annotations

from typing import Any, cast

import pytest

from syncer.model.errors import ContractError, Gone
from syncer.model.ports import ObjectClient
from syncer.model.record import LOG_ERROR_BYTES
from syncer.model.resource import NotificationRequest
from syncer.rules.reconcile import Action
from syncer.sync.sweeps import Sweeper
from tests.unit.syncer.sync.bench import EPOCH, Held, Ours, bench
from tests.unit.syncer.sync.shown import shown

ODD: dict[str, dict[str, Any]] = {
    "a number": {"attempt": 10**17},
    "a code": {"code": 10**17},
    "a code below zero": {"code": -(10**17)},
    "the length of a call": {"durationSeconds": 1e300},
    "the end of time": {"timestamp": "9999-12-31T23:59:59Z"},
    "the beginning of time": {"timestamp": "0001-01-01T00:00:00Z", "startedAt": "0001-01-01T00:00:00Z"},
    "a text": {"error": "x" * 100_000},
}  # fmt: skip


@pytest.mark.parametrize("case", ODD)
async def test_what_no_record_can_hold_is_cut(case: str) -> None:
    """A log is restored from whatever its object shows; a claim that fails would fail for ever."""
    async with bench(shown(**ODD[case])) as (here, notification):
        assert Action.OPEN in await here.claimer.claim(notification, Held())
        assert list(notification.view.attempts) == ["0.3-1"]
        assert (
            len(notification.view.attempts[next(iter(notification.view.attempts))].error)
            <= LOG_ERROR_BYTES
        )
        # Restored once: what was cut is not taken for lost at the next claim.
        position = notification.view.position
        assert "agree" in (await here.claimer.claim(notification, Held())).rows
        assert notification.view.position == position


class Unreadable:
    """A store of an object that exists and does not parse."""

    def __init__(self) -> None:
        self.asked = 0

    async def get(self, namespace: str, name: str, _known: object = None, /) -> NotificationRequest:
        """Fail as the real one does."""
        self.asked += 1
        raise ContractError(f"{namespace}/{name} cannot be read")


async def test_an_object_that_cannot_be_read_does_not_end_the_sweep_for_orphans() -> None:
    """Its own log stays, and those behind it in the scan are let go all the same."""
    async with bench() as (here, _):
        for uid in ("orphan-1", "odd", "orphan-2"):
            await here.log.claim(uid, EPOCH, name=f"ns/{uid}")

        class Mixed(Unreadable):
            async def get(
                self, namespace: str, name: str, _known: object = None, /
            ) -> NotificationRequest:
                if name == "odd":
                    return await super().get(namespace, name)
                raise Gone(f"no {name}")

        store = Mixed()
        here.claimer.objects = cast("ObjectClient", store)
        sweep = await Sweeper(here.claimer).orphans(Ours(), lambda _: False, lambda _: True)
        assert (sweep.looked_at, sweep.retired, store.asked) == (3, 2, 1)
        assert [t for _, _, t in await here.log.read_headers(["odd"])] == [-1]
