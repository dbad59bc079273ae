"""
Watches the sources that are expected to send: each has a Lease, which every replica reads and writes.

A round reads the Lease, decides (`notifier.gateway.silence`) and acts: first the notification, then the
Lease, each by compare-and-swap. If a replica ends between the two, the next round of any replica
completes it, and finds the object that exists.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Final

from notifier.gateway.metrics import GatewayMetrics
from notifier.gateway.silence import Step, View, decide, grace, recovery_notice, silence_notice
from notifier.gateway.submit import CALL, Submitter
from notifier.gateway.translation import Desired, Source
from syncer.kube.leases import LeaseRecord, Leases
from syncer.model.errors import Conflict, Gone
from syncer.model.resource import Json
from syncer.model.times import format_time

logger = logging.getLogger("ledger.gateway")

#: The annotation of a Lease with the name of the notification that tells of the silence.
SILENT: Final = "notification-ledger/silent"
#: Label of the Leases; its value is their prefix.
LABEL: Final = "notification-ledger/gateway"
#: Seconds for making the notification exist.
_PATIENCE: Final = 10.0


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
        self._view = View(since=clock())
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
        self._view = replace(self._view, heard=self._clock())

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
        stamp = {"renewTime": self._stamp(self._view.heard)}
        try:
            lease = await self._leases.get(self._name, timeout=CALL)
        except Gone:
            return await self._leases.create(self._name, {}, stamp, timeout=CALL)
        if lease.renew_time:
            return lease
        return await self._patch(lease, {}, stamp)

    def _see(self, lease: LeaseRecord) -> None:
        """Note the contents of the Lease."""
        now = self._clock()
        if now - self._read_at > grace(self._every):
            # Others may have heard the source and had no way to say so.
            self._view = replace(self._view, since=now)
        self._read_at = now
        if self._last not in {"", lease.renew_time}:
            self._view = replace(self._view, changed=now)
        self._view = replace(self._view, silent=lease.annotation(SILENT))
        self._last = lease.renew_time

    async def _act(self, lease: LeaseRecord) -> None:
        heard = self._view.heard
        step = decide(self._view, self._every, self._clock())
        if self._reported not in {"", lease.renew_time} and not self._view.silent:
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
            written = await self._patch(lease, {SILENT: None}, {"renewTime": self._stamp(heard)})
            self._view = replace(self._view, changed=self._clock())
            self._last = written.renew_time

    async def _patch(
        self, lease: LeaseRecord, annotations: dict[str, str | None], spec: Json
    ) -> LeaseRecord:
        return await self._leases.patch(
            self._name, lease.resource_version, annotations, spec, timeout=CALL
        )

    def _stamp(self, heard: float | None) -> str:
        """Return a monotonic time as a Lease has it; None is now."""
        ago = 0.0 if heard is None else self._clock() - heard
        return format_time(round((self._now() - ago) * 1000)).replace("Z", "000Z")

    async def _report_back(self, last: str) -> None:
        await self._report(
            "a silent source is heard again", recovery_notice(self._source, last), last
        )
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
