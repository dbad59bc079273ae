"""
Watches the sources that are expected to send, and reports a source that has fallen silent.

The last sign of life of each such source is written to a Lease, so that replicas know of each other's
requests, and a restart forgets nothing. A replica relies only on its own observations: requests that it
received, and changes of the Lease that it saw. Clocks are never compared. Time in which the Lease could not
be read, or the replica did not listen, does not count: after a start or an outage, a source has its whole
interval again.

A round reads the Lease, decides and acts: first the notification, then the Lease, each by compare-and-swap.
The notification's name is a hash of the last sign of life. So replicas that decide at the same time, or
complete a report that another one has begun, find the same object. The Lease holds that name until the
source sends again, which is reported once, too, in the same way.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from notifier.gateway.identity import hashed
from notifier.gateway.metrics import GatewayMetrics
from notifier.gateway.submit import CALL, Submitter
from notifier.gateway.translation import Desired, Source, own_notice
from syncer.kube.leases import LeaseRecord, Leases
from syncer.model.errors import Conflict, Gone
from syncer.model.incident import FIRING, INCIDENT, RESOLVED, STATE
from syncer.model.resource import Json
from syncer.model.times import format_time

logger = logging.getLogger("ledger.gateway")

#: Annotation of a Lease with the name of the notification that reports the silence.
SILENT: Final = "notification-ledger/silent"
#: Label of the Leases; its value is their prefix.
LABEL: Final = "notification-ledger/gateway"
#: Seconds for creating the notification.
_PATIENCE: Final = 10.0
#: Seconds beyond the interval before a silence is reported, at least and at most.
_LEAST: Final = 5.0
_MOST: Final = 60.0


def grace(every: float) -> float:
    """Return the seconds beyond the interval before a silence is reported; rounds are twice as frequent."""
    return max(_LEAST, min(every / 10, _MOST))


@dataclass(slots=True)
class View:
    """
    A replica's knowledge of a source's signs of life; times are monotonic seconds.

    Attributes:
        every: Seconds within which the source is expected to send.
        listening: Since when the replica has listened, and read the Lease, without a gap.
        sent: When the source last sent to this replica.
        changed: When the replica last saw the Lease change, or changed it.
    """

    every: float
    listening: float
    sent: float = float("-inf")
    changed: float = float("-inf")

    def unrecorded(self) -> bool:
        """Whether a request of the source must still be written to the Lease."""
        # Also False if both times are minus infinity, because their difference is NaN.
        return self.sent - self.changed >= grace(self.every) / 2

    def unheard(self, now: float) -> float:
        """Return the seconds for which there has been no sign of life."""
        return max(0.0, now - max(self.listening, self.sent, self.changed))

    def overdue(self, now: float) -> bool:
        """Whether the source is silent."""
        return self.unheard(now) >= self.every + grace(self.every)


class Expectation:
    """Watches one source."""

    def __init__(
        self,
        source: Source,
        leases: Leases,
        submitter: Submitter,
        metrics: GatewayMetrics,
        *,
        clock: Callable[[], float],
        now: Callable[[], float],
    ) -> None:
        """
        Begin to watch a source that is expected to send.

        `clock` gives monotonic seconds, `now` Unix seconds.
        """
        self._source = source
        self._leases = leases
        self._name = f"{leases.label[1]}-{source.name}"
        self._submitter = submitter
        self._clock = clock
        self._now = now
        self._view = View(source.expect_every, listening=clock())
        #: Seconds between two rounds.
        self.step: Final = grace(source.expect_every) / 2
        #: When the source last sent, in Unix seconds, for the Lease; until then, when this replica started.
        self._heard_at = now()
        self._read_at = clock()
        self._last = ""
        #: The last sign of life before a silence that this replica reported, until the Lease says so.
        self._reported = ""
        metrics.expected.labels(source.name).set(source.expect_every)
        metrics.unheard.labels(source.name).set_function(lambda: self._view.unheard(clock()))

    def heard(self) -> None:
        """Note that the source has sent."""
        self._view.sent, self._heard_at = self._clock(), self._now()

    async def round(self) -> None:
        """
        Look once.

        Raises:
            PortError: the Lease cannot be read or written, or the notification cannot be created.
            Refused: the API server will never accept the notification.
        """
        # A conflict means that another replica was quicker; the next round sees its write.
        with contextlib.suppress(Conflict):
            await self._act(await self._read())

    async def _read(self) -> LeaseRecord:
        """Return the Lease, and note whether its last sign of life has changed."""
        try:
            lease = await self._leases.get(self._name, timeout=CALL)
        except Gone:
            lease = await self._leases.create(self._name, {}, self._renewed(), timeout=CALL)
        if not lease.renew_time:
            lease = await self._patch(lease, {}, self._renewed())
        now, last = self._clock(), lease.renew_time
        if now - self._read_at > 2 * self.step:
            # Other replicas may have heard the source without being able to write it to the Lease.
            self._view.listening = now
        if self._last not in {"", last}:
            self._view.changed = now
        self._read_at, self._last = now, last
        return lease

    async def _act(self, lease: LeaseRecord) -> None:
        last, silent = lease.renew_time, lease.annotation(SILENT)
        if not silent and self._reported not in {"", last}:
            # Another replica heard the source while this one reported the silence.
            await self._report("heard", self._reported)
        if silent or self._reported != last:
            self._reported = ""
        if self._view.unrecorded():
            if silent:
                await self._report("heard", last)
            written = await self._patch(lease, {SILENT: None}, self._renewed())
            self._view.changed, self._last = self._clock(), written.renew_time
        elif not silent and self._view.overdue(self._clock()):
            self._reported = last
            await self._patch(lease, {SILENT: await self._report("silent", last)}, {})

    async def _patch(self, lease: LeaseRecord, annotations: Json, spec: Json) -> LeaseRecord:
        return await self._leases.patch(
            self._name, lease.resource_version, annotations, spec, timeout=CALL
        )

    def _renewed(self) -> Json:
        return {"renewTime": format_time(round(self._heard_at * 1000)).replace("Z", "000Z")}

    async def _report(self, status: str, last: str) -> str:
        """Create the notification unless it exists; returns its name."""
        desired = notice(self._source, status, last)
        made = await self._submitter.submit(desired, asyncio.get_running_loop().time() + _PATIENCE)
        logger.warning(
            "a source is silent" if status == "silent" else "a silent source is heard again",
            extra={
                "source": self._source.name, "last": last, "namespace": made.namespace,
                "notification": made.name,
            },
        )  # fmt: skip
        return desired.identity.name


def notice(source: Source, status: str, last: str) -> Desired:
    """
    Return the notification that a source is `silent`, or `heard` again.

    Args:
        source: The source.
        status: `silent` or `heard`.
        last: When the source was last heard before the silence, in the format of the Lease.
    """
    name, seconds = source.name, round(source.expect_every)
    if status == "silent":
        prefix, type_, priority, state = "st", "Escalation", "Critical", FIRING
        subject = f"[SILENT] {name} has stopped sending"
        every = f"{seconds} s" if seconds % 60 else f"{seconds // 60} min"
        body = (
            f"is expected to send at least every {every}. Nothing has come since {last}.\n\n"
            "Either its program does not run, or its requests do not arrive: then what else it would"
            " tell is missing, too."
        )
    else:
        prefix, type_, priority, state = "hd", "Completion", "Low", RESOLVED
        subject = f"[HEARD] {name} sends again"
        body = f"was silent since {last} and sends again."
    spec: Json = {
        "type": type_, "priority": priority, "severity": "critical", "subject": subject,
        "body": f"The source {name} ({source.kind.name}) {body}",
        "extensions": {"source": name, "status": status, STATE: state, INCIDENT: f"gw/{name}/silence"},
    }  # fmt: skip
    identity = hashed(prefix, name, status, last)
    return own_notice(identity, source, source.namespaces[0], f"gateway:{name}", spec)
