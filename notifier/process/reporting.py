"""Makes the bounded queue of Events, and the reporter that fills it."""

from __future__ import annotations

from notifier.metrics import DeliveryMetrics
from notifier.process.outside import Outside
from notifier.reporter import EventReporter, emit_nothing, emit_through
from notifier.settings import Settings
from syncer.kube.events import EventLimits, EventRecorder


def make_reporting(
    settings: Settings, outside: Outside, metrics: DeliveryMetrics
) -> tuple[EventRecorder, EventReporter]:
    """
    Make both; nothing is sent yet.

    Args:
        settings: All settings; if Events are switched off, the queue stays empty.
        outside: Has the client of the API server, and the identity of this process.
        metrics: Counts what is reported.
    """
    burst = settings.events.burst
    recorder = EventRecorder(
        outside.objects,
        instance=outside.identity,
        limits=EventLimits(queue=burst, rate=settings.events.per_second, burst=burst),
    )
    emit = emit_through(recorder) if settings.events.enabled else emit_nothing
    return recorder, EventReporter(emit, metrics)
