"""
What an object may show already ends a notification, although nobody here has seen it.

A hole that the model check found (R5): under at most once an unknown result ends a channel, Failed is
written and its answer lost; then an operator says that it did not arrive, which takes the end back in
memory alone. What was asked for counts until the object has been seen.
"""

from __future__ import annotations

from typing import Any, cast

import pytest
from prometheus_client import CollectorRegistry

from notifier.dispatch.workqueue import WorkQueue
from notifier.metrics import DeliveryMetrics
from notifier.reconciler.controller import Controller
from notifier.reconciler.decisions import DeliveryBounds
from notifier.reconciler.ports import Ports
from syncer.cli.manual_records import append
from syncer.model.errors import Ambiguous, Conflict, Rejected, Unavailable
from syncer.model.resource import NotificationRequest
from syncer.rules.plan import Deliver, Finish
from syncer.sync.cache import Entry
from syncer.sync.flushes import Flushed, Limits
from syncer.sync.status_writer import StatusWriter
from tests.fakes.journal import NO_JOURNAL
from tests.unit.syncer.sync.test_holes import Bench, Objects, Ours, bench, looked, shell, unsure

NONE = cast("Any", None)


class Silent(Objects):
    """An API server that executes a write or not, and does not answer; reads may fail, too."""

    mishap: Exception | None = None
    applies = True
    mute = False

    async def get(self, namespace: str, name: str, _known: object = None, /) -> NotificationRequest:
        """Read, unless nothing is answered."""
        if self.mute:
            raise Unavailable("no answer")
        return await super().get(namespace, name)

    async def patch(self, *args: Any, **kwargs: Any) -> NotificationRequest:
        """Write as the mishap says."""
        if self.mishap is None:
            if kwargs["resource_version"] != self.request.resource_version:
                raise Conflict("another version")
            return await super().patch(*args, **kwargs)
        if self.applies:
            await super().patch(*args, **kwargs)
        raise self.mishap


def parts(here: Bench, objects: Objects) -> tuple[StatusWriter, Controller, list[str]]:
    """Both loops, at most once, and what is to be looked at again."""
    again: list[str] = []
    sync = StatusWriter(
        here.recorder, objects, Ours(), here.sync.metrics, limits=Limits(at_most_once=True),
        on_stale=again.append,
    )  # fmt: skip
    controller = Controller(
        Ports(
            queue=WorkQueue(lambda: 0.0), recorder=here.recorder, claimer=NONE,
            ownership=NONE, router=NONE, reporter=NONE, metrics=DeliveryMetrics(CollectorRegistry()),
            bounds=DeliveryBounds(at_most_once=True, max_age=0), journal=NO_JOURNAL,
        ),
        dispatcher=lambda _: NONE,
    )  # fmt: skip
    return sync, controller, again


async def not_delivered(here: Bench, entry: Entry) -> None:
    """An operator says so, and the owner reads it."""
    await append(shell(here), "u", await looked(here, delivered=False))
    await here.recorder.reread(entry)


async def test_nothing_is_opened_behind_a_final_phase_that_was_asked_for() -> None:
    """The object is final, its answer is lost: a verdict opens nothing, before and after it is seen."""
    async with bench(most=2) as (here, entry):
        objects = Silent(here.objects.request)
        sync, controller, again = parts(here, objects)
        await unsure(here, entry)
        objects.mishap, objects.mute = Ambiguous("the answer is lost"), True
        assert await sync.flush(entry) is Flushed.UNAVAILABLE
        assert (entry.request.status.phase, objects.request.status.phase) == ("", "Failed")
        await not_delivered(here, entry)
        assert controller.decisions.next(entry) == Finish("the published phase is final")
        objects.mishap, objects.mute = None, False
        assert await sync.flush(entry) is Flushed.WRITTEN
        assert entry.request.status.phase == "Failed"
        assert entry.request.status.attempts[0].state.word == "failed"
        assert controller.decisions.next(entry) == Finish("the published phase is final")
        assert again == []


async def test_what_was_not_executed_ends_nothing_for_ever() -> None:
    """The write never arrived: the next one says otherwise, and the channel is tried again."""
    async with bench(most=2) as (here, entry):
        objects = Silent(here.objects.request)
        sync, controller, _ = parts(here, objects)
        await unsure(here, entry)
        objects.mishap, objects.applies, objects.mute = Ambiguous("lost on its way"), False, True
        assert await sync.flush(entry) is Flushed.UNAVAILABLE
        await not_delivered(here, entry)
        assert isinstance(controller.decisions.next(entry), Finish)
        objects.mishap, objects.mute = None, False
        assert await sync.flush(entry) is Flushed.WRITTEN
        assert entry.request.status.phase == "Sending"
        assert isinstance(controller.decisions.next(entry), Deliver)


@pytest.mark.parametrize("answer", [Rejected("no"), Unavailable("busy")], ids=["refused", "busy"])
async def test_a_refused_write_ends_nothing(answer: Exception) -> None:
    """A final phase that certainly was not written does not count."""
    async with bench(most=2) as (here, entry):
        objects = Silent(here.objects.request)
        sync, controller, _ = parts(here, objects)
        await unsure(here, entry)
        objects.mishap, objects.applies = answer, False
        assert await sync.flush(entry) in (Flushed.REFUSED, Flushed.UNAVAILABLE)
        await not_delivered(here, entry)
        assert isinstance(controller.decisions.next(entry), Deliver)
