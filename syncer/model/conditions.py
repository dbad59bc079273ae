"""
Conditions of a status: a plain list keyed by type, as `metav1.Condition` lays it down.

`lastTransitionTime` moves only when the status word changes; reason and message may be refreshed
without it. A condition that would come out equal is left alone, so that an unchanged object is
never written.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

#: The API type allows 32,768 bytes; ours stay readable and leave space for the attempts.
MESSAGE_BYTES: Final = 1024

ROUTING_RESOLVED: Final = "RoutingResolved"
READY: Final = "Ready"
#: Those by which tools of GitOps see whether an object is under way or has stopped (kstatus).
RECONCILING: Final = "Reconciling"
STALLED: Final = "Stalled"
LOG_UNAVAILABLE: Final = "LogUnavailable"
QUARANTINED: Final = "Quarantined"
RECORD_TRUSTED: Final = "RecordTrusted"
LATE_SUCCESS: Final = "LateSuccess"
ATTEMPTS_NOT_SENT: Final = "AttemptsNotSent"


@dataclass(frozen=True, slots=True)
class Condition:
    """One condition; `transition` is Unix milliseconds, whole seconds on the wire."""

    type: str
    status: str
    reason: str
    message: str
    transition: int
    observed_generation: int = 0


def set_condition(conditions: tuple[Condition, ...], wanted: Condition) -> tuple[Condition, ...]:
    """
    Put a condition into a list: in place if its type is there, else at the end.

    The transition time of an existing condition is kept unless the status word changes.
    """
    message = bounded(wanted.message, MESSAGE_BYTES)
    if message != wanted.message:
        wanted = replace(wanted, message=message)
    known = find_condition(conditions, wanted.type)
    if known is None:
        return (*conditions, wanted)
    if known.status == wanted.status and known.transition != wanted.transition:
        wanted = replace(wanted, transition=known.transition)
    first = conditions.index(known)
    others = (c for c in conditions[first:] if c.type != wanted.type)
    return (*conditions[:first], wanted, *others)


def find_condition(conditions: tuple[Condition, ...], condition_type: str) -> Condition | None:
    """Return the condition of a type, or None."""
    return next((c for c in conditions if c.type == condition_type), None)


def true_condition(conditions: tuple[Condition, ...], condition_type: str) -> Condition | None:
    """Return the condition of a type if it is true, or None."""
    found = find_condition(conditions, condition_type)
    return found if found is not None and found.status == "True" else None


def doubted(conditions: tuple[Condition, ...]) -> bool:
    """Whether the controller sends nothing because the status says more than the log."""
    found = find_condition(conditions, RECORD_TRUSTED)
    return found is not None and found.status == "False"


def bounded(text: str, limit: int) -> str:
    """
    Cut a text to a number of UTF-8 bytes, at a code point, with a visible mark.

    Lone surrogates, which no encoder takes, become U+FFFD first.
    """
    if len(text) <= limit and text.isascii():
        return text
    raw = text.encode("utf-8", "surrogatepass").decode("utf-8", "replace").encode()
    if len(raw) <= limit:
        return raw.decode()
    mark = "…"
    head = raw[: max(0, limit - len(mark.encode()))].decode("utf-8", "ignore")
    return head + mark
