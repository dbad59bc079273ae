"""What the versions of objects that a watch reports lead to, and which lead to nothing."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import pytest

from notifier.dispatch.workqueue import WorkQueue
from syncer.model.attempt import Attempt, AttemptId, AttemptState, Epoch
from syncer.model.resource import ChannelStatus, NotificationRequest, Status, parse_object
from syncer.rules.restore import seeds_of_view
from syncer.sync.cache import Cache
from syncer.sync.evidence import Evidence
from syncer.sync.notification import Claim, Notification
from tests.fakes.notifications import notifications


def request(version: str = "9", *, phase: str = "", raw: bytes = b"{}") -> NotificationRequest:
    """A version of the object; without `raw` it is an outline."""
    found = parse_object(
        {
            "metadata": {"uid": "u", "namespace": "ns", "name": "n", "resourceVersion": version},
            "spec": {"type": "simple"},
        }
    )
    return replace(found, raw=raw, status=Status(phase=phase))


class World:
    """The handlers, over a real cache and queue."""

    def __init__(self) -> None:
        self.term: Any = SimpleNamespace(epoch=Epoch("0.7"))
        self.lost: list[str] = []
        self.compared: list[Any] = []
        self.cache = Cache(window=1.0, monotonic=lambda: 100.0)
        self.queue = WorkQueue(lambda: 100.0)
        self.cache.check = self.queue.add
        recorder = SimpleNamespace(
            cache=self.cache, log=None, time=None, metrics=None, freeze=None, note=None,
            lose_claim=lambda _, reason: self.lost.append(reason),
            compare=lambda notification, _before: self.compared.append(notification),
            evidence=Evidence(cast("Any", None), cast("Any", None)),
        )  # fmt: skip
        self.handlers = notifications(
            cast("Any", recorder), SimpleNamespace(term_of=lambda _: self.term)
        )

    def upsert(self, found: NotificationRequest, *, by_watch: bool = True) -> None:
        self.handlers.upsert(found, first_seen_by_watch=by_watch)

    async def woken(self) -> int:
        """How many keys have been queued since the last time."""
        count = len(self.queue)
        for _ in range(count):
            self.queue.done(await self.queue.get())
        return count


@pytest.fixture
def world() -> World:
    """A replica that owns the object."""
    return World()


async def test_a_finished_object_whose_status_was_wiped_is_not_trusted(world: World) -> None:
    """
    What it shows is less than what was known, so it is read before a send, and not journaled.

    While Redis is away, its log cannot say that it was delivered.
    """
    world.upsert(request(phase="Sent"))
    assert (world.cache.entries, await world.woken()) == ({}, 0), "it is only remembered"
    assert world.cache.finished["u"].resource_version == "9"
    world.upsert(request("10"))
    notification = world.cache.entries["u"]
    assert (notification.fresh, notification.doubtful, notification.reopened) == (False, True, True)
    assert (world.cache.finished, await world.woken()) == ({}, 1)


async def test_a_journaled_one_is_only_remembered_too(world: World) -> None:
    """Thousands may end in an outage. Deleted, its attempts are in nothing but the event, which is kept."""
    shown = Attempt(AttemptId("0.7-1"), "c", AttemptState.SUCCESS, started=1, ended=2)
    status = Status(
        phase="Sent",
        attempts=(shown,),
        journal="0.7-1",
        channels=(ChannelStatus("c", "delivered"),),
    )
    found = replace(request(), status=status)
    world.upsert(found)
    assert (world.cache.entries, await world.woken()) == ({}, 0)
    assert [s.uid for s in world.cache.journaled()] == ["u"]
    world.handlers.delete("u", "ns", "n", lambda: found)
    notification = world.cache.entries["u"]
    assert (notification.deleted, world.cache.journaled(), await world.woken()) == (True, [], 1)
    kept = seeds_of_view(notification.view, notification.request.status)
    assert [(s.kind.value, s.id) for s in kept] == [("plan", "plan"), ("seed.success", "0.7-1")]
    world.upsert(replace(found, uid="v", status=replace(status, journal=None)))
    world.handlers.delete("v", "ns", "n", lambda: found)
    assert list(world.cache.entries) == ["u"], "its log has it"


FRESH = {
    "it came by the watch, newer than the lease term": (request("9"), True, "0.7", True),
    "it was listed": (request("9"), False, "0.7", False),
    "somebody has begun with it": (request("9", phase="Pending"), True, "0.7", False),
    "it is as old as the lease term": (request("9"), True, "0.9", False),
    "it is older": (request("9"), True, "0.10", False),
    "nobody owns it": (request("9"), True, None, False),
}


@pytest.mark.parametrize("case", FRESH)
def test_fresh(world: World, case: str) -> None:
    """Only what was surely never published by anybody need not be read before the first send."""
    found, by_watch, epoch, wanted = FRESH[case]
    world.term = SimpleNamespace(epoch=Epoch(epoch)) if epoch else None
    world.upsert(found, by_watch=by_watch)
    notification = world.cache.entries["u"]
    assert notification.fresh is wanted
    # Whoever has claimed its log publishes, also while it shuts down.
    notification.claimed(Claim(Epoch("0.7"), 1, ""))
    assert not notification.fresh


@pytest.mark.parametrize("version", ["9", "8", "10"])
async def test_only_a_later_version_is_news(world: World, version: str) -> None:
    """An own write that comes back, or a version that lags, leads to nothing."""
    world.upsert(request("9"))
    await world.woken()
    world.upsert(request(version, phase="Sending"))
    later = version == "10"
    notification = world.cache.entries["u"]
    assert notification.request.resource_version == ("10" if later else "9")
    assert await world.woken() == later


async def test_what_somebody_wrote_is_published_over(world: World) -> None:
    """A claimed notification is behind again once somebody else has written its object."""
    world.upsert(request("9"))
    notification = world.cache.entries["u"]
    world.upsert(request("10"))
    assert not notification.publication.pending, "without a claim there is nothing to publish"
    notification.claimed(cast("Any", SimpleNamespace(epoch="0.7")))
    world.upsert(request("11"))
    assert notification.publication.dirty_since == 100.0


async def test_an_outline_is_read_before_anything(world: World) -> None:
    """An object of ours that went and came back is claimed anew, and keeps what is known till then."""
    world.upsert(request("9"))
    notification = world.cache.entries["u"] = Notification(request("9"), fresh=True)
    await world.woken()
    world.upsert(request("10", raw=b""))
    assert (notification.fresh, world.lost, await world.woken()) == (False, ["outline"], 1)
    assert notification.request.resource_version == "9"
    world.term = None
    world.upsert(request("10", raw=b""))
    assert world.lost == ["outline"], "what is not ours is not claimed"
    assert notification.request.resource_version == "10"


async def test_what_another_replica_has_finished(world: World) -> None:
    """It is checked: the reconciler retires what is not ours, once no attempt of ours is under way."""
    world.upsert(request("9"))
    await world.woken()
    world.term = None
    world.upsert(request("10", phase="Sent"))
    assert ("u" in world.cache.entries, await world.woken()) == (True, 1)


def test_a_version_that_is_known(world: World) -> None:
    """Each own write is known by its version, of a finished object as well."""
    assert not world.handlers.has("u", "9")
    world.upsert(request("9"))
    assert world.handlers.has("u", "9")
    assert not world.handlers.has("u", "8")
    world.cache.retire(world.cache.entries["u"])
    assert world.handlers.has("u", "9")
    assert not world.handlers.has("u", "10")


async def test_a_deletion(world: World) -> None:
    """It cancels what is left to do, lets go of what was held, and is looked at."""
    world.upsert(request("9"))
    notification = world.cache.entries["u"]
    world.cache.mark_dirty(notification, urgent=True)
    await world.woken()
    world.handlers.delete("u", "ns", "n")
    assert (notification.deleted, notification.publication.dirty_since) == (True, None)
    assert await world.woken() == 1
    world.cache.finished["v"] = cast("Any", None)
    world.handlers.delete("v", "ns", "m")
    assert (world.cache.finished, await world.woken()) == ({}, 0)


@pytest.mark.parametrize("why", ["a task works on it", "a result is not recorded", "nothing"])
async def test_what_is_under_way_is_kept_when_its_shard_goes(world: World, why: str) -> None:
    """It is looked at, so that it is let go of once that is over."""
    world.upsert(request())
    await world.woken()
    notification = world.cache.entries["u"]
    if why == "a task works on it":
        notification.in_flight.begin(AttemptId("0.7-1"), "slack:ops")
    elif why == "a result is not recorded":
        notification.in_flight.keep(AttemptId("0.7-1"), cast("Any", ()), cast("Any", ()))
    let_go = why == "nothing"
    assert world.handlers.release("u") is let_go
    assert (("u" in world.cache.entries), await world.woken()) == (not let_go, int(not let_go))
    assert world.handlers.release("nobody") is True
