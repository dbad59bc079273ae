"""
Every series that a controller or a gateway can have, as its registry declares them.

Not from a scrape: a labelled series that has not been written yet is missing there.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

from prometheus_client import CollectorRegistry
from prometheus_client.samples import Sample

from notifier.audit.metrics import AuditMetrics
from notifier.gateway.metrics import GatewayMetrics
from notifier.metrics import DeliveryMetrics
from syncer.metrics import SyncMetrics

_SUFFIXES: Final = {
    "counter": ("_total",),
    "histogram": ("_bucket", "_count", "_sum"),
    "gauge": ("",),
}
#: Where the labels of a family are bounded by something else than our own words.
_WORD: Final = re.compile(r"\b(?:notification_ledger|kubernaut_notification|audit_events)_\w+")


@dataclass(frozen=True, slots=True)
class Family:
    """One metric: its name without suffix, type, help and labels."""

    name: str
    kind: str
    text: str
    labels: tuple[str, ...]

    @property
    def series(self) -> tuple[str, ...]:
        """Names of its series as Prometheus knows them."""
        return tuple(self.name + suffix for suffix in _SUFFIXES[self.kind])


OWNERS: Final = (SyncMetrics, DeliveryMetrics, AuditMetrics, GatewayMetrics)


def families(*classes: Callable[[CollectorRegistry], object]) -> list[Family]:
    """Families of these classes, by default all; those of the runtime (process, Python) left out."""
    registry = CollectorRegistry()
    owners = [made(registry) for made in classes or OWNERS]
    labels = {
        metric._name: tuple(metric._labelnames)
        for owner in owners
        for metric in vars(owner).values()
        if hasattr(metric, "_labelnames")
    }
    return sorted(
        (
            Family(
                found.name,
                found.type,
                found.documentation,
                # A child of a family (`audit_events_dropped`) has lost its family's labels.
                labels.get(found.name) or _labels_of_samples(found.samples),
            )
            for found in registry.collect()
        ),
        key=lambda family: family.name,
    )


def _labels_of_samples(samples: Iterable[Sample]) -> tuple[str, ...]:
    names: dict[str, None] = {}
    for sample in samples:
        names |= dict.fromkeys(n for n in sample.labels if n != "le")
    return tuple(names)


def series() -> frozenset[str]:
    """Names of all series."""
    return frozenset(name for family in families() for name in family.series)


def named(text: str) -> frozenset[str]:
    """Names of our series that a text uses."""
    return frozenset(_WORD.findall(text))
