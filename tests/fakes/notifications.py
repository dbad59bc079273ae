"""The border of the record, of parts that a test has made, and the controller behind it."""

from __future__ import annotations

from typing import Any, cast

from notifier.dispatch.workqueue import WorkQueue
from notifier.progress import Takeover
from notifier.reconciler.attempt import Ports
from notifier.reconciler.controller import Controller
from notifier.reconciler.decisions import DeliveryBounds
from notifier.reconciler.incidents import Incidents
from syncer.sync.attempts import Outcomes
from syncer.sync.claim import Claimer
from syncer.sync.notifications import Notifications
from syncer.sync.recorder import Recorder
from tests.fakes.journal import NO_JOURNAL

NONE = cast("Any", None)


def claimer(
    recorder: Recorder,
    objects: Any = None,
    ownership: Any = None,
    *,
    backoff: Any = lambda *_: 1000,
    on_started: Any = lambda _: None,
) -> Claimer:
    """Claims the logs of a recorder; nothing is journaled."""
    return Claimer(
        recorder, objects, recorder.metrics, journal=NO_JOURNAL, ownership=ownership,
        backoff=backoff, on_started=on_started,
    )  # fmt: skip


def recording(recorder: Recorder) -> Outcomes:
    """Opens and closes attempts by a recorder."""
    return Outcomes(claimer(recorder))


def notifications(
    recorder: Recorder,
    ownership: Any,
    objects: Any = None,
    reporter: Any = NONE,
    *,
    backoff: Any = lambda *_: 1000,
    **more: Any,
) -> Notifications:
    """What appends by a recorder; without `objects` nothing is claimed, without `reporter` said."""
    if reporter is not None:
        more["on_recorded"] = reporter.recorded
    started = reporter.started if reporter is not None else lambda _: None
    made = claimer(recorder, objects, ownership, backoff=backoff, on_started=started)
    return Notifications(Outcomes(made, **more))


def controller(
    known: Notifications,
    queue: WorkQueue,
    router: Any = NONE,
    reporter: Any = NONE,
    dispatcher: Any = lambda _: NONE,
) -> Controller:
    """Delivers what is known, within no bounds; of incidents nobody is asked."""
    bounds = DeliveryBounds(at_most_once=False, max_age=0)
    incidents = Incidents(NONE, NONE, router, NONE, at_most_once=False)
    ports = Ports(queue, known, router, reporter, bounds, incidents)
    return Controller(ports, dispatcher, cast("Any", known.ownership), Takeover())
