"""The sync loop between a lease that is late and one that is lost."""

from __future__ import annotations

import asyncio
from typing import cast

from syncer.api.ports import Ownership
from syncer.api.record import Plan
from syncer.loop import SyncLoop
from tests.unit.syncer.test_holes import EPOCH, Bench, Held, bench


class Shaky:
    """A tenure that may be late, or gone."""

    def __init__(self) -> None:
        self.epoch = EPOCH
        self.late = False
        self.gone = False

    def tenure_of(self, uid: str) -> Shaky | None:
        """The tenure, while there is one."""
        del uid
        return None if self.gone else self

    def valid(self, now: float) -> bool:
        """Whether it was renewed in time."""
        return now >= 0 and not self.late


def writing(here: Bench, lease: Shaky) -> tuple[SyncLoop, list[str]]:
    """A sync loop that depends on the lease, and what it calls stale."""
    stale: list[str] = []
    ownership = cast("Ownership", lease)
    sync = SyncLoop(
        here.recorder, here.objects, ownership, here.sync.metrics, on_stale=stale.append
    )
    return sync, stale


async def test_a_late_renewal_loses_no_write() -> None:
    """The answer to a renewal may come just behind the deadline, and the tenure goes on as it was."""
    async with bench() as (here, entry):
        await here.reconciler.claim(entry, Held())
        await here.recorder.plan(entry, Plan(("console",), "RoutingRuleMatched", "m", 1))
        lease = Shaky()
        sync, stale = writing(here, lease)
        lease.late = True
        await sync._one(entry)
        assert (here.objects.written, stale) == ([], [])
        assert entry.dirty_since is not None
        lease.late = False
        await sync._one(entry)
        assert [w["phase"] for w in here.objects.written] == ["Sending"]
        assert entry.dirty_since is None


async def test_a_lost_lease_ends_the_writes() -> None:
    """What is another's is not written, and not waited for."""
    async with bench() as (here, entry):
        await here.reconciler.claim(entry, Held())
        await here.recorder.plan(entry, Plan(("console",), "RoutingRuleMatched", "m", 1))
        lease = Shaky()
        sync, stale = writing(here, lease)
        lease.gone = True
        await sync._one(entry)
        assert (here.objects.written, stale) == ([], ["u"])
        assert entry.dirty_since is None


async def test_a_drain_waits_for_no_write_that_is_due_behind_its_end() -> None:
    """A status that is refused backs off; the end of the process need not be put off for it."""
    async with bench() as (here, entry):
        await here.reconciler.claim(entry, Held())
        await here.recorder.plan(entry, Plan(("console",), "RoutingRuleMatched", "m", 1))
        sync, _ = writing(here, Shaky())
        for _ in range(10):
            here.cache.failed(entry)
        begun = here.cache.boot()
        running = asyncio.create_task(sync.run())
        try:
            assert await sync.drain(begun + 10) == 1
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
        assert here.cache.boot() - begun < 5
        assert here.objects.written == []
