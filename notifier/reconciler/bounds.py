"""The bounds that the reconciler works within."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class DeliveryBounds:
    """
    Bounds of delivery.

    Attributes:
        at_most_once: Stop at an attempt whose result is unknown.
        max_age: Seconds after which a notification is no longer sent, 0 for no limit.
        outcome_patience: Seconds for which an outcome is kept in memory while Redis is away.
    """

    at_most_once: bool
    max_age: float
    outcome_patience: float = 7 * 86400.0
