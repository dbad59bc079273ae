"""
Leader election on a Lease, by local time only: acquire, renew, lose, release.

What a term allows, and why two terms never overlap, is in `syncer.kube.lease_term`.

A renewal counts from its start, not from its answer, and only once it is confirmed: one whose answer
was lost counts when the Lease, read back, shows the time that we wrote. Each acquisition writes
LeaseDuration anew, since a release leaves a short one there.
"""

from __future__ import annotations

import asyncio
import logging
import random
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from syncer.kube.client import MERGE_PATCH, Json, KubeClient
from syncer.kube.lease_term import LeaseTerm, LeaseTimings
from syncer.model.attempt import make_epoch
from syncer.model.conditions import bounded
from syncer.model.errors import Ambiguous, Conflict, Gone, PortError, Unavailable
from syncer.rules.backoff import late_jitter

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine

_FIELD_MANAGER: Final = {"fieldManager": "notification-controller"}
#: Renewals whose answer was lost and that may still turn out to have been written.
_PENDING: Final = 8
#: Seconds that a released Lease shows as its duration, the least that is valid.
_RELEASED: Final = 1
#: Shortest wait, so that clocks that differ by a rounding do not spin.
_SOON: Final = 0.01

logger = logging.getLogger("ledger.kube")


@dataclass(frozen=True, slots=True)
class _Seen:
    """The Lease as it was read; `at` is when this resourceVersion was seen first."""

    resource_version: str
    holder: str
    transitions: int
    duration: float
    renew_time: str
    at: float


