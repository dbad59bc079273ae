"""What a controller does first with what it finds at the start."""

from __future__ import annotations

from typing import Any, cast

import pytest

from notifier.reconciler.controller import Controller
from syncer.kube.notification_requests import Meta, outline
from syncer.model.attempt import Epoch
from syncer.model.resource import NotificationRequest, parse_object
from syncer.sharding.ownership import Shards
from syncer.sync.notification import Claim
from tests.fakes.notification import notification
from tests.unit.notifier.reconciler.holding import World
from tests.unit.notifier.reconciler.starting import document


def brief(found: dict[str, Any]) -> NotificationRequest:
    """The same in outline."""
    made = outline(found, Meta.of(found))
    assert made is not None
    return made


@pytest.fixture
def controller() -> Controller:
    """A controller that owns its only shard; nothing that waits for a server is asked here."""
    return World().controller


def listed(controller: Controller, request: NotificationRequest) -> None:
    """Have a list bring an object."""
    controller.notifications.upsert(request, first_seen_by_watch=False)


async def drained(controller: Controller) -> list[str]:
    """The keys that are ready, in order."""
    out = []
    while len(controller.queue):
        out.append(await controller.queue.get())
        controller.queue.done(out[-1])
    return out


async def test_what_has_waited_longest_is_claimed_first(controller: Controller) -> None:
    """A lease term begins with objects without a time, then in the order of their times."""
    for name, due in (
        ("late", "2026-01-01T12:00:00Z"),
        ("new", ""),
        ("early", "2026-01-01T11:00:00Z"),
    ):
        listed(controller, parse_object(document(name, 1, due=due)))
    await drained(controller)
    controller.begin(0)
    assert await drained(controller) == ["uid-new", "uid-early", "uid-late"]


async def test_outline_of_a_finished_object_is_kept_as_a_stub(controller: Controller) -> None:
    """A finished object that a list introduces leads to no work and no entry."""
    listed(controller, brief(document("a", 1, phase="Sent")))
    assert not controller.cache.entries
    assert controller.cache.finished["uid-a"].phase == "Sent"
    assert await drained(controller) == []


async def test_outline_does_not_replace_a_whole_object(controller: Controller) -> None:
    """If the object is live here, an outline only makes its claim stale, so that it is read."""
    whole = parse_object(document("a", 1))
    listed(controller, whole)
    entry = notification(whole, claim=Claim(Epoch("0.9"), 0, ""), fresh=True)
    controller.cache.entries["uid-a"] = entry
    await drained(controller)
    listed(controller, brief(document("a", 2, phase="Sent")))
    assert entry.request is whole
    again = controller.cache.entries["uid-a"]
    assert (again.claim, again.fresh) == (None, False)
    assert await drained(controller) == ["uid-a"]


async def test_unclaimed_counts_what_nothing_explains(controller: Controller) -> None:
    """Claimed, fenced and unreadable notifications, and those of others, are not counted."""
    for name in ("claimed", "fenced", "unreadable", "open"):
        listed(controller, parse_object(document(name, 1)))
    assert controller.holds.unclaimed() == 4
    entries = controller.cache.entries
    entries["uid-claimed"].claimed(Claim(Epoch("0.9"), 0, ""))
    entries["uid-unreadable"].unintelligible("why")
    entries["uid-fenced"].epochs(fenced=1.0)
    assert controller.holds.unclaimed() == 1
    cast("Shards", controller.holds.ownership).drop(0)
    assert controller.holds.unclaimed() == 0


@pytest.mark.parametrize("phase", ["", "Pending", "Sending", "Retrying"])
def test_unfinished_objects_have_no_outline(phase: str) -> None:
    """Only a final phase lets a list leave the rest unread."""
    found = document("a", 1, phase=phase)
    assert outline(found, Meta.of(found)) is None


def test_outline_keeps_what_a_stub_needs() -> None:
    """Retention is the default where the spec names none, and an odd one is left to the parser."""
    found = document("a", 1, phase="Failed")
    assert (brief(found).retention_days, brief(found).status.phase) == (7, "Failed")
    found["spec"]["retentionDays"] = "x"
    assert outline(found, Meta.of(found)) is None
