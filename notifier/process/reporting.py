"""Makes what reports: the queue of Events, bounded as the settings say, and the reporter that fills it."""

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
        settings: The whole; where Events are off, the recorder gets none.
        outside: Client of the API server, and the identity of this process.
        metrics: Count what is reported.
    """
    burst = settings.events.burst
    recorder = EventRecorder(
        outside.objects,
        instance=outside.identity,
        limits=EventLimits(queue=burst, rate=settings.events.per_second, burst=burst),
    )
    emit = emit_through(recorder) if settings.events.enabled else emit_nothing
    return recorder, EventReporter(emit, metrics)