class Lease:
    """
    Competes for one Lease, for as long as `run` runs.

    Attributes:
        problem: Why the last call failed, for readiness; None after one that did not.
    """

    def __init__(  # noqa: PLR0913 (wiring: each is a part or a number of its own)
        self,
        client: KubeClient,
        namespace: str,
        name: str,
        identity: str,
        timings: LeaseTimings,
        *,
        incarnation: int,
        clock: Callable[[], float],
        wall: Callable[[], datetime] = lambda: datetime.now(UTC),
        willing: Callable[[], bool] = lambda: True,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        """
        Prepare; `run` starts.

        Args:
            client: Used for leases only, so that nothing else can delay a renewal.
            namespace: Of the Lease.
            name: Of the Lease; it is created if absent.
            identity: Unique among living processes. A Lease under it that we did not write
                belongs to a dead predecessor and is taken at once.
            timings: Equal in all replicas.
            incarnation: First part of the epoch.
            clock: Seconds of the monotonic clock.
            wall: Time of day, for the times that the Lease shows.
            willing: Called before each attempt to acquire; false leaves the Lease to others.
            jitter: Random numbers in [0, 1).
        """
        self.name = name
        self.problem: str | None = None
        self._client = client
        self._collection = (
            f"/apis/coordination.k8s.io/v1/namespaces/{quote(namespace, safe='')}/leases"
        )
        self._path = f"{self._collection}/{quote(name, safe='')}"
        self._namespace = namespace
        self._identity = identity
        self._timings = timings
        self._incarnation = incarnation
        self._clock = clock
        self._wall = wall
        self._willing = willing
        self._jitter = jitter
        self._seen: _Seen | None = None
        self._term: LeaseTerm | None = None
        self._pending: dict[str, float] = {}
        self._timestamped: datetime | None = None
        #: `leaseTransitions` of our acquiring write, which distinguishes our term from any other.
        self._taken = -1
        self._calling = asyncio.Lock()
        self._stop = asyncio.Event()

    @property
    def term(self) -> LeaseTerm | None:
        """The term that is not over, or None."""
        term = self._term
        return term if term is not None and not term.ended else None

    @property
    def holder(self) -> str:
        """The holder of the Lease when it was read last; empty if there was none."""
        return self._seen.holder if self._seen else ""

    @property
    def unowned(self) -> bool:
        """Whether no holder is known to be at work: the Lease is free, or ours without a term."""
        return self.term is None and self.holder in ("", self._identity)

    async def run(
        self,
        on_acquired: Callable[[LeaseTerm], Coroutine[Any, Any, None]],
        on_lost: Callable[[LeaseTerm, str], Awaitable[None]],
    ) -> None:
        """
        Acquire, renew, lose, and begin again; returns after `release`.

        Cancelling ends the term and leaves the Lease to expire. An error of a callback does the same
        and is raised.

        Args:
            on_acquired: Called with the new term; runs beside the renewals and may take its time. It
                is cancelled if it still runs when the term is over.
            on_lost: Awaited with the term and the reason once `on_acquired` has ended; only after it
                the Lease is competed for again, so it has to bound its own time. It is not called
                after `release`.
        """
        self._stop.clear()
        while not self._stop.is_set():
            term = await self._acquire()
            if term is None:
                continue
            logger.info("lease %s acquired, epoch %s", self.name, term.epoch)
            started = asyncio.create_task(on_acquired(term), name=f"acquired {self.name}")
            started.add_done_callback(partial(_fail, term))
            try:
                await self._hold(term)
            finally:
                term.end("the election was stopped")
                started.cancel()
                await asyncio.wait({started})
            if not self._stop.is_set():
                logger.warning("lease %s lost: %s", self.name, term.ended)
                await on_lost(term, term.ended)
            if not started.cancelled():
                started.result()

    async def release(self, *, timeout: float = 2.0) -> bool:
        """
        Give the Lease up, so that others need not wait; call it when nothing is in flight.

        The term is over at once, whatever the answer. `run` returns.

        Args:
            timeout: Seconds for all of it.

        Returns:
            Whether the Lease is known to be free; if not, it expires.
        """
        self._stop.set()
        term, self._term = self._term, None
        if term is None or term.ended:
            return False
        term.end("released")
        spec = {
            "holderIdentity": "",
            "leaseDurationSeconds": _RELEASED,
            "renewTime": self._timestamp(),
        }
        try:
            async with asyncio.timeout(timeout), self._calling:
                try:
                    await self._patch(spec, timeout)
                except Conflict:
                    if self._foreign(await self._read(timeout)):
                        return False
                    await self._patch(spec, timeout)
        except (PortError, TimeoutError) as error:
            logger.info("lease %s could not be released and will expire: %s", self.name, error)
            return False
        return True

    async def _acquire(self) -> LeaseTerm | None:
        """Try once; without success wait until it is worth to try again."""
        try:
            async with self._calling:
                term = await self._try()
            self.problem = None
        except Conflict:
            term = None  # someone was faster
        except PortError as error:
            term = None
            self.problem = f"lease {self.name}: {error}"
        if term is None:
            wait = late_jitter(self._timings.retry_period, self._jitter())
            if self._seen is not None and self._reserved(self._clock()):
                wait = min(wait, self._seen.at + self._seen.duration - self._clock())
            await _elapse(max(_SOON, wait), self._stop)
        return term

    async def _try(self) -> LeaseTerm | None:
        timeout = self._timings.call_timeout
        seen: _Seen | None
        try:
            seen = await self._read(timeout)
        except Gone:
            seen = None
        if self._reserved(self._clock()) or not self._willing() or self._stop.is_set():
            return None
        timestamp, start = self._timestamp(), self._clock()
        spec = {
            "holderIdentity": self._identity,
            "leaseDurationSeconds": self._timings.duration_seconds,
            "acquireTime": timestamp,
            "renewTime": timestamp,
            # Always counted up: a write that changes nothing would keep the resourceVersion,
            # and with it the epoch of our predecessor.
            "leaseTransitions": (seen.transitions + 1) % 2**31 if seen else 0,
        }
        if seen is None:
            answer = await self._client.request(
                "POST",
                self._collection,
                params=_FIELD_MANAGER,
                body={
                    "apiVersion": "coordination.k8s.io/v1",
                    "kind": "Lease",
                    "metadata": {"name": self.name, "namespace": self._namespace},
                    "spec": spec,
                },
                timeout=timeout,
            )
            taken = self._note(answer)
        else:
            taken = await self._patch(spec, timeout)
        if seen is not None and taken.resource_version == seen.resource_version:
            raise Unavailable("taking the lease did not change its resourceVersion")
        try:
            epoch = make_epoch(self._incarnation, taken.resource_version)
        except ValueError:
            raise Unavailable("the resourceVersion of the lease is not a number") from None
        self._taken = taken.transitions
        self._pending.clear()
        self._term = LeaseTerm(epoch, start, self._timings)
        return self._term

    def _reserved(self, now: float) -> bool:
        """
        Whether another process may still believe that it holds the Lease.

        This includes a Lease that was deleted, or whose holder was erased by hand: the holder learns of
        that at its next renewal. After a release, which leaves a duration of one second, it knows.
        """
        seen = self._seen
        if seen is None or seen.holder == self._identity:
            return False
        if not seen.holder and seen.duration <= _RELEASED:
            return False
        return now < seen.at + seen.duration

    async def _hold(self, term: LeaseTerm) -> None:
        """Renew until the term is over, however the server behaves."""
        period = self._timings.retry_period
        next_at = term.renewed + period
        while not term.ended:
            deadline = term.renewed + self._timings.renew_deadline
            await _elapse(min(next_at, deadline) - self._clock(), term.is_over)
            now = self._clock()
            if now >= deadline:
                term.end(f"not renewed for {self._timings.renew_deadline:g} s")
            elif now >= next_at and not term.ended:
                next_at = now + period
                if not await self._renew(term, deadline):
                    next_at = min(next_at, self._clock() + period / 4)

    async def _renew(self, term: LeaseTerm, deadline: float) -> bool:
        """Write a renewal; false if it is worth to try again soon."""
        async with self._calling:
            if term.ended:
                return True
            timestamp, start = self._timestamp(), self._clock()
            spec = {
                "holderIdentity": self._identity,
                "leaseDurationSeconds": self._timings.duration_seconds,
                "renewTime": timestamp,
            }
            timeout = min(self._timings.call_timeout, max(_SOON, deadline - start))
            try:
                try:
                    await self._patch(spec, timeout)
                except Conflict:
                    self._examine(term, await self._read(timeout))
                    return False
            except Gone:
                term.end("the lease was deleted")
            except PortError as error:
                self.problem = f"lease {self.name}: {error}"
                if isinstance(error, Ambiguous):
                    self._pending[timestamp] = start
                    if len(self._pending) > _PENDING:
                        del self._pending[next(iter(self._pending))]
                return False
            else:
                term.renewed = start
                self._pending.clear()
            self.problem = None
            return True

    def _examine(self, term: LeaseTerm, seen: _Seen) -> None:
        """Find out what a conflict meant: another holder, an edit, or a renewal of ours."""
        if self._foreign(seen):
            holder = bounded(seen.holder, 100) or "nobody"
            same = seen.holder == self._identity
            term.end(f"taken by {'another process of our name' if same else holder}")
        elif seen.renew_time in self._pending:
            term.renewed = max(term.renewed, self._pending[seen.renew_time])

    def _foreign(self, seen: _Seen) -> bool:
        return seen.holder != self._identity or seen.transitions != self._taken

    async def _read(self, timeout: float) -> _Seen:
        return self._note(await self._client.request("GET", self._path, timeout=timeout))

    async def _patch(self, spec: Json, timeout: float) -> _Seen:
        """Write against the resourceVersion that was seen last. Not a PUT: it would create."""
        seen = self._seen
        answer = await self._client.request(
            "PATCH",
            self._path,
            params=_FIELD_MANAGER,
            body={
                "metadata": {"resourceVersion": seen.resource_version if seen else "0"},
                "spec": spec,
            },
            content_type=MERGE_PATCH,
            timeout=timeout,
        )
        return self._note(answer)

    def _note(self, document: Json) -> _Seen:
        meta, spec = document.get("metadata") or {}, document.get("spec") or {}
        try:
            version = str(meta["resourceVersion"])
            before = self._seen
            unchanged = before is not None and before.resource_version == version
            self._seen = _Seen(
                resource_version=version,
                holder=str(spec.get("holderIdentity") or ""),
                transitions=int(spec.get("leaseTransitions") or 0),
                duration=float(spec.get("leaseDurationSeconds") or self._timings.duration_seconds),
                renew_time=str(spec.get("renewTime") or ""),
                # Taken after the answer: waiting too long is safe, too short is not.
                at=before.at if before is not None and unchanged else self._clock(),
            )
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise Unavailable("the lease cannot be read") from error
        return self._seen

    def _timestamp(self) -> str:
        """Return the time of day, with 6 decimals as the type demands, other than any before."""
        now = self._wall()
        while now == self._timestamped or _text(now) in self._pending:
            now += timedelta(microseconds=1)
        self._timestamped = now
        return _text(now)


def _text(when: datetime) -> str:
    return when.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _fail(term: LeaseTerm, task: asyncio.Task[None]) -> None:
    if not task.cancelled() and task.exception() is not None:
        term.end("taking up the work failed")


async def _elapse(seconds: float, unless: asyncio.Event) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(max(0.0, seconds)):
            await unless.wait()
