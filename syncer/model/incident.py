"""
Incidents: what several notifications are about, and whether it lasts. How an object bears them.

Both stand in `spec.extensions`, which nobody can change later, under names that no label of an alert has.
Receivers that keep state (PagerDuty) are told of one incident, whatever the notifications are called.

Whoever may create notifications in a namespace may write any incident of it; so what a receiver gets
distinguishes installations and namespaces. It does not distinguish receivers: who renames one must still be
able to close what was opened, and two of one PagerDuty integration page once.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Mapping
from typing import Final

#: What is the project's own among the extensions.
OWN: Final = "notification-ledger/"
INCIDENT: Final = f"{OWN}incident"
STATE: Final = f"{OWN}state"
#: The alerts behind it as JSON, for templates alone: it is no attribute.
DATA: Final = f"{OWN}data"
#: When the gateway had it, in Unix milliseconds: the order of what was created within one second.
AT: Final = f"{OWN}at"
#: Characters of a number of milliseconds that is believed.
_AT_CHARS: Final = 14
#: An incident of the gateway that is a group of Alertmanager's, with the hash of that one's key.
_GROUP: Final = re.compile(r"gw/[^/]+/[0-9a-f]+/([0-9a-f]{64})")
FIRING: Final = "firing"
RESOLVED: Final = "resolved"
STATES: Final = (FIRING, RESOLVED)


def incident_of(extensions: Mapping[str, str]) -> tuple[str, str]:
    """Return the incident and its state, both empty without one; another state than these is firing."""
    incident = extensions.get(INCIDENT, "")
    if not incident:
        return "", ""
    return incident, RESOLVED if extensions.get(STATE) == RESOLVED else FIRING


def incident_label(incident: str) -> str:
    """Return the value of the label `INCIDENT`, by which the API server finds what is about an incident."""
    return hashlib.sha256(incident.encode("utf-8", "surrogatepass")).hexdigest()[:40]


def group_hash(incident: str) -> str:
    """Return by what Alertmanager's own integrations know an incident of the gateway; else empty."""
    found = _GROUP.fullmatch(incident)
    return found[1] if found else ""


def incident_time(extensions: Mapping[str, str]) -> int:
    """Return when the gateway had it, 0 if that is not said."""
    text = extensions.get(AT, "")
    return int(text) if text.isdecimal() and text.isascii() and len(text) <= _AT_CHARS else 0


def incident_key(installation: str, namespace: str, incident: str) -> str:
    """Return what receivers know an incident by: `nl-` and 52 characters of a-z2-7."""
    digest = hashlib.sha256(json.dumps([installation, namespace, incident]).encode()).digest()
    return "nl-" + base64.b32encode(digest).decode().rstrip("=").lower()
