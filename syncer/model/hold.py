"""
A hold that an operator has placed: a `DeliveryHold` in the controller's namespace.

A hold matches what nobody can change on an existing notification: receivers, which routing chose and
the plan froze, the namespace, and the type and severity of its spec, which the API server keeps
immutable. Labels and annotations are left out, because their author could escape a hold by changing
them.

Nobody has to end it: it has an end, thirty days away at most, or a year if it recurs. Who ends it earlier
lets everything go that waits for it at once, or so many a second (`rate`), or has it given up
(`drop_before`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Any, Final

from syncer.model.errors import ContractError
from syncer.model.times import time_of

GROUP: Final = "notification-ledger.dev"
VERSION: Final = "v1alpha1"
KIND: Final = "DeliveryHold"
PLURAL: Final = "deliveryholds"
#: Milliseconds for which a hold lasts at most: the API server knows no time that it could compare with.
LONGEST: Final = 30 * 86_400_000
#: The same of a hold that recurs, since most of that time nothing is held.
LONGEST_RECURRING: Final = 366 * 86_400_000
_SPAN: Final = re.compile(r"(?:([0-9]{1,3})h)?(?:([0-9]{1,5})m)?")
#: The selectors, members of the spec.
SELECTORS: Final = ("receivers", "namespaces", "types", "severities")


@dataclass(frozen=True, slots=True)
class Recurrence:
    """When a hold recurs: where its windows begin, and how many milliseconds each lasts."""

    cron: str
    zone: str
    duration: int

    @classmethod
    def of(cls, spec: dict[str, Any]) -> Recurrence:
        """Read the member of a spec; ValueError if it has no length."""
        found = _SPAN.fullmatch(str(spec["duration"]))
        minutes = 60 * int(found[1] or 0) + int(found[2] or 0) if found else 0
        if not minutes:
            raise ValueError("duration must be such as 8h or 90m")
        return cls(str(spec["cron"]), str(spec.get("timeZone") or "UTC"), minutes * 60_000)


@dataclass(frozen=True, slots=True)
class Hold:
    """
    One hold; times are Unix milliseconds.

    Patterns have `*` and `?`. Of each kind that is given one must match; a kind that is not given matches
    everything.

    Attributes:
        created: When it was placed.
        start: When it begins, 0 if it began when it was placed.
        until: When it ends by itself.
        receivers: Patterns of full channel names (`slack:ops`) or, without a colon, of receivers (`ops`).
        types: Patterns of `spec.type`, in any case.
        severities: Patterns of `spec.severity`, in any case.
        rate: How many notifications a second are let go, 0 while all are held.
        drop_before: Notifications created before are given up, younger ones go on; 0 while all are held.
        ended_by: Who has ended it, lets it go at the rate, or has had it dropped; empty if unknown.
        matched: Status and message of its condition `Matched`, empty before it has one.
        recurrence: When it holds between start and end, None if all the time.
        uid: Of the object; one that is placed again under the same name has another.
    """

    name: str
    resource_version: str
    created: int
    until: int
    author: str
    reason: str
    start: int = 0
    receivers: tuple[str, ...] = ()
    namespaces: tuple[str, ...] = ()
    types: tuple[str, ...] = ()
    severities: tuple[str, ...] = ()
    rate: float = 0.0
    drop_before: int = 0
    ended_by: str = ""
    matched: tuple[str, str] = ("", "")
    recurrence: Recurrence | None = None
    uid: str = ""

    @classmethod
    def of(cls, document: dict[str, Any]) -> Hold:
        """Read an object; a ContractError names the member at fault."""
        path = "metadata"
        try:
            meta, spec = document["metadata"], document["spec"]
            name, version = str(meta["name"]), str(meta.get("resourceVersion", ""))
            path = f"the hold {name}"
            # What the API server takes for a time and nobody can read must not stop all deliveries.
            created, start = time_of(meta["creationTimestamp"]), time_of(spec.get("start"))
            conditions = (document.get("status") or {}).get("conditions") or ()
            recurs = Recurrence.of(spec["recurrence"]) if spec.get("recurrence") else None
            longest = LONGEST if recurs is None else LONGEST_RECURRING
            matched: dict[str, Any] = next((c for c in conditions if c["type"] == "Matched"), {})
            return cls(
                name, version, created,
                min(time_of(spec["until"]), (start or created) + longest),
                str(spec["author"]), str(spec["reason"]), start,
                **{one: tuple(map(str, spec.get(one) or ())) for one in SELECTORS},
                rate=float(spec.get("rate") or 0.0),
                drop_before=time_of(spec.get("dropBefore")),
                ended_by=str(spec.get("endedBy") or ""),
                matched=(str(matched.get("status", "")), str(matched.get("message", ""))),
                recurrence=recurs,
                uid=str(meta.get("uid", "")),
            )  # fmt: skip
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ContractError(
                f"{path} cannot be read ({type(error).__name__}: {error})"
            ) from None

    @property
    def key(self) -> tuple[str, str]:
        """What tells it from every other hold, also from an earlier one of its name."""
        return self.name, self.uid

    def asks_as(self, other: Hold) -> bool:
        """Whether it is the other one and asks for the same, whatever its condition has become."""
        mine = replace(self, resource_version=other.resource_version, matched=other.matched)
        return mine == other

    @property
    def since(self) -> int:
        """When it began or begins."""
        return self.start or self.created

    def in_force(self, now: int) -> bool:
        """Whether it holds anything at `now`; without a start from the moment at which it is known."""
        return self.start <= now < self.until
