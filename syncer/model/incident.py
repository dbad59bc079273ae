"""
Incidents: what several notifications are about, and whether it lasts. How an object bears them.

Both stand in `spec.extensions`, which nobody can change later, under names that no label of an alert has.
Receivers that keep state (PagerDuty) are told of one incident, whatever the notifications are called.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

#: What is the project's own among the extensions.
OWN: Final = "notification-ledger/"
INCIDENT: Final = f"{OWN}incident"
STATE: Final = f"{OWN}state"
FIRING: Final = "firing"
RESOLVED: Final = "resolved"
STATES: Final = (FIRING, RESOLVED)


def incident_of(extensions: Mapping[str, str]) -> tuple[str, str]:
    """Return the incident and its state, both empty without one; another state than these is firing."""
    incident = extensions.get(INCIDENT, "")
    if not incident:
        return "", ""
    return incident, RESOLVED if extensions.get(STATE) == RESOLVED else FIRING
