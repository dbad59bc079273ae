"""
A law of the gateway, with one notification for each alert: whatever was opened is closed when it ends.

A group grows and shrinks beyond the number of alerts that have incidents of their own (three here, instead
of a hundred), in any order. Its flushes repeat what has ended, are cut short, lost, or answered too late.
"""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import dataclass, replace
from typing import Final
from unittest.mock import patch

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from notifier.gateway import alertgroups
from notifier.gateway.draft import Incoming
from notifier.gateway.metrics import GatewayMetrics
from notifier.gateway.rating import Rating
from notifier.gateway.settings import of_document
from notifier.gateway.submit import Submitted, Submitter
from notifier.gateway.translation import translate
from syncer.model.errors import Rejected
from syncer.model.incident import FIRING, incident_of, incident_time
from syncer.model.resource import Json
from tests.unit.notifier.gateway.payloads import ZERO, alert, alertmanager
from tests.unit.notifier.gateway.submitting import Objects

#: Alerts of a group that have incidents of their own.
OWN: Final = 3
#: Flushes for which Prometheus repeats what has ended.
REPEATED: Final = 3
_ENTRY: Final = {
    "name": "am", "kind": "alertmanager", "namespace": "ns", "auth": {"insecure": True},
    "per": "alert",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Step:
    """
    What happens until the next flush, and what becomes of that.

    Attributes:
        begin: Alerts that begin.
        end: Which of those that fire end, by their place.
        silence: Which are seen no more.
        again: Which of those that have ended fire again.
        wait: Seconds.
        cut: Alerts of the flush that are left out.
        refused: Objects of the flush that are refused, so that it is sent again.
    """

    begin: int
    end: frozenset[int]
    silence: frozenset[int]
    again: frozenset[int]
    wait: int
    cut: int
    refused: int


_SOME: Final = st.frozensets(st.integers(0, 9), max_size=5)
STEPS: Final = st.builds(
    Step,
    begin=st.integers(0, 5),
    end=_SOME,
    silence=st.frozensets(st.integers(0, 9), max_size=1),
    again=st.frozensets(st.integers(0, 9), max_size=2),
    wait=st.sampled_from([121, 300, 1000]),
    cut=st.sampled_from([0, 0, 0, 1, 4]),
    refused=st.sampled_from([0, 0, 0, 1, 3]),
)


class Group:
    """Alertmanager's group, and the gateway behind it."""

    def __init__(self) -> None:
        self.objects = Objects()
        (self.source, _) = of_document({"sources": [_ENTRY]}).sources["am"]
        self.submitter = Submitter(self.objects, lambda: self.objects.now)
        metrics = GatewayMetrics(CollectorRegistry())
        self.rating = Rating(self.source, self.submitter, metrics, time.monotonic)
        #: Start of each alert that fires.
        self.firing: dict[str, float] = {}
        #: Start and end of each alert that has ended, and how many flushes are to report it.
        self.ended: dict[str, tuple[float, float, int]] = {}
        self.count = 0

    def change(self, step: Step) -> None:
        """Have alerts begin, end, be silenced, and fire again."""
        self.objects.now += step.wait
        now = self.objects.now
        by_place = list(self.firing)
        for n in (n for n in step.end if n < len(by_place)):
            self.ended[by_place[n]] = (self.firing.pop(by_place[n]), now, REPEATED)
        for n in (n for n in step.silence if n < len(by_place)):
            self.firing.pop(by_place[n], None)
        over = list(self.ended)
        for n in (n for n in step.again if n < len(over)):
            start, _, _ = self.ended.pop(over[n])
            # Prometheus was cut off, or it is new.
            self.firing[over[n]] = start if n % 2 else now
        for _ in range(step.begin):
            self.count += 1
            # As their labels are, they are in no order of time.
            self.firing[f"{self.count * 7 % 100:02}"] = now - self.count % 2

    async def flush(self, step: Step) -> None:
        """Send what there is, again until it is taken, and look at what is open."""
        members = [alert(f, startsAt=_stamp(s), endsAt=ZERO) for f, s in self.firing.items()]
        members += [
            alert(f, "resolved", startsAt=_stamp(start), endsAt=_stamp(end))
            for f, (start, end, _) in self.ended.items()
        ]
        members.sort(key=lambda one: one["fingerprint"])
        kept = members[: max(1, len(members) - step.cut)] if step.cut else members
        if not kept:
            return
        state = FIRING if any(one["status"] == FIRING for one in kept) else "resolved"
        payload = alertmanager(*kept, status=state, truncatedAlerts=len(members) - len(kept))
        if step.refused:
            self.objects.errors = [Rejected("no", reason="Invalid")] * step.refused
            await self._send(payload)
            self.objects.errors.clear()
        assert await self._send(payload)
        self.check(payload)
        there = set(self.objects.there)
        assert await self._send(payload)
        assert set(self.objects.there) == there, "a twin makes nothing"
        told = {one["fingerprint"] for one in kept}
        self.ended = {
            f: (start, end, left - 1 if f in told else left)
            for f, (start, end, left) in self.ended.items()
            if left > 1 or f not in told
        }

    async def _send(self, payload: Json) -> bool:
        body = json.dumps(payload).encode()
        wanted, ends = translate(self.source, Incoming({}, body), self.objects.now)
        until = asyncio.get_running_loop().time() + 5.0
        results = await self.rating.submit_all(wanted, ends, until)
        return all(isinstance(result, Submitted) for result in results)

    def open(self) -> set[str]:
        """What PagerDuty has open: an alert's fingerprint, or the group."""
        newest: dict[str, str] = {}
        for each in sorted(self.objects.there.values(), key=_order):
            spec = each["spec"]
            name = spec["extensions"].get("label_instance") or spec["extensions"].get("instance")
            _, state = incident_of(spec["extensions"])
            newest[name or "group"] = state
        return {name for name, state in newest.items() if state == FIRING}

    def check(self, payload: Json) -> None:
        """The law, for a flush that was taken."""
        by_state: dict[str, list[tuple[str, str]]] = {FIRING: [], "resolved": []}
        for one in payload["alerts"]:
            by_state[one["status"]].append((one["startsAt"], one["fingerprint"]))
        firing, over = (sorted(found) for found in by_state.values())
        open_ = self.open()
        assert not open_ & {name for _, name in over}, "what ends is closed"
        assert {name for _, name in firing[:OWN]} <= open_, "what fires is open"
        if len(firing) > OWN:
            assert "group" in open_, "the rest is open"
        elif over and not payload["truncatedAlerts"]:
            assert "group" not in open_, "there is no rest"


def _stamp(at: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(at))


def _order(each: Json) -> tuple[str, int]:
    return each["metadata"]["creationTimestamp"], incident_time(each["spec"]["extensions"])


@given(st.lists(STEPS, min_size=1, max_size=8))
def test_whatever_was_opened_is_closed_when_it_ends(steps: list[Step]) -> None:
    """Alerts of any number, in any order; at last all end, and nothing is left open."""

    async def main() -> None:
        group = Group()
        for step in steps:
            group.change(step)
            await group.flush(step)
        last = replace(steps[-1], begin=0, end=frozenset(range(99)), silence=frozenset(), cut=0)
        last = replace(last, again=frozenset(), wait=300)
        group.change(last)
        await group.flush(last)

    with patch.object(alertgroups, "ALERTS", OWN):
        asyncio.run(main())
