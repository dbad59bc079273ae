"""
Watches the sources that are expected to send, and reports which has fallen silent.

The last sign of life of each such source is written to a Lease, so that replicas know what the others
received and a restart forgets nothing. What counts is what this replica saw: its own requests, and changes
of the Lease. Clocks are never compared, and time in which the Lease could not be read, or nobody
listened, does not count: after a start or an outage, a source has its whole interval again.

A round reads the Lease, decides and acts: first the notification, then the Lease, each by compare-and-swap.
The notification's name is a hash of the last sign of life: replicas that decide at the same time, and those
that complete what another one has begun, find one object. The Lease holds that name until the source is
back, which is reported once too, in the same way.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Final

from notifier.gateway.identity import hashed
from notifier.gateway.manifest import line, object_of
from notifier.gateway.metrics import GatewayMetrics
from notifier.gateway.submit import CALL, Submitter
from notifier.gateway.translation import Desired, Source
from syncer.kube.leases import LeaseRecord, Leases
from syncer.model.errors import Conflict, Gone
from syncer.model.incident import FIRING, INCIDENT, RESOLVED, STATE
from syncer.model.resource import Json
from syncer.model.times import format_time

logger = logging.getLogger("ledger.gateway")

#: The annotation of a Lease with the name of the notification that tells of the silence.
SILENT: Final = "notification-ledger/silent"
#: Label of the Leases; its value is their prefix.
LABEL: Final = "notification-ledger/gateway"
#: Seconds for making the notification exist.
_PATIENCE: Final = 10.0
#: Seconds beyond the interval, at least and at most.
_LEAST: Final = 5.0
_MOST: Final = 60.0


def grace(every: float) -> float:
    """Return the seconds beyond the interval before a silence is reported; a look is twice as often."""
    return max(_LEAST, min(every / 10, _MOST))


class Step(Enum):
    """What is to be done."""

    WAIT = "nothing"
    RECORD = "write to the Lease that the source was heard"
    REPORT = "report that it is silent"
    REPORT_BACK = "report that it is heard again"


@dataclass(slots=True)
class View:
    """
    What a replica knows of a source; times are monotonic seconds.

    Attributes:
        listening: Since when it has listened, and read the Lease, without a gap.
        sent: When the source has sent to it.
        changed: When it saw the Lease change, or changed it.
        silent: The name of the notification that tells of the silence; empty while there is none.
    """

    listening: float
    sent: float = -math.inf
    changed: float = -math.inf
    silent: str = ""

    def unheard(self, now: float) -> float:
        """Return the seconds for which there has been no sign of life."""
        return max(0.0, now - max(self.listening, self.sent, self.changed))

    def step(self, every: float, now: float) -> Step:
        """Return what is to be done about a source that is expected to send within `every` seconds."""
        # False as well where neither has happened: there is no difference between the two.
        if self.sent - self.changed >= grace(every) / 2:
            return Step.REPORT_BACK if self.silent else Step.RECORD
        if not self.silent and self.unheard(now) >= every + grace(every):
            return Step.REPORT
        return Step.WAIT


class Expectation:
    """Watches one source."""

    def __init__(
        self,
        source: Source,
        every: float,
        leases: Leases,
        submitter: Submitter,
        metrics: GatewayMetrics,
        *,
        clock: Callable[[], float],
        now: Callable[[], float],
    ) -> None:
        """
        Begin to watch a source that is expected to send within `every` seconds.

        `clock` gives monotonic seconds, `now` Unix seconds.
        """
        self._source = source
        self._every = every
        self._leases = leases
        self._name = f"{leases.label[1]}-{source.name}"
        self._submitter = submitter
        self._clock = clock
        self._now = now
        self._view = View(listening=clock())
        self._read_at = -math.inf
        self._last = ""
        #: Until the Lease says so: the last sign of life before a silence that was reported.
        self._reported = ""
        metrics.expected.labels(source.name).set(every)
        metrics.unheard.labels(source.name).set_function(lambda: self._view.unheard(clock()))

    @property
    def step(self) -> float:
        """Seconds between two rounds."""
        return grace(self._every) / 2

    def heard(self) -> None:
        """Note that the source has sent."""
        self._view.sent = self._clock()

    async def round(self) -> None:
        """
        Look once.

        Raises:
            PortError: the Lease cannot be read or written, or the notification cannot be created.
            Refused: the API server will never take the notification.
        """
        # A conflict: another replica was quicker, and the next round sees what it wrote.
        with contextlib.suppress(Conflict):
            lease = await self._read()
            self._see(lease)
            await self._act(lease)

    async def _read(self) -> LeaseRecord:
        # Until it has one, the source was not expected.
        spec = self._renewed(self._view.sent)
        try:
            lease = await self._leases.get(self._name, timeout=CALL)
        except Gone:
            return await self._leases.create(self._name, {}, spec, timeout=CALL)
        return lease if lease.renew_time else await self._patch(lease, {}, spec)

    def _see(self, lease: LeaseRecord) -> None:
        """Note the contents of the Lease."""
        now, view = self._clock(), self._view
        if now - self._read_at > grace(self._every):
            # Others may have heard the source and had no way to say so.
            view.listening = now
        if self._last not in {"", lease.renew_time}:
            view.changed = now
        view.silent = lease.annotation(SILENT)
        self._read_at, self._last = now, lease.renew_time

    async def _act(self, lease: LeaseRecord) -> None:
        view, sent = self._view, self._view.sent
        step = view.step(self._every, self._clock())
        if self._reported not in {"", lease.renew_time} and not view.silent:
            # It was heard by another replica while this one reported the silence.
            await self._report_back(self._reported)
        if step is Step.REPORT:
            self._reported = lease.renew_time
            desired = silence_notice(self._source, self._reported, self._every)
            await self._report("a source is silent", desired, self._reported)
            await self._patch(lease, {SILENT: desired.identity.name}, {})
            self._reported = ""
        elif step is Step.REPORT_BACK:
            await self._report_back(lease.renew_time)
        if step in {Step.REPORT_BACK, Step.RECORD}:
            written = await self._patch(lease, {SILENT: None}, self._renewed(sent))
            view.changed, self._last = self._clock(), written.renew_time

    async def _patch(
        self, lease: LeaseRecord, annotations: dict[str, str | None], spec: Json
    ) -> LeaseRecord:
        return await self._leases.patch(
            self._name, lease.resource_version, annotations, spec, timeout=CALL
        )

    def _renewed(self, sent: float) -> Json:
        """Return when a source has sent, as a Lease has it: now if it has not."""
        ago = self._clock() - sent if math.isfinite(sent) else 0.0
        return {"renewTime": format_time(round((self._now() - ago) * 1000)).replace("Z", "000Z")}

    async def _report_back(self, last: str) -> None:
        desired = recovery_notice(self._source, last)
        await self._report("a silent source is heard again", desired, last)
        self._reported = ""

    async def _report(self, event: str, desired: Desired, last: str) -> None:
        """Make a notification exist."""
        made = await self._submitter.submit(desired, asyncio.get_running_loop().time() + _PATIENCE)
        logger.warning(
            event,
            extra={
                "source": self._source.name, "last": last, "namespace": made.namespace,
                "notification": made.name,
            },
        )  # fmt: skip


def silence_notice(source: Source, last: str, every: float) -> Desired:
    """
    Return the notification that a source is silent.

    Args:
        source: The source.
        last: When it was heard last, as the Lease has it.
        every: Seconds within which it is expected to send.
    """
    seconds = round(every)
    shown = f"{seconds} s" if seconds % 60 else f"{seconds // 60} min"
    return _notice(
        source, "silent", last,
        type_="Escalation", priority="Critical",
        subject=f"[SILENT] {source.name} has stopped sending",
        body=f"The source {source.name} ({source.kind.name}) is expected to send at least every"
        f" {shown}. Nothing has come since {last}.\n\nEither its program does not run, or its"
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
    namespace, event = source.namespaces[0], f"gateway:{source.name}"
    manifest = object_of(identity, source=source.name, namespace=namespace, event=event, spec=spec)
    return Desired(namespace, identity, manifest, repeat=False)
