"""
Whether a source that is expected to send has fallen silent, and what is then reported. No I/O, no clock.

The last sign of life of each such source is written to a Lease, so that replicas know what the others
received and a restart forgets nothing. What counts is what this replica saw: its own requests, and changes
of the Lease. Clocks are never compared, and time in which the Lease could not be read, or nobody
listened, does not count: after a start or an outage, a source has its whole interval again.

The notification's name is a hash of the last sign of life: replicas that decide at the same time, and those
that start later, find one object. The Lease holds that name until the source is back, which
is reported once too, in the same way.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Final

from notifier.gateway.identity import hashed
from notifier.gateway.manifest import line, object_of
from notifier.gateway.translation import Desired, Source
from syncer.model.incident import FIRING, INCIDENT, RESOLVED, STATE
from syncer.model.resource import Json

#: Share of the interval that is added to it, and its bounds in seconds.
_SHARE: Final = 0.1
_LEAST: Final = 5.0
_MOST: Final = 60.0


def grace(every: float) -> float:
    """Return the seconds beyond the interval before a silence is reported; a look is twice as often."""
    return max(_LEAST, min(every * _SHARE, _MOST))


@dataclass(frozen=True, slots=True)
class View:
    """
    What a replica knows of a source; times are monotonic seconds.

    Attributes:
        since: Since when it has listened, and read the Lease, without a gap.
        heard: When it heard the source itself; None if it has not.
        changed: When it saw the Lease change, or changed it; None if it has not.
        silent: The name of the notification that tells of the silence; empty while there is none.
    """

    since: float
    heard: float | None = None
    changed: float | None = None
    silent: str = ""

    def unheard(self, now: float) -> float:
        """Return the seconds for which there has been no sign of life."""
        signs = (at for at in (self.since, self.heard, self.changed) if at is not None)
        return max(0.0, now - max(signs))


class Step(Enum):
    """What is to be done."""

    WAIT = "nothing"
    RECORD = "write to the Lease that the source was heard"
    REPORT = "report that it is silent"
    REPORT_BACK = "report that it is heard again"


def decide(view: View, every: float, now: float) -> Step:
    """
    Return what is to be done about a source.

    Args:
        view: What the replica knows.
        every: Seconds within which the source is expected to send.
        now: Monotonic seconds.
    """
    news = view.heard is not None and (
        view.changed is None or view.heard - view.changed >= grace(every) / 2
    )
    if news:
        return Step.REPORT_BACK if view.silent else Step.RECORD
    if not view.silent and view.unheard(now) >= every + grace(every):
        return Step.REPORT
    return Step.WAIT


def silence_notice(source: Source, last: str, every: float) -> Desired:
    """
    Return the notification that a source is silent.

    Args:
        source: The source.
        last: When it was heard last, as the Lease has it.
        every: Seconds within which it is expected to send.
    """
    return _notice(
        source, "silent", last,
        type_="Escalation", priority="Critical",
        subject=f"[SILENT] {source.name} has stopped sending",
        body=f"The source {source.name} ({source.kind.name}) is expected to send at least every"
        f" {_shown(every)}. Nothing has come since {last}.\n\nEither its program does not run, or its"
        " requests do not arrive: then what else it would tell is missing, too.",
    )  # fmt: skip


def recovery_notice(source: Source, last: str) -> Desired:
    """Return the notification that a source is heard again, which had been heard `last` before."""
    return _notice(
        source, "heard", last,
        type_="Completion", priority="Low",
        subject=f"[HEARD] {source.name} sends again",
        body=f"The source {source.name} ({source.kind.name}) was silent since {last} and sends again.",
    )  # fmt: skip


def _notice(
    source: Source, status: str, last: str, *, type_: str, priority: str, subject: str, body: str
) -> Desired:
    identity = hashed(f"{status[0]}{status[-1]}", source.name, status, last)
    spec: Json = {
        "type": type_,
        "priority": priority,
        "severity": "critical",
        "subject": line(subject),
        "body": body,
        "extensions": {
            "source": source.name,
            "status": status,
            INCIDENT: f"gw/{source.name}/silence",
            STATE: FIRING if status == "silent" else RESOLVED,
        },
    }
    if source.rules.retry_policy:
        spec["retryPolicy"] = dict(source.rules.retry_policy)
    namespace = source.namespaces[0]
    event = f"gateway:{source.name}"
    manifest = object_of(identity, source=source.name, namespace=namespace, event=event, spec=spec)
    return Desired(namespace, identity, manifest, repeat=False)


def _shown(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min" if not rest else f"{round(seconds)} s"
